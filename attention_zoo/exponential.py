"""Linear attention whose features are exponentials, given by their logarithms: no overflow.

With logarithms a of q's features and b of k's, out_i = Σ_j Σ_f exp(a_if + b_jf) v_j over a
normaliser: "row" Σ_j Σ_f exp(a_if + b_jf); "feature" divides each feature of k by its own sum over
positions; None is 1. `log_q` and `log_k` make them chunk by chunk, [B, c, H, D] -> [B, H, c, R],
so that no array of T x R is held. Sums are kept relative to the largest b so far, a feature: the
state is {"kv": Σ exp(b - peak) v [B, H, R, E], "k": Σ exp(b - peak) [B, H, R], "peak": [B, H, R]}.

Causal: a maximum over a chunk would move earlier rows by rounding, so a chunk is taken relative to
the peak before it (the first key, where there is none). Rows at and after a key that exceeds it by
more than GROWTH are taken token by token instead; that costs nothing until it happens.
"""

import jax
import jax.numpy as jnp

from attention_zoo import ops, recurrence
from attention_zoo.types import Cost, Dims

# the gradient of a quotient squares its divisor, which is at most exp(GROWTH) times a chunk
GROWTH = 30.0


def empty(B: int, H: int, R: int, E: int, extra: float = 0.0) -> dict:
    """A state without keys; `extra` is added to every feature of their sum."""
    kv = jnp.zeros((B, H, R, E), jnp.float32)
    if not extra:
        return {"kv": kv, "k": kv[..., 0], "peak": jnp.full((B, H, R), ops.LOWEST)}
    return {"kv": kv, "k": jnp.ones((B, H, R)), "peak": jnp.full((B, H, R), jnp.log(extra))}


def bidirectional(log_q, log_k, q, k, v, mask, state, *, normaliser: str | None, chunk: int):
    """Every query sees every key: [B, T, H, E] in v's dtype."""

    @jax.checkpoint
    def write(state, kvm):
        k, v, mask = kvm
        b, v, mask = log_k(k), heads_first(v), mask[:, None, :, None]
        return absorb(state, b, v, mask), None

    state, _ = jax.lax.scan(write, state, _cut((k, v, _visible(mask, k)), chunk))

    @jax.checkpoint
    def read(q):
        a = log_q(q)
        share, shift = _shares(a, state["peak"], state["k"][:, :, None], normaliser)
        out = jnp.einsum("bhtr,bhre->bhte", share, state["kv"])
        total = jnp.einsum("bhtr,bhr->bht", share, state["k"]) if normaliser == "row" else None
        return _finish(out, total, shift, normaliser)

    (queries,) = _cut((q,), chunk)
    return _join(jax.lax.map(read, queries), q.shape[1]).astype(v.dtype)


def causal(log_q, log_k, q, k, v, mask, state, *, normaliser: str | None, chunk: int):
    """Every query sees the keys up to its own, after those in `state`: (out, new state)."""

    @jax.checkpoint
    def step(state, qkvm):
        q, k, v, mask = qkvm
        mask = mask[:, None, :, None]
        a, b, v = log_q(q), jnp.where(mask, log_k(k), 0.0), heads_first(v)
        first = jnp.take_along_axis(b, mask.argmax(2, keepdims=True), 2)[:, :, 0]
        level = jnp.where(state["peak"] > ops.LOWEST, state["peak"], first)
        level = jax.lax.stop_gradient(level)
        above = jnp.where(mask, b - level[:, :, None], ops.LOWEST)
        keys = jnp.exp(jnp.minimum(above, GROWTH))
        sums = state["k"][:, :, None] + (keys.cumsum(2) if normaliser == "feature" else 0)
        share, shift = _shares(a, level, sums, normaliser)
        weights = jnp.einsum("bhtr,bhsr->bhts", share, keys) * jnp.tri(keys.shape[2])
        out = jnp.einsum("bhts,bhse->bhte", weights, v)
        out += jnp.einsum("bhtr,bhre->bhte", share, state["kv"])
        total = None
        if normaliser == "row":
            total = weights.sum(-1) + jnp.einsum("bhtr,bhr->bht", share, state["k"])
        out = _finish(out, total, shift, normaliser)
        grown = jax.lax.cummax(jax.lax.stop_gradient(above).max(-1), axis=2) > GROWTH
        rows = jax.lax.cond(
            grown.any(),
            lambda: _token_by_token(state, a, b, v, mask, normaliser),
            lambda: jnp.zeros_like(out),
        )
        return absorb(state, b, v, mask), jnp.where(grown[..., None], rows, out)

    arrays = _cut((q, k, v, _visible(mask, k)), chunk)
    state, out = jax.lax.scan(step, state, arrays)
    return _join(out, q.shape[1]).astype(v.dtype), state


