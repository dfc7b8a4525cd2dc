"""Query reduction: softmax(p kᵀ / sqrt(D)) v of few representative queries p, and as few outputs.

For one label a sequence. An output belongs to no one position, so a label a position is refused;
causality too. Kinds:
- "latents": p are `slots` learned queries a head (default 256); q is not read. The cross-attention
  of Perceiver, arXiv:2103.03206, and the pooling of Set Transformer, 1810.00825.
- "strided": a convolution with kernel and stride `stride` (default 4) makes one query of every
  block of tokens, counted from the first: pooling attention, 2104.11227. Hidden tokens are 0 in it,
  a block with none visible gives 0. The cost N²/stride is less by a constant, and still quadratic.
A residual of the shorter length is the latents themselves, as in both papers, or the mean of a
block's visible tokens, as in Funnel-Transformer, 2006.03236.
Differs from the papers: a latent is drawn as H queries, where Perceiver norms and projects one
vector. A head's kernel is [stride, D, D]; that of 2104.11227 is a number a tap and channel, blocks
overlap, keys and values are pooled too and the residual is a maximum. Funnel's queries are means.
"""

import dataclasses

import jax
import jax.numpy as jnp

from attention_zoo import ops, tiles
from attention_zoo.parallel import reduced, ring
from attention_zoo.types import Dims, Mechanism, Parallel, Shorter

ROWS, KEYS = 512, 1024  # the tile of representative queries by keys
SIZES = {"latents": ("slots", 256), "strided": ("stride", 4)}


