"""A chunk of positions at a time, all its heads first: what recurrences over a sequence run on.

A chunk of all heads lies in one piece of an array [B, N, H, D], so a CPU reads it once and turns it
in its cache. Nothing else is copied, whatever N is: the last chunk begins early enough to be whole,
and passes over what has been before.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def over_chunks(step: Callable, state, arrays, mask, size: int):
    """(out [B, N, H, E], last state) of (state, out) = step(state, *arrays, mask) over chunks.

    `arrays` [B, N, H, D] come as [B, H, size, D], the mask [B, N] as [B, size]; out leaves as
    [B, H, size, E], or is None. The backward pass has the state before each chunk and recomputes
    the chunk.
    """
    B, N = arrays[0].shape[:2]
    size = min(size, N)
    starts = np.minimum(np.arange(0, N, size), N - size).astype(np.int32)
    # how many of a chunk's positions were in the one before
    before = (np.arange(0, N, size) - starts).astype(np.int32)
    whole = not before.any()
    if not whole and mask is None:
        mask = jnp.ones((B, N), bool)

    def cut(x, start):
        return jnp.moveaxis(jax.lax.dynamic_slice_in_dim(x, start, size, 1), 2, 1)

    def new(chunk, old, seen):
        """The chunk [B, H, size, E] where its positions are new."""
        return chunk if whole else jnp.where((jnp.arange(size) >= seen)[:, None], chunk, old)

    def inputs(arrays, mask, start, seen):
        if mask is not None:
            mask = jax.lax.dynamic_slice_in_dim(mask, start, size, 1)
            mask = mask if whole else mask & (jnp.arange(size) >= seen)
        return [cut(x, start) for x in arrays], mask

    def put(x, chunk, start):
        chunk = jnp.moveaxis(chunk, 1, 2).astype(x.dtype)
        return jax.lax.dynamic_update_slice_in_dim(x, chunk, start, 1)

    first, its_mask = inputs(arrays, mask, 0, 0)
    call, closed = jax.closure_convert(
        lambda state, arrays, mask: step(state, *arrays, mask), state, first, its_mask
    )
    out_shape = jax.eval_shape(call, state, first, its_mask, *closed)[1]

    def forward(state, arrays, mask, closed, keep):
        def one(carry, at):
            state, out = carry
            start, seen = at
            chunk, shown = inputs(arrays, mask, start, seen)
            after, rows = call(state, chunk, shown, *closed)
            if rows is not None:
                out = put(out, new(rows, None if whole else cut(out, start), seen), start)
            return (after, out), state if keep else None

        out = None
        if out_shape is not None:
            out = jnp.zeros((B, N, out_shape.shape[1], out_shape.shape[3]), out_shape.dtype)
        (state, out), states = jax.lax.scan(one, (state, out), (starts, before))
        return (out, state), states

    @jax.custom_vjp
    def run(state, arrays, mask, closed):
        return forward(state, arrays, mask, closed, False)[0]

    def run_kept(state, arrays, mask, closed):
        result, states = forward(state, arrays, mask, closed, True)
        return result, (states, arrays, mask, closed)

    def backward(residuals, gradients):
        states, arrays, mask, closed = residuals
        d_out, d_state = gradients

        def one(carry, at):
            d_state, d_arrays, d_closed = carry
            state, start, seen = at
            chunk, shown = inputs(arrays, mask, start, seen)
            _, pull = jax.vjp(lambda s, c, cs: call(s, c, shown, *cs), state, chunk, closed)
            d_rows = None if d_out is None else new(cut(d_out, start), 0.0, seen)
            d_state, d_chunk, more = pull((d_state, d_rows))
            # from the last: positions that two chunks share get theirs from the one they are new to
            d_arrays = [put(d, g, start) for d, g in zip(d_arrays, d_chunk, strict=True)]
            return (d_state, d_arrays, jax.tree.map(jnp.add, d_closed, more)), None

        zeros = jax.tree.map(jnp.zeros_like, (list(arrays), closed))
        at = (states, starts, before)
        (d_state, d_arrays, d_closed), _ = jax.lax.scan(one, (d_state, *zeros), at, reverse=True)
        return d_state, d_arrays, None, d_closed

    run.defvjp(run_kept, backward)
    return run(state, list(arrays), mask, closed)
