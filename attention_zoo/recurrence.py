"""Linear attention once features exist: out = φq (φkᵀ v) / φq·Σφk, in parallel or by steps.

`q` and `k` are features [B, length, H, R] in float32, already 0 at hidden keys. The state of the
causal form is {"kv": Σ φk vᵀ [B, H, R, E], "k": Σ φk [B, H, R]} in float32, whatever the length.
"""

import jax
import jax.numpy as jnp

from attention_zoo import ops
from attention_zoo.types import Cost, Decode, Dims


def bidirectional(q, k, v, normalise: bool):
    """Every query sees every key: [B, T, H, E] in v's dtype."""
    kv = jnp.einsum("bshr,bshe->bhre", k, v.astype(jnp.float32))
    out = jnp.einsum("bthr,bhre->bthe", q, kv)
    if normalise:
        out = ops.safe_divide(out, jnp.einsum("bthr,bhr->bth", q, k.sum(1))[..., None])
    return out.astype(v.dtype)


def causal(q, k, v, normalise: bool, chunk: int, state=None, *, maps=None, mask=None, eps=0.0):
    """Every query sees the keys up to its own, after those summed in `state`: (out, new state).

    `maps` makes the features chunk by chunk: (q -> φq, (k, mask) -> (φk, log decay)). A log decay
    [B, c, H], at most 0, is what each token shrinks the sums before it by; it may be None.
    """
    B, T, H, D = q.shape
    size = min(chunk, T)
    if maps is None:
        state = empty(B, H, D, v.shape[-1]) if state is None else state

    @jax.checkpoint
    def step(state, xs):
        q, k, v, *mask = xs
        k, decay = maps[1](k, *mask) if maps else (k, None)
        q = maps[0](q) if maps else q
        weights = jnp.einsum("bthr,bshr->bhts", q, k) * jnp.tri(size)
        if decay is not None:
            passed = jnp.einsum("bth->bht", decay.cumsum(1))
            between = passed[:, :, :, None] - passed[:, :, None]
            weights *= jnp.exp(jnp.where(jnp.tri(size, dtype=bool), between, ops.LOWEST))
            q = q * jnp.einsum("bht->bth", jnp.exp(passed))[..., None]
        out = jnp.einsum("bhts,bshe->bthe", weights, v) + jnp.einsum(
            "bthr,bhre->bthe", q, state["kv"]
        )
        if normalise:
            total = weights.sum(-1) + jnp.einsum("bthr,bhr->bht", q, state["k"]) + eps
            out = ops.safe_divide(out, jnp.einsum("bht->bth", total)[..., None])
        return absorb(state, k, v, decay), out

    arrays = [x.astype(jnp.float32) for x in (q, k, v)]
    if maps:
        arrays.append(jnp.ones(k.shape[:2], bool) if mask is None else mask)
    state, out = jax.lax.scan(step, state, tuple(chunks(x, size) for x in arrays))
    return join(out, T).astype(v.dtype), state


def mapped(q, k, v, normalise: bool, chunk: int, state, maps, *, mask=None, eps=0.0):
    """Every query reads the sums over all keys, with features made by `maps` as in `causal`."""
    mask = jnp.ones(k.shape[:2], bool) if mask is None else mask

    @jax.checkpoint
    def write(state, kvm):
        k, v, mask = kvm
        features, decay = maps[1](k, mask)
        return absorb(state, features, v, decay), None

    arrays = (k.astype(jnp.float32), v.astype(jnp.float32), mask)
    size = min(chunk, k.shape[1])
    state, _ = jax.lax.scan(write, state, tuple(chunks(x, size) for x in arrays))

    @jax.checkpoint
    def read(q):
        features = maps[0](q)
        out = jnp.einsum("bthr,bhre->bthe", features, state["kv"])
        if normalise:
            total = jnp.einsum("bthr,bhr->bth", features, state["k"]) + eps
            out = ops.safe_divide(out, total[..., None])
        return out

    queries = chunks(q.astype(jnp.float32), min(chunk, q.shape[1]))
    return join(jax.lax.map(read, queries), q.shape[1]).astype(v.dtype)


