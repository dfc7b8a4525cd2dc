"""Limits in which one mechanism must be another, and the rate at which random features near one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attention_zoo as zoo
from tests.cases import MODES, SIZES, assert_close, padding

N = 24
D = SIZES["head_dim"]


def identities(m: zoo.Mechanism, **names):
    """The params of m with those named replaced: by what `names[name](its shape)` gives."""
    dims = zoo.Dims(q_len=N, kv_len=N, **SIZES)
    params = dict(m.init(jax.random.key(0), dims))
    return params | {name: make(params[name].shape) for name, make in names.items()}


def eye(shape):
    """Ones where the last two axes agree."""
    return jnp.broadcast_to(jnp.eye(*shape[-2:]), shape)


# label: (mechanism, hparams, names of params that become identities, what it then is)
FULL = ("full", {})
LIMITS = {
    "window >= N": ("local", {"window": N - 1}, {}, FULL),
    "huge window": ("local", {"window": 10 * N}, {}, FULL),
    "stride 1": ("strided", {"stride": 1}, {}, FULL),
    "stride and window >= N": ("strided", {"stride": 5, "window": N}, {}, FULL),
    "all tokens global": ("global", {"tokens": N}, {}, FULL),
    "global and window >= N": ("global", {"tokens": 3, "window": N}, {}, FULL),
    "all blocks global": ("bigbird", {"block": 4, "global_blocks": 6}, {}, FULL),
    "all blocks random": ("bigbird", {"block": 4, "random_blocks": 6}, {}, FULL),
    "one block": ("bigbird", {"block": N}, {}, FULL),
    "slots = N, identity projections": (
        "linformer",
        {"slots": N},
        {"keys": eye, "values": eye},
        FULL,
    ),
    "slots = N, means": ("linformer", {"slots": N, "start": "means"}, {}, FULL),
    "slots and blocks of equal means": (
        "linformer",
        {"slots": N // 4, "start": "means"},
        {},
        ("compressed", {"stride": 4, "start": "means"}),
    ),
    "landmarks = N": ("nystrom", {"landmarks": N, "iterations": 30}, {}, FULL),
    "compression 1, identity kernels": (
        "compressed",
        {"stride": 1},
        {"key_kernel": eye, "value_kernel": eye},
        FULL,
    ),
    "one block, sorted as itself": ("sinkhorn", {"block": N}, {}, FULL),
    "queries of one token, identity kernel": (
        "query_reduction",
        {"kind": "strided", "stride": 1},
        {"kernel": eye},
        FULL,
    ),
    "one cluster": ("routing", {"clusters": 1, "window": N}, {}, FULL),
    "general score, identity weight": (
        "full",
        {"score": "general"},
        {"weight": eye},
        ("full", {"score": "dot"}),
    ),
    "one part of mixed": (
        "mixed",
        {"parts": (("local", {"window": 3}),)},
        {},
        ("local", {"window": 3}),
    ),
}
# the inverse is iterated
LOOSER = {"landmarks = N": 3e-4}
# a hidden key is a zero among Linformer's slots; a hidden query joins no cluster, makes no query
UNMASKED = {
    "slots = N, identity projections",
    "slots = N, means",
    "slots and blocks of equal means",
    "one cluster",
    "queries of one token, identity kernel",
}


def calls():
    """(label, mode) that neither side refuses."""
    return [
        (label, mode)
        for label, (name, hparams, _, (other, _)) in LIMITS.items()
        for mode, causal in MODES.items()
        if not causal or (zoo.make(name, **hparams).causal and zoo.make(other).causal)
    ]


def inputs():
    B, H, D, E = SIZES.values()
    keys = jax.random.split(jax.random.key(7), 3)
    return [
        jax.random.normal(key, (B, N, H, size)) for key, size in zip(keys, (D, D, E), strict=True)
    ]


@pytest.mark.parametrize(("label", "mode"), calls())
def test_limit(label, mode):
    name, hparams, replaced, (other, other_hparams) = LIMITS[label]
    m, limit = zoo.make(name, **hparams), zoo.make(other, **other_hparams)
    params, limit_params = identities(m, **replaced), identities(limit)

    @jax.jit
    def both(*qkv):
        options = {"mask": None if label in UNMASKED else padding(N), "causal": MODES[mode]}
        return m.apply(params, *qkv, **options), limit.apply(limit_params, *qkv, **options)

    assert_close(*both(*inputs()), LOOSER.get(label, 2e-6))


@pytest.mark.parametrize("hashes", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_one_bucket_is_full_attention_to_all_others(mode, hashes):
    q, _, v = inputs()
    m = zoo.make("lsh", buckets=1, block=N, hashes=hashes)
    options = {"causal": MODES[mode]}
    out = m.apply(m.init(jax.random.key(0), zoo.Dims(q_len=N, **SIZES)), q, None, v, **options)
    unit = q / jnp.linalg.norm(q, axis=-1, keepdims=True)
    itself = jnp.where(jnp.eye(N), -1e9, 0.0)
    assert_close(out, zoo.make("full").apply({}, q, unit, v, bias=itself, **options), 2e-6)


def test_latents_are_the_queries_of_full_attention():
    B, H, _, _ = SIZES.values()
    _, k, v = inputs()
    latents = jax.random.normal(jax.random.key(8), (7, H, D))
    out = zoo.make("query_reduction", slots=7).apply(
        {"latents": latents}, None, k, v, mask=padding(N)
    )
    q = jnp.broadcast_to(latents, (B, *latents.shape))
    assert_close(out, zoo.make("full").apply({}, q, k, v, mask=padding(N)), 2e-6)


def test_a_kernel_that_averages_asks_with_the_mean_query():
    q, k, v = inputs()
    m = zoo.make("query_reduction", kind="strided", stride=N)
    params = identities(m, kernel=lambda shape: eye(shape) / N)
    mean = q.mean(1, keepdims=True)
    assert_close(m.apply(params, q, k, v), zoo.make("full").apply({}, mean, k, v), 2e-6)


@pytest.mark.parametrize("head", range(4))
def test_a_head_of_mixed_is_the_mechanism_itself(head):
    parts = (("full", {}), ("local", {"window": 2}), ("linear", {}), ("strided", {"stride": 3}))
    name, hparams = parts[head]
    qkv = inputs()
    out = zoo.make("mixed", parts=parts).apply({}, *qkv, causal=True)
    own = zoo.make(name, **hparams).apply({}, *(x[:, :, head : head + 1] for x in qkv), causal=True)
    np.testing.assert_array_equal(out[:, :, head : head + 1], own)


def test_global_positions_that_are_all_past_the_end_are_refused():
    q = jnp.ones((1, 16, 2, 8))
    m = zoo.make("global", tokens=(20, 30))
    with pytest.raises(ValueError, match=r"tokens must have one below N=16, got \(20, 30\)"):
        m.apply({}, q, q, q)
    beside = zoo.make("global", tokens=(20, 30), window=2)
    assert_close(beside.apply({}, q, q, q), beside.reference({}, q, q, q))
