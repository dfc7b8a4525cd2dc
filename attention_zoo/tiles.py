"""Exact softmax attention over a static list of tiles, in O(N) memory forward and backward.

A tile lets one block of queries see a few blocks of keys. All fixed patterns are such lists:

        keys ->                 full, causal        local              bigbird
    queries  ■ . . . . .        ■ . . . . .        ■ ■ . . . .        ■ ■ ■ ■ ■ ■
       |     ■ ■ . . . .        ■ ■ . . . .        ■ ■ ■ . . .        ■ ■ ■ . . ■
       v     . . .              ■ ■ ■ . . .        . ■ ■ ■ . .        ■ ■ ■ ■ . .

The tiles of a row are joined by the online softmax of arXiv:2112.05682; the backward pass
recomputes the weights from the saved logsumexp (arXiv:2205.14135). A CPU walks from tile to tile
(`tile_walk`), an accelerator takes batches of them (`tile_batches`). What is computed is exactly
the tiles, so its FLOPs are known and skipping the future is free.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import ops, tile_batches, tile_walk
from attention_zoo.tile_memory import Held
from attention_zoo.types import Cost, Dims

KERNELS = {"cpu": tile_walk}


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Tile p: queries of block `rows[p]` see key blocks `cols[p]` (-1: none); cols of another
    dimension in front hold a list a head. Tiles of one row stand together."""

    block: int
    rows: np.ndarray
    cols: np.ndarray
    key_block: int = 0

    def __post_init__(self):
        object.__setattr__(self, "key_block", self.key_block or self.block)

    @property
    def keys(self) -> int:
        """Keys a tile."""
        return self.cols.shape[-1] * self.key_block

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(first, end) of the places in `cols` that hold neighbours in every tile."""
        apart = (np.diff(self.cols) != 1).any(axis=tuple(range(self.cols.ndim - 1)))
        return list(itertools.pairwise([0, *(np.flatnonzero(apart) + 1), self.cols.shape[-1]]))

    def pairs(self, heads: int) -> int:
        """Query-key pairs computed in all heads together."""
        return heads * len(self.rows) * self.block * self.keys

    def cost(self, dims: Dims, *, ideal_pairs: int, state_bytes: int = 0) -> Cost:
        """Of one `attend` with this schedule; `ideal_pairs` are what one head's pattern needs."""
        D, E, lanes = dims.head_dim, dims.value_dim, dims.batch * dims.heads
        pairs = dims.batch * self.pairs(dims.heads)
        held = self.held(dims)
        # XLA makes float32 arrays of whole q, k, v and of the output's gradient, outside the loops
        halves = 4 * (dims.itemsize < 4)
        return Cost(
            flops=2 * pairs * (D + E),
            # the backward pass: logits again, and gradients of weights, queries, keys and values
            train_flops=2 * pairs * (4 * D + 3 * E),
            ideal_flops=2 * lanes * ideal_pairs * (D + E),
            bytes=4 * held.alone() + halves * (held.grads + held.out // 2),
            train_bytes=4 * held.alone_in_training() + halves * (held.grads // 2 + 2 * held.out),
            state_bytes=state_bytes,
        )

    def held(self, dims: Dims) -> Held:
        """What one `attend` holds."""
        D, E, lanes = dims.head_dim, dims.value_dim, dims.batch * dims.heads
        group = dims.batch * tile_walk.group_of(
            dims.batch, dims.heads, dims.q_len, dims.kv_len, self
        )
        T = group * ops.ceil_to(dims.q_len, self.block)
        S = group * ops.ceil_to(dims.kv_len, self.key_block)
        logits = group * self.block * self.keys
        slices = group * (self.block + self.keys) * (D + E)
        several = len(self.rows) > 1  # the only tile of a head is no slice
        return Held(
            out=lanes * dims.q_len * E,
            grads=lanes * (dims.q_len * D + dims.kv_len * (D + E)),
            rows=lanes * dims.q_len,
            copies=(T * D, S * D, S * E),
            sums=several * T * E,
            logits=logits,
            forward=2 * logits + several * group * self.keys * E,
            # of keys and values first, then of their gradients too
            backward=3 * logits + several * max(slices, 2 * (slices - logits)),
            once=group == lanes,
        )


def schedule(
    block: int, columns: Iterable[Iterable[int]], *, width: int | None = None, key_block: int = 0
) -> Schedule:
    """A query block a row of `columns`, in tiles of `width` key blocks (default: the longest)."""
    columns = [sorted(set(row)) for row in columns]
    width = width or max(map(len, columns))
    tiles = [
        (row, row_columns[at : at + width])
        for row, row_columns in enumerate(columns)
        for at in range(0, max(len(row_columns), 1), width)
    ]
    cols = np.full((len(tiles), width), -1, np.int32)
    for tile, (_, present) in enumerate(tiles):
        cols[tile, : len(present)] = present
    return Schedule(block, np.array([row for row, _ in tiles], np.int32), cols, key_block)


def band(
    T: int,
    left: int,
    right: int,
    block: int | None = None,
    halo: tuple[int, int] = (0, 0),
    *,
    key_block: int | None = None,
    leading: int = 0,
) -> Schedule:
    """All pairs with -left <= j - i <= right among T positions, and what shares their blocks.

    `halo`: so many keys more stand before and after those of the T positions. All queries see the
    `leading` keys too; a key is in a tile once.
    """
    block = min(block or min(128, max(32, 1 << (max(left, right, 1) - 1).bit_length())), T)
    size = min(key_block or block, T + sum(halo))
    rows, blocks, ahead = -(-T // block), -(-(T + sum(halo)) // size), -(-leading // size)
    first = [(row * block + halo[0] - left) // size for row in range(rows)]
    end = [(row * block + halo[0] + block - 1 + right) // size + 1 for row in range(rows)]
    width = min(max(e - f for f, e in zip(first, end, strict=True)), blocks - ahead)
    # rows at the ends take blocks outside of the band too: all tiles are of one width anyway
    starts = (min(max(f, ahead), blocks - width) for f in first)
    columns = ((*range(ahead), *range(start, start + width)) for start in starts)
    return schedule(block, columns, key_block=size)


def everything(T: int, S: int, causal: bool, block: int, key_block: int) -> Schedule:
    """All pairs; a causal one leaves out the tiles that lie wholly in the future."""
    block, key_block = min(block, T), min(key_block, S)
    rows, cols = -(-T // block), -(-S // key_block)
    ends = ((row * block + block - 1) // key_block + 1 if causal else cols for row in range(rows))
    return schedule(block, (range(min(end, cols)) for end in ends), width=1, key_block=key_block)


def counted(T: int, S: int, causal: bool, block: int, key_block: int) -> Schedule:
    """As many tiles as `everything` has, for `cost` alone: the lists are views of one zero."""
    block, key_block = min(block, T), min(key_block, S)
    rows, cols = -(-T // block), -(-S // key_block)
    ends = (np.arange(1, rows + 1) * block - 1) // key_block + 1 if causal else np.full(rows, cols)
    nothing = np.broadcast_to(np.int32(0), (np.minimum(ends, cols).sum(), 1))
    return Schedule(block, nothing[:, 0], nothing, key_block)


def per_head(schedules: list[Schedule]) -> Schedule:
    """Another schedule in every head, all with the same rows and of one width."""
    first = schedules[0]
    return Schedule(first.block, first.rows, np.stack([s.cols for s in schedules]), first.key_block)


def attend(
    q, k, v, tiles: Schedule, sees: Callable | None, *, mask=None, scale: float | None = None
):
    """(out [B, T, H, E], logsumexp [B, T, H]), both float32: softmax attention among the pairs that
    are in a tile, that `sees(i, j)` allows (positions [block, 1] and [1, keys]; None: all) and
    whose key is not hidden.

    `mask` is [B, S] or [B, S, H]. A row with nothing to see has out 0 and logsumexp ops.LOWEST.
    """
    mask = _by_head(mask)
    forward, backward = _kernel(q, k, tiles, sees, mask, scale)

    def with_residuals(*arrays):
        made = forward(*arrays)
        return made, (*arrays, *made)

    kernel = jax.custom_vjp(forward)
    kernel.defvjp(with_residuals, lambda kept, cotangents: (*backward(kept, *cotangents), None))
    return kernel(q, k, v, mask)


def gradients(
    q, k, v, tiles: Schedule, sees, out, lse, d_out, d_lse, *, mask=None, scale: float | None = None
):
    """What these keys add to the gradients in q, k and v, float32, of an attention (out, lse) over
    more keys than these."""
    mask = _by_head(mask)
    _, backward = _kernel(q, k, tiles, sees, mask, scale, dtype=jnp.float32)
    return backward((q, k, v, mask, out, lse), d_out, d_lse)


def _by_head(mask):
    return mask[..., None] if mask is not None and mask.ndim == 2 else mask


def _kernel(q, k, tiles, sees, mask, scale, dtype=None):
    """(forward, backward); gradients are in `dtype`, or each in its array's own."""
    kernel = KERNELS.get(jax.default_backend(), tile_batches)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    S = k.shape[1]

    def allowed(i, j, hidden):
        """bool that broadcasts to the logits, or None where all pairs of all tiles are; `hidden`
        is the mask of the keys, [..., keys]."""
        found = [] if mask is None else [hidden[..., None, :]]
        if sees is not None:
            found.append(sees(i, j))
        if S % tiles.key_block and mask is None:
            found.append(j < S)
        if (tiles.cols < 0).any():
            found.append(j >= 0)
        return functools.reduce(jnp.logical_and, found) if found else None

    return kernel.make(tiles, allowed, scale, dtype)


def past(i, j):
    """For `sees`: what a causal call allows."""
    return j <= i


def merge(*parts):
    """One softmax out of (out, logsumexp) parts that saw disjoint keys: (out, logsumexp)."""
    return _merge(parts)[0]


@jax.custom_vjp
def _merge(parts):
    peak = jnp.stack([lse for _, lse in parts]).max(0)
    weights = [jnp.where(lse > ops.LOWEST, jnp.exp(lse - peak), 0.0) for _, lse in parts]
    total = sum(weights)
    empty = total == 0
    lse = jnp.where(empty, ops.LOWEST, peak + jnp.log(jnp.where(empty, 1.0, total)))
    weights = [ops.safe_divide(weight, total) for weight in weights]
    out = sum(weight[..., None] * out for weight, (out, _) in zip(weights, parts, strict=True))
    return (out, lse), weights


def _merge_gradients(residuals, cotangents):
    weights, outs = residuals
    (d_out, d_lse), _ = cotangents
    gains = [ops.add_up(d_out * out) for out in outs]
    mean = sum(weight * gain for weight, gain in zip(weights, gains, strict=True))
    return (
        tuple(
            (weight[..., None] * d_out, weight * (gain - mean + d_lse))
            for weight, gain in zip(weights, gains, strict=True)
        ),
    )


def _merge_with_residuals(parts):
    made = _merge(parts)
    return made, (made[1], [out for out, _ in parts])


_merge.defvjp(_merge_with_residuals, _merge_gradients)
