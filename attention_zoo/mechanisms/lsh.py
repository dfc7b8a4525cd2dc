"""LSH attention: softmax among tokens that random rotations hash to one bucket. arXiv:2001.04451.

Queries and keys are one array; keys are q / |q|. A round puts a token into bucket argmax([qR;
-qR]), sorts by (bucket, position) and cuts chunks of `block`; a query sees the keys of its bucket
in its chunk and the chunk before, itself only where it sees nothing else. Rounds (`hashes`) are
one softmax over the union of what they see: every key counts once (the paper's log N_ij), or,
with `duplicates`, once a round.

Causal, `chunking="exact"`: the last `block` earlier tokens of the bucket. The paper's chunk
borders move with later tokens, so they leak which earlier ones are seen: `chunking="paper"` is
that form.

`buckets` is 1, an even number, or several: a rotation each, and their product in all. `across`:
whole chunks, not only the bucket, as Reformer's code does. `circular`: the first chunk of a round
sees the last of the round before, as its ports do; a pair met only so counts as 1e-9. Differs
from the paper: buckets do not depend on N; oneself last is a rule, not a logit of -1e5.
"""

import math

import jax
import jax.numpy as jnp

from attention_zoo import bucket_memory, heads, ops, rings
from attention_zoo import buckets as sorting
from attention_zoo.parallel import transposed
from attention_zoo.types import Cost, Dims, Mechanism

CHUNKING = ("exact", "paper")


