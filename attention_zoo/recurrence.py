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


def causal(q, k, v, normalise: bool, chunk: int, state=None):
    """Every query sees the keys up to its own, after those summed in `state`: (out, new state)."""
    B, T, H, R = q.shape
    size = min(chunk, T)
    state = empty(B, H, R, v.shape[-1]) if state is None else state

    @jax.checkpoint
    def step(state, qkv):
        q, k, v = qkv
        weights = jnp.einsum("bthr,bshr->bhts", q, k) * jnp.tri(size)
        out = jnp.einsum("bhts,bshe->bthe", weights, v) + jnp.einsum(
            "bthr,bhre->bthe", q, state["kv"]
        )
        if normalise:
            total = weights.sum(-1) + jnp.einsum("bthr,bhr->bht", q, state["k"])
            out = ops.safe_divide(out, jnp.einsum("bht->bth", total)[..., None])
        kv = jnp.einsum("bshr,bshe->bhre", k, v)
        return {"kv": state["kv"] + kv, "k": state["k"] + k.sum(1)}, out

    xs = tuple(chunks(x.astype(jnp.float32), size) for x in (q, k, v))
    state, out = jax.lax.scan(step, state, xs)
    out = jnp.moveaxis(out, 0, 1).reshape(B, -1, H, v.shape[-1])[:, :T]
    return out.astype(v.dtype), state


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


def chunks(x, size):
    """[B, T, ...] -> [chunks, B, size, ...], padded by zeros."""
    B, T = x.shape[:2]
    padded = ops.pad_to(x, ops.ceil_to(T, size), 1)
    return jnp.moveaxis(padded.reshape(B, -1, size, *x.shape[2:]), 1, 0)
