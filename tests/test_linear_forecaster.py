"""DLinear and NLinear are their published formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_zoo.decomposition import moving_mean
from attention_zoo.linear_forecaster import LinearConfig, LinearForecaster

B, N, H = 3, 30, 4
X = jax.random.normal(jax.random.key(0), (B, N, 1))


def build(form):
    network = LinearForecaster(LinearConfig(N, H, form, kernel=7), rngs=nnx.Rngs(0))
    for number, linear in enumerate(filter(None, (network.linear, network.trend))):
        linear.kernel[...] = jax.random.normal(jax.random.key(number), (N, H))
        linear.bias[...] = jnp.arange(H) + number
    return network


def test_the_trend_is_the_mean_around_each_step():
    x = np.asarray(X[..., 0], np.float64)
    padded = np.pad(x, [(0, 0), (3, 3)], mode="edge")
    expected = np.stack([padded[:, i : i + 7].mean(1) for i in range(N)], 1)
    np.testing.assert_allclose(moving_mean(X[..., 0], 7), expected, atol=1e-5)


def test_both_are_their_formulas():
    x = X[..., 0]
    d, n = build("dlinear"), build("nlinear")
    trend = moving_mean(x, 7)
    expected = trend @ d.trend.kernel[...] + d.trend.bias[...]
    expected += (x - trend) @ d.linear.kernel[...] + d.linear.bias[...]
    np.testing.assert_allclose(d(X), expected, rtol=1e-4, atol=1e-4)
    last = x[:, -1:]
    expected = last + (x - last) @ n.linear.kernel[...] + n.linear.bias[...]
    np.testing.assert_allclose(n(X), expected, rtol=1e-4, atol=1e-4)
    # a series that is shifted is forecast as much higher
    np.testing.assert_allclose(n(X + 5), n(X) + 5, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"form": "linear"}, "form must be one of dlinear, nlinear, got 'linear'"),
        ({"kernel": 24}, "kernel must be odd, to stand around a step, got 24"),
        ({"max_len": 0}, "max_len must be"),
    ],
)
def test_a_bad_size_is_named(fields, words):
    with pytest.raises(ValueError, match=words):
        LinearConfig(**{"max_len": N, "classes": H, **fields})


def test_what_it_cannot_take_is_named():
    with pytest.raises(ValueError, match=r"takes \[B, 30, 1\], got \(3, 29, 1\)"):
        build("dlinear")(X[:, :-1])
    with pytest.raises(ValueError, match="takes no mask"):
        build("dlinear")(X, mask=jnp.ones((B, N), bool))
