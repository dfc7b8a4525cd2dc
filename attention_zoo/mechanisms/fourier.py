"""FNet: the real part of the Fourier transform over positions and features. arXiv:2105.03824.

Reads the raw input as `v`, its H heads of E side by side as H * E features; nothing is learned. The
input is real, so half the spectrum over features is enough: column C - c holds column c with the
positions reversed. Implementations: "fft", or "matrix" products with the DFT matrices, which win
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
ROWS = 256  # positions whose spectrum is completed at once on a CPU


def make(implementation: str | None = None) -> Mechanism:
    if implementation not in (None, "fft", "matrix"):
        raise ValueError(f'implementation must be None, "fft" or "matrix", got {implementation!r}')

    def by_matrix(length, limit):
        return length <= limit if implementation is None else implementation == "matrix"

    def apply(params, q, k, v, *, mask=None, causal=False):
        B, N, H, E = v.shape
        x = ops.hide(v, mask).reshape(B, N, H * E).astype(jnp.float32)
        return mixed(x).reshape(v.shape).astype(v.dtype)

    # both matrices of waves are symmetric: the gradient is the same transform
    @jax.custom_vjp
    def mixed(x):
        return whole(half_spectrum(x), x.shape[2])

    mixed.defvjp(lambda x: (mixed(x), None), lambda _, d_out: (mixed(d_out),))

    def half_spectrum(x):
        """The first C // 2 + 1 columns of the transform of x [B, N, C], or their real part."""
        N, C = x.shape[1:]
        over_n, over_c = by_matrix(N, MATRIX_POSITIONS), by_matrix(C, MATRIX_FEATURES)
        if not over_n and not over_c:
            return jnp.fft.rfft2(x)
        if over_c:
            cosine, sine = (part[:, : C // 2 + 1] for part in dft(C))
            real, imag = (jnp.einsum("bnc,cd->bnd", x, part) for part in (cosine, -sine))
        else:
            half = jnp.fft.rfft(x)
            real, imag = half.real, half.imag
        if over_n:
            waves, parts = np.concatenate(dft(N), 1), jnp.concatenate([real, imag], 1)
            return jnp.einsum("mn,bnc->bmc", waves, parts)
        return jnp.fft.fft(jax.lax.complex(real, imag), axis=1)

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
        B, N, C = dims.batch, dims.q_len, dims.heads * dims.value_dim
        width = C // 2 + 1
        over_n, over_c = by_matrix(N, MATRIX_POSITIONS), by_matrix(C, MATRIX_FEATURES)
        ideal = 2.5 * N * C * math.log2(N * C)
        flops = N * (4 * width * C if over_c else round(2.5 * C * math.log2(C)))
        flops += width * (4 * N * N if over_n else round(5 * N * math.log2(N)))
        if not over_n and not over_c:
            flops = round(ideal)
        # half a spectrum; where it is made in two steps twice, of which the second then has room
        # for the rows that are put together, before and after
        out, half = N * C, 2 * N * width
        steps, rows = over_n or over_c, 2 * rows_of(N) * C
        return Cost(
            B * flops,
            train_flops=2 * B * flops,  # the waves do not learn
            ideal_flops=round(B * ideal),
            bytes=4 * B * (out + (2 * half if steps else half + rows)),
            # nothing of the forward pass is kept, so XLA may run both at once
            train_bytes=4 * B * ((2 * out + 4 * half) if steps else (3 * out + 2 * half)),
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
        by_length="waves are those of all positions",
        reasons={"causal": "the transform over positions mixes in the future"},
    )


def rows_of(N: int) -> int:
    """A few rows at a time, or a CPU would make copies of all."""
    return min(N, ROWS) if jax.default_backend() == "cpu" else N


def whole(half, C: int):
    """The real part of all C columns of a spectrum's first C // 2 + 1, [B, N, C // 2 + 1]: column
    C - c is column c with its positions turned around."""
    B, N, width = half.shape
    rows = rows_of(N)

    def step(out, start):
        here = jax.lax.dynamic_slice_in_dim(half, start, rows, 1).real
        turned = half[:, (N - start - jnp.arange(rows)) % N].real
        both = jnp.concatenate([here, turned[:, :, C - width : 0 : -1]], 2)
        return jax.lax.dynamic_update_slice_in_dim(out, both, start, 1), None

    # the last rows may be written twice
    starts = np.minimum(np.arange(0, N, rows), N - rows)
    return jax.lax.scan(step, jnp.zeros((B, N, C), jnp.float32), starts)[0]


def dft(n: int):
    """cos and sin of 2π jk / n, [n, n] float32, exact to rounding: jk is reduced modulo n first."""
    angles = 2 * np.pi * (np.outer(np.arange(n), np.arange(n)) % n) / n
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
