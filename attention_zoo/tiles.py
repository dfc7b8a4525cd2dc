"""Exact softmax attention over a static list of tiles, in O(N) memory forward and backward.

A tile lets one block of queries see a few blocks of keys. All fixed patterns are such lists:

        keys ->                 full, causal        local              bigbird
    queries  ■ . . . . .        ■ . . . . .        ■ ■ . . . .        ■ ■ ■ ■ ■ ■
       |     ■ ■ . . . .        ■ ■ . . . .        ■ ■ ■ . . .        ■ ■ ■ . . ■
       v     . . .              ■ ■ ■ . . .        . ■ ■ ■ . .        ■ ■ ■ ■ . .

One scan walks the list with the online softmax of arXiv:2112.05682; the backward pass walks it
again, recomputing the weights from the saved logsumexp (arXiv:2205.14135). What is computed is
exactly the tiles, so its FLOPs are known and skipping the future is free.
"""

import dataclasses
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import ops
from attention_zoo.types import Cost, Dims

# logits a tile may hold: about one core's cache on a CPU, enough to fill an accelerator elsewhere
TILE_LOGITS = {"cpu": 2**19}
TILE_LOGITS_ACCELERATOR = 2**25


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Tile p: queries of block `rows[p]` see key blocks `cols[p]` (-1: none), in head `heads[p]`
    where heads is given, else in every head. Tiles of one row stand together."""

    block: int
    rows: np.ndarray
    cols: np.ndarray
    heads: np.ndarray | None = None
    key_block: int = 0

    def __post_init__(self):
        object.__setattr__(self, "key_block", self.key_block or self.block)

    def pairs(self, heads: int) -> int:
        """Query-key pairs computed in all heads together."""
        per_tile = self.block * self.cols.shape[1] * self.key_block
        return len(self.rows) * per_tile * (1 if self.heads is not None else heads)

    def cost(self, dims: Dims, *, ideal_pairs: int, state_bytes: int = 0) -> Cost:
        """Of one `attend` with this schedule; `ideal_pairs` are what one head's pattern needs."""
        width, heads = dims.head_dim + dims.value_dim, dims.batch * dims.heads
        group = head_group(dims.heads, dims.batch, self)
        keys = self.cols.shape[1] * self.key_block
        # logits and weights of a tile, and its slices of queries, accumulator, keys and values
        tile = dims.batch * group * (2 * self.block * keys + (self.block + keys) * width)
        out = heads * ops.ceil_to(dims.q_len, self.block) * (dims.value_dim + 1)
        return Cost(
            flops=2 * dims.batch * self.pairs(dims.heads) * width,
            ideal_flops=2 * heads * ideal_pairs * width,
            bytes=4 * (out + tile),
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
    return Schedule(block, np.array([row for row, _ in tiles], np.int32), cols, None, key_block)


def band(T: int, left: int, right: int, block: int | None = None) -> Schedule:
    """All pairs with -left <= j - i <= right among T positions, and what shares their blocks."""
    block = min(block or min(128, max(32, 1 << (max(left, right, 1) - 1).bit_length())), T)
    last = -(-T // block) - 1
    return schedule(
        block,
        (
            range(
                max((row * block - left) // block, 0),
                min((row * block + block - 1 + right) // block, last) + 1,
            )
            for row in range(last + 1)
        ),
    )


def everything(T: int, S: int, causal: bool, block: int, key_block: int) -> Schedule:
    """All pairs; a causal one leaves out the tiles that lie wholly in the future."""
    block, key_block = min(block, T), min(key_block, S)
    rows, cols = -(-T // block), -(-S // key_block)
    ends = ((row * block + block - 1) // key_block + 1 if causal else cols for row in range(rows))
    return schedule(block, (range(min(end, cols)) for end in ends), width=1, key_block=key_block)


def per_head(schedules: list[Schedule]) -> Schedule:
    """Another schedule in every head, all of one width."""
    heads = np.repeat(np.arange(len(schedules), dtype=np.int32), [len(s.rows) for s in schedules])
    first = schedules[0]
    return Schedule(
        first.block,
        np.concatenate([s.rows for s in schedules]),
        np.concatenate([s.cols for s in schedules]),
        heads,
        first.key_block,
    )


def attend(q, k, v, tiles: Schedule, sees: Callable, *, mask=None, scale: float | None = None):
    """(out [B, T, H, E], logsumexp [B, T, H]), both float32: softmax attention among the pairs that
    are in a tile, that `sees(i, j)` allows (positions [block, 1] and [1, keys]) and whose key is
    not hidden.

    `mask` is [B, S] or [B, S, H]. A row with nothing to see has out 0 and logsumexp ops.LOWEST.
    """
    T, S, H = q.shape[1], k.shape[1], q.shape[2]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if mask is None:
        mask = jnp.ones((1, S), bool)
    if mask.ndim == 2:
        mask = mask[..., None]
    padded_T, padded_S = ops.ceil_to(T, tiles.block), ops.ceil_to(S, tiles.key_block)
    q = ops.pad_to(q, padded_T, 1)
    k, v, mask = (ops.pad_to(x, padded_S, 1) for x in (k, v, mask))
    group = head_group(H, q.shape[0], tiles)
    out, lse = _kernel(tiles, group, sees, scale)(q, k, v, mask)
    return out[:, :T], lse[:, :T]


def merge(*parts):
    """One softmax out of (out, logsumexp) parts that saw disjoint keys: (out, logsumexp)."""
    peak = jax.lax.stop_gradient(jnp.stack([lse for _, lse in parts]).max(0))
    shares = [jnp.where(lse > ops.LOWEST, jnp.exp(lse - peak), 0.0) for _, lse in parts]
    total = sum(shares)
    out = sum(share[..., None] * out for share, (out, _) in zip(shares, parts, strict=True))
    empty = total == 0
    lse = jnp.where(empty, ops.LOWEST, peak + jnp.log(jnp.where(empty, 1.0, total)))
    return ops.safe_divide(out, total[..., None]), lse


def head_group(H: int, B: int, tiles: Schedule) -> int:
    """How many heads a tile takes at once."""
    if tiles.heads is not None:
        return 1
    budget = TILE_LOGITS.get(jax.default_backend(), TILE_LOGITS_ACCELERATOR)
    per_head = B * tiles.block * tiles.cols.shape[1] * tiles.key_block
    return max((g for g in range(1, H + 1) if H % g == 0 and g * per_head <= budget), default=1)


def _kernel(tiles, group, sees, scale):
    """The custom-gradient function of (q, k, v, mask), all padded to whole blocks."""
    bq, bk = tiles.block, tiles.key_block

    def xs(H):
        if tiles.heads is not None:
            heads, rows, cols = tiles.heads, tiles.rows, tiles.cols
        else:
            starts = np.arange(0, H, group, dtype=np.int32)
            heads = np.repeat(starts, len(tiles.rows))
            rows, cols = np.tile(tiles.rows, len(starts)), np.tile(tiles.cols, (len(starts), 1))
        key = heads.astype(np.int64) * (rows.max() + 1) + rows
        fresh = np.append(True, key[1:] != key[:-1])
        return tuple(map(jnp.asarray, (heads, rows, cols, fresh)))

    def rows_of(x, row, head):
        return jax.lax.dynamic_slice(x, (0, row * bq, head, 0), (x.shape[0], bq, group, x.shape[3]))

    def keys_of(x, cols, head):
        shape = (x.shape[0], bk, min(group, x.shape[2]), *x.shape[3:])
        head = head if x.shape[2] > 1 else 0
        at = [(0, jnp.maximum(col, 0) * bk, head) + (0,) * (x.ndim - 3) for col in cols]
        return jnp.concatenate([jax.lax.dynamic_slice(x, start, shape) for start in at], 1)

    def put(x, part, row, head):
        return jax.lax.dynamic_update_slice(x, part, (0, row * bq, head, 0)[: x.ndim])

    def logits_of(q_rows, k_keys, mask, row, cols, head):
        i = row * bq + jnp.arange(bq)[:, None]
        j = (cols[:, None] * bk + jnp.arange(bk)).reshape(1, -1)
        allowed = (sees(i, j) & (j >= 0))[None, None]
        allowed &= jnp.moveaxis(keys_of(mask, cols, head), 2, 1)[:, :, None, :]
        logits = jnp.einsum("bqhd,bkhd->bhqk", q_rows, k_keys, preferred_element_type=jnp.float32)
        return jnp.where(allowed, logits * scale, ops.LOWEST), allowed

    def forward(q, k, v, mask):
        B, T, H, E = *q.shape[:3], v.shape[3]

        def step(carry, tile):
            out, lse, acc, peak, total = carry
            head, row, cols, fresh = tile
            acc = jnp.where(fresh, 0.0, acc)
            total = jnp.where(fresh, 0.0, total)
            peak = jnp.where(fresh, ops.LOWEST, peak)
            logits, allowed = logits_of(
                rows_of(q, row, head), keys_of(k, cols, head), mask, row, cols, head
            )
            new_peak = jnp.maximum(peak, logits.max(-1))
            weights = jnp.where(allowed, jnp.exp(logits - new_peak[..., None]), 0.0)
            shrink = jnp.exp(peak - new_peak)
            total = total * shrink + weights.sum(-1)
            acc = acc * shrink[..., None] + jnp.einsum(
                "bhqk,bkhe->bhqe",
                weights.astype(v.dtype),
                keys_of(v, cols, head),
                preferred_element_type=jnp.float32,
            )
            rows_out = jnp.einsum("bhqe->bqhe", ops.safe_divide(acc, total[..., None]))
            empty = total == 0
            rows_lse = jnp.where(empty, ops.LOWEST, new_peak + jnp.log(jnp.where(empty, 1, total)))
            out = put(out, rows_out, row, head)
            lse = put(lse, jnp.einsum("bhq->bqh", rows_lse), row, head)
            return (out, lse, acc, new_peak, total), None

        state = jnp.zeros((B, group, bq), jnp.float32)
        acc = jnp.zeros((B, group, bq, E), jnp.float32)
        out, lse = jnp.zeros((B, T, H, E), jnp.float32), jnp.zeros((B, T, H), jnp.float32)
        (out, lse, *_), _ = jax.lax.scan(step, (out, lse, acc, state, state), xs(H))
        return out, lse

    def backward(residuals, cotangents):
        q, k, v, mask, out, lse = residuals
        d_out, d_lse = cotangents
        # of logit s: weight * (d_out . v - d_out . out + d_lse)
        delta = (d_out * out).sum(-1) - d_lse

        def step(carry, tile):
            d_q, d_k, d_v = carry
            head, row, cols, _ = tile
            q_rows, d_rows = rows_of(q, row, head), rows_of(d_out, row, head)
            k_keys, v_keys = keys_of(k, cols, head), keys_of(v, cols, head)
            logits, allowed = logits_of(q_rows, k_keys, mask, row, cols, head)
            lse_rows, delta_rows = (
                jnp.einsum("bqhx->bhqx", rows_of(x[..., None], row, head)) for x in (lse, delta)
            )
            weights = jnp.where(allowed, jnp.exp(logits - lse_rows), 0.0)
            d_weights = jnp.einsum("bqhe,bkhe->bhqk", d_rows, v_keys.astype(jnp.float32))
            d_logits = (weights * (d_weights - delta_rows) * scale).astype(q.dtype)
            weights = weights.astype(q.dtype)
            f32 = {"preferred_element_type": jnp.float32}
            rows_q = jnp.einsum("bhqk,bkhd->bqhd", d_logits, k_keys, **f32)
            keys_k = jnp.einsum("bhqk,bqhd->bkhd", d_logits, q_rows, **f32)
            keys_v = jnp.einsum("bhqk,bqhe->bkhe", weights, d_rows.astype(q.dtype), **f32)
            d_q = put(d_q, rows_of(d_q, row, head) + rows_q, row, head)
            for slot in range(cols.shape[0]):
                at = (0, jnp.maximum(cols[slot], 0) * bk, head, 0)
                d_k = _add(d_k, keys_k[:, slot * bk : (slot + 1) * bk], at)
                d_v = _add(d_v, keys_v[:, slot * bk : (slot + 1) * bk], at)
            return (d_q, d_k, d_v), None

        zeros = tuple(jnp.zeros(x.shape, jnp.float32) for x in (q, k, v))
        grads, _ = jax.lax.scan(step, zeros, xs(q.shape[2]))
        return *(g.astype(x.dtype) for g, x in zip(grads, (q, k, v), strict=True)), None

    def with_residuals(q, k, v, mask):
        out, lse = forward(q, k, v, mask)
        return (out, lse), (q, k, v, mask, out, lse)

    kernel = jax.custom_vjp(forward)
    kernel.defvjp(with_residuals, backward)
    return kernel


def _add(x, part, at):
    old = jax.lax.dynamic_slice(x, at, part.shape)
    return jax.lax.dynamic_update_slice(x, old + part, at)
