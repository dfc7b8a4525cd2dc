"""Convolutions over positions: x [B, N, C] and a kernel [taps, C, F] to [B, N, F]."""

import jax.numpy as jnp

from attention_zoo import ops


def convolve(x, kernel, *, dilation: int = 1, causal: bool = False):
    """Σ_j x[t + (j - centre) dilation] K_j, one product for all taps; outside of x is 0.

    The centre is the middle tap, (taps - 1) // 2, or in a causal call the last.
    """
    before, after = reach(len(kernel), dilation, causal)
    return windows(jnp.pad(x, ((0, 0), (before, after), (0, 0))), kernel, dilation)


def summed(x, kernel, *, dilation: int = 1, causal: bool = False):
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
    N = padded.shape[1] - (taps - 1) * dilation
    shifts = [padded[:, tap * dilation : tap * dilation + N] for tap in range(taps)]
    return ops.product(jnp.concatenate(shifts, -1), kernel.reshape(taps * C, F))
