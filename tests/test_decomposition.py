"""Series decomposition, and the block that hands its trends on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attention_zoo as zoo
from attention_zoo.decomposition import DecomposedBlock, decompose, moving_mean
from attention_zoo.model import Transformer, TransformerConfig

B, N, C, W = 2, 30, 12, 7


def config(**changes):
    fields = {"inputs": "continuous", "features": 3, "outputs": "flat", "classes": 4, "width": C}
    fields |= {"heads": 3, "ff": 20, "max_len": N, "decomposition": W}
    return TransformerConfig(**fields | changes)


def test_decomposition_adds_up_and_leaves_a_line_alone():
    line = jnp.arange(40.0)[None, :, None] * jnp.array([1.0, -2.0])
    season, trend = decompose(line, 5)
    np.testing.assert_allclose(season + trend, line, atol=1e-5)
    np.testing.assert_allclose(season[:, 2:-2], 0, atol=1e-4)
    window = np.asarray(jnp.pad(line, ((0, 0), (2, 2), (0, 0)), mode="edge"))
    means = [window[:, i : i + 5].mean(1) for i in range(40)]
    np.testing.assert_allclose(trend, np.stack(means, 1), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_is_its_formula(norm):
    block = DecomposedBlock(
        zoo.make("auto_correlation"), C, 3, 20, max_len=N, norm=norm, decomposition=W,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    x, before = jax.random.normal(jax.random.key(0), (2, B, N, C))
    found_season, found_trend = block((x, before))

    def added(x, norm_of, layer):
        return x + layer(norm_of(x)) if norm == "pre" else norm_of(x + layer(x))

    first = added(x, block.mixer_norm, block.mixer)
    season = first - moving_mean(first, W)
    second = added(season, block.ff_norm, lambda h: block.contract(jax.nn.gelu(block.expand(h))))
    trend = before + moving_mean(first, W) + moving_mean(second, W)
    np.testing.assert_allclose(found_season, second - moving_mean(second, W), atol=1e-5)
    np.testing.assert_allclose(found_trend, trend, atol=1e-5)


@pytest.mark.parametrize("scan", [False, True])
def test_the_trends_join_the_season_before_the_head(scan):
    network = Transformer(config(scan=scan, mechanism="auto_correlation"), rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (B, N, 3))
    h, _ = network.embed(x, None)
    carry = (h, jnp.zeros_like(h))
    blocks = network.stack.blocks
    for layer in range(2):
        if scan:
            graph, variables = nnx.split(blocks)
            block = nnx.merge(graph, jax.tree.map(lambda v, i=layer: v[i], variables))
        else:
            block = blocks[layer]
        carry = block(carry)
    expected = network.head((network.norm(carry[0]) + carry[1]).reshape(B, -1))
    np.testing.assert_allclose(network(x), expected, rtol=1e-4, atol=1e-5)
    # what is level goes past the blocks: their seasons are 0
    level = jnp.broadcast_to(h[:, :1], h.shape)
    season, _ = decompose(level, W)
    np.testing.assert_allclose(season, 0, atol=1e-5)


def test_what_lies_ahead_starts_from_the_mean_of_what_came_before():
    ahead = {"outputs": "ahead", "ahead": 5, "classes": 3, "max_len": N + 5}
    network = Transformer(config(**ahead, mechanism="auto_correlation"), rngs=nnx.Rngs(0))
    network.head.kernel[...] *= 0.0
    x = jax.random.normal(jax.random.key(1), (B, N, 3))
    mean = np.broadcast_to(np.asarray(x).mean(1, keepdims=True), (B, 5, 3))
    np.testing.assert_allclose(network(x), mean, atol=1e-6)
    with pytest.raises(ValueError, match="classes must be 3, got 4"):
        config(**ahead | {"classes": 4})


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="decomposition is an encoder's, got a decoder"):
        TransformerConfig(kind="decoder", vocab=9, decomposition=25)
    with pytest.raises(ValueError, match="decomposition must be a whole number from 1"):
        config(decomposition=-1)
    shorter = config(mechanism="query_reduction", outputs="sequence")
    with pytest.raises(ValueError, match="decomposition takes no query_reduction"):
        Transformer(shorter, rngs=nnx.Rngs(0))
    network = Transformer(config(), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="takes no mask"):
        network(jnp.zeros((B, N, 3)), mask=jnp.ones((B, N), bool))
