"""Linear attention once features exist: out = φq (φkᵀ v) / φq·Σφk, in parallel or by steps.

Arrays are heads first, [B, H, length, D]; `mask` is [B, S] or None. `maps` makes float32 features
chunk by chunk, so that none of a whole sequence are held: (q -> φq [B, H, c, R], k -> (φk, log
decay)). A log decay [B, H, c], at most 0, is what each token shrinks the sums before it by, or
None. The state of the causal form is {"kv": Σ v φkᵀ [B, H, E, R], "k": Σ φk [B, H, R]} in float32,
whatever the length (E in front: the sum over positions then is twice as fast on a CPU).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from attention_zoo import heads, ops
from attention_zoo.types import Cost, Decode, Dims


def attend(maps, q, k, v, mask, state, *, causal, normalise, chunk, rows, eps=0.0, summed=False):
    """(out [B, H, T, E] in v's dtype, new state): a query reads the sums of `state` and of all
    keys, or of those up to its own if causal. `rows`: positions a chunk where not causal;
    `summed`: the keys are in `state` then."""
    if not causal:
        state = state if summed else write(maps, k, v, mask, state, rows)
        return read(maps, q, v.dtype, state, normalise, rows, eps), state
    size = min(chunk, q.shape[2])
    past = jnp.tri(size, dtype=bool)

    def step(state, xs):
        q, k, v, mask = xs
        q = maps[0](q.astype(jnp.float32))
        k, v, decay = keys_of(maps, k, v, mask)
        weights = jnp.einsum("bhtr,bhsr->bhts", q, k) * past
        if decay is not None:
            passed = decay.cumsum(-1)
            between = passed[..., :, None] - passed[..., None, :]
            weights *= jnp.exp(jnp.where(past, between, ops.LOWEST))
            q = q * jnp.exp(passed)[..., None]
        out = jnp.einsum("bhts,bhse->bhte", weights, v)
        out += jnp.einsum("bhtr,bher->bhte", q, state["kv"])
        if normalise:
            total = weights.sum(-1) + jnp.einsum("bhtr,bhr->bht", q, state["k"]) + eps
            out = ops.safe_divide(out, total[..., None])
        return absorb(state, k, v, decay), out.astype(xs[2].dtype)

    arrays = (q, k, v, shown(mask, k, size))
    state, out = jax.lax.scan(step, state, tuple(cut(x, size) for x in arrays))
    return join(out, q.shape[2]), state


def write(maps, k, v, mask, state, rows):
    """The state after all keys."""

    def step(state, xs):
        return absorb(state, *keys_of(maps, *xs)), None

    size = min(rows, k.shape[2])
    arrays = (k, v, shown(mask, k, size))
    return jax.lax.scan(step, state, tuple(cut(x, size) for x in arrays))[0]


def read(maps, q, dtype, state, normalise, rows, eps):
    """What queries take from the sums of `state`."""

    def step(q):
        features = maps[0](q.astype(jnp.float32))
        out = jnp.einsum("bhtr,bher->bhte", features, state["kv"])
        if normalise:
            total = jnp.einsum("bhtr,bhr->bht", features, state["k"]) + eps
            out = ops.safe_divide(out, total[..., None])
        return out.astype(dtype)

    return join(jax.lax.map(step, cut(q, min(rows, q.shape[2]))), q.shape[2])


def keys_of(maps, k, v, mask):
    """(φk, v, log decay) of a chunk, all 0 where hidden, whatever was there."""
    k, v = k.astype(jnp.float32), v.astype(jnp.float32)
    if mask is None:
        features, decay = maps[1](k)
        return features, v, decay
    seen = mask[:, None, :, None]
    # k before too: a feature that overflows there would be 0 with a gradient of NaN
    features, decay = maps[1](jnp.where(seen, k, 0.0))
    features, v = jnp.where(seen, features, 0.0), jnp.where(seen, v, 0.0)
    return features, v, None if decay is None else jnp.where(seen[..., 0], decay, 0.0)


def absorb(state, k, v, decay=None):
    """The state after more keys."""
    kept = state
    if decay is not None:
        passed = decay.cumsum(-1)
        k = k * jnp.exp(passed[..., -1:] - passed)[..., None]
        left = jnp.exp(passed[..., -1])[..., None]
        kept = {"kv": state["kv"] * left[..., None], "k": state["k"] * left}
    return {"kv": kept["kv"] + jnp.einsum("bhse,bhsr->bher", v, k), "k": kept["k"] + k.sum(2)}


def empty(B: int, H: int, R: int, E: int) -> dict:
    return {"kv": jnp.zeros((B, H, E, R), jnp.float32), "k": jnp.zeros((B, H, R), jnp.float32)}


def by_heads(maps: Callable, R: int, q, k, v, mask, tables=(), **options):
    """`attend` from nothing on [B, length, H, D] arrays, a few heads at a time; `maps(*tables)`
    makes the maps of a group of heads."""

    def call(mask, q, k, v, *tables):
        state = empty(*k.shape[:2], R, v.shape[-1])
        return attend(maps(*tables), q, k, v, mask, state, **options)[0]

    return heads.each(
        call, group_of(q.shape[0], q.shape[2], q.shape[1], R), (q, k, v), mask, tables
    )


def group_of(B: int, H: int, T: int, R: int) -> int:
    return heads.group_size(B, H, T * R)


def decode(maps: Callable, width: Callable, **options) -> Decode:
    """`maps(params)` as in `attend`; `width(dims)` is the features' number R."""

    def init(params, dims: Dims, dtype=jnp.float32):
        return empty(dims.batch, dims.heads, width(dims), dims.value_dim)

    def step(params, state, q, k, v, *, mask=None):
        q, k, v = (jnp.moveaxis(x, 2, 1) for x in (q, k, v))
        out, state = attend(maps(params), q, k, v, mask, state, causal=True, **options)
        return jnp.moveaxis(out, 1, 2), state

    return Decode(init, step, step)


def cost(
    dims: Dims,
    R: int,
    each: int,
    *,
    causal,
    normalise,
    chunk,
    rows,
    eps=0.0,
    kept: int | None = 0,
    busy: int = 2,
) -> Cost:
    """Of `by_heads` with maps that take `each` multiply-adds a token, which are as many numbers of
    a head's table. `kept`: numbers a position that the backward pass takes of its features; None:
    a chunk is recomputed. `busy`: how many arrays of a chunk's features are alive at once."""
    D, E, lanes = dims.head_dim, dims.value_dim, dims.batch * dims.heads
    rows = chunk if causal else rows
    size = min(rows, dims.q_len)
    T, S = (ops.ceil_to(n, min(rows, n)) for n in (dims.q_len, dims.kv_len))
    pairs = (T + S) * (each + R * E) + T * R * normalise
    pairs += T * size * (R + E) if causal else 0
    group = dims.batch * group_of(dims.batch, dims.heads, dims.q_len, R)
    out, summed = lanes * dims.q_len * E, R * (E + 1)
    gradients = lanes * (dims.q_len * D + dims.kv_len * (D + E))
    part = size * (busy * R + 2 * size * causal) + summed + each
    if max(dims.q_len, dims.kv_len) <= rows:
        # nothing is cut, and what is mapped or divided is a copy
        held, replayed = S * E + part, (T + S) * (E + R) + max(T, S) * (kept or 0) + summed
    else:
        # chunks of q, k, v and out, of which one array stands there twice while it is cut
        held = (T + S) * (D + E) + max(T * max(D, E), part)
        # those with their gradients, and a state a chunk
        replayed = 2 * (T + S) * D + (T + 2 * S) * E + T // size * summed + part
        if kept is not None:
            replayed += max(T, S) * (kept + 5 * E // 2 + size * causal)
    # XLA takes the float32 copies of half precision out of the loop over groups
    half = dims.itemsize < 4
    copied = 4 * half * gradients
    return Cost(
        flops=2 * lanes * pairs,
        train_flops=heads.TRAIN_PRODUCTS * 2 * lanes * pairs,
        ideal_flops=2 * lanes * (dims.q_len + dims.kv_len) * R * E,
        bytes=4 * group * held + dims.itemsize * out + copied,
        # or, before any head, one array of zeros more, that out and a gradient are copied from
        train_bytes=max(4 * group * replayed, dims.itemsize * out)
        + dims.itemsize * (out + gradients)
        + copied
        + 4 * half * out,
        state_bytes=4 * lanes * summed,
    )


def shown(mask, k, size):
    """The mask [B, S] of keys that are cut into chunks; None where there is nothing to hide, not
    even what the last chunk is padded with."""
    if mask is None and k.shape[2] % size:
        return jnp.ones((k.shape[0], k.shape[2]), bool)
    return mask


def cut(x, size):
    """[B, H, N, D] (or a mask [B, N], or None) -> [chunks, B, H, size, D], padded by zeros."""
    if x is None:
        return None
    axis = min(x.ndim - 2, 2) or 1
    padded = ops.pad_to(x, ops.ceil_to(x.shape[axis], size), axis)
    shape = (*x.shape[:axis], -1, size, *x.shape[axis + 1 :])
    return jnp.moveaxis(padded.reshape(shape), axis, 0)


def join(out, T):
    """[chunks, B, H, size, E] -> [B, H, T, E]."""
    out = jnp.moveaxis(out, 0, 2)
    return out.reshape(*out.shape[:2], -1, out.shape[4])[:, :, :T]
