"""Linear attention whose features are exponentials, given by their logarithms: no overflow.

With logarithms a of q's features and b of k's, out_i = Σ_j Σ_f exp(a_if + b_jf) v_j over a
normaliser: "row" Σ_j Σ_f exp(a_if + b_jf); "feature" divides each feature of k by its own sum over
positions; None is 1. As in recurrence.py arrays are [B, length, H, D], and `maps(params)` (of q, of
k) make the logarithms chunk by chunk, [B, H, c, D] -> [B, H, c, R], float32. Sums are kept relative
to the largest b so far, a feature: the state is {"kv": Σ v exp(b - peak)ᵀ [B, H, E, R], "k": Σ
exp(b - peak) [B, H, R], "peak": [B, H, R]} (E in front: the sum over positions then is twice as
fast on a CPU).

Causal: a maximum over a chunk would move earlier rows by rounding, so a chunk is taken relative to
the peak before it (the first key, where there is none). Rows at and after a key that exceeds it by
more than GROWTH are taken token by token instead; that costs nothing until it happens.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from attention_zoo import ops, recurrence
from attention_zoo.chunks import over_chunks
from attention_zoo.recurrence import rows_of
from attention_zoo.types import Cost, Decode, Dims

# the gradient of a quotient squares its divisor, which is at most exp(GROWTH) times a chunk
GROWTH = 30.0


def empty(B: int, H: int, R: int, E: int, extra: float = 0.0) -> dict:
    """A state without keys; `extra` is added to every feature of their sum."""
    kv, k = jnp.zeros((B, H, E, R), jnp.float32), jnp.zeros((B, H, R), jnp.float32)
    if not extra:
        return {"kv": kv, "k": k, "peak": jnp.full((B, H, R), ops.LOWEST)}
    return {"kv": kv, "k": k + 1, "peak": jnp.full((B, H, R), jnp.log(extra))}


def attend(
    maps, params, q, k, v, mask, state, *, causal, normaliser: str | None, chunk, summed=False
):
    """(out [B, T, H, E] in v's dtype, new state): a query reads the sums of `state` and of all
    keys, or of those up to its own if causal; `summed`: the keys are in `state` then."""
    if not causal:
        state = state if summed else write(maps, params, k, v, mask, state)
        return read(maps, params, q, v.dtype, state, normaliser), state

    def step(params, state, q, k, v, mask):
        dtype, (log_q, log_k) = v.dtype, maps(params)
        a, (b, v, seen) = log_q(q.astype(jnp.float32)), keys_of(log_k, k, v, mask)
        peak, known = jax.lax.stop_gradient((state["peak"], b))

        def start():
            """The peak, or where there is none the first key."""
            first = jnp.take_along_axis(known, seen.argmax(2, keepdims=True), 2)[:, :, 0]
            return jnp.where(peak > ops.LOWEST, peak, first)

        if jax.default_backend() == "cpu":
            # a branch, for XLA would work out what it gives again for every number of `above`
            level = jax.lax.cond((peak > ops.LOWEST).all(), lambda: peak, start)
        else:
            level = start()
        above = b - level[:, :, None]
        above = above if mask is None else jnp.where(seen, above, ops.LOWEST)
        keys = jnp.exp(jnp.minimum(above, GROWTH))
        sums = state["k"][:, :, None] + (keys.cumsum(2) if normaliser == "feature" else 0)
        share, shift = _shares(a, level, sums, normaliser)
        weights = jnp.einsum("bhtr,bhsr->bhts", share, keys) * jnp.tri(a.shape[2])
        out = jnp.einsum("bhts,bhse->bhte", weights, v)
        out += jnp.einsum("bhtr,bher->bhte", share, state["kv"])
        total = None
        if normaliser == "row":
            total = weights.sum(-1) + jnp.einsum("bhtr,bhr->bht", share, state["k"])
        out = _finish(out, total, shift, normaliser)
        grown = jax.lax.cummax(jax.lax.stop_gradient(above).max(-1), axis=2) > GROWTH
        token_rows = jax.lax.cond(
            grown.any(),
            lambda: _token_by_token(state, a, b, v, seen, normaliser),
            lambda: jnp.zeros_like(out),
        )
        out = jnp.where(grown[..., None], token_rows, out)
        return absorb(state, b, v, None if mask is None else seen), out.astype(dtype)

    return over_chunks(step, params, state, (q, k, v), mask, chunk)


def write(maps, params, k, v, mask, state):
    """The state after all keys."""

    def step(params, state, k, v, mask):
        b, v, seen = keys_of(maps(params)[1], k, v, mask)
        return absorb(state, b, v, None if mask is None else seen), None

    rows = rows_of(state["k"].size, k.shape[1])
    return over_chunks(step, params, state, (k, v), mask, rows)[1]


def read(maps, params, q, dtype, state, normaliser):
    """What queries take from the sums of `state`."""
    if normaliser == "feature":
        # once for all queries, whose gradients would be summed up for it
        state = {**state, "kv": ops.safe_divide(state["kv"], state["k"][:, :, None])}

    def step(shared, _, q, mask):
        params, state = shared
        a = maps(params)[0](q.astype(jnp.float32))
        share, shift = _shares(a, state["peak"], None, normaliser)
        out = jnp.einsum("bhtr,bher->bhte", share, state["kv"])
        total = jnp.einsum("bhtr,bhr->bht", share, state["k"]) if normaliser == "row" else None
        return None, _finish(out, total, shift, normaliser).astype(dtype)

    rows = rows_of(state["k"].size, q.shape[1])
    return over_chunks(step, (params, state), None, (q,), None, rows)[0]


def keys_of(log_k, k, v, mask):
    """(b, v, seen [B, 1, c, 1]) of a chunk, b and v 0 where hidden, whatever was there."""
    k, v = k.astype(jnp.float32), v.astype(jnp.float32)
    if mask is None:
        return log_k(k), v, jnp.ones((len(k), 1, k.shape[2], 1), bool)
    seen = mask[:, None, :, None]
    # k before too: what overflows there would be hidden with a gradient of NaN
    return jnp.where(seen, log_k(jnp.where(seen, k, 0.0)), 0.0), jnp.where(seen, v, 0.0), seen


def absorb(state, b, v, seen=None):
    """The state after more keys: b [B, H, S, R], v [B, H, S, E], seen [B, 1, S, 1] or None."""
    highest = (b if seen is None else jnp.where(seen, b, ops.LOWEST)).max(2)
    peak = jax.lax.stop_gradient(jnp.maximum(state["peak"], highest))
    keys = b - peak[:, :, None]
    keys = jnp.exp(keys if seen is None else jnp.where(seen, keys, ops.LOWEST))
    shrink = jnp.exp(state["peak"] - peak)
    kv = state["kv"] * shrink[:, :, None] + recurrence.outer_sum(v, keys)
    return {"kv": kv, "k": state["k"] * shrink + keys.sum(2), "peak": peak}


def reference(a, b, v, allowed, normaliser: str | None, extra: float = 0.0):
    """The dense definition; a and b are [B, H, length, R], `extra` as in `empty`."""
    if normaliser == "feature":
        over_keys = jnp.einsum("bhsr->bhrs", b)[:, :, None]
        weights = ops.softmax(over_keys, allowed[:, :, :, None])
        matrix = jnp.einsum("bhtr,bhtrs->bhts", jnp.exp(a), weights)
    else:
        logits = jax.nn.logsumexp(a[:, :, :, None] + b[:, :, None], -1)
        if normaliser == "row":
            # what is added to the sums is one more key, whose value is 0
            added = jax.nn.logsumexp(a, -1, keepdims=True) + jnp.log(max(extra, 1e-37))
            logits = jnp.concatenate([logits, added], -1)
            widened = jnp.pad(allowed, ((0, 0),) * 3 + ((0, 1),), constant_values=extra > 0)
            matrix = ops.softmax(logits, widened)[..., :-1]
        else:
            matrix = jnp.where(allowed, jnp.exp(logits), 0.0)
    return ops.weigh(matrix, v)


def run(maps, params, R: int, q, k, v, mask, *, extra=0.0, **options):
    """`attend` from nothing."""
    state = empty(k.shape[0], k.shape[2], R, v.shape[-1], extra)
    return attend(maps, params, q, k, v, mask, state, **options)[0]


def decode(maps: Callable, width: Callable, *, extra=0.0, **options) -> Decode:
    """`maps(params)` as in `attend`; `width(dims)` is the features' number R."""

    def init(params, dims: Dims, dtype=jnp.float32):
        return empty(dims.batch, dims.heads, width(dims), dims.value_dim, extra)

    def step(params, state, q, k, v, *, mask=None):
        return attend(maps, params, q, k, v, mask, state, causal=True, **options)

    return Decode(init, step, step)


def cost(dims: Dims, R: int, each: int, *, normaliser, extra=0.0, **options) -> Cost:
    """Of `run`; `each` and other options as of `recurrence.cost`, without the exponentials."""
    E, lanes = dims.value_dim, dims.batch * dims.heads
    size = min(options["chunk"], dims.q_len)
    # what is taken token by token, and what the gradient of that has room for
    states = run_length(size) + size // run_length(size)
    again = R * (states * E + 15 * size)
    options |= {"normalise": normaliser == "row", "again": again}
    cost = recurrence.cost(dims, R, each, **options)
    if options["causal"]:
        held = 2 * R * (E + 1) + size * max(7 * R + 2 * E, 6 * R + 5 * E + size)
        cost = dataclasses.replace(cost, bytes=lanes * (4 * held + dims.itemsize * dims.q_len * E))
    return dataclasses.replace(cost, state_bytes=cost.state_bytes + 4 * lanes * R)


def _shares(a, level, sums, normaliser):
    """What a query takes of each feature's sum relative to `level`, and what it was scaled by;
    `sums` normalise features, None where they are normalised."""
    if normaliser == "feature":
        return jnp.exp(a) if sums is None else ops.safe_divide(jnp.exp(a), sums), None
    a = a + level[:, :, None]
    shift = jax.lax.stop_gradient(a.max(-1, keepdims=True))
    return jnp.exp(a - shift), shift


def _finish(out, total, shift, normaliser):
    if normaliser == "row":
        return ops.divide_rows(out, total)
    return out if normaliser == "feature" else out * jnp.exp(shift)


def run_length(size: int) -> int:
    """The largest divisor up to the square root."""
    return max(n for n in range(1, math.isqrt(size) + 1) if size % n == 0)


def _token_by_token(state, a, b, v, mask, normaliser):
    """The rows of one chunk, each relative to its own peak, in runs: a backward pass has room for
    the first state of each and all of one, for those of all tokens would be most of its memory."""

    def token(state, abvm):
        a, b, v, mask = abvm
        peak = jnp.maximum(state["peak"], jnp.where(mask, b, ops.LOWEST))
        peak = jax.lax.stop_gradient(peak)
        shrink = jnp.exp(state["peak"] - peak)
        key = jnp.exp(jnp.where(mask, b - peak, ops.LOWEST))
        # products as sums: a path that is hardly ever taken is no part of the FLOPs of a call
        kv = state["kv"] * shrink[:, :, None] + v[..., None] * key[:, :, None]
        state = {"kv": kv, "k": state["k"] * shrink + key, "peak": peak}
        share, shift = _shares(a[:, :, None], peak, state["k"][:, :, None], normaliser)
        out = (share * kv).sum(3)[:, :, None]
        total = (share * state["k"][:, :, None]).sum(-1)
        return state, _finish(out, total, shift, normaliser)[:, :, 0]

    length = run_length(a.shape[2])

    @jax.checkpoint
    def run(state, tokens):
        return jax.lax.scan(token, state, tokens)

    @jax.checkpoint
    def all_runs(state, *arrays):
        tokens = (jnp.moveaxis(x, 2, 0) for x in arrays)
        runs = tuple(x.reshape(-1, length, *x.shape[1:]) for x in tokens)
        out = jax.lax.scan(run, state, runs)[1]
        return jnp.moveaxis(out.reshape(-1, *out.shape[2:]), 0, 2)

    return all_runs(state, a, b, v, mask)
