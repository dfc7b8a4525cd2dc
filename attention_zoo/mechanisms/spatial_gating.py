"""gMLP's spatial gating unit: u ⊙ (W LayerNorm(z) + b), W over positions. arXiv:2105.08050.

The multiplier u is read as `q` and the gated half z as `v`. W [length, length] and b [length] are
shared by all channels, or one a head (`per_head`); W starts near 0 and b at 1, so the unit starts
as u. Causal: W is lower triangular. Hidden positions count as 0 after the norm, which runs over
the H * E channels of a position; a shorter input is one whose end is hidden.
Differs from the paper: a row that sees no position gives 0; where q and v differ in width, u's
channels are taken in turn until there are E of them.
"""

import jax
import jax.numpy as jnp

from attention_zoo import ops, sized
from attention_zoo.parallel import traffic
from attention_zoo.types import Cost, Decode, Dims, Mechanism, Parallel


def make(length: int | None = None, per_head: bool = False, norm: bool = True) -> Mechanism:
    sized.check(length)

    def init(rng, dims: Dims):
        L = sized.choose("spatial_gating", length, dims)
        heads = dims.heads if per_head else 1
        near_zero = jax.random.uniform(rng, (heads, L, L), minval=-1.0, maxval=1.0) * 1e-3 / L
        params = {"weight": near_zero, "bias": jnp.ones((heads, L))}
        if norm:
            params["gain"] = jnp.ones((dims.heads, dims.value_dim))
            params["shift"] = jnp.zeros((dims.heads, dims.value_dim))
        return params

    def gated(params, v, mask):
        """What W mixes, 0 where hidden, in v's dtype."""
        x = ops.hide(v, mask)
        if norm:
            x = sized.layer_norm(x.astype(jnp.float32), params["gain"], params["shift"])
        return ops.hide(x.astype(v.dtype), mask)

    def multiplied(q, mixed, seen, dtype):
        E = mixed.shape[-1]
        u = jnp.tile(q, -(-E // q.shape[-1]))[..., :E].astype(jnp.float32)
        return jnp.where(seen, u * mixed, 0.0).astype(dtype)

    def over_positions(weight, z):
        """W z [B, M, H, E], float32, of W [heads, M, N] and z [B, N, H, E]."""
        f32 = {"preferred_element_type": jnp.float32}
        if per_head:
            return jnp.einsum("hmn,bnhe->bmhe", weight, z, **f32)
        # with an axis of one head XLA would copy W
        return jnp.einsum("mn,bnhe->bmhe", weight[0], z, **f32)

    def apply(params, q, k, v, *, mask=None, causal=False):
        N, L = v.shape[1], params["weight"].shape[1]
        sized.fits("spatial_gating", L, N)
        weight = params["weight"][:, :N, :N].astype(v.dtype)
        weight = jnp.tril(weight) if causal else weight
        mixed = over_positions(weight, gated(params, v, mask))
        mixed = mixed + jnp.einsum("hm->mh", params["bias"][:, :N])[:, :, None]
        return multiplied(q, mixed, sees(mask, N, causal), v.dtype)

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        """W and b have the rows of the positions here."""
        n, start = v.shape[1], jax.lax.axis_index(axis) * v.shape[1]
        z = jax.lax.all_gather(gated(params, v, mask), axis, axis=1, tiled=True)
        weight = params["weight"][:, :, : z.shape[1]].astype(v.dtype)
        if causal:
            past = jnp.arange(z.shape[1]) <= start + jnp.arange(n)[:, None]
            weight = jnp.where(past, weight, 0)
        mixed = over_positions(weight, z) + jnp.einsum("hm->mh", params["bias"])[:, :, None]
        seen = jnp.ones((1, 1, 1, 1), bool)
        if mask is not None:
            whole = jax.lax.all_gather(mask, axis, axis=1, tiled=True)
            seen = sees(whole, z.shape[1], causal)
            seen = jax.lax.dynamic_slice_in_dim(seen, start, n, 1) if causal else seen
        return multiplied(q, mixed, seen, v.dtype)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        tokens = dims.batch * dims.kv_len // P
        channels = dims.heads * dims.value_dim
        moved = traffic.gather(P, tokens * channels * dims.itemsize)
        return moved + traffic.gather(P, tokens * masked, gradient=False)

    def reference(params, q, k, v, *, mask=None, causal=False):
        N = v.shape[1]
        matrix = jnp.where(ops.visible(N, N, mask, causal), params["weight"][None, :, :N, :N], 0.0)
        matrix = jnp.broadcast_to(matrix, (*matrix.shape[:1], v.shape[2], N, N))
        mixed = jnp.einsum("bhmn,bnhe->bmhe", matrix, gated(params, v, mask).astype(jnp.float32))
        mixed += params["bias"][:, :N].T[:, :, None]
        return multiplied(q, mixed, sees(mask, N, causal), v.dtype)

    def cost(dims: Dims, *, causal=False):
        N, channels = dims.kv_len, dims.batch * dims.heads * dims.value_dim
        weights = (dims.heads if per_head else 1) * N * N
        state = channels * dims.kv_len * dims.itemsize + dims.batch + 4
        flops = 2 * channels * N * N
        # W as a triangle; of one for all heads its gradient too, in room that served others before
        triangle = causal * weights
        both = causal and not per_head
        learned = weights + N * dims.batch * dims.heads * dims.head_dim + both * triangle
        return Cost(
            flops,
            flops,
            bytes=4 * (2 * channels * N + triangle),
            train_bytes=4 * (learned + channels * N * (5 + norm - both)),
            state_bytes=state,
        )

    def decode_init(params, dims: Dims, dtype=jnp.float32):
        return {
            "gated": jnp.zeros((dims.batch, dims.kv_len, dims.heads, dims.value_dim), dtype),
            "seen": jnp.zeros(dims.batch, bool),
            "length": jnp.zeros((), jnp.int32),
        }

    def step(params, state, q, k, v, *, mask=None):
        B, T = v.shape[:2]
        C, start = state["gated"].shape[1], state["length"]
        sized.fits("spatial_gating", params["weight"].shape[1], C)
        new = gated(params, v, mask).astype(state["gated"].dtype)
        cache = jax.lax.dynamic_update_slice_in_dim(state["gated"], new, start, 1)
        rows = jax.lax.dynamic_slice_in_dim(params["weight"], start, T, 1)[:, :, :C]
        rows = jnp.where(jnp.arange(C) <= start + jnp.arange(T)[:, None], rows, 0.0)
        bias = jax.lax.dynamic_slice_in_dim(params["bias"], start, T, 1)
        mixed = over_positions(rows, cache.astype(jnp.float32))
        mixed += jnp.einsum("hm->mh", bias)[:, :, None]
        seen = sees(mask, T, True) | state["seen"][:, None, None, None]
        out = multiplied(q, mixed, seen, v.dtype)
        seen = jnp.broadcast_to(seen[:, -1, 0, 0], B)
        return out, {"gated": cache, "seen": seen, "length": start + T}

    def prefill(params, state, q, k, v, *, mask=None):
        out = apply(params, q, k, v, mask=mask, causal=True)
        new = gated(params, v, mask).astype(state["gated"].dtype)
        cache = jax.lax.dynamic_update_slice_in_dim(state["gated"], new, 0, 1)
        seen = jnp.ones(len(v), bool) if mask is None else mask.any(1)
        return out, {"gated": cache, "seen": seen, "length": jnp.asarray(v.shape[1], jnp.int32)}

    return Mechanism(
        "spatial_gating",
        apply,
        reference,
        cost,
        citation="2105.08050",
        formula="N²d'",
        init=init,
        decode=Decode(decode_init, prefill, step),
        parallel=Parallel(sharded, sent, "gathered values", by_position={"weight": 1, "bias": 1}),
        streams="qv",
        cross=False,
        fixed_length=length,
    )


def sees(mask, N: int, causal: bool):
    """[B or 1, N or 1, 1, 1] bool: the row has a visible position."""
    if mask is None:
        return jnp.ones((1, N, 1, 1), bool)
    seen = jnp.cumsum(mask, 1) > 0 if causal else mask.any(1, keepdims=True)
    return seen[:, :, None, None]
