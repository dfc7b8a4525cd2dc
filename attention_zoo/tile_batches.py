"""`tiles.attend` for an accelerator: batches of tiles, in all heads at once.

A tile alone is too little work for a GPU, whose time would go into launches. As tiles of a row
stand together, a batch of G of them covers at most G neighbouring rows: the online softmax joins
them in that slice of the running sums. Gradients of keys are added up in the order in which the
device pleases, so their last bits may differ from run to run.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import ops

# logits of a batch
BUDGET = 2**25


def make(tiles, allowed: Callable, scale: float, dtype=None) -> tuple[Callable, Callable]:
    """As `tile_walk.make`."""
    bq, bk, width = tiles.block, tiles.key_block, tiles.cols.shape[-1]
    one_tile_a_row = bool((np.diff(tiles.rows) > 0).all())
    f32 = {"preferred_element_type": jnp.float32}

    def batches_of(B, H):
        """(G, (rows [n, G], cols [n, 1 or H, G, width], which are real [n, G], None for all))."""
        P = len(tiles.rows)
        G = max(1, min(P, BUDGET // (B * H * bq * tiles.keys)))
        n = -(-P // G)
        G = -(-P // n)
        spare = n * G - P
        # the last batch is filled with tiles of rows past the end that see nothing
        rows = np.append(tiles.rows, tiles.rows[-1] + 1 + np.arange(spare, dtype=np.int32))
        cols = tiles.cols if tiles.cols.ndim == 3 else tiles.cols[None]
        cols = np.pad(cols, ((0, 0), (0, spare), (0, 0)))
        cols = cols.reshape(len(cols), n, G, width).swapaxes(0, 1)
        real = jnp.asarray((np.arange(n * G) < P).reshape(n, G)) if spare else None
        return G, (jnp.asarray(rows.reshape(n, G)), jnp.asarray(cols), real)

    def blocks_of(x, size):
        """[B, N, H, ...] to [B, H, N / size, size, ...], padded to whole blocks."""
        x = jnp.moveaxis(ops.pad_to(x, ops.ceil_to(x.shape[1], size), 1), 2, 1)
        return x.reshape(*x.shape[:2], -1, size, *x.shape[3:])

    def positions_of(x, N):
        """And back."""
        return jnp.moveaxis(x.reshape(*x.shape[:2], -1, *x.shape[4:]), 1, 2)[:, :N]

    def at_keys(x, cols):
        """The index of a batch's key blocks in [B, H or 1, blocks, ...]."""
        return (slice(None), jnp.arange(x.shape[1])[:, None, None], jnp.maximum(cols, 0))

    def keys_of(x, cols):
        """[B, H or 1, blocks, bk, ...] to [B, H or 1, G, width * bk, ...]."""
        x = x[at_keys(x, cols)]
        return x.reshape(*x.shape[:3], width * bk, *x.shape[5:])

    def add_keys(x, part, cols):
        part = part.reshape(*part.shape[:3], width, bk, *part.shape[4:])
        return x.at[at_keys(x, cols)].add(part)

    def rows_from(x, rows):
        """The slice of rows that the batch covers."""
        return jax.lax.dynamic_slice_in_dim(x, rows[0], len(rows), 2)

    def put(x, part, rows):
        return jax.lax.dynamic_update_slice_in_dim(x, part, rows[0], 2)

    def of_row(slots, rows):
        """Where the batch's tiles stand in that slice, to add to and take from."""
        once = {"indices_are_sorted": True, "unique_indices": one_tile_a_row}
        return slots.at[:, :, rows - rows[0]], once

    def logits_of(q_rows, k_keys, mask, rows, cols, real):
        logits = jnp.einsum("bhgqd,bhgkd->bhgqk", q_rows, k_keys, **f32) * scale
        i = (rows[:, None] * bq + jnp.arange(bq))[..., None]
        j = (cols[..., None] * bk + jnp.arange(bk)).reshape(*cols.shape[:2], 1, -1)
        seen = allowed(i, j, None if mask is None else keys_of(mask, cols))
        seen = [] if seen is None else [seen]
        if real is not None:
            seen.append(real[:, None, None])
        return (
            jnp.where(functools.reduce(jnp.logical_and, seen), logits, ops.LOWEST)
            if seen
            else logits
        )

    def forward(q, k, v, mask):
        B, T, H, E = *q.shape[:3], v.shape[3]
        q_b, k_b, v_b = blocks_of(q, bq), blocks_of(k, bk), blocks_of(v, bk)
        mask_b = None if mask is None else blocks_of(mask, bk)

        def batch(carry, x):
            rows, cols, real = x
            acc, total, before = (rows_from(x, rows) for x in carry)
            logits = logits_of(q_b[:, :, rows], keys_of(k_b, cols), mask_b, rows, cols, real)
            # above what is hidden, whose weight is 0 then in a row of nothing else too
            at, once = of_row(before, rows)
            peak = at.max(logits.max(-1), **once)
            weights = jnp.exp(logits - peak[:, :, rows - rows[0], :, None])
            values = keys_of(v_b, cols)
            new = jnp.einsum("bhgqk,bhgke->bhgqe", weights.astype(v.dtype), values, **f32)
            shrink = jnp.exp(before - peak)
            at, once = of_row(acc * shrink[..., None], rows)
            acc = at.add(new, **once)
            at, once = of_row(total * shrink, rows)
            total = at.add(weights.sum(-1), **once)
            return tuple(
                put(x, y, rows) for x, y in zip(carry, (acc, total, peak), strict=True)
            ), None

        G, xs = batches_of(B, H)
        R = q_b.shape[2]
        slots = (B, H, R + G - 1, bq)
        none = jnp.zeros((*slots, E)), jnp.zeros(slots), jnp.full(slots, ops.LOWEST / 2)
        carry, _ = jax.lax.scan(batch, none, xs)
        acc, total, peak = (positions_of(x[:, :, :R], T) for x in carry)
        empty = total == 0
        divisor = jnp.where(empty, 1.0, total)
        return acc / divisor[..., None], jnp.where(empty, ops.LOWEST, peak + jnp.log(divisor))

    def backward(residuals, d_out, d_lse):
        q, k, v, mask, out, lse = residuals
        # of logit s: weight * (d_out . v - d_out . out + d_lse)
        delta = blocks_of((d_out * out).sum(-1) - d_lse, bq)
        lse = blocks_of(jnp.where(lse > ops.LOWEST, lse, 0.0), bq)
        q_b, k_b, v_b = blocks_of(q, bq), blocks_of(k, bk), blocks_of(v, bk)
        d_b = blocks_of(d_out.astype(q.dtype), bq)
        mask_b = None if mask is None else blocks_of(mask, bk)

        def batch(carry, x):
            d_q, d_k, d_v = carry
            rows, cols, real = x
            q_rows, d_rows = q_b[:, :, rows], d_b[:, :, rows]
            k_keys, v_keys = keys_of(k_b, cols), keys_of(v_b, cols)
            logits = logits_of(q_rows, k_keys, mask_b, rows, cols, real)
            weights = jnp.exp(logits - lse[:, :, rows, :, None])
            d_weights = jnp.einsum("bhgqe,bhgke->bhgqk", d_rows, v_keys, **f32)
            d_logits = weights * (d_weights - delta[:, :, rows, :, None]) * scale
            d_logits, weights = d_logits.astype(q.dtype), weights.astype(q.dtype)
            at, once = of_row(rows_from(d_q, rows), rows)
            new = jnp.einsum("bhgqk,bhgkd->bhgqd", d_logits, k_keys, **f32)
            d_q = put(d_q, at.add(new, **once), rows)
            new = jnp.einsum("bhgqk,bhgqd->bhgkd", d_logits, q_rows, **f32)
            d_k = add_keys(d_k, new, cols)
            new = jnp.einsum("bhgqk,bhgqe->bhgke", weights, d_rows, **f32)
            return (d_q, d_k, add_keys(d_v, new, cols)), None

        G, xs = batches_of(*q.shape[:1], q.shape[2])
        B, H, R, _, D = q_b.shape
        none = (jnp.zeros((B, H, R + G - 1, bq, D)), *(jnp.zeros(x.shape) for x in (k_b, v_b)))
        (d_q, d_k, d_v), _ = jax.lax.scan(batch, none, xs)
        grads = (d_q[:, :, :R], d_k, d_v)
        return tuple(
            positions_of(g, x.shape[1]).astype(dtype or x.dtype)
            for g, x in zip(grads, (q, k, v), strict=True)
        )

    return forward, backward