def make(kind: str = "latents", slots: int | None = None, stride: int | None = None) -> Mechanism:
    if kind not in SIZES:
        raise ValueError(f"kind must be one of {', '.join(SIZES)}, got {kind!r}")
    read, default = SIZES[kind]
    for name, size in (("slots", slots), ("stride", stride)):
        if size is not None and name != read:
            raise ValueError(f"{name} is not read by kind={kind!r}, got {size!r}; it takes {read}")
        if size is not None:
            ops.positive(**{name: size})
    learned, slots, stride = kind == "latents", slots or default, stride or default

    def init(rng, dims: Dims):
        H, D = dims.heads, dims.head_dim
        if learned:
            return {"latents": jax.random.normal(rng, (slots, H, D))}
        return {"kernel": jax.random.normal(rng, (H, stride, D, D)) * (stride * D) ** -0.5}

    def length(T):
        return slots if learned else -(-T // stride)

    def queries(params, q, k, mask):
        """[B, R, H, D] in k's dtype."""
        if learned:
            p = params["latents"]
            return jnp.broadcast_to(p, (len(k), *p.shape)).astype(k.dtype)
        return ops.strided_conv(ops.hide(q, mask), params["kernel"]).astype(k.dtype)

    def shown(mask):
        """[B, R]: outputs that saw anything."""
        if learned:
            return jnp.broadcast_to(mask.any(1, keepdims=True), (len(mask), slots))
        return ops.blocks(mask, stride).any(2)

    def apply(params, q, k, v, *, mask=None, causal=False):
        p = queries(params, q, k, mask)
        schedule = layout(p.shape[1], k.shape[1])
        out, _ = tiles.attend(p, k, v, schedule, None, mask=mask)
        return ops.hide(out, None if mask is None else shown(mask)).astype(v.dtype)

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        p = queries(params, q, k, mask)
        schedule = layout(p.shape[1], k.shape[1])
        if learned:
            out, _ = reduced.rows(p, k, v, schedule, axis=axis, mask=mask)
            return out.astype(v.dtype)
        part = schedule, ring.nothing
        out, _ = ring.attend(p, k, v, mask, axis=axis, own=part, others=part, causal=False)
        return ops.hide(out, None if mask is None else shown(mask)).astype(v.dtype)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        if learned:
            return reduced.merge_traffic(dims, P, slots)
        return ring.traffic_of(dims, P, dims.kv_len // P, masked)

    def objections(dims: Dims, P: int, *, causal=False):
        n = dims.q_len // P
        if learned or n % stride == 0:
            return []
        return [f"query_reduction: stride={stride} must divide the {n} positions of each device"]

    def layout(R, S):
        return tiles.everything(R, S, False, ROWS, KEYS)

    def reference(params, q, k, v, *, mask=None, causal=False):
        B, S = k.shape[:2]
        visible = jnp.ones((B, S), bool) if mask is None else mask
        if learned:
            p, some = params["latents"][None], jnp.ones((1, slots), bool)
        else:
            # taps[r, j, c]: token j is the c-th of block r
            r, j = jnp.arange(-(-S // stride))[:, None], jnp.arange(S)
            taps = (j // stride == r)[..., None] * jax.nn.one_hot(j % stride, stride)
            taps = taps * visible[:, None, :, None]
            p = jnp.einsum("brjc,bjhd,hcdf->brhf", taps, ops.hide(q, mask), params["kernel"])
            some = taps.any((2, 3))
        logits = jnp.einsum("brhd,bshd->bhrs", jnp.broadcast_to(p, (B, *p.shape[1:])), k)
        allowed = some[:, None, :, None] & visible[:, None, None, :]
        return ops.weigh(ops.softmax(logits * k.shape[-1] ** -0.5, allowed), v)

    def beside(params, x, mask):
        B, T, C = x.shape
        if learned:
            x = jnp.broadcast_to(params["latents"].reshape(slots, C), (B, slots, C)).astype(x.dtype)
        else:
            counted = jnp.ones((B, T), bool) if mask is None else mask
            total = ops.blocks(ops.hide(x, mask), stride).sum(2, dtype=jnp.float32)
            count = ops.blocks(counted, stride).sum(2)[..., None]
            x = ops.safe_divide(total, count).astype(x.dtype)
        return x, None if mask is None else shown(mask)

    def cost(dims: Dims, *, causal=False):
        R, D, heads = length(dims.q_len), dims.head_dim, dims.batch * dims.heads
        few = dataclasses.replace(dims, q_len=R)
        counted = tiles.counted(R, dims.kv_len, False, ROWS, KEYS)
        inner = counted.cost(few, ideal_pairs=R * dims.kv_len)
        made = 4 * heads * R * D
        if learned:
            # a batch has its own copies
            beside = made if dims.batch > 1 else 0
            return dataclasses.replace(inner, bytes=inner.bytes + beside)
        conv = 2 * heads * R * stride * D * D
        # what is convolved is turned first, as the kernel is; and for its gradient again, padded
        taken, kernel = 4 * heads * R * stride * D, 4 * dims.heads * stride * D * D
        grads = 4 * heads * dims.kv_len * (D + dims.value_dim) + taken + kernel
        turned = (3 if dims.q_len % stride else 2) * taken + made
        return dataclasses.replace(
            inner,
            flops=inner.flops + conv,
            train_flops=inner.train_flops + 3 * conv,
            ideal_flops=inner.ideal_flops + conv,
            bytes=max(inner.bytes + made, taken + kernel + 2 * made),
            train_bytes=max(inner.train_bytes + taken + made, grads + turned),
        )

    return Mechanism(
        "query_reduction",
        apply,
        reference,
        cost,
        citation="2103.03206; 1810.00825; 2104.11227; 2006.03236",
        formula="(d+d')N·slots" if learned else "(d+d')N·N/stride",
        init=init,
        parallel=Parallel(
            sharded, sent, "a sum of outputs" if learned else "ring", objections, whole=learned
        ),
        streams="kv" if learned else "qkv",
        causal=False,
        cross=learned,
        shorter=Shorter(length, beside),
        reasons={
            "causal": "an output stands for the whole sequence or a block of it, past and future",
            "cross": "the mask hides keys, and queries of another sequence could not be hidden",
        },
    )
