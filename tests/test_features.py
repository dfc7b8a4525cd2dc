"""Kernel features near softmax and survive any size; parameters sized by length refuse more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attention_zoo as zoo
from attention_zoo import exponential, heads, recurrence
from attention_zoo.mechanisms import efficient, linear, performer, rfa
from attention_zoo.mechanisms.rfa import cos_sin
from attention_zoo.types import Dims
from tests.cases import assert_close

B, T, H, D, E = 1, 19, 2, 8, 5
Q, K = 0.35 * jax.random.normal(jax.random.key(0), (2, B, T, H, D))
V = jax.random.normal(jax.random.key(1), (B, T, H, E))
SIZE = Dims(B, T, T, H, D, E)
FEATURES = (16, 64, 256, 1024, 4096)


def error(name, target, m, *qkv, draws=16):
    """Root mean square distance to `target` over several draws of the features."""
    made = [m.init(key, SIZE) for key in jax.random.split(jax.random.key(2), draws)]
    params = jax.tree.map(lambda *x: jnp.stack(x), *made)
    outs = jax.jit(jax.vmap(lambda p: m.apply(p, *qkv)))(params)
    return float(jnp.sqrt(jnp.square(outs - target).mean()))


@pytest.mark.parametrize("kernel", ["softmax", "hyperbolic"])
def test_performer_nears_softmax_as_one_over_the_root_of_features(kernel):
    target = zoo.make("full").apply({}, Q, K, V)
    errors = [
        error(kernel, target, zoo.make("performer", features=R, kernel=kernel), Q, K, V)
        for R in FEATURES
    ]
    slope = np.polyfit(np.log(FEATURES), np.log(errors), 1)[0]
    assert -0.57 <= slope <= -0.43, errors
    assert errors[-1] < 0.02


def test_rfa_nears_softmax_as_one_over_the_root_of_features():
    q, k = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (Q, K))
    target = zoo.make("full").apply({}, q * D**0.5, k, V)
    errors = [error("rfa", target, zoo.make("rfa", features=R), Q, K, V) for R in FEATURES]
    slope = np.polyfit(np.log(FEATURES), np.log(errors), 1)[0]
    assert -0.57 <= slope <= -0.43, errors
    assert errors[-1] < 0.02


def test_orthogonal_rows_are_orthogonal_and_of_gaussian_length():
    rows = zoo.make("performer", features=4 * D).init(jax.random.key(3), SIZE)["projection"]
    blocks = rows.reshape(H, 4, D, D)
    gram = jnp.einsum("hnid,hnjd->hnij", blocks, blocks)
    off_diagonal = gram * (1 - jnp.eye(D))
    np.testing.assert_allclose(off_diagonal, 0, atol=1e-4)
    assert 0.7 < float(jnp.square(rows).mean()) < 1.3


def test_orthogonal_rows_have_the_smaller_error():
    target = zoo.make("full").apply({}, Q, K, V)
    free, tied = (
        error(
            "performer", target, zoo.make("performer", features=D, orthogonal=o), Q, K, V, draws=164
        )
        for o in (False, True)
    )
    assert tied < free


@pytest.mark.parametrize(
    ("name", "causal"), [(n, c) for n in ("efficient", "performer") for c in (0, 1)]
)
def test_logarithms_of_any_size_neither_overflow_nor_vanish(name, causal):
    """Tokens whose exponents lie hundreds apart: growth by far more than float32's range."""
    m = zoo.make(name, chunk=8, **({"features": 24} if name == "performer" else {}))
    params = m.init(jax.random.key(4), SIZE)
    scale = jnp.where(jnp.arange(T) % 5 == 0, 150.0, jnp.where(jnp.arange(T) % 5 == 3, 20.0, 0.7))
    k = K * scale[:, None, None] * (-1.0 if name == "efficient" else 1.0)

    def run(form):
        @jax.jit
        def call(q, k, v):
            out, pull = jax.vjp(lambda *a: form(params, *a, causal=bool(causal)), q, k, v)
            return out, pull(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))

        return call(Q, k, V)

    (out, gradients), (expected, wanted) = run(m.apply), run(m.reference)
    assert_close(out, expected)
    for got, want in zip(gradients, wanted, strict=True):
        assert_close(got, want, 1e-4)


def test_growth_is_met_token_by_token():
    """The test above would pass without the careful path if nothing grew past the limit."""
    m = zoo.make("efficient", chunk=T)
    k = K.at[:, 7:].add(3 * exponential.GROWTH)
    out = m.apply({}, Q, k, V, causal=True)
    np.testing.assert_array_equal(out[:, :7], m.apply({}, Q, K, V, causal=True)[:, :7])
    later = m.apply({}, Q[:, 7:], k[:, 7:], V[:, 7:], causal=True)
    assert_close(out[:, 7:], later)