def absorb(state, b, v, mask):
    """The state after more keys: b [B, H, S, R], v [B, H, S, E], mask [B, 1, S, 1]."""
    highest = jnp.where(mask, b, ops.LOWEST).max(2)
    peak = jax.lax.stop_gradient(jnp.maximum(state["peak"], highest))
    keys = jnp.exp(jnp.where(mask, b - peak[:, :, None], ops.LOWEST))
    shrink = jnp.exp(state["peak"] - peak)
    kv = state["kv"] * shrink[..., None] + jnp.einsum("bhsr,bhse->bhre", keys, v)
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


def cost(dims: Dims, R: int, maps: int, *, normaliser, causal: bool, chunk: int) -> Cost:
    """`maps` are the multiply-adds of one token's logarithms."""
    E, heads = dims.value_dim, dims.batch * dims.heads
    T, S = (ops.ceil_to(n, min(chunk, n)) for n in (dims.q_len, dims.kv_len))
    size, by_row = min(chunk, dims.q_len), normaliser == "row"
    pairs = (T + S) * (maps + R * E) + T * R * by_row
    if causal:
        pairs += T * size * (R + E)
    state = heads * (R * E + 2 * R)
    held = heads * size * (4 * R + 2 * E + (2 * size if causal else 0)) + state
    # a loop over chunks works on copies of its inputs
    held += heads * (T * dims.head_dim + S * (dims.head_dim + E)) * (dims.kv_len > chunk)
    return Cost(
        flops=2 * heads * pairs,
        ideal_flops=2 * heads * (dims.q_len + dims.kv_len) * R * E,
        bytes=4 * (heads * T * E + held),
        state_bytes=4 * state,
    )


def heads_first(x):
    """[B, c, H, D] -> [B, H, c, D] in float32."""
    return jnp.einsum("bthd->bhtd", x.astype(jnp.float32))


def _shares(a, level, sums, normaliser):
    """What a query takes of each feature's sum relative to `level`, and what it was scaled by."""
    if normaliser == "feature":
        return ops.safe_divide(jnp.exp(a), sums), None
    a = a + level[:, :, None]
    shift = jax.lax.stop_gradient(a.max(-1, keepdims=True))
    return jnp.exp(a - shift), shift


def _finish(out, total, shift, normaliser):
    if normaliser == "row":
        return ops.safe_divide(out, total[..., None])
    return out if normaliser == "feature" else out * jnp.exp(shift)


def _token_by_token(state, a, b, v, mask, normaliser):
    """The rows of one chunk, each relative to its own peak."""

    def token(state, abvm):
        a, b, v, mask = abvm
        peak = jnp.maximum(state["peak"], jnp.where(mask, b, ops.LOWEST))
        peak = jax.lax.stop_gradient(peak)
        shrink = jnp.exp(state["peak"] - peak)
        key = jnp.exp(jnp.where(mask, b - peak, ops.LOWEST))
        # products as sums: a path that is hardly ever taken is no part of the FLOPs of a call
        kv = state["kv"] * shrink[..., None] + key[..., None] * v[..., None, :]
        state = {"kv": kv, "k": state["k"] * shrink + key, "peak": peak}
        share, shift = _shares(a[:, :, None], peak, state["k"][:, :, None], normaliser)
        out = (share[:, :, 0, :, None] * kv).sum(2)[:, :, None]
        total = (share * state["k"][:, :, None]).sum(-1)
        return state, _finish(out, total, shift, normaliser)[:, :, 0]

    @jax.checkpoint
    def run(state, *arrays):
        tokens = tuple(jnp.moveaxis(x, 2, 0) for x in arrays)
        return jnp.moveaxis(jax.lax.scan(token, state, tokens)[1], 0, 2)

    return run(state, a, b, v, mask)


def _visible(mask, k):
    return jnp.ones(k.shape[:2], bool) if mask is None else mask


def _cut(arrays, chunk):
    size = min(chunk, arrays[0].shape[1])
    return tuple(recurrence.chunks(x, size) for x in arrays)


def _join(out, T):
    """[chunks, B, H, c, E] -> [B, T, H, E]."""
    out = jnp.einsum("nbhce->bnche", out)
    return out.reshape(out.shape[0], -1, *out.shape[3:])[:, :T]
