"""Blocks and models whose outputs are fewer than the positions: residuals, masks, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attention_zoo as zoo
from attention_zoo.layers import Block
from tests.test_model import CLASSES, MASK, TOKENS, B, T, build, evaluate, with_gradient

C = 12
X = jax.random.normal(jax.random.key(0), (B, T, C))
LATENTS = {"slots": 5}
STRIDED = {"kind": "strided", "stride": 3}


@pytest.mark.parametrize("hparams", [LATENTS, STRIDED], ids=["latents", "strided"])
def test_beside_the_output_stand_a_residual_and_a_mask(hparams):
    m = zoo.make("query_reduction", **hparams)
    block = Block(m, C, 3, 20, max_len=16, rngs=nnx.Rngs(0))
    mask = jnp.zeros((B, T), bool).at[0, :2].set(True)
    residual, shown = block.mixer.beside(X, mask)
    assert block(X, mask=mask).shape == residual.shape == (*shown.shape, C)
    if hparams is LATENTS:
        np.testing.assert_array_equal(shown, [[True] * 5, [False] * 5])
        np.testing.assert_array_equal(residual[1], block.mixer.params["latents"].reshape(5, C))
    else:
        np.testing.assert_array_equal(shown, [[True, False, False, False], [False] * 4])
        np.testing.assert_allclose(residual[0, 0], X[0, :2].mean(0), rtol=1e-6)
        np.testing.assert_array_equal(residual[~shown], 0)
        # the last block of 11 tokens holds two
        residual, _ = block.mixer.beside(X, None)
        np.testing.assert_allclose(residual[:, 3], X[:, 9:].mean(1), rtol=1e-5)


MODELS = {
    "latents, then full": ("pre", ("query_reduction", "full"), (LATENTS, {})),
    "local, then strided": ("post", ("local", "query_reduction"), ({"window": 3}, STRIDED)),
    "strided twice": ("pre", ("query_reduction",) * 2, (STRIDED, {"kind": "strided", "stride": 2})),
}


@pytest.mark.parametrize("label", MODELS)
def test_a_stack_trains_and_ignores_padding(label):
    norm, mechanism, hparams = MODELS[label]
    model = build(mechanism=mechanism, hparams=hparams, depth=2, norm=norm, remat=True)
    out, grads = with_gradient(model, TOKENS, mask=MASK, train=True)
    assert out.shape == (B, CLASSES)
    learned = {path: g for path, g in nnx.to_flat_state(grads) if "params" in path}
    assert len(learned) == mechanism.count("query_reduction")
    for gradient in jax.tree.leaves(learned):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0
    padded = evaluate(model, TOKENS, mask=MASK)
    np.testing.assert_array_equal(padded, evaluate(model, jnp.where(MASK, TOKENS, 5), mask=MASK))
    np.testing.assert_allclose(evaluate(model, TOKENS[:1, :8])[0], padded[0], atol=2e-6)


def test_a_sequence_of_padding_alone_is_finite():
    for hparams in (LATENTS, STRIDED):
        model = build(mechanism="query_reduction", hparams=hparams)
        out, grads = with_gradient(model, TOKENS, mask=jnp.zeros((B, T), bool))
        np.testing.assert_array_equal(out, jnp.broadcast_to(model.head.bias[...], out.shape))
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_later_layers_are_sized_by_the_shorter_length():
    mechanism = ("query_reduction", "spatial_gating")
    model = build(mechanism=mechanism, hparams=(LATENTS, {}), depth=2)
    assert model.stack.blocks[1].mixer.params["weight"].shape[-1] == 5
    assert evaluate(model, TOKENS).shape == (B, CLASSES)


def test_a_decoder_may_read_a_shorter_source():
    encoder = {"mechanism": "query_reduction", "hparams": LATENTS, "decoder_mechanism": "full"}
    model = build(kind="encoder_decoder", target_vocab=7, **encoder)
    sources = jnp.concatenate([TOKENS, jnp.where(MASK, TOKENS, 5)])
    outs = evaluate(model, sources, jnp.tile(TOKENS % 7, (2, 1)), mask=jnp.tile(MASK, (2, 1)))
    assert outs.shape == (2 * B, T, 7)
    np.testing.assert_array_equal(outs[:B], outs[B:])
    drawn = model.generate(TOKENS[:, :1] % 7, 3, source=TOKENS, source_mask=MASK)
    logits = evaluate(model, TOKENS, jnp.concatenate([TOKENS[:, :1] % 7, drawn], 1), mask=MASK)
    np.testing.assert_array_equal(drawn, logits[:, :-1].argmax(-1))


ALONE = {"mechanism": "query_reduction", "hparams": LATENTS}
NO_POSITION = "query_reduction: its outputs belong to no one position"
REFUSED = {
    "labels": (f"{NO_POSITION}.*24 positions, 5 outputs", ALONE | {"outputs": "position"}),
    "values of patches": (
        f"{NO_POSITION}.*24 positions, 8 outputs",
        {"mechanism": ("full", "query_reduction"), "hparams": ({}, STRIDED), "depth": 2}
        | {"inputs": "patches", "features": 5, "outputs": "value"},
    ),
    "next tokens": (NO_POSITION, ALONE | {"kind": "decoder"}),
    "a decoder": (
        "query_reduction: an output stands for .*causal=True",
        ALONE | {"kind": "encoder_decoder", "target_vocab": 7},
    ),
    "cross-attention": (
        NO_POSITION,
        {"kind": "encoder_decoder", "target_vocab": 7, "cross_mechanism": "query_reduction"},
    ),
    "scan": ("outputs are as long as their inputs, got query_reduction", ALONE | {"scan": True}),
}


@pytest.mark.parametrize("asked", REFUSED)
def test_what_needs_an_output_a_position_is_refused(asked):
    message, options = REFUSED[asked]
    with pytest.raises(ValueError, match=message):
        build(**options)