def absorb(state, k, v, decay=None):
    """The state after more keys."""
    if decay is None:
        kv = jnp.einsum("bshr,bshe->bhre", k, v)
        return {"kv": state["kv"] + kv, "k": state["k"] + k.sum(1)}
    passed = decay.cumsum(1)
    k = k * jnp.exp(passed[:, -1:] - passed)[..., None]
    left = jnp.exp(passed[:, -1])[..., None]
    new = absorb({"kv": 0.0, "k": 0.0}, k, v)
    return {"kv": state["kv"] * left[..., None] + new["kv"], "k": state["k"] * left + new["k"]}


def empty(B: int, H: int, R: int, E: int) -> dict:
    return {"kv": jnp.zeros((B, H, R, E), jnp.float32), "k": jnp.zeros((B, H, R), jnp.float32)}


def decode(features, width, normalise: bool, chunk: int) -> Decode:
    """`features(q, k, mask) -> (φq, φk)`; `width(dims)` is their size R."""

    def init(params, dims: Dims, dtype=jnp.float32):
        return empty(dims.batch, dims.heads, width(dims), dims.value_dim)

    def step(params, state, q, k, v, *, mask=None):
        q, k = features(q, k, mask)
        return causal(q, k, ops.hide(v, mask), normalise, chunk, state)

    return Decode(init, step, step)


def cost(dims: Dims, R: int, normalise: bool, causal: bool, chunk: int) -> Cost:
    """Of the products above; feature maps that multiply matrices add their own."""
    T, S, E = dims.q_len, dims.kv_len, dims.value_dim
    heads = dims.batch * dims.heads
    state = heads * R * (E + 1)
    if causal:
        size = min(chunk, T)
        rows = ops.ceil_to(T, size)
        pairs = rows * (size * (R + E) + 2 * R * E + R * normalise)
        held = rows * (2 * R + E) + rows * E
    else:
        pairs = (S + T) * R * E + T * R * normalise
        # the product over positions wants its two operands the other way round: copies
        held = (T + S) * R + S * (R + E) + T * E
    return Cost(
        flops=2 * heads * pairs,
        ideal_flops=2 * heads * (T + S) * R * E,
        bytes=4 * (heads * held + state),
        state_bytes=4 * state,
    )


def mapped_cost(dims: Dims, R: int, each: int, causal: bool, chunk: int) -> Cost:
    """Of `causal` or `mapped` with `maps` that take `each` multiply-adds a token."""
    E, heads, size = dims.value_dim, dims.batch * dims.heads, min(chunk, dims.q_len)
    T, S = (ops.ceil_to(n, min(chunk, n)) for n in (dims.q_len, dims.kv_len))
    pairs = (T + S) * (each + R * E) + T * R + (T * size * (R + E) if causal else 0)
    state = heads * R * (E + 1)
    held = heads * size * (3 * R + 2 * E + (2 * size if causal else 0))
    # a loop over chunks works on copies of its inputs
    held += heads * (T * dims.head_dim + S * (dims.head_dim + E)) * (dims.kv_len > chunk)
    return Cost(
        flops=2 * heads * pairs,
        ideal_flops=2 * heads * (dims.q_len + dims.kv_len) * R * E,
        bytes=4 * (heads * T * E + held + state),
        state_bytes=4 * state,
    )


def chunks(x, size):
    """[B, T, ...] -> [chunks, B, size, ...], padded by zeros."""
    B, T = x.shape[:2]
    padded = ops.pad_to(x, ops.ceil_to(T, size), 1)
    return jnp.moveaxis(padded.reshape(B, -1, size, *x.shape[2:]), 1, 0)


def join(out, T):
    """[chunks, B, size, ...] -> [B, T, ...]."""
    out = jnp.moveaxis(out, 0, 1)
    return out.reshape(len(out), -1, *out.shape[3:])[:, :T]
