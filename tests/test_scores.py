"""Score functions of full attention, against their formulas for one pair of positions at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attention_zoo as zoo
from attention_zoo import scores
from experiments.measuring import flops

B, T, S, H, D, E, A = 1, 3, 5, 2, 7, 4, 6
PAIRS = {
    "scaled_dot": lambda p, h, q, k, j: q @ k / D**0.5,
    "dot": lambda p, h, q, k, j: q @ k,
    "cosine": lambda p, h, q, k, j: q @ k / np.linalg.norm(q) / np.linalg.norm(k),
    "general": lambda p, h, q, k, j: q @ p["weight"][h] @ k,
    "additive": lambda p, h, q, k, j: p["out"][h] @ np.tanh(q @ p["query"][h] + k @ p["key"][h]),
    "location": lambda p, h, q, k, j: q @ p["weight"][h][:, j],
}


def arrays(T, S):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (B, T, H, D), (B, S, H, D), (B, S, H, E)
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def made(score):
    extra = {"hidden": A} if score == "additive" else {}
    m = zoo.make("full", score=score, **extra)
    return m, m.init(jax.random.key(1), zoo.Dims(B, T, S, H, D, E))


@pytest.mark.parametrize("score", PAIRS)
def test_score_is_its_formula(score):
    m, params = made(score)
    q, k, v = arrays(T, S)
    p = {name: np.asarray(x, np.float64) for name, x in params.items()}
    qs, ks = np.asarray(q, np.float64), np.asarray(k, np.float64)
    for h in range(H):
        logits = [
            [PAIRS[score](p, h, qs[0, i, h], ks[0, j, h], j) for j in range(S)] for i in range(T)
        ]
        weights = np.exp(logits)
        weights /= weights.sum(1, keepdims=True)
        expected = weights @ np.asarray(v[0, :, h], np.float64)
        np.testing.assert_allclose(
            m.apply(params, q, k, v)[0, :, h], expected, rtol=2e-5, atol=2e-6
        )


def test_every_score_is_tried():
    assert set(PAIRS) == set(scores.SCORES)


def test_the_cosine_of_nothing_is_0_with_finite_gradients():
    m, params = made("cosine")
    q, k, v = arrays(T, S)
    gradient = jax.grad(lambda q: m.apply(params, q, k, v).sum())(q.at[:, 1].set(0.0))
    out = m.apply(params, q.at[:, 1].set(0.0), k, v)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(out[0, 1], v[0].mean(0), rtol=1e-5)


@pytest.mark.parametrize("score", ["additive", "location"])
def test_long_sequences_hold_a_few_rows_at_a_time(score, monkeypatch):
    monkeypatch.setattr(scores, "ROW_ENTRIES", 4096)
    m, N = zoo.make("full", score=score), 509
    params = m.init(jax.random.key(0), zoo.Dims(1, N, N, 1, D, E))
    q, v = jnp.zeros((1, N, 1, D)), jnp.zeros((1, N, 1, E))

    def train(params, q, k, v):
        return jax.grad(lambda *args: m.apply(*args).sum(), (0, 1, 2, 3))(params, q, k, v)

    assert max(map(np.prod, flops.shapes(train, params, q, q, v))) <= 2 * max(4096, N * D)


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"score": "dots"}, "score must be one of scaled_dot, dot.*got 'dots'"),
        ({"score": "dot", "hidden": 8}, "hidden=8 needs score='additive', got 'dot'"),
        ({"length": 8}, "length=8 needs score='location', got 'scaled_dot'"),
        ({"score": "additive", "hidden": 0}, "hidden must be a whole number from 1 up, got 0"),
        ({"score": "additive", "implementation": "cudnn"}, "implementation must be .*got 'cudnn'"),
    ],
)
def test_bad_hparams_are_refused(hparams, message):
    with pytest.raises(ValueError, match=message):
        zoo.make("full", **hparams)


def test_a_bias_needs_a_dot_product():
    m, params = made("additive")
    assert not m.bias
    with pytest.raises(
        ValueError, match="bias needs a score that is a dot product, got 'additive'"
    ):
        m.apply(params, *arrays(T, S), bias=jnp.zeros((B, H, T, S)))


def test_more_positions_than_location_has_weights_for_are_refused():
    m, params = made("location")
    with pytest.raises(ValueError, match=r"sized for length 5, got 6 keys; make it with length=6"):
        m.apply(params, *arrays(T, S + 1))
    m = zoo.make("full", score="location", length=4)
    assert zoo.objections(m, zoo.Dims(q_len=5, kv_len=5)) == [
        "full: parameters are sized for length 4 (got 5)"
    ]
