"""FNet: the real part of the Fourier transform over positions and features. arXiv:2105.03824.

Reads the raw input as `v`, its H heads of E side by side as H * E features; nothing is learned. The
input is real, so half the spectrum over positions is enough: row N - n holds row n with the
features reversed. Implementations: "fft", or "matrix" products with the DFT matrices, which win
while a side is short; None chooses for each side. Hidden positions count as 0, but the waves are
those of all N, so more padding changes the output.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import ops
from attention_zoo.parallel import traffic
from attention_zoo.types import Cost, Dims, Mechanism, Parallel

# up to this length a product with the DFT matrix is faster than the FFT
MATRIX_POSITIONS, MATRIX_FEATURES = 64, 128


def make(implementation: str | None = None) -> Mechanism:
    if implementation not in (None, "fft", "matrix"):
        raise ValueError(f'implementation must be None, "fft" or "matrix", got {implementation!r}')

    def by_matrix(length, limit):
        return length <= limit if implementation is None else implementation == "matrix"

    def apply(params, q, k, v, *, mask=None, causal=False):
        B, N, H, E = v.shape
        x = ops.hide(v, mask).reshape(B, N, H * E).astype(jnp.float32)
        if by_matrix(N, MATRIX_POSITIONS):
            cosine, sine = dft(N)
            real, imag = (
                jnp.einsum("mn,bnc->bmc", part[: N // 2 + 1], x) for part in (cosine, -sine)
            )
        else:
            half = jnp.fft.rfft(x, axis=1)
            real, imag = half.real, half.imag
        if by_matrix(H * E, MATRIX_FEATURES):
            cosine, sine = dft(H * E)
            top = jnp.einsum("bnc,cd->bnd", real, cosine) + jnp.einsum("bnc,cd->bnd", imag, sine)
        else:
            top = jnp.fft.fft(real + 1j * imag, axis=2).real
        # Y[N - n, c] is the conjugate of Y[n, -c]
        mirror = jnp.roll(top[:, 1 : (N + 1) // 2][:, ::-1, ::-1], 1, axis=2)
        out = jnp.concatenate([top, mirror], 1).reshape(B, N, H, E)
        return out.astype(v.dtype)

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        """Features first, which are all here; then a device takes all positions of a few columns
        of the half spectrum, each of which holds two columns of the output."""
        B, n, H, E = v.shape
        C, P = H * E, jax.lax.axis_size(axis)
        x = ops.hide(v, mask).reshape(B, n, C).astype(jnp.float32)
        half = jnp.fft.rfft(x, axis=2)
        half = ops.pad_to(half, ops.ceil_to(half.shape[2], P), 2)
        columns = jax.lax.all_to_all(half, axis, split_axis=2, concat_axis=1, tiled=True)
        columns = jnp.fft.fft(columns, axis=1).real
        # the column C - c of the spectrum is the conjugate of c: its transform runs backwards
        mirrored = jnp.roll(columns[:, ::-1], 1, axis=1)
        pairs = jnp.stack([columns, mirrored], -1)
        pairs = jax.lax.all_to_all(pairs, axis, split_axis=1, concat_axis=2, tiled=True)
        top, mirror = pairs[:, :, : C // 2 + 1, 0], pairs[:, :, 1 : (C + 1) // 2, 1]
        out = jnp.concatenate([top, mirror[:, :, ::-1]], 2)
        return out.reshape(v.shape).astype(v.dtype)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        columns = ops.ceil_to(dims.heads * dims.value_dim // 2 + 1, P)
        tokens = dims.batch * dims.kv_len // P
        # there as complex numbers, back as pairs of real ones
        there = traffic.transpose(P, 2 * traffic.FLOAT * tokens * columns)
        return there + there

    def objections(dims: Dims, P: int, *, causal=False):
        columns = dims.heads * dims.value_dim // 2 + 1
        if columns >= P:
            return []
        return [
            f"fourier: a column of the spectrum is transformed on one device, and "
            f"{dims.heads * dims.value_dim} channels have {columns} (got {P} devices)"
        ]

    def reference(params, q, k, v, *, mask=None, causal=False):
        B, N, H, E = v.shape
        x = ops.hide(v, mask).reshape(B, N, H * E).astype(jnp.float32)
        (cos_n, sin_n), (cos_c, sin_c) = dft(N), dft(H * E)
        out = jnp.einsum("mn,bnc,cd->bmd", cos_n, x, cos_c) - jnp.einsum(
            "mn,bnc,cd->bmd", sin_n, x, sin_c
        )
        return out.reshape(B, N, H, E).astype(v.dtype)

    def cost(dims: Dims, *, causal=False):
        N, C = dims.q_len, dims.heads * dims.value_dim
        half = N // 2 + 1
        over_n = 4 * half * N if by_matrix(N, MATRIX_POSITIONS) else round(2.5 * N * math.log2(N))
        over_c = 4 * C * C if by_matrix(C, MATRIX_FEATURES) else round(5 * C * math.log2(C))
        ideal = 2.5 * N * C * (math.log2(N) + math.log2(C))
        # complex half spectra, of which two products are three real halves
        spectra = half * (3 if by_matrix(C, MATRIX_FEATURES) else 4)
        flops = dims.batch * (C * over_n + half * over_c)
        return Cost(
            flops,
            train_flops=2 * flops,  # the waves do not learn
            ideal_flops=round(dims.batch * ideal),
            bytes=4 * dims.batch * C * (N + spectra),
            train_bytes=4 * dims.batch * C * (N + 6 * half),
        )

    return Mechanism(
        "fourier",
        apply,
        reference,
        cost,
        citation="2105.03824",
        formula="N log N · d'",
        parallel=Parallel(sharded, sent, "all-to-all over channels", objections),
        streams="x",
        causal=False,
        cross=False,
        reasons={"causal": "the transform over positions mixes in the future"},
    )


def dft(n: int):
    """cos and sin of 2π jk / n, [n, n] float32, exact to rounding: jk is reduced modulo n first."""
    angles = 2 * np.pi * (np.outer(np.arange(n), np.arange(n)) % n) / n
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
