"""`tiles.attend` for a CPU: from tile to tile, with slices that never leave the cache.

Heads go a few at a time, heads first (see `heads`), so all that the walk slices is contiguous.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import heads, ops


def group_of(B: int, H: int, T: int, S: int, tiles) -> int:
    """How many heads are taken at once: one where each head has its own tiles."""
    if tiles.cols.ndim == 3:
        return 1
    positions = ops.ceil_to(T, tiles.block) + ops.ceil_to(S, tiles.key_block)
    if positions > heads.budget() // 8:
        # copies of several long heads, in and out, take longer than the loops that they save
        return 1
    return heads.group_size(B, H, max(tiles.block * tiles.keys, positions))


def make(tiles, allowed: Callable, scale: float, dtype=None) -> tuple[Callable, Callable]:
    """(forward, backward): of (q, k, v, mask) to (out, logsumexp), and of ((q, k, v, mask, out,
    logsumexp), their gradients) to those of q, k and v, in `dtype` or each in its array's own;
    `allowed(i, j, hidden)` as in `tiles.attend`."""
    bq, bk = tiles.block, tiles.key_block
    rows, fresh = tiles.rows, np.append(True, tiles.rows[1:] != tiles.rows[:-1])
    one_tile_a_row = fresh.all()
    f32, zeros = (
        {"preferred_element_type": jnp.float32},
        functools.partial(jnp.zeros, dtype=jnp.float32),
    )

    def take(x, head, group, block):
        """A few heads, heads first, padded to whole blocks."""
        if x is None:
            return None
        x = heads.first(x, head, group)
        return ops.pad_to(x, ops.ceil_to(x.shape[2], block), 2)

    def put_heads(x, part, head):
        return heads.put(x, part[:, :, : x.shape[1]], head)

    def over_heads(step, carry, H, group):
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
        # a missing block, -1, is the last one: what it holds is not allowed
        return [(cols[a] * bk, (b - a) * bk) for a, b in tiles.runs]

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
        group = group_of(B, H, T, k.shape[1], tiles)

        def some(carry, head, cols):
            q_h = take(q, head, group, bq)
            k_h, v_h, mask_h = (take(x, head, group, bk) for x in (k, v, mask))

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
            out_h, lse_h = zeros((*q_h.shape[:3], E)), zeros(q_h.shape[:3])
            carried = (out_h, lse_h, () if one_tile_a_row else sums)
            out_h, lse_h, _ = over_tiles(tile, carried, cols)
            out, lse = carry
            return put_heads(out, out_h, head), put_heads(lse, lse_h, head)

        return over_heads(some, (zeros((B, T, H, E)), zeros((B, T, H))), H, group)

    def backward(residuals, d_out, d_lse):
        q, k, v, mask, out, lse = residuals
        group = group_of(q.shape[0], q.shape[2], q.shape[1], k.shape[1], tiles)
        # of logit s: weight * (d_out . v - d_out . out + d_lse)
        delta = ops.add_up(d_out * out) - d_lse
        lse = jnp.where(lse > ops.LOWEST, lse, 0.0)

        def some(carry, head, cols):
            q_h, d_h, lse_h, delta_h = (take(x, head, group, bq) for x in (q, d_out, lse, delta))
            k_h, v_h, mask_h = (take(x, head, group, bk) for x in (k, v, mask))

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
            return tuple(put_heads(x, part, head) for x, part in zip(carry, parts, strict=True))

        none = tuple(jnp.zeros_like(x, dtype) for x in (q, k, v))
        return over_heads(some, none, q.shape[2], group)

    return forward, backward
