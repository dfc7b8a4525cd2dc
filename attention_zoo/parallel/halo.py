"""Halo exchange: a device gets the few positions next to its own, from one neighbour or several."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from attention_zoo import tiles
from attention_zoo.parallel import traffic
from attention_zoo.types import Dims, Traffic


def exchange(x, left: int, right: int, axis: str):
    """x [B, n, ...] with `left` positions before it and `right` after it; 0 beyond the ends."""
    n = x.shape[1]
    before = [pass_on(x[:, n - size :], hop, axis) for hop, size in _hops(left, n)]
    after = [pass_on(x[:, :size], -hop, axis) for hop, size in _hops(right, n)]
    return jnp.concatenate([*before[::-1], x, *after], 1)


def pass_on(x, hops: int, axis: str):
    """What the device so many before this one has; 0 where there is none."""
    P = jax.lax.axis_size(axis)
    ways = [(source, source + hops) for source in range(P) if 0 <= source + hops < P]
    return jax.lax.ppermute(x, axis, ways) if ways else jnp.zeros_like(x)


def attend(q, k, v, sees: Callable, sides: tuple[int, int], *, axis: str, mask=None, schedule=None):
    """(out, logsumexp) of the queries here over keys at -left <= j - i <= right, sides (left,
    right), of those that `sees(i, j)` allows, given positions in the whole sequence."""
    n, P = q.shape[1], jax.lax.axis_size(axis)
    left, right = sides
    if schedule is None:
        # beyond the sequence there is nothing
        left, right = (min(side, (P - 1) * n) for side in sides)
        window = (min(side, P * n) for side in sides)
        schedule = tiles.band(n, *window, halo=(left, right))
    k, v, mask = (None if x is None else exchange(x, left, right, axis) for x in (k, v, mask))

    def near(i, j):
        start = jax.lax.axis_index(axis) * n
        i, j = i + start, j + start - left
        return (j >= 0) & (j < P * n) & sees(i, j)

    return tiles.attend(q, k, v, schedule, near, mask=mask)


def traffic_of(dims: Dims, P: int, sides: tuple[int, int], masked: bool) -> Traffic:
    """Of `attend`: what comes from the left and from the right."""
    rest = dims.kv_len - dims.kv_len // P
    tokens = sum(min(side, rest) for side in sides)
    mask = traffic.permute(dims.batch * tokens * masked, gradient=False)
    return traffic.permute(traffic.keys_and_values(dims, tokens)) + mask


def _hops(width, n):
    """(how far, how many positions) of every neighbour that has some of `width` positions."""
    return [(hop, min(n, width - (hop - 1) * n)) for hop in range(1, -(-width // n) + 1)]
