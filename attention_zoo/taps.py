"""Convolutions over positions: x [B, N, C] and a kernel [taps, C, F] to [B, N, F]."""

import functools

import jax
import jax.numpy as jnp

from attention_zoo import ops

# positions whose windows, one a tap, lie side by side at once
ROWS = 1024


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def rectified(x, kernel, bias, dilation: int = 1, causal: bool = False):
    """relu(bias + Σ_j x[t + (j - centre) dilation] K_j), one product for all taps of a chunk of
    positions; outside of x is 0. A kernel [taps, C, C], for the output is written over x.

    The centre is the middle tap, (taps - 1) // 2, or in a causal call the last. The backward pass
    keeps x and which sums are above 0, a byte each, and lays windows side by side again.
    """
    return _rectified(x, kernel, bias, dilation, causal)[0]


def _rectified(x, kernel, bias, dilation, causal):
    sides, N = reach(len(kernel), dilation, causal), x.shape[1]
    size = rows_at_once(N, sides)
    x = ops.pad_to(x, ops.ceil_to(N, size), 1)

    def chunk(_, rows):
        new = windows(rows(x, sides), kernel, dilation) + bias
        return None, (jax.nn.relu(new), new > 0)

    # written over x: zeros to begin with XLA holds beside, one array for all loops of a program
    _, found = _over_chunks(chunk, size, None, (x, jnp.zeros(x.shape, bool)))
    return tuple(out[:, :N] for out in found)


def _kept(x, kernel, bias, dilation, causal):
    out, above = _rectified(x, kernel, bias, dilation, causal)
    return out, (x, kernel, bias, above)


def _gradients(dilation, causal, kept, d_out):
    x, kernel, bias, above = kept
    sides, N = reach(len(kernel), dilation, causal), x.shape[1]
    before, after = sides
    turned = kernel[::-1].swapaxes(1, 2)
    size = rows_at_once(N, sides)
    x, above, d_out = (ops.pad_to(array, ops.ceil_to(N, size), 1) for array in (x, above, d_out))

    def chunk(total, rows):
        d_new = jnp.where(rows(above, (after, before)), rows(d_out, (after, before)), 0)
        here = _columns(d_new[:, after : d_new.shape[1] - before])
        found = _columns(beside(rows(x, sides), len(kernel), dilation)).T @ here, here.sum(0)
        return jax.tree.map(jnp.add, total, found), (windows(d_new, turned, dilation),)

    matrix = jnp.zeros((len(kernel) * x.shape[-1], d_out.shape[-1]), d_out.dtype)
    start = matrix, jnp.zeros_like(bias)
    (d_kernel, d_bias), (d_x,) = _over_chunks(chunk, size, start, (d_out,))
    return d_x[:, :N], d_kernel.reshape(kernel.shape), d_bias


rectified.defvjp(_kept, _gradients)


def rows_at_once(N: int, sides: tuple[int, int]) -> int:
    """Positions of a chunk: all of them where one reads farther than the chunk beside its own."""
    size = ops.even(N, ROWS)
    return size if max(sides) <= size else N


def _over_chunks(chunk, size, carry, outs):
    """`chunk(carry, rows) -> (carry, its rows of outs)` from the first to the last: (the last
    carry, outs); `rows(x, (before, after))` are those of x and so many around, outside of x 0."""
    chunks = outs[0].shape[1] // size
    if chunks == 1:
        return chunk(carry, lambda x, sides: jnp.pad(x, ((0, 0), sides, (0, 0))))

    def one(number, found):
        carry, outs = found
        start = number * size

        def rows(x, sides):
            before, after = (
                jnp.where(inside, jax.lax.dynamic_slice_in_dim(x, at, side, 1), 0)
                for inside, at, side in (
                    (number > 0, start - sides[0], sides[0]),
                    (number < chunks - 1, start + size, sides[1]),
                )
            )
            here = jax.lax.dynamic_slice_in_dim(x, start, size, 1)
            return jnp.concatenate([before.astype(x.dtype), here, after.astype(x.dtype)], 1)

        carry, new = chunk(carry, rows)
        write = jax.lax.dynamic_update_slice_in_dim
        return carry, tuple(write(out, part, start, 1) for out, part in zip(outs, new, strict=True))

    return jax.lax.fori_loop(0, chunks, one, (carry, outs))


def summed(x, kernel, dilation: int = 1, causal: bool = False):
    """The same as a sum over taps, each of its own shift of x."""
    N = x.shape[1]
    before, _ = reach(len(kernel), dilation, causal)
    total = 0
    for tap, matrix in enumerate(kernel):
        at = jnp.arange(N) + tap * dilation - before
        inside = (at >= 0) & (at < N)
        shifted = jnp.where(inside[:, None], x[:, jnp.clip(at, 0, N - 1)], 0)
        total += jnp.einsum("bnc,cf->bnf", shifted, matrix)
    return total


def advance(recent, x, kernel, *, dilation: int = 1):
    """(the causal convolution of the next positions x, the positions to keep for those after);
    `recent` [B, (taps - 1) dilation, C] are those before."""
    x = jnp.concatenate([recent, x], 1)
    return windows(x, kernel, dilation), x[:, x.shape[1] - recent.shape[1] :]


def reach(taps: int, dilation: int, causal: bool) -> tuple[int, int]:
    """How many positions before and after its own an output reads."""
    after = 0 if causal else taps // 2
    return (taps - 1 - after) * dilation, after * dilation


def windows(padded, kernel, dilation: int):
    """The same over positions [B, N + (taps - 1) dilation, C] that stand around the N."""
    taps, C, F = kernel.shape
    return ops.product(beside(padded, taps, dilation), kernel.reshape(taps * C, F))


def beside(padded, taps: int, dilation: int):
    """The windows of N positions side by side, [B, N, taps * C]."""
    N = padded.shape[1] - (taps - 1) * dilation
    shifts = [padded[:, tap * dilation : tap * dilation + N] for tap in range(taps)]
    return jnp.concatenate(shifts, -1)


def _columns(rows):
    return rows.reshape(-1, rows.shape[-1])
