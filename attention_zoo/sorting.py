"""Blocks put in a new order by scores: softly, balanced in log space, or the likeliest one by one.

Scores are [B, H, U, V]: of key block v for query block u; `allowed` [B, 1, U, V] narrows them.
"""

import jax
import jax.numpy as jnp

from attention_zoo import ops
from attention_zoo.tile_memory import Held
from attention_zoo.types import Dims


def balance(scores, allowed, iterations: int, columns=None):
    """(weights, columns): exp(scores), its rows and then its columns made to sum to 1, in turn.

    With `columns` [iterations, B, H, V], logs of the columns' sums over earlier rows, a column is
    divided by its sum up to each row: no row reads a later one; they come back grown.
    """

    def divide(logs, axis, total=None):
        total = log_sum(logs, allowed, axis) if total is None else total
        return jnp.where(allowed, logs - total, ops.LOWEST)

    def causal_step(logs, before):
        logs = divide(logs, -1)
        # twenty times as fast on a CPU as lax.cumlogsumexp
        so_far = jax.lax.associative_scan(jnp.logaddexp, logs, axis=2)
        total = jnp.logaddexp(so_far, before[:, :, None])
        return divide(logs, -2, total), total[:, :, -1]

    logs = jnp.where(allowed, scores, ops.LOWEST)
    if columns is None:
        for _ in range(iterations):
            logs = divide(divide(logs, -1), -2)
    else:
        # unrolled, the gradients of so many sums take 20 s to compile
        logs, columns = jax.lax.scan(causal_step, logs, columns)
    return jnp.where(allowed, jnp.exp(logs), 0.0), columns


def log_sum(logs, allowed, axis: int):
    """log Σ exp over an axis; finite where nothing is allowed."""
    peak = jax.lax.stop_gradient(logs.max(axis, keepdims=True))
    total = jnp.where(allowed, jnp.exp(logs - peak), 0.0).sum(axis, keepdims=True)
    return peak + jnp.log(jnp.where(total == 0, 1.0, total))


def likeliest(scores, allowed, count: int):
    """The `count` likeliest blocks, one after another: [(index, probability among those left,
    whether one was left)], each [B, H, U]."""
    allowed, found = jnp.broadcast_to(allowed, scores.shape), []
    for _ in range(count):
        best = jnp.where(allowed, scores, ops.LOWEST).argmax(-1)[..., None]
        odds = ops.softmax(scores, allowed)
        chosen = (jnp.take_along_axis(x, best, -1)[..., 0] for x in (odds, allowed))
        found.append((best[..., 0], *chosen))
        allowed = allowed & (jnp.arange(scores.shape[-1]) != best)
    return found


def take(index, probability, free, k, v, shown):
    """The blocks at index [B, H, U] of k and v [B, V, b, H, D], times their probability, and which
    of their tokens are visible: [B, U, b, H, ...]."""

    def gather(x):
        x = jnp.moveaxis(x, 3, 1)
        at = index.reshape(index.shape + (1,) * (x.ndim - 3))
        return jnp.moveaxis(jnp.take_along_axis(x, at, 2), 1, 3)

    scale = jnp.einsum("bhu->buh", probability)[:, :, None, :, None]
    k, v = ((gather(x) * scale).astype(x.dtype) for x in (k, v))
    shown = gather(jnp.repeat(shown[..., None], index.shape[1], 3))
    return k, v, shown & jnp.einsum("bhu->buh", free)[:, :, None]


def mixed(weights, x):
    """Σ_v weights[u, v] x[v]: [B, U, b, H, D] of weights [B, H, U, V], blocks x [B, V, b, H, D]."""
    B, V, b, H, D = x.shape
    # heads first, features last: XLA turns whole blocks around for an einsum of other orders
    rows = jnp.moveaxis(x, 3, 1).reshape(B, H, V, b * D)
    return jnp.moveaxis((weights @ rows).reshape(B, H, -1, b, D), 1, 3)


def mean(x, shown):
    """Means [B, n, H, D] in float32 of the visible tokens of blocks [B, n, b, H, D]."""
    total = jnp.where(shown[..., None, None], x, 0).sum(2, dtype=jnp.float32)
    return ops.safe_divide(total, (shown.sum(2) * 1.0)[..., None, None])


def before(x):
    """Sums over the earlier entries of axis 1, itself not among them."""
    return jnp.cumsum(jnp.pad(x, ((0, 0), (1, 0)) + ((0, 0),) * (x.ndim - 2)), 1)[:, :-1]


def held(
    inner: Held, dims: Dims, block: int, each: int, kept: float | None, *, whole: bool
) -> tuple[int, int]:
    """Numbers that attention to sorted blocks holds in the heads that are taken, forward and in the
    backward pass. `inner`: of its tiles; `dims`: of those heads, queries and the sorted keys;
    `each`: sorted blocks a query sees; `kept`: arrays of all scores that balancing keeps, None
    where blocks are picked; `whole`: these are all heads."""
    T, S, D, E = dims.q_len, dims.kv_len, dims.head_dim, dims.value_dim
    lanes, padded = dims.batch * dims.heads, T + -T % block
    copies, blocks = sum(inner.copies), lanes * padded * (D + E)
    forward = copies + inner.sums + inner.forward
    if inner.once:
        # keys or values of several heads, while they are put heads first
        turned = max(inner.copies[1:]) if inner.copies[1] > dims.batch * S * D else 0
        forward = max(forward, copies + inner.sums + turned)
        backward = 2 * (copies + inner.sums) + turned
    else:
        arrays = lanes * (S + T * (not whole)) * (D + E)
        forward += arrays
        backward = 2 * (arrays + copies) + inner.sums
    backward += 2 * each * blocks  # as they were sorted
    if kept is not None:
        # queries and output, and blocks: padded, turned, sorted
        arranged = lanes * (T * (D + E) + padded * min(D, E)) + (2 + (T % block > 0)) * blocks
        forward = max(forward, arranged)
        backward += round(kept * lanes * (padded // block) ** 2)
    return forward, backward
