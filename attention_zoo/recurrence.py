"""Linear attention once features exist: out = φq (φkᵀ v) / φq·Σφk, in parallel or by steps.

Arrays are [B, length, H, D], `mask` [B, S] or None; they are cut into chunks of positions, which
are put heads first, [B, H, c, D]. `maps(params)`, made anew in each chunk, make float32 features of
it, so that none of a whole sequence are held: (q -> φq [B, H, c, R], k -> (φk, log decay)). A log
decay [B, H, c], at most 0, is what each token shrinks the sums before it by, or None. The state of
the causal form is {"kv": Σ v φkᵀ [B, H, E, R], "k": Σ φk [B, H, R]} in float32, whatever the length
(E in front: the sum over positions then is twice as fast on a CPU). Training keeps one a chunk of a
causal call, or of keys whose sums fade, and recomputes the chunk.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from attention_zoo import heads, ops
from attention_zoo.chunks import over_chunks
from attention_zoo.types import Cost, Decode, Dims

# positions a chunk where not causal, at least
LEAST_ROWS = 64


def attend(maps, params, q, k, v, mask, state, *, causal, normalise, chunk, eps=0.0, summed=False):
    """(out [B, T, H, E] in v's dtype, new state): a query reads the sums of `state` and of all
    keys, or of those up to its own if causal; `summed`: the keys are in `state` then."""
    if not causal:
        state = state if summed else write(maps, params, k, v, mask, state)
        return read(maps, params, q, v.dtype, state, normalise, eps), state

    def step(params, state, q, k, v, mask):
        of_q, of_k = maps(params)
        dtype, q, past = v.dtype, of_q(q.astype(jnp.float32)), jnp.tri(q.shape[2], dtype=bool)
        k, v, decay = keys_of(of_k, k, v, mask)
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
            out = ops.divide_rows(out, total)
        return absorb(state, k, v, decay), out.astype(dtype)

    return over_chunks(step, params, state, (q, k, v), mask, chunk)


def write(maps, params, k, v, mask, state):
    """The state after all keys."""

    def step(params, state, k, v, mask):
        return absorb(state, *keys_of(maps(params)[1], k, v, mask)), None

    rows = rows_of(state["k"].size, k.shape[1])
    return over_chunks(step, params, state, (k, v), mask, rows)[1]


def read(maps, params, q, dtype, state, normalise, eps):
    """What queries take from the sums of `state`."""

    def step(shared, _, q, mask):
        params, state = shared
        features = maps(params)[0](q.astype(jnp.float32))
        out = jnp.einsum("bhtr,bher->bhte", features, state["kv"])
        if normalise:
            total = jnp.einsum("bhtr,bhr->bht", features, state["k"]) + eps
            out = ops.divide_rows(out, total)
        return None, out.astype(dtype)

    rows = rows_of(state["k"].size, q.shape[1])
    return over_chunks(step, (params, state), None, (q,), None, rows)[0]


def keys_of(of_k, k, v, mask):
    """(φk, v, log decay) of a chunk, all 0 where hidden, whatever was there."""
    k, v = k.astype(jnp.float32), v.astype(jnp.float32)
    if mask is None:
        features, decay = of_k(k)
        return features, v, decay
    seen = mask[:, None, :, None]
    # k before too: a feature that overflows there would be 0 with a gradient of NaN
    features, decay = of_k(jnp.where(seen, k, 0.0))
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
    return {"kv": kept["kv"] + outer_sum(v, k), "k": kept["k"] + k.sum(2)}


@jax.custom_vjp
def outer_sum(v, k):
    """Σ v kᵀ [B, H, E, R]. XLA's gradient in k would have features in front, and be turned."""
    return jnp.einsum("bhse,bhsr->bher", v, k)


outer_sum.defvjp(
    lambda v, k: (outer_sum(v, k), (v, k)),
    lambda kept, d: (
        jnp.einsum("bhsr,bher->bhse", kept[1], d),
        jnp.einsum("bhse,bher->bhsr", kept[0], d),
    ),
)


def empty(B: int, H: int, R: int, E: int) -> dict:
    return {"kv": jnp.zeros((B, H, E, R), jnp.float32), "k": jnp.zeros((B, H, R), jnp.float32)}


def run(maps, params, R: int, q, k, v, mask, **options):
    """`attend` from nothing."""
    state = empty(k.shape[0], k.shape[2], R, v.shape[-1])
    return attend(maps, params, q, k, v, mask, state, **options)[0]


def decode(maps: Callable, width: Callable, **options) -> Decode:
    """`maps(params)` as in `attend`; `width(dims)` is the features' number R."""

    def init(params, dims: Dims, dtype=jnp.float32):
        return empty(dims.batch, dims.heads, width(dims), dims.value_dim)

    def step(params, state, q, k, v, *, mask=None):
        return attend(maps, params, q, k, v, mask, state, causal=True, **options)

    return Decode(init, step, step)


def cost(
    dims: Dims,
    R: int,
    each: int,
    *,
    causal,
    normalise,
    chunk,
    eps=0.0,
    busy: int = 2,
    replayed: float = 4.0,
    fades: bool = False,
    again: int | None = None,
) -> Cost:
    """Of `run` with maps that take `each` multiply-adds a token, of tables without a gradient.
    `busy`: how many arrays of a chunk's features are alive at once while keys are summed, and
    `replayed`: in the backward pass of that; `fades`: whether sums do; `again`: numbers of a head
    that a causal chunk holds while it is recomputed, if not the usual."""
    D, E, lanes = dims.head_dim, dims.value_dim, dims.batch * dims.heads
    size, keys = (
        min(chunk, n) if causal else rows_of(lanes * R, n) for n in (dims.q_len, dims.kv_len)
    )
    T, S = ops.ceil_to(dims.q_len, size), ops.ceil_to(dims.kv_len, keys)
    pairs = (T + S) * (each + R * E) + T * R * normalise
    pairs += T * size * (R + E) if causal else 0
    state, out = R * (E + 1), dims.q_len * E
    gradients = dims.q_len * D + dims.kv_len * (D + E)
    if causal:
        # weights and what they come of, or queries and keys; sums before and after
        held = 2 * state + size * max(2 * size + (1 + fades) * (E + R), 4 * R + size)
        again = again or size * (9 * R + (1 + 2 * fades) * size)
        train_held = max(2 * out, out + again)
    else:
        held = state + size * max(2 * E + R, busy * R + E)
        # while queries read, or while keys are summed again: fitted to compiled calls
        summing = out + keys * (replayed * R + 2 * E) + 2.7 * state
        train_held = round(max(2 * out + 1.5 * state, summing))
    if causal or fades:
        # before a chunk, the sums
        train_held += (T // size if causal else S // keys) * state
    half = 4 * lanes * (dims.itemsize < 4)
    return Cost(
        flops=2 * lanes * pairs,
        train_flops=2 * lanes * (heads.TRAIN_PRODUCTS * pairs - (T + S) * each),
        ideal_flops=2 * lanes * (dims.q_len + dims.kv_len) * R * E,
        bytes=4 * lanes * held + dims.itemsize * lanes * out,
        train_bytes=4 * lanes * train_held + dims.itemsize * lanes * gradients + half * out,
        state_bytes=4 * lanes * state,
    )


def rows_of(numbers: int, N: int) -> int:
    """Positions a chunk where not causal, of N with so many features each in all heads and
    sequences: they stay in a core's cache."""
    return min(N, max(LEAST_ROWS, heads.budget() // numbers))
