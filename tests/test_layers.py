"""SequenceMixer, Block, Stack: only what a stream reads is made; buffers move; misfits refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attention_zoo as zoo
from attention_zoo import ops
from attention_zoo.layers import Block, Buffer, SequenceMixer, Stack, rotate
from attention_zoo.types import Cost, Mechanism

B, T, C, H = 2, 7, 12, 3
X = jax.random.normal(jax.random.key(0), (B, T, C))


def mean(params, q, k, v, *, mask=None, causal=False):
    """Every position gets the mean of the visible values times a learned and a frozen number."""
    kept = ops.hide(v, mask).mean(1, keepdims=True)
    scale = params["gain"] * params["level"] if params else 1.0
    return (jnp.broadcast_to(kept, v.shape) * scale).astype(v.dtype)


NOTHING = Cost(0, 0, 0)
STUB = Mechanism("stub", mean, mean, lambda dims, *, causal=False: NOTHING, citation="none")
WITH_BUFFER = dataclasses.replace(
    STUB,
    init=lambda rng, dims: {"gain": jnp.ones(()), "level": jnp.ones(())},
    refresh=lambda rng, params, q, k, mask: {**params, "level": params["level"] + 1},
    frozen=frozenset({"level"}),
)


def mixer(m, **kwargs):
    return SequenceMixer(m, C, H, max_len=16, rngs=nnx.Rngs(0), **kwargs)


def block(m, **kwargs):
    return Block(m, C, H, 20, max_len=16, rngs=nnx.Rngs(0), **kwargs)


@pytest.mark.parametrize(
    ("streams", "made"),
    [
        ("qkv", "query key value out"),
        ("qv", "query value out"),
        ("kv", "key value out"),
        ("v", "value out"),
        ("x", ""),
    ],
)
def test_only_the_projections_of_the_stream_are_made(streams, made):
    layer = mixer(dataclasses.replace(STUB, streams=streams))
    assert {path[0] for path, _ in nnx.to_flat_state(nnx.state(layer, nnx.Param))} == set(
        made.split()
    )
    assert layer(X).shape == X.shape


def test_raw_stream_is_the_input_in_heads():
    out = mixer(dataclasses.replace(STUB, streams="x"))(X)
    np.testing.assert_allclose(out, jnp.broadcast_to(X.mean(1, keepdims=True), X.shape), atol=1e-6)


def test_two_sets_of_projections():
    layer = mixer(zoo.make("global", tokens=2, separate=True))
    assert layer.query.kernel.shape == (C, 2 * C)
    assert layer(X).shape == X.shape


def test_mixed_parameters_keep_their_part():
    parts = (("full", {}), ("global", {"tokens": 0, "learned": 2}), ("local", {"window": 2}))
    layer = mixer(zoo.make("mixed", parts=parts))
    assert set(layer.params) == {"1/keys", "1/values"}
    assert layer(X).shape == X.shape


def test_buffers_get_no_gradient_and_move_in_training_calls_only():
    layer = block(WITH_BUFFER, dropout=0.5)
    graph, params, buffers = nnx.split(layer, nnx.Param, Buffer)
    assert len(jax.tree.leaves(buffers)) == 1

    def loss(params, buffers, key):
        model = nnx.merge(graph, params, buffers, copy=True)
        return model(X, key=key).sum(), nnx.state(model, Buffer)

    (_, kept), _ = jax.value_and_grad(loss, has_aux=True)(params, buffers, None)
    (_, moved), grads = jax.value_and_grad(loss, has_aux=True)(params, buffers, jax.random.key(1))
    assert jax.tree.leaves(kept) == [1.0]
    assert jax.tree.leaves(moved) == [2.0]
    assert grads["mixer"]["params"]["gain"][...] != 0


def test_the_activation_is_between_the_layers_of_the_feed_forward():
    for changes, activation in (({}, jax.nn.gelu), ({"activation": "relu"}, jax.nn.relu)):
        layer = block(STUB, **changes)
        np.testing.assert_array_equal(layer.feed(X), layer.contract(activation(layer.expand(X))))


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("remat", [False, True])
def test_buffers_of_a_stack_move(scan, remat):
    stack = Stack([block(WITH_BUFFER) for _ in range(3)], scan=scan, remat=remat)
    keys = stack.gather(list(jax.random.split(jax.random.key(0), 3)))
    stack.run(lambda layer, x, key: (layer(x, key=key), None), X, keys)
    levels = [np.asarray(x) for x in jax.tree.leaves(nnx.state(stack, Buffer))]
    assert (np.concatenate([np.atleast_1d(x) for x in levels]) == [2, 2, 2]).all()


def test_scan_needs_layers_that_are_alike():
    made = [zoo.make("local", window=2), zoo.make("local", window=3)]
    with pytest.raises(ValueError, match=r"scan=True needs layers that are all alike.*scan=False"):
        Stack([block(m) for m in made], scan=True)


def test_cross_attention_reads_the_context():
    context = jax.random.normal(jax.random.key(1), (B, 5, C))
    layer = mixer(zoo.make("full"), cross=True)
    hidden = jnp.ones((B, 5), bool).at[:, 3:].set(False)
    out = layer(X, context, mask=hidden)
    assert out.shape == X.shape
    np.testing.assert_allclose(out, layer(X, context[:, :3]), atol=1e-6)
    with pytest.raises(ValueError, match="needs a context"):
        layer(X)


def test_rotation_depends_on_distance_alone():
    q, k = jax.random.normal(jax.random.key(2), (2, 1, 1, 1, 8))

    def score(i, j):
        return (rotate(q, jnp.array([i])) * rotate(k, jnp.array([j]))).sum()

    np.testing.assert_allclose(score(9, 4), score(25, 20), rtol=1e-4)
    assert abs(score(9, 4) - score(9, 5)) > 1e-3


REFUSALS = {
    "local: no cross-attention": lambda: mixer(zoo.make("local"), cross=True),
    "fourier: .*positions mixes in the future": lambda: mixer(zoo.make("fourier"), causal=True),
    "fourier: rotary positions .*'x'.*sinusoidal": lambda: mixer(zoo.make("fourier"), rotary=True),
    "query_reduction: its outputs belong to no one position.*got 16 positions, 256 outputs": (
        lambda: mixer(zoo.make("query_reduction"), cross=True)
    ),
    "full: rotary positions .*cross-attention": lambda: mixer(
        zoo.make("full"), rotary=True, cross=True
    ),
    "even head size.*= 3": lambda: SequenceMixer(
        zoo.make("full"), 9, 3, max_len=4, rotary=True, rngs=nnx.Rngs(0)
    ),
    r"heads=5 must divide width=12; \[1, 2, 3, 4, 6, 12\] do": lambda: SequenceMixer(
        zoo.make("full"), 12, 5, max_len=4, rngs=nnx.Rngs(0)
    ),
    "stub has no token-by-token form": lambda: mixer(STUB, causal=True).init_state(B, 8),
    "stub: it cannot hide keys": lambda: mixer(dataclasses.replace(STUB, mask=False))(
        X, mask=jnp.ones((B, T), bool)
    ),
    "stub: parameters are sized for length 5.*16": lambda: mixer(
        dataclasses.replace(STUB, fixed_length=5)
    ),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_what_cannot_be_honoured_is_refused(message):
    with pytest.raises(ValueError, match=message):
        REFUSALS[message]()
