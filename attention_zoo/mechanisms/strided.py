"""Strided attention: query i sees keys j with j ≡ i (mod stride). arXiv:1904.10509.

With `window` the union with the local band |i - j| <= window, as the Sparse Transformer's strided
pattern; a pair in both counts once. stride = sqrt(N) gives its N^1.5.
A reshape makes each residue class a contiguous sequence of its own, attended by tiles.
Differs from the paper: both patterns in every head, not in alternate heads (`mixed` does that).
"""

import jax.numpy as jnp

from attention_zoo import cache, ops, tiles
from attention_zoo.types import Cost, Dims, Mechanism


def make(stride: int = 128, window: int | None = None) -> Mechanism:
    ops.positive(stride=stride)
    near = -1 if window is None else ops.window_sides(window)[0]

    def layouts(T, causal):
        """The tiles of one residue class, and of the band."""
        members = -(-T // stride)
        classes = tiles.everything(members, members, causal, 256, 512)
        return classes, tiles.band(T, near, 0 if causal else near) if near >= 0 else None

    def apply(params, q, k, v, *, mask=None, causal=False):
        B, T = q.shape[:2]
        classes, band = layouts(T, causal)
        padded = ops.ceil_to(T, stride)

        def split(x):
            # [B, T, H, D] -> [B, T / stride, stride * H, D]: a residue class is a head more
            return ops.pad_to(x, padded, 1).reshape(B, padded // stride, -1, x.shape[-1])

        visible = jnp.ones((B, T), bool) if mask is None else mask
        visible = jnp.repeat(ops.pad_to(visible, padded, 1), q.shape[2], 1)

        def far(i, j):
            return (abs(i - j) * stride > near) & ((j <= i) | (not causal))

        split_mask = visible.reshape(B, padded // stride, -1)
        out, lse = tiles.attend(*map(split, (q, k, v)), classes, far, mask=split_mask)
        out = out.reshape(B, padded, *v.shape[2:])[:, :T]
        lse = lse.reshape(B, padded, -1)[:, :T]
        if band is not None:

            def close(i, j):
                return (abs(i - j) <= near) & ((j <= i) | (not causal))

            out, _ = tiles.merge((out, lse), tiles.attend(q, k, v, band, close, mask=mask))
        return out.astype(v.dtype)

    def reference(params, q, k, v, *, mask=None, causal=False):
        def pattern(i, j):
            return ((i - j) % stride == 0) | (abs(i - j) <= near)

        allowed = ops.visible(q.shape[1], k.shape[1], mask, causal, pattern)
        return ops.weigh(ops.softmax(ops.dot(q, k) * q.shape[-1] ** -0.5, allowed), v)

    def cost(dims: Dims, *, causal=False):
        T, members = dims.q_len, -(-dims.q_len // stride)
        classes, band = layouts(T, causal)
        as_classes = Dims(
            dims.batch, members, members, dims.heads * stride, dims.head_dim, dims.value_dim
        )
        total = classes.cost(
            as_classes,
            ideal_pairs=members * members,
            state_bytes=cache.state_bytes(dims.kv_len, dims),
        )
        if band is None:
            return total
        extra = band.cost(dims, ideal_pairs=T * min(2 * near + 1 - near * causal, T))
        return Cost(
            total.flops + extra.flops,
            total.ideal_flops + extra.ideal_flops,
            total.bytes + extra.bytes,
            total.state_bytes,
        )

    def reads(i, C, H):
        """Of the band, then of the class outside it."""
        band = i - jnp.arange(near + 1)
        steps = jnp.arange(near // stride + 1 if near >= 0 else 0, -(-C // stride))
        return jnp.concatenate([band, i - steps * stride])

    return Mechanism(
        "strided",
        apply,
        reference,
        cost,
        citation="1904.10509",
        formula="(d+d')N(N/stride+window)",
        decode=cache.cached(
            apply, lambda dims: dims.kv_len, lambda i, C: i, lambda i, j: j <= i, reads=reads
        ),
        cross=False,
    )