@pytest.mark.parametrize("name", ["performer", "rfa"])
def test_refresh_redraws_the_features_and_nothing_else(name):
    m = zoo.make(name, features=16)
    params = m.init(jax.random.key(5), SIZE)
    moved = m.refresh(jax.random.key(6), params, Q, K)
    assert moved.keys() == params.keys()
    for key in params:
        assert bool((moved[key] != params[key]).any()) == (key in m.frozen)


def test_cosine_and_sine():
    x = jnp.linspace(-12, 12, 1001)
    assert_close(cos_sin(x), (jnp.cos(x), jnp.sin(x)), 2e-6)
    slope = jax.vmap(jax.grad(lambda x: cos_sin(x)[1]))(x)
    assert_close(slope, jnp.cos(x), 2e-6)


def test_gates_forget():
    """With all gates at 1/2 a key counts half as much for every token after it."""
    m = zoo.make("rfa", features=64, gate=True, chunk=4)
    params = m.init(jax.random.key(7), SIZE)
    params |= {"gate_weight": jnp.zeros((H, D)), "gate_bias": jnp.zeros(H)}
    k = jnp.broadcast_to(K[:, :1], K.shape)
    out = m.apply(params, Q, k, V, causal=True)
    age = jnp.arange(T)[:, None] - jnp.arange(T)
    weights = jnp.where(age >= 0, 0.5**age, 0.0)
    weights = weights / weights.sum(-1, keepdims=True)
    assert_close(out, jnp.einsum("ts,bshe->bthe", weights, V), 1e-4)


SIZED = {"mlp_mixer": {}, "spatial_gating": {}, "synthesizer": {"kind": "random"}}


@pytest.mark.parametrize("name", SIZED)
def test_a_shorter_input_is_one_whose_end_is_hidden(name):
    m = zoo.make(name, length=T, **SIZED[name])
    params = m.init(jax.random.key(8), Dims(B, 3, 3, H, E, E))
    q = Q[..., :E]
    short = m.apply(params, q[:, :11], q[:, :11], V[:, :11])
    whole = m.apply(params, q, q, V, mask=jnp.arange(T)[None] < 11)
    assert_close(short, whole[:, :11])


@pytest.mark.parametrize("name", SIZED)
def test_a_longer_input_is_refused(name):
    fixed, free = zoo.make(name, length=11, **SIZED[name]), zoo.make(name, **SIZED[name])
    size = Dims(B, 12, 12, H, E, E)
    assert "sized for length 11 (got 12)" in zoo.objections(fixed, size)[0]
    with pytest.raises(ValueError, match=f"{name}: parameters are sized for length 11, got 12"):
        fixed.init(jax.random.key(0), size)
    params = free.init(jax.random.key(0), Dims(B, 11, 11, H, E, E))
    with pytest.raises(ValueError, match=r"sized for length 1\d, got 19; make it with length=19"):
        free.apply(params, V, None, V)


@pytest.mark.parametrize(
    ("name", "hparams", "message"),
    [
        ("efficient", {"normaliser": "rows"}, 'normaliser must be "feature" or "row"'),
        ("performer", {"kernel": "elu"}, "kernel must be one of softmax, hyperbolic, relu"),
        ("performer", {"features": 7, "kernel": "hyperbolic"}, "features must be even"),
        ("performer", {"features": 0}, "features must be a whole number from 1 up"),
        ("performer", {"feature_eps": -1.0}, "feature_eps and sum_eps must be 0 or more"),
        ("rfa", {"features": 5}, "features must be even"),
        ("rfa", {"sigma": 0}, "sigma must be above 0"),
        ("synthesizer", {"kind": "sparse"}, "kind must be one or some of dense, random"),
        ("synthesizer", {"kind": ("dot", "dot")}, "kind must be one or some of"),
        ("mlp_mixer", {"length": 0}, "length must be a whole number from 1 up"),
        ("query_reduction", {"kind": "mean"}, "kind must be one of latents, strided, got 'mean'"),
        ("query_reduction", {"slots": 0}, "slots must be a whole number from 1 up"),
        ("query_reduction", {"stride": 3}, "stride is not read by kind='latents', got 3"),
        ("mixed", {"parts": (("query_reduction", {}),)}, "query_reduction has outputs of no one"),
    ],
)
def test_hyperparameters_out_of_range_are_refused(name, hparams, message):
    with pytest.raises(ValueError, match=message):
        zoo.make(name, **hparams)


@pytest.mark.parametrize("module", [linear, efficient, performer, rfa])
def test_sequences_longer_than_a_chunk_are_as_exact(module, monkeypatch):
    """Of a call that is not causal, whose chunks are longer than the sequences of other tests."""
    monkeypatch.setattr(recurrence, "LEAST_ROWS", 8)
    monkeypatch.setattr(heads, "budget", lambda: 1)
    m = module.make()
    params = m.init(jax.random.key(3), SIZE)
    mask = jnp.arange(T)[None] % 5 > 0

    def both(form, given):
        def loss(*qkv):
            out = form(params, *qkv, **given)
            return jnp.sin(out).sum(), out

        return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(Q, K, V)

    for given in ({}, {"mask": mask}):
        assert_close(both(m.apply, given), both(m.reference, given))
