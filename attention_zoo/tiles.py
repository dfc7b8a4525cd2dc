"""Exact softmax attention over a static list of tiles, in O(N) memory forward and backward.

A tile lets one block of queries see a few blocks of keys. All fixed patterns are such lists:

        keys ->                 full, causal        local              bigbird
    queries  ■ . . . . .        ■ . . . . .        ■ ■ . . . .        ■ ■ ■ ■ ■ ■
       |     ■ ■ . . . .        ■ ■ . . . .        ■ ■ ■ . . .        ■ ■ ■ . . ■
       v     . . .              ■ ■ ■ . . .        . ■ ■ ■ . .        ■ ■ ■ ■ . .

Heads go a few at a time, heads first (see `heads`), so all that the walk slices is contiguous. It
joins the tiles of a row by the online softmax of arXiv:2112.05682; the backward pass walks
again, recomputing the weights from the saved logsumexp (arXiv:2205.14135). What is computed is
exactly the tiles, so its FLOPs are known and skipping the future is free.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import heads, ops
from attention_zoo.types import Cost, Dims


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
    def contiguous(self) -> bool:
        """Whether every tile's key blocks are neighbours, none missing."""
        return bool((self.cols >= 0).all() and (np.diff(self.cols) == 1).all())

    def pairs(self, heads: int) -> int:
        """Query-key pairs computed in all heads together."""
        return heads * len(self.rows) * self.block * self.keys

    def cost(self, dims: Dims, *, ideal_pairs: int, state_bytes: int = 0) -> Cost:
        """Of one `attend` with this schedule; `ideal_pairs` are what one head's pattern needs."""
        D, E, lanes = dims.head_dim, dims.value_dim, dims.batch * dims.heads
        T, S = (
            ops.ceil_to(n, b) for n, b in ((dims.q_len, self.block), (dims.kv_len, self.key_block))
        )
        # a group's arrays, and a tile's logits, weights and slices
        held = T * (D + E + 1) + S * (D + E)
        held += 2 * self.block * self.keys + (self.block + self.keys) * (D + E)
        group = dims.batch * group_of(dims.batch, dims.heads, T + S, self)
        return Cost(
            flops=2 * dims.batch * self.pairs(dims.heads) * (D + E),
            ideal_flops=2 * lanes * ideal_pairs * (D + E),
            bytes=4 * (lanes * T * (E + 1) + group * held),
            state_bytes=state_bytes,
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
    T: int, left: int, right: int, block: int | None = None, halo: tuple[int, int] = (0, 0)
) -> Schedule:
    """All pairs with -left <= j - i <= right among T positions, and what shares their blocks.

    `halo`: so many keys more stand before and after those of the T positions.
    """
    block = min(block or min(128, max(32, 1 << (max(left, right, 1) - 1).bit_length())), T)
    rows, blocks = -(-T // block), -(-(T + sum(halo)) // block)
    first = [(row * block + halo[0] - left) // block for row in range(rows)]
    end = [(row * block + halo[0] + block - 1 + right) // block + 1 for row in range(rows)]
    width = min(max(e - f for f, e in zip(first, end, strict=True)), blocks)
    # rows at the ends take blocks outside of the band too: all tiles are of one width anyway
    starts = (min(max(f, 0), blocks - width) for f in first)
    return schedule(block, (range(start, start + width) for start in starts))


def everything(T: int, S: int, causal: bool, block: int, key_block: int) -> Schedule:
    """All pairs; a causal one leaves out the tiles that lie wholly in the future."""
    block, key_block = min(block, T), min(key_block, S)
    rows, cols = -(-T // block), -(-S // key_block)
    ends = ((row * block + block - 1) // key_block + 1 if causal else cols for row in range(rows))
    return schedule(block, (range(min(end, cols)) for end in ends), width=1, key_block=key_block)


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
    T = q.shape[1]
    arrays, forward, backward = _prepare(q, k, v, tiles, sees, mask, scale)

    def with_residuals(*arrays):
        made = forward(*arrays)
        return made, (*arrays, *made)

    kernel = jax.custom_vjp(forward)
    kernel.defvjp(with_residuals, lambda kept, cotangents: (*backward(kept, *cotangents), None))
    out, lse = kernel(*arrays)
    return out[:, :T], lse[:, :T]


def gradients(
    q, k, v, tiles: Schedule, sees, out, lse, d_out, d_lse, *, mask=None, scale: float | None = None
):
    """What these keys add to the gradients in q, k and v, float32, of an attention (out, lse) over
    more keys than these."""
    T, S = q.shape[1], k.shape[1]
    arrays, _, backward = _prepare(q, k, v, tiles, sees, mask, scale, dtype=jnp.float32)
    out, lse, *cotangents = (ops.pad_to(x, arrays[0].shape[1], 1) for x in (out, lse, d_out, d_lse))
    d_q, d_k, d_v = backward((*arrays, out, lse), *cotangents)
    return d_q[:, :T], d_k[:, :S], d_v[:, :S]


def _prepare(q, k, v, tiles, sees, mask, scale, dtype=None):
    """((q, k, v, mask) padded to whole blocks, forward, backward); gradients are in `dtype`, or
    each in its array's own."""
    T, S, H = q.shape[1], k.shape[1], q.shape[2]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if mask is not None and mask.ndim == 2:
        mask = mask[..., None]
    padded_T, padded_S = ops.ceil_to(T, tiles.block), ops.ceil_to(S, tiles.key_block)
    q = ops.pad_to(q, padded_T, 1)
    k, v, mask = (None if x is None else ops.pad_to(x, padded_S, 1) for x in (k, v, mask))

    def allowed(i, j, hidden):
        """[B or 1, g or 1, block or 1, keys] bool, or None where all pairs of all tiles are."""
        found = [] if mask is None else [hidden[:, :, None, :]]
        if sees is not None:
            found.append(sees(i, j)[None, None])
        if padded_S > S and mask is None:
            found.append((j < S)[None, None])
        if (tiles.cols < 0).any():
            found.append((j >= 0)[None, None])
        return functools.reduce(jnp.logical_and, found) if found else None

    group = group_of(q.shape[0], H, padded_T + padded_S, tiles)
    return (q, k, v, mask), *_passes(tiles, group, allowed, scale, dtype)


def past(i, j):
    """For `sees`: what a causal call allows."""
    return j <= i


def merge(*parts):
    """One softmax out of (out, logsumexp) parts that saw disjoint keys: (out, logsumexp)."""
    peak = jax.lax.stop_gradient(jnp.stack([lse for _, lse in parts]).max(0))
    shares = [jnp.where(lse > ops.LOWEST, jnp.exp(lse - peak), 0.0) for _, lse in parts]
    total = sum(shares)
    out = sum(share[..., None] * out for share, (out, _) in zip(shares, parts, strict=True))
    empty = total == 0
    lse = jnp.where(empty, ops.LOWEST, peak + jnp.log(jnp.where(empty, 1.0, total)))
    return ops.safe_divide(out, total[..., None]), lse


def group_of(B: int, H: int, positions: int, tiles: Schedule) -> int:
    """How many heads are taken at once, for so many queries and keys: one where each head has its
    own tiles."""
    if tiles.cols.ndim == 3:
        return 1
    return heads.group_size(B, H, max(tiles.block * tiles.keys, positions))


def _passes(tiles, group, allowed, scale, dtype):
    """(forward, backward) of (q, k, v, mask), all padded to whole blocks."""
    bq, bk, width = tiles.block, tiles.key_block, tiles.cols.shape[-1]
    rows, fresh = tiles.rows, np.append(True, tiles.rows[1:] != tiles.rows[:-1])
    one_tile_a_row = fresh.all()
    f32, zeros = (
        {"preferred_element_type": jnp.float32},
        functools.partial(jnp.zeros, dtype=jnp.float32),
    )

    def over_heads(step, carry, H):
        """step(carry, first head, cols [P, width]) for every group."""
        starts = jnp.arange(0, H, group, dtype=jnp.int32)
        cols = jnp.asarray(tiles.cols)
        if cols.ndim == 2:
            return jax.lax.scan(lambda c, head: (step(c, head, cols), None), carry, starts)[0]
        return jax.lax.scan(lambda c, xs: (step(c, *xs), None), carry, (starts, cols))[0]

    def over_tiles(step, carry, cols):
        """step(carry, row, cols [width], whether the row is a new one) for every tile."""
        xs = (jnp.asarray(rows), cols, jnp.asarray(fresh))
        return jax.lax.scan(lambda c, x: (step(c, *x), None), carry, xs)[0]

    def rows_of(x, row):
        return jax.lax.dynamic_slice_in_dim(x, row * bq, bq, 2)

    def put(x, part, row):
        return jax.lax.dynamic_update_slice_in_dim(x, part, row * bq, 2)

    def key_slices(cols):
        """(first key, how many) of each slice of keys a tile takes."""
        if tiles.contiguous:
            return [(cols[0] * bk, width * bk)]
        return [(jnp.maximum(col, 0) * bk, bk) for col in cols]

    def keys_of(x, cols, axis=2):
        parts = [
            jax.lax.dynamic_slice_in_dim(x, start, size, axis) for start, size in key_slices(cols)
        ]
        return jnp.concatenate(parts, axis) if len(parts) > 1 else parts[0]

    def add_keys(x, part, cols):
        """x [B, g, D, S] with a tile's part added at its keys."""
        at = 0
        for start, size in key_slices(cols):
            old = jax.lax.dynamic_slice_in_dim(x, start, size, 3)
            x = jax.lax.dynamic_update_slice_in_dim(x, old + part[..., at : at + size], start, 3)
            at += size
        return x

    def logits_of(q_rows, k_keys, mask, row, cols):
        logits = jnp.einsum("bhqd,bhkd->bhqk", q_rows, k_keys, **f32) * scale
        i = row * bq + jnp.arange(bq)[:, None]
        j = (cols[:, None] * bk + jnp.arange(bk)).reshape(1, -1)
        seen = allowed(i, j, None if mask is None else keys_of(mask, cols))
        return logits if seen is None else jnp.where(seen, logits, ops.LOWEST)

    def forward(q, k, v, mask):
        B, T, H, E = *q.shape[:3], v.shape[3]

        def some(carry, head, cols):
            q_h, k_h, v_h = (heads.first(x, head, group) for x in (q, k, v))
            mask_h = None if mask is None else heads.first(mask, head, group)

            def tile(carry, row, cols, fresh):
                out, lse, sums = carry
                logits = logits_of(rows_of(q_h, row), keys_of(k_h, cols), mask_h, row, cols)
                # above what is hidden, whose weight is 0 then in a row of nothing else too
                peak = jnp.maximum(logits.max(-1), ops.LOWEST / 2)
                if not one_tile_a_row:
                    acc, total, before = sums
                    before = jnp.where(fresh, ops.LOWEST / 2, before)
                    peak = jnp.maximum(peak, before)
                weights = jnp.exp(logits - peak[..., None])
                values = keys_of(v_h, cols)
                new = jnp.einsum("bhqk,bhke->bhqe", weights.astype(v.dtype), values, **f32)
                new_total = weights.sum(-1)
                if not one_tile_a_row:
                    shrink = jnp.where(fresh, 0.0, jnp.exp(before - peak))
                    new += acc * shrink[..., None]
                    new_total += total * shrink
                    sums = new, new_total, peak
                empty = new_total == 0
                divisor = jnp.where(empty, 1.0, new_total)
                out = put(out, new / divisor[..., None], row)
                lse = put(lse, jnp.where(empty, ops.LOWEST, peak + jnp.log(divisor)), row)
                return out, lse, sums

            sums = zeros((B, group, bq, E)), *(zeros((B, group, bq)),) * 2
            out_h, lse_h = zeros((B, group, T, E)), zeros((B, group, T))
            carried = (out_h, lse_h, () if one_tile_a_row else sums)
            out_h, lse_h, _ = over_tiles(tile, carried, cols)
            out, lse = carry
            return heads.put(out, out_h, head), heads.put(lse, lse_h, head)

        return over_heads(some, (zeros((B, T, H, E)), zeros((B, T, H))), H)

    def backward(residuals, d_out, d_lse):
        q, k, v, mask, out, lse = residuals
        # of logit s: weight * (d_out . v - d_out . out + d_lse)
        delta = (d_out * out).sum(-1) - d_lse
        lse = jnp.where(lse > ops.LOWEST, lse, 0.0)

        def some(carry, head, cols):
            q_h, k_h, v_h, d_h, lse_h, delta_h = (
                heads.first(x, head, group) for x in (q, k, v, d_out, lse, delta)
            )
            mask_h = None if mask is None else heads.first(mask, head, group)

            def tile(carry, row, cols, fresh):
                d_q, d_k, d_v = carry
                q_rows, d_rows = rows_of(q_h, row), rows_of(d_h, row)
                k_keys, v_keys = keys_of(k_h, cols), keys_of(v_h, cols)
                logits = logits_of(q_rows, k_keys, mask_h, row, cols)
                weights = jnp.exp(logits - rows_of(lse_h, row)[..., None])
                d_weights = jnp.einsum("bhqe,bhke->bhqk", d_rows, v_keys.astype(jnp.float32))
                d_logits = weights * (d_weights - rows_of(delta_h, row)[..., None]) * scale
                d_logits, weights = d_logits.astype(q.dtype), weights.astype(q.dtype)
                new = jnp.einsum("bhqk,bhkd->bhqd", d_logits, k_keys, **f32)
                d_q = put(d_q, new if one_tile_a_row else rows_of(d_q, row) + new, row)
                # summed over queries with the features in front: twice as fast on a CPU
                new = jnp.einsum("bhqd,bhqk->bhdk", q_rows, d_logits, **f32)
                d_k = add_keys(d_k, new, cols)
                new = jnp.einsum("bhqe,bhqk->bhek", d_rows.astype(q.dtype), weights, **f32)
                return d_q, d_k, add_keys(d_v, new, cols)

            none = (zeros(q_h.shape), *(zeros(x.mT.shape) for x in (k_h, v_h)))
            d_q, d_k, d_v = over_tiles(tile, none, cols)
            parts = (d_q, d_k.mT, d_v.mT)
            return tuple(heads.put(x, part, head) for x, part in zip(carry, parts, strict=True))

        none = tuple(jnp.zeros_like(x, dtype) for x in (q, k, v))
        return over_heads(some, none, q.shape[2])

    return forward, backward
