"""What the mechanisms made for time series owe beside the contract of all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attention_zoo as zoo
from tests.cases import CASES, LENGTH, assert_close, inputs


def test_the_complex_tanh_equals_its_definition_away_from_its_poles():
    """Near one, rounding of the scores grows a hundredfold: files of other implementations, held to
    1e-4 in test_golden.py, have such scores."""
    m = zoo.make("fourier_enhanced", modes=2, kind="cross")
    params, q, k, v, cotangent = inputs(CASES["fourier_enhanced-cross"], LENGTH)
    q = 0.02 * q

    @jax.jit
    def both(params, q, k, v):
        forms = []
        for form in (m.apply, m.reference):
            out, pull = jax.vjp(form, params, q, k, v)
            forms.append((out, pull(cotangent)))
        return forms

    assert_close(*both(params, q, k, v))


def test_modes_below_those_kept_come_back():
    """With W the identity a signal of kept modes passes through."""
    m = zoo.make("fourier_enhanced", modes=4, select="low")
    n = jnp.arange(20)
    x = (1 + jnp.cos(2 * np.pi * n / 20) - jnp.sin(2 * np.pi * 3 * n / 20))[None, :, None, None]
    params = {"real": jnp.ones((1, 1, 1, 4)), "imag": jnp.zeros((1, 1, 1, 4))}
    np.testing.assert_allclose(m.apply(params, None, None, x), x, atol=1e-5)


@pytest.mark.parametrize("form", ["apply", "reference"])
def test_a_sequence_too_short_for_every_selected_mode_is_refused(form):
    m = zoo.make("fourier_enhanced", modes=2, select=((9,), (9,)))
    params, _, _, v, _ = inputs(CASES["fourier_enhanced"], 8)
    words = r"select must have a frequency below 4 for 8 positions, got \(9,\)"
    with pytest.raises(ValueError, match=words):
        getattr(m, form)(params, None, None, v)


def test_a_period_is_found():
    """Of a signal of period 12 the delays are multiples of it, and the output is the signal."""
    m = zoo.make("auto_correlation", factor=1)
    n = jnp.arange(96)
    x = jnp.stack([jnp.sin(2 * np.pi * n / 12), jnp.cos(4 * np.pi * n / 12)], -1)[None, :, None]
    np.testing.assert_allclose(m.apply({}, x, x, x), x, atol=1e-4)


def test_active_queries_attend_and_others_take_the_mean():
    m = zoo.make("probsparse", factor=1)
    params, _, k, v, _ = inputs(CASES["probsparse"], 64)
    # one query agrees with every key it may have sampled, far more with one than with others
    q = jnp.zeros_like(k).at[:, 7].set(9.0)
    full = zoo.make("full").apply({}, q, k, v)
    out = m.apply(params, q, k, v)
    np.testing.assert_allclose(out[:, 7], full[:, 7], rtol=2e-4, atol=1e-5)
    mean = jnp.broadcast_to(v.mean(1, keepdims=True), v.shape)
    np.testing.assert_allclose(jnp.delete(out, 7, 1), jnp.delete(mean, 7, 1), atol=1e-5)


@pytest.mark.parametrize("form", ["apply", "reference"])
def test_hidden_queries_in_front_take_no_place_of_real_ones(form):
    """As many real queries as may attend, most of which have sampled hidden keys only."""
    m, full = zoo.make("probsparse", factor=1), zoo.make("full")
    params, q, k, v, _ = inputs(CASES["probsparse"], 64)
    mask = jnp.broadcast_to(jnp.arange(64) >= 59, (len(q), 64))
    out, expected = (getattr(x, form)(params, q, k, v, mask=mask) for x in (m, full))
    np.testing.assert_allclose(out[:, 59:], expected[:, 59:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "hparams", "words"),
    [
        ("probsparse", {"factor": 0}, "factor"),
        ("probsparse", {"ranking": "late"}, "ranking must be one of exact, paper, got 'late'"),
        ("probsparse", {"rest": "max"}, "rest must be one of mean, sum, got 'max'"),
        ("auto_correlation", {"factor": -1}, "factor"),
        ("fourier_enhanced", {"modes": 0}, "modes"),
        ("fourier_enhanced", {"kind": "both"}, "kind must be one of self, cross, got 'both'"),
        ("fourier_enhanced", {"select": "high"}, "select must be one of random, low"),
        (
            "fourier_enhanced",
            {"modes": 2, "select": ((1, 2, 3), (1,))},
            r"select must have at most modes=2 frequencies, got \(1, 2, 3\)",
        ),
        ("fourier_enhanced", {"activation": "relu"}, "activation must be one of tanh, softmax"),
    ],
)
def test_bad_hyperparameters_are_named(name, hparams, words):
    with pytest.raises(ValueError, match=words):
        zoo.make(name, **hparams)