def make(
    buckets: int | tuple[int, ...] = (16, 8),
    hashes: int = 1,
    block: int = 128,
    chunking: str = "exact",
    across: bool = False,
    duplicates: bool = False,
    circular: bool = False,
    scale: float | None = None,
) -> Mechanism:
    factors = tuple(buckets) if isinstance(buckets, list | tuple) else (buckets,)
    even = factors and all(isinstance(n, int) and n > 1 and n % 2 == 0 for n in factors)
    if not even and factors != (1,):
        raise ValueError(f"buckets must be 1, an even number or several of them, got {buckets!r}")
    ops.positive(hashes=hashes, block=block)
    count = math.prod(factors)
    if chunking not in CHUNKING:
        raise ValueError(f"chunking must be one of {', '.join(CHUNKING)}, got {chunking!r}")
    if circular and not across:
        raise ValueError("circular=True needs across=True: buckets of two rounds are never one")
    halves = [n // 2 for n in factors] if count > 1 else []
    once = not duplicates

    def init(rng, dims: Dims):
        shape = (dims.heads, dims.head_dim, hashes, sum(halves))
        return {"rotations": jax.random.normal(rng, shape)}

    def refresh(rng, params, q, k, *, mask=None):
        return {"rotations": jax.random.normal(rng, params["rotations"].shape)}

    def hash_of(q, rotations):
        """Buckets [N, hashes] of one head: q [N, D], rotations [D, hashes, all halves]."""
        q, rotations = jax.lax.stop_gradient((q.astype(jnp.float32), rotations))
        rotated = jnp.einsum("nd,drx->nrx", q, rotations, precision="highest")
        bucket, start = jnp.zeros(rotated.shape[:2], jnp.int32), 0
        for half in halves:
            part = rotated[..., start : start + half]
            best = jnp.argmax(jnp.concatenate([part, -part], -1), -1).astype(jnp.int32)
            bucket, start = bucket * (2 * half) + best, start + half
        return bucket

    hashes_of = jax.vmap(jax.vmap(hash_of, (1, 0), 1), (0, None))  # [B, N, H, hashes]

    def sees(causal, block):
        if causal and chunking == "exact":
            near = sorting.last_of_bucket(block)
        else:

            def near(a, b):
                back = a.slot // block - b.slot // block
                met = (back >= 0) & (back <= 1) & ((b.position <= a.position) | (not causal))
                return met if across else met & (a.bucket == b.bucket)

        return lambda a, b: near(a, b) & (a.position != b.position)

    def apply(params, q, k, v, *, mask=None, causal=False):
        B, N, H, D = q.shape
        group = heads.group_size(B, H, sorting.window_pairs(N, block, circular))
        mask = jnp.ones((B, N), bool) if mask is None else mask

        def lane(q, v, mask, rotations):
            out, lse = sorting.windows(
                q,
                sorting.unit,
                v,
                jnp.where(mask[:, None], hash_of(q, rotations), -1),
                buckets=count,
                block=block,
                sees=sees(causal, min(block, N)),
                scale=D**-0.5 if scale is None else scale,
                once=once,
                circular=circular,
                lanes=B * group,
            )
            alone = (lse == ops.LOWEST) & mask
            return jnp.where(alone[:, None], v, out.astype(v.dtype))

        return sorting.by_head(lane, group, (q, v), mask, (params["rotations"],))

    def reference(params, q, k, v, *, mask=None, causal=False):
        N, D = q.shape[1], q.shape[-1]
        size = min(block, N)
        bucket = jnp.einsum("bnhr->rbhn", hashes_of(q, params["rotations"]))
        if mask is not None:
            bucket = jnp.where(mask[:, None, :], bucket, count)
        position = jnp.arange(N)
        key = bucket * N + position
        slot = (key[..., None, :] < key[..., :, None]).sum(-1)  # how many stand before it
        queries = sorting.Tags(slot[..., :, None], bucket[..., :, None], position[:, None])
        keys = sorting.Tags(slot[..., None, :], bucket[..., None, :], position[None, :])
        seen = met = sees(causal, size)(queries, keys).astype(jnp.float32).sum(0)
        if circular:
            last = (N - 1) // size
            chunk = jnp.stack([slot // size, jnp.roll(slot, 1, 0) // size])
            around = (chunk[0][..., :, None] == 0) & (chunk[1][..., None, :] == last)
            around &= (position[:, None] != position) & (
                (position <= position[:, None]) | (not causal)
            )
            seen = seen + around.sum(0)
        allowed = ops.visible(N, N, mask) & (seen > 0)
        share = seen / jnp.maximum(met, 1e-9) if once and hashes > 1 else seen
        logits = ops.dot(q, sorting.unit(q)) * (D**-0.5 if scale is None else scale)
        weights = ops.softmax(logits + jnp.log(jnp.where(allowed, share, 1.0)), allowed)
        lonely = ops.visible(N, N, mask) & ~allowed.any(-1, keepdims=True) & jnp.eye(N, dtype=bool)
        return ops.weigh(jnp.where(lonely, 1.0, weights), v)

    def cost(dims: Dims, *, causal=False):
        N, D, E = dims.q_len, dims.head_dim, dims.value_dim
        lanes = dims.batch * dims.heads
        pairs = sorting.window_pairs(N, block, circular)
        group = heads.group_size(dims.batch, dims.heads, pairs)
        taken = dims.batch * group
        asked = {"once": once, "circular": circular}
        by_lane = bucket_memory.window_held(N, block, hashes, D, E, taken, dims.heads, **asked)
        held, train_held = (round(taken * x) for x in by_lane)
        out, grads = lanes * N * E, lanes * N * (D + E)
        seen, hashed = pairs * (D + E), N * D * sum(halves)
        products = sorting.window_products(N, block, taken)
        return Cost(
            flops=2 * lanes * hashes * (seen + hashed),
            # hashes have no gradient, but are recomputed
            train_flops=2 * lanes * hashes * (products * seen + 2 * hashed),
            ideal_flops=2 * lanes * hashes * N * 2 * min(block, N) * (D + E),
            bytes=out * dims.itemsize + 4 * held,
            train_bytes=grads * dims.itemsize + 4 * max(2 * out, train_held),
            state_bytes=rings.state_bytes(dims, count, hashes, block, once) if decode else 0,
        )

    decode = None
    if chunking == "exact" and not across:
        decode = rings.decode(
            apply,
            lambda params, q, k: hashes_of(q, params["rotations"]),
            lambda q, k: sorting.unit(q),
            buckets=count,
            rounds=hashes,
            window=block,
            once=once,
            itself=False,
            scale=scale,
        )
    return Mechanism(
        "lsh",
        apply,
        reference,
        cost,
        citation="2001.04451; 1509.02897",
        formula="hashes(d+d')N·2·block",
        init=init,
        decode=decode,
        parallel=transposed.by_heads("lsh", apply, "qv", "a head sorts all its tokens"),
        refresh=refresh,
        streams="qv",
        causal=chunking == "paper" or not across,
        leaks=chunking == "paper",
        cross=False,
        frozen=frozenset({"rotations"}),
        reasons={
            "causal": "chunks across buckets move with later tokens; across=False is exact, "
            'chunking="paper" leaks',
            "cross": "queries and keys are one array, so of one length",
        },
    )
