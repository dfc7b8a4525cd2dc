"""Strided attention: query i sees keys j with j ≡ i (mod stride). arXiv:1904.10509.

With `window` the union with the local band |i - j| <= window, as the Sparse Transformer's strided
pattern; a pair in both counts once. stride = sqrt(N) gives its N^1.5.
A reshape makes each residue class a contiguous sequence of its own, attended by tiles.
Differs from the paper: both patterns in every head, not in alternate heads (`mixed` does that).
"""

import dataclasses

import jax
import jax.numpy as jnp

from attention_zoo import cache, ops, tile_memory, tiles
from attention_zoo.parallel import halo, traffic
from attention_zoo.types import Dims, Mechanism, Parallel


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

        visible = None
        if mask is not None or padded > T:
            visible = jnp.ones((B, T), bool) if mask is None else mask
            visible = jnp.repeat(ops.pad_to(visible, padded, 1), q.shape[2], 1)
            visible = visible.reshape(B, padded // stride, -1)
        out, lse = tiles.attend(*map(split, (q, k, v)), classes, far(causal), mask=visible)
        out = out.reshape(B, padded, *v.shape[2:])[:, :T]
        lse = lse.reshape(B, padded, -1)[:, :T]
        if band is not None:
            part = tiles.attend(q, k, v, band, close(causal), mask=mask)
            out, _ = tiles.merge((out, lse), part)
        return out.astype(v.dtype)

    def far(causal):
        """What the i-th member of a class sees of it outside of the band; None is all."""
        if near < 0:
            return tiles.past if causal else None
        return lambda i, j: (abs(i - j) * stride > near) & ((j <= i) | (not causal))

    def close(causal):
        return lambda i, j: (abs(i - j) <= near) & ((j <= i) | (not causal))

    # on shards: every device gets whole classes, a slot for each member that a shard may have

    def shares(n, P):
        """(classes a device, members of a class in a shard at most)."""
        return -(-stride // P), -(-n // stride)

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        (B, n, H, _), E, P = q.shape, v.shape[3], jax.lax.axis_size(axis)
        here, N = jax.lax.axis_index(axis), n * P
        share, slots = shares(n, P)
        members = -(-N // stride)
        mine = here * share + jnp.arange(share)[:, None]
        # the token in every slot here, the slot of every member there, and both ways back
        first = (jnp.arange(share * P) - here * n) % stride
        token = jnp.minimum(first[:, None] + stride * jnp.arange(slots), n - 1)
        position = mine + stride * jnp.arange(members)
        real = (position < N) & (mine < stride)
        slot = jnp.minimum(position, N - 1) // n * slots + position % n // stride
        sources = jnp.repeat(jnp.arange(P), slots)
        member = sources * n + (mine - sources * n) % stride
        member = member // stride + jnp.tile(jnp.arange(slots), P)
        rows = jnp.arange(share)[:, None]

        def go(x):
            """[B, n, H, D] -> [B, members, classes * H, D]."""
            x = jax.lax.all_to_all(x[:, token], axis, split_axis=1, concat_axis=2, tiled=True)
            x = jnp.moveaxis(x[:, rows, slot], 1, 2)
            return x.reshape(B, members, -1, *x.shape[4:])

        def come(x):
            """The way back of a result."""
            x = jnp.moveaxis(x.reshape(B, members, share, H, -1), 2, 1)
            x = x[:, rows, jnp.minimum(member, members - 1)]
            x = jax.lax.all_to_all(x, axis, split_axis=2, concat_axis=1, tiled=True)
            position = here * n + jnp.arange(n)
            return x[:, position % stride, jnp.arange(n) // stride]

        seen = jnp.broadcast_to(real.T, (B, members, share))
        if mask is not None:
            seen &= go(mask[:, :, None])
        classes, _ = layouts(N, causal)
        out, lse = tiles.attend(
            *map(go, (q, k, v)), classes, far(causal), mask=jnp.repeat(seen, H, 2)
        )
        if near < 0:
            return come(out.astype(v.dtype))
        both = come(jnp.concatenate([out, lse[..., None]], -1))
        sides = near, 0 if causal else near
        part = halo.attend(q, k, v, close(causal), sides, axis=axis, mask=mask)
        return tiles.merge((both[..., :E], both[..., E]), part)[0].astype(v.dtype)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        n, D, E = dims.q_len // P, dims.head_dim, dims.value_dim
        share, slots = shares(n, P)
        tokens = dims.batch * share * P * slots
        back = E * dims.itemsize if near < 0 else (E + 1) * traffic.FLOAT
        moved = traffic.transpose(P, tokens * dims.heads * ((2 * D + E) * dims.itemsize + back))
        moved += traffic.transpose(P, tokens * masked, gradient=False)
        if near < 0:
            return moved
        return moved + halo.traffic_of(dims, P, (near, 0 if causal else near), masked)

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
        D, E, lanes = dims.head_dim, dims.value_dim, dims.batch * dims.heads
        out, grads = lanes * T * E, (lanes * T * D, lanes * T * D, lanes * T * E)
        if band is None and T % stride == 0:
            # the output and its gradient, of its shape and of the classes'
            between = 4 * (sum(grads) + 2 * out)
            return dataclasses.replace(total, train_bytes=max(total.train_bytes, between))
        tokens = lanes * members * stride
        inputs = () if T % stride == 0 else (tokens * D, tokens * D, tokens * E)
        parts = [dataclasses.replace(classes.held(as_classes), inputs=inputs)]
        if band is not None:
            parts.append(band.held(dims))
            extra = band.cost(dims, ideal_pairs=T * min(2 * near + 1 - near * causal, T))
            total = dataclasses.replace(
                total,
                flops=total.flops + extra.flops,
                train_flops=total.train_flops + extra.train_flops,
                ideal_flops=total.ideal_flops + extra.ideal_flops,
            )
        held, train_held = tile_memory.merged(parts, out, grads)
        return dataclasses.replace(total, bytes=4 * held, train_bytes=4 * train_held)

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
        parallel=Parallel(sharded, sent, "all-to-all over classes; halo of the window"),
        cross=False,
    )
