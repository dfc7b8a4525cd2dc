"""ProbSparse attention: the queries that sampled keys find active attend fully. arXiv:2012.07436.

A query's activity is max - sum / N of its dot products with `factor` * ceil(ln N) random keys. The
as many most active queries, of each head, attend to all keys; the others take the mean of the
values. Which keys are sampled is a buffer that `refresh` redraws in training. The ranking has no
gradient. Hidden tokens are neither sampled nor ranked, but count in N: more padding changes which
keys are sampled and how many queries attend.

Causal: the ranking of the paper sees the future, so `ranking="exact"` has no causal form and
`ranking="paper"` leaks which queries attend. There the rest takes the mean of the values so far, or
with `rest="sum"`, as released, their sum.
"""

import math

import jax
import jax.numpy as jnp

from attention_zoo import ops
from attention_zoo.parallel import transposed
from attention_zoo.types import Cost, Dims, Mechanism

RANKINGS, RESTS = ("exact", "paper"), ("mean", "sum")
ROWS = 32  # queries whose sampled keys are gathered at once
F32 = {"preferred_element_type": jnp.float32}


def make(factor: int = 5, ranking: str = "exact", rest: str = "mean") -> Mechanism:
    ops.positive(factor=factor)
    if ranking not in RANKINGS:
        raise ValueError(f"ranking must be one of {', '.join(RANKINGS)}, got {ranking!r}")
    if rest not in RESTS:
        raise ValueError(f"rest must be one of {', '.join(RESTS)}, got {rest!r}")

    def count(N):
        """How many keys are sampled, and how many queries attend."""
        return min(N, max(1, factor * math.ceil(math.log(N))))

    def init(rng, dims: Dims):
        return {"seed": jax.random.uniform(rng, 2)}

    def refresh(rng, params, q, k, *, mask=None):
        return {"seed": jax.random.uniform(rng, 2)}

    def apply(params, q, k, v, *, mask=None, causal=False):
        B, N, H, D = q.shape
        sampled = sample(params["seed"], N, count(N))
        _, top = jax.lax.top_k(activity(*jax.lax.stop_gradient((q, k)), mask, sampled), count(N))
        batch, head = jnp.ogrid[:B, :H]
        batch, head = batch[..., None], head[..., None]
        logits = jnp.einsum("bhud,bshd->bhus", q[batch, top, head], k, **F32) * D**-0.5
        allowed = ops.visible(1, N, mask)
        if causal:
            allowed &= jnp.arange(N) <= top[..., None]
        weights = ops.softmax(logits, allowed).astype(v.dtype)
        rows = jnp.einsum("bhus,bshe->bhue", weights, v, **F32)
        return others(v, mask, causal).at[batch, top, head].set(rows).astype(v.dtype)

    def others(v, mask, causal):
        """What a query that does not attend takes: [B, N, H, E], float32."""
        shown = jnp.ones(v.shape[:2], bool) if mask is None else mask
        total = ops.hide(v, mask).astype(jnp.float32)
        total, seen = (
            (jnp.cumsum(x, 1) if causal else x.sum(1, keepdims=True)) for x in (total, shown)
        )
        if rest == "mean" or not causal:
            total = ops.safe_divide(total, seen[..., None, None].astype(jnp.float32))
        return jnp.broadcast_to(total, v.shape)

    def reference(params, q, k, v, *, mask=None, causal=False):
        N, D = q.shape[1], q.shape[-1]
        sampled = sample(params["seed"], N, count(N))
        times = (sampled[..., None] == jnp.arange(N)).sum(1)
        products = jax.lax.stop_gradient(ops.dot(q, k))
        drawn = (times > 0) & ops.visible(N, N, mask)
        best = jnp.where(drawn, products, ops.LOWEST).max(-1)
        active = best - jnp.where(drawn, times * products, 0).sum(-1) / N
        if mask is not None:
            active = jnp.where(mask[:, None], active, -jnp.inf)
        _, top = jax.lax.top_k(active, count(N))
        attends = (top[..., None] == jnp.arange(N)).any(2)[..., None]
        allowed = ops.visible(N, N, mask, causal)
        each = allowed * 1.0
        if rest == "mean" or not causal:
            each = ops.safe_divide(each, each.sum(-1, keepdims=True))
        return ops.weigh(jnp.where(attends, ops.softmax(ops.dot(q, k) * D**-0.5, allowed), each), v)

    def cost(dims: Dims, *, causal=False):
        N, D, E = dims.q_len, dims.head_dim, dims.value_dim
        heads, U = dims.batch * dims.heads, count(dims.q_len)
        rows = min(ROWS, N)
        ranking, rest = ops.ceil_to(N, rows) * D, N * (D + E)
        keys, values, logits = heads * N * D, heads * N * E, heads * N * U
        # queries that are padded; while they are ranked, a chunk's sampled keys
        padded = heads * ops.ceil_to(N, rows) * D * (N % rows > 0)
        ranked = padded + N * U + heads * rows * (U * D + U + D)
        # keys and values heads first, the output, and logits of the few
        attended = max(2 * logits - keys // 2, padded + logits + N * U)
        held = keys + (2 + causal) * values + max(ranked, attended)
        # or running sums
        held = max(held, causal * (keys + padded + 4 * values))
        # gradients, keys and values turned; the output and its gradient where keys give no room
        few = 2 * (logits + values) if E > D and not causal else 3 * logits + padded
        kept = 3 * keys + (3 + 2 * causal) * values + max(ranked, few)
        return Cost(
            flops=2 * heads * U * (ranking + rest),
            train_flops=2 * heads * U * (ranking + 3 * rest),
            ideal_flops=2 * heads * U * N * (2 * D + E),
            bytes=4 * held,
            train_bytes=4 * kept,
        )

    reason = "the ranking of the queries sees later keys"
    return Mechanism(
        "probsparse",
        apply,
        reference,
        cost,
        citation="2012.07436",
        formula="(2d+d')N·factor·ln N",
        init=init,
        parallel=transposed.by_heads(
            "probsparse", apply, "qkv", "a head ranks all queries", tables=False
        ),
        refresh=refresh,
        causal=ranking == "paper",
        leaks=ranking == "paper",
        cross=False,
        by_length="how many keys are sampled, and which, is by the number of positions",
        frozen=frozenset({"seed"}),
        reasons={
            "causal": f'{reason}; ranking="paper" leaks them',
            "cross": "a token is hidden as a query and as a key",
        },
    )


def sample(seed, N: int, count: int):
    """[N, count]: keys drawn for each query, with replacement, by the bits of two floats."""
    key = jax.random.wrap_key_data(jax.lax.bitcast_convert_type(seed, jnp.uint32))
    return jax.random.randint(key, (N, count), 0, N)


def activity(q, k, mask, sampled):
    """max - sum / N of each query's products with its sampled keys, [B, H, N] float32; of hidden
    queries -inf, below those of which no sampled key is visible."""
    B, N, H, D = q.shape
    rows = min(ROWS, N)

    padded = ops.pad_to(q, ops.ceil_to(N, rows), 1)

    def of_rows(args):
        start, at = args  # a number, [rows, U]
        q = jax.lax.dynamic_slice_in_dim(padded, start, rows, 1)
        # whole rows are copied at once, and pairs multiplied, before any sum: five times as fast on
        # a CPU as the products of every head that XLA makes of an einsum
        keys = jax.lax.optimization_barrier(k.reshape(B, N, H * D)[:, at.reshape(-1)])
        pairs = q.astype(jnp.float32)[:, :, None] * keys.reshape(B, *at.shape, H, D)
        products = jnp.matmul(pairs.reshape(-1, D), jnp.ones(D, pairs.dtype), **F32)
        products = products.reshape(B, *at.shape, H)
        shown = True if mask is None else mask[:, at][..., None]
        best = jnp.where(shown, products, ops.LOWEST).max(2)
        return best - jnp.where(shown, products, 0).sum(2) / N

    chunks = rows * jnp.arange(padded.shape[1] // rows), ops.blocks(sampled[None], rows)[0]
    found = jnp.moveaxis(jax.lax.map(of_rows, chunks), 0, 1).reshape(B, -1, H)[:, :N]
    found = jnp.moveaxis(found, 2, 1)
    return found if mask is None else jnp.where(mask[:, None], found, -jnp.inf)
