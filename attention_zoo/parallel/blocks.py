"""Blocks of keys that a static table asks for: each device sends what the others lack, no more.

In P - 1 hops: in hop s a device sends to the s-th after it, as many blocks as the pair of devices
that needs most. A block goes once to a device, however many rows there see it.
"""

import collections
import dataclasses
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import tiles
from attention_zoo.parallel import traffic
from attention_zoo.types import Dims, Traffic

# rows of blocks that are attended at a time
ROWS = 64


@dataclasses.dataclass(frozen=True)
class Routes:
    """`sends[s]` [P, count]: what each device sends in hop s (0: to itself) as head * blocks of a
    device + block; `takes` [P, H, rows, width]: where among all that came each row finds its
    blocks, -1 for none."""

    sends: list[np.ndarray]
    takes: np.ndarray

    @property
    def moved(self) -> int:
        """Blocks that each device sends."""
        return sum(hop.shape[1] for hop in self.sends[1:])


def routes(table: list[list[list[int]]], P: int) -> Routes:
    """Of `table[head][row]`, the blocks that every row of blocks asks for."""
    H, count = len(table), len(table[0]) // P
    wanted = collections.defaultdict(dict)  # (hop, sender) -> {entry: its place in the message}
    sizes = [0] * P
    for head, rows in enumerate(table):
        for row, blocks in enumerate(rows):
            for block in blocks:
                sender = block // count
                hop = (row // count - sender) % P
                places = wanted[hop, sender]
                places.setdefault(head * count + block % count, len(places))
                sizes[hop] = max(sizes[hop], len(places))
    starts = np.cumsum([0, *sizes])
    sends = [np.zeros((P, size), np.int32) for size in sizes]
    for (hop, sender), places in wanted.items():
        sends[hop][sender, : len(places)] = list(places)
    width = max((len(blocks) for rows in table for blocks in rows), default=0)
    takes = np.full((P, H, count, width), -1, np.int32)
    for head, rows in enumerate(table):
        for row, blocks in enumerate(rows):
            for at, block in enumerate(sorted(blocks)):
                sender, device = block // count, row // count
                hop = (device - sender) % P
                place = wanted[hop, sender][head * count + block % count]
                takes[device, head, row % count, at] = starts[hop] + place
    return Routes(sends, takes)


def attend(q, k, v, plan: Routes, block: int, axis: str, *, mask=None):
    """(out, logsumexp) of `tiles.attend`, each row of q [B, n, H, D] over the blocks it asks for.

    Blocks are taken out of what came for `ROWS` rows at a time, and again in the backward pass: for
    all rows at once they would be `width` copies of k and v.
    """
    (B, n, H), width = q.shape[:3], plan.takes.shape[-1]
    rows = n // block
    some = max(count for count in range(1, min(ROWS, rows) + 1) if rows % count == 0)
    pool = [receive(x, plan, block, axis) for x in (k, v) + (() if mask is None else (mask,))]
    own = tiles.schedule(block, (range(u * width, (u + 1) * width) for u in range(some)))
    take = jnp.asarray(plan.takes)[jax.lax.axis_index(axis)]

    @jax.checkpoint
    def part(_, turn):
        q, take = turn
        keys, values, *seen = (pick(x, take) for x in pool)
        there = jnp.repeat(jnp.einsum("hrw->rwh", take >= 0).reshape(-1, H), block, 0)
        there = jnp.broadcast_to(there, (B, *there.shape))
        for hidden in seen:
            there &= hidden[..., 0]
        return None, tiles.attend(q, keys, values, own, None, mask=there)

    turns = (
        jnp.moveaxis(q.reshape(B, rows // some, some * block, *q.shape[2:]), 1, 0),
        jnp.moveaxis(take.reshape(H, rows // some, some, width), 1, 0),
    )
    _, found = jax.lax.scan(part, None, turns)
    return tuple(jnp.moveaxis(x, 0, 1).reshape(B, n, *x.shape[3:]) for x in found)


def receive(x, plan: Routes, block: int, axis: str):
    """x [B, n, H, D] (or a mask [B, n]) to all blocks that come here, [entries, B, block, D]."""
    P, here = jax.lax.axis_size(axis), jax.lax.axis_index(axis)
    B, H = x.shape[0], plan.takes.shape[1]
    x = jnp.broadcast_to(x[..., None, None], (*x.shape, H, 1)) if x.ndim == 2 else x
    x = x.reshape(B, -1, block, H, x.shape[-1])
    count = x.shape[1]
    come = []
    for hop, entries in enumerate(plan.sends):
        if entries.shape[1]:
            entry = jnp.asarray(entries)[here]
            part = x[:, entry % count, :, entry // count]
            ways = [(source, (source + hop) % P) for source in range(P)]
            come.append(jax.lax.ppermute(part, axis, ways) if hop else part)
    return jnp.concatenate(come)


def pick(come, take):
    """The blocks `take` [H, rows, width] of `receive`, [B, rows * width * block, H, D], in order;
    what is not there is of no matter."""
    rows = jnp.einsum("hrwbsd->brwshd", come[jnp.maximum(take, 0)])
    return rows.reshape(len(rows), -1, *rows.shape[-2:])


def traffic_of(dims: Dims, moved: float, block: int, masked: bool) -> Traffic:
    """Of `receive` for keys, values and mask: `moved` blocks of a head."""
    width = (dims.head_dim + dims.value_dim) * dims.itemsize
    size = Fraction(moved) * dims.batch * block
    mask = traffic.permute(size * masked, gradient=False)
    return traffic.permute(size * width) + mask
