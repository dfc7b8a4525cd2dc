"""Few queries over all keys, or few positions for all: partial results, summed over the devices."""

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import ops, tiles
from attention_zoo.parallel import traffic
from attention_zoo.types import Dims, Traffic


def merge(out, lse, axis: str):
    """One softmax (out, logsumexp) out of every device's part over its own keys."""
    peak = jax.lax.pmax(jax.lax.stop_gradient(lse), axis)
    share = jnp.where(lse > ops.LOWEST, jnp.exp(lse - peak), 0.0)[..., None]
    total = jax.lax.psum(jnp.concatenate([share * out, share], -1), axis)
    out, total = total[..., :-1], total[..., -1]
    empty = total == 0
    lse = jnp.where(empty, ops.LOWEST, peak + jnp.log(jnp.where(empty, 1.0, total)))
    return ops.safe_divide(out, total[..., None]), lse


def merge_traffic(dims: Dims, P: int, rows: int) -> Traffic:
    numbers = traffic.FLOAT * dims.batch * dims.heads * rows
    peaks = traffic.reduce(P, numbers, gradient=False)
    return peaks + traffic.reduce(P, numbers * (dims.value_dim + 1))


def pick(x, positions: np.ndarray, axis: str):
    """x at some positions of the whole sequence, on every device: [B, positions, ...]."""
    here, mine = _here(x.shape[1], positions, axis)
    rows = jnp.where(mine.reshape(-1, *(1,) * (x.ndim - 2)), x[:, jnp.where(mine, here, 0)], 0)
    if x.dtype == bool:
        return jax.lax.psum(rows.astype(jnp.int32), axis) > 0
    return jax.lax.psum(rows, axis)


def put(out, rows, positions: np.ndarray, axis: str):
    """out [B, n, ...] with the rows of some positions of the whole sequence set."""
    n = out.shape[1]
    here, mine = _here(n, positions, axis)
    return out.at[:, jnp.where(mine, here, n)].set(rows.astype(out.dtype), mode="drop")


def _here(n, positions, axis):
    here = jnp.asarray(positions) - jax.lax.axis_index(axis) * n
    return here, (here >= 0) & (here < n)


def columns(q, k, v, positions: np.ndarray, rows: int, keys: int, *, axis, mask=None, causal=False):
    """(out, logsumexp) of the queries here over the keys at some positions of the whole sequence,
    the first ones where causal; in tiles of `rows` by `keys`."""
    n, count = q.shape[1], len(positions)

    def past(i, j):
        return j <= i + jax.lax.axis_index(axis) * n

    k, v, mask = (None if x is None else pick(x, positions, axis) for x in (k, v, mask))
    schedule = tiles.everything(n, count, False, rows, keys)
    return tiles.attend(q, k, v, schedule, past if causal else None, mask=mask)


def both_traffic(dims: Dims, P: int, count: int, masked: bool) -> Traffic:
    """Of `columns` for so many positions, and of `rows` for their queries."""
    width = 2 * dims.head_dim + dims.value_dim
    picked = traffic.reduce(P, dims.batch * dims.heads * count * width * dims.itemsize)
    mask = traffic.reduce(P, 4 * dims.batch * count * masked, gradient=False)
    return picked + mask + merge_traffic(dims, P, count)


def rows(q, k, v, schedule, *, axis: str, mask=None, causal: bool = False):
    """(out, logsumexp) of queries that every device has, over all keys; those of a causal call
    stand at the first positions."""
    n = k.shape[1]

    def past(i, j):
        return j + jax.lax.axis_index(axis) * n <= i

    return merge(*tiles.attend(q, k, v, schedule, past if causal else None, mask=mask), axis)
