"""A chunk of positions at a time, all its heads first: what recurrences over a sequence run on.

A chunk of all heads lies in one piece of an array [B, N, H, D], so a CPU reads it once and turns it
in its cache. Nothing else is copied, whatever N is: the last chunk begins early enough to be whole,
and passes over what the one before had.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def over_chunks(step: Callable, shared, state, arrays, mask, size: int):
    """(out [B, N, H, E], last state) of (state, out) = step(shared, state, *arrays, mask).

    `arrays` [B, N, H, D] come as chunks [B, H, size, D], the mask [B, N] as [B, size]; out leaves
    as [B, H, size, E], or is None. What else has a gradient comes by `shared`. The backward pass
    keeps the state before each chunk and recomputes the chunk; there is no forward mode.
    ValueError where arrays differ in length.
    """
    B, N = arrays[0].shape[:2]
    lengths = [x.shape[1] for x in (*arrays, mask) if x is not None]
    if set(lengths) != {N}:
        raise ValueError(f"chunks are cut from arrays of one length, got lengths {lengths}")
    size = min(size, N)
    starts = np.minimum(np.arange(0, N, size), N - size).astype(np.int32)
    # how many of a chunk's positions the one before had
    done = (np.arange(0, N, size) - starts).astype(np.int32)
    whole = not done.any()
    if not whole and mask is None:
        mask = jnp.ones((B, N), bool)

    def cut(x, start):
        return jnp.moveaxis(jax.lax.dynamic_slice_in_dim(x, start, size, 1), 2, 1)

    def put(x, chunk, start):
        chunk = jnp.moveaxis(chunk, 1, 2).astype(x.dtype)
        return jax.lax.dynamic_update_slice_in_dim(x, chunk, start, 1)

    def new(chunk, old, done):
        """The chunk [B, H, size, E] where its positions are new."""
        return chunk if whole else jnp.where((jnp.arange(size) >= done)[:, None], chunk, old)

    def inputs(arrays, mask, start, done):
        if mask is not None:
            mask = jax.lax.dynamic_slice_in_dim(mask, start, size, 1)
            mask = mask if whole else mask & (jnp.arange(size) >= done)
        return [cut(x, start) for x in arrays], mask

    def first(shared, state, arrays, mask):
        chunks, shown = inputs(arrays, mask, 0, 0)
        return step(shared, state, *chunks, shown)[1]

    def forward(shared, state, arrays, mask, keep):
        def one(carry, at):
            state, out = carry
            start, done = at
            chunks, shown = inputs(arrays, mask, start, done)
            after, found = step(shared, state, *chunks, shown)
            if found is not None:
                out = put(out, new(found, None if whole else cut(out, start), done), start)
            return (after, out), state if keep else None

        shape = jax.eval_shape(first, shared, state, arrays, mask)
        out = shape and jnp.zeros((B, N, shape.shape[1], shape.shape[3]), shape.dtype)
        (state, out), states = jax.lax.scan(one, (state, out), (starts, done))
        return (out, state), states

    @jax.custom_vjp
    def run(shared, state, arrays, mask):
        return forward(shared, state, arrays, mask, False)[0]

    def run_kept(shared, state, arrays, mask):
        result, states = forward(shared, state, arrays, mask, True)
        return result, (shared, states, arrays, mask)

    def backward(residuals, gradients):
        shared, states, arrays, mask = residuals
        d_out, d_state = gradients

        def one(carry, at):
            d_shared, d_state, d_arrays = carry
            state, start, done = at
            chunks, shown = inputs(arrays, mask, start, done)
            _, pull = jax.vjp(lambda s, c, xs: step(s, c, *xs, shown), shared, state, chunks)
            d_found = None if d_out is None else new(cut(d_out, start), 0.0, done)
            more, d_state, d_chunks = pull((d_state, d_found))
            # from the last: positions that two chunks share get theirs from the one they are new to
            d_arrays = [put(d, g, start) for d, g in zip(d_arrays, d_chunks, strict=True)]
            return (jax.tree.map(jnp.add, d_shared, more), d_state, d_arrays), None

        d_shared, d_arrays = jax.tree.map(jnp.zeros_like, (shared, arrays))
        at = (states, starts, done)
        return *jax.lax.scan(one, (d_shared, d_state, d_arrays), at, reverse=True)[0], None

    run.defvjp(run_kept, backward)
    return run(shared, state, list(arrays), mask)
