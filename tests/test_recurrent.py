"""Recurrent networks against the cells of a library, and attention's steps worked out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attention_zoo as zoo
from attention_zoo.recurrent_translator import (
    ATTENTION,
    LUONG,
    RecurrentConfig,
    RecurrentTranslator,
)

B, N, C = 2, 7, 6
X = jax.random.normal(jax.random.key(0), (B, N, 2, C // 2))


def drawn(**hparams):
    m = zoo.make("recurrent", **hparams)
    dims = zoo.Dims(batch=B, q_len=N, kv_len=N, heads=2, head_dim=C // 2)
    params = m.init(jax.random.key(1), dims)
    noise = jax.random.split(jax.random.key(2), len(params))
    # biases too: those of the start hide which gate has which
    return m, {
        name: value + jax.random.normal(rng, value.shape) * 0.3
        for rng, (name, value) in zip(noise, params.items(), strict=True)
    }


def test_an_lstm_is_that_of_flax():
    m, params = drawn()
    cell = nnx.LSTMCell(C, C, rngs=nnx.Rngs(0))
    for number, gate in enumerate("ifgo"):
        of = slice(number * C, (number + 1) * C)
        getattr(cell, "if_" if gate == "f" else f"i{gate}").kernel[...] = params["forward_input"][
            :, of
        ]
        getattr(cell, f"h{gate}").kernel[...] = params["forward_state"][:, of]
        getattr(cell, f"h{gate}").bias[...] = params["forward_bias"][of]
    carry, expected = (jnp.zeros((B, C)), jnp.zeros((B, C))), []
    for t in range(N):
        carry, h = cell(carry, X[:, t].reshape(B, C))
        expected.append(h)
    found = m.apply(params, None, None, X).reshape(B, N, C)
    np.testing.assert_allclose(found, np.stack(expected, 1), atol=1e-5)


def test_a_vanilla_network_is_its_formula():
    m, params = drawn(cell="rnn")
    W, U, b = (np.asarray(params[f"forward_{part}"]) for part in ("input", "state", "bias"))
    h, x = np.zeros((B, C)), np.asarray(X).reshape(B, N, C)
    for t in range(N):
        h = np.tanh(x[:, t] @ W + h @ U + b)
        found = m.apply(params, None, None, X)[:, t].reshape(B, C)
        np.testing.assert_allclose(found, h, atol=1e-5)


SOURCE = jax.random.randint(jax.random.key(3), (B, N), 0, 9)
TARGET = jax.random.randint(jax.random.key(4), (B, 4), 0, 5)
MASK = jnp.arange(N) < jnp.array([[5], [N]])


@pytest.mark.parametrize("kind", ATTENTION)
def test_a_translator_takes_the_steps_of_its_paper(kind):
    config = RecurrentConfig(vocab=9, target_vocab=5, attention=kind, width=C, max_len=N)
    model = RecurrentTranslator(config, rngs=nnx.Rngs(0))
    embedded, _ = model.embed(SOURCE, MASK)
    memory = np.asarray(model.reader(embedded, mask=MASK))
    real, tokens = np.asarray(MASK), np.asarray(model.target_embed(TARGET, None)[0])
    logits, weights = np.asarray(model(SOURCE, TARGET, mask=MASK)), None
    if kind != "none":
        weights = np.asarray(model.weights(SOURCE, TARGET, MASK))
    for row in range(B):
        m = memory[row, real[row]]
        half = C // 2
        last = np.concatenate([m[-1, :half], m[0, half:]])
        h, out = np.tanh(_linear(model.start, last)), np.zeros(C)
        for t, y in enumerate(tokens[row]):
            # Bahdanau looks with the state before, Luong with the one after
            looking = _gru(model.cell, h, np.concatenate([y, out])) if kind in LUONG else h
            context = last
            if kind != "none":
                share = np.exp(_scores(model.scorer, kind, looking, m))
                share /= share.sum()
                context = share @ m
                np.testing.assert_allclose(weights[row, t, real[row]], share, atol=1e-5)
            h = looking if kind in LUONG else _gru(model.cell, h, np.concatenate([y, context]))
            out = np.tanh(_linear(model.combine, np.concatenate([h, context])))
            np.testing.assert_allclose(logits[row, t], _linear(model.head, out), atol=2e-5)


def _linear(layer, x):
    bias = 0 if layer.bias is None else np.asarray(layer.bias[...])
    return x @ np.asarray(layer.kernel[...]) + bias


def _gru(cell, h, x):
    return np.asarray(cell(jnp.asarray(h), jnp.asarray(x))[0])


def _scores(scorer, kind, h, m):
    """Of a state for each source position, by the formulas of the papers."""
    if kind == "dot":
        return m @ h
    W = np.asarray(scorer.key.kernel[...])
    if kind == "general":
        return np.array([h @ (position @ W) for position in m])
    hidden = [np.tanh(_linear(scorer.query, h) + position @ W) for position in m]
    return np.array([np.asarray(scorer.score.kernel[...])[:, 0] @ units for units in hidden])
