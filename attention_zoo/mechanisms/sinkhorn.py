"""Sinkhorn attention: a query sees its own block and blocks softly sorted for it. arXiv:2002.11296.

Blocks of `block` queries and of keys are pooled; their scores, block by block, become the weights W
of a soft permutation; query block u attends to itself and to Σ_v W[u, v] of key (value) blocks v.
`sort`: "learned" scores sort_q·q̄ with sort_k·k̄, "mean" the bare means (and, balanced, log relu).
`n_top` None: W = exp(scores / temperature), rows and columns balanced `iterations` times in log
space. A number: that many blocks one by one, each the likeliest left, times its probability.
`sortcut`: all queries see the first so many sorted blocks instead of one of their own.
`learned` (with `n_top`) adds null blocks, of one learned key and value, with score 0. `gumbel` adds
noise to the scores from a buffer that `refresh` redraws in training; set it to 0 to evaluate.
Causal: u is sorted by the mean of the queries up to its first token, over earlier blocks alone, and
a column is balanced over the rows so far. block = sqrt(N) gives the least cost, N^1.5.
Differs from the paper: scores of pairs of blocks serve any length; its sort net has a weight a
block position.
"""

import dataclasses

import jax
import jax.numpy as jnp

from attention_zoo import heads, ops, sorted_cache, sorting, tiles
from attention_zoo.parallel import transposed
from attention_zoo.types import Cost, Dims, Mechanism

SORTS = ("learned", "mean")


def make(
    block: int = 128,
    iterations: int = 5,
    temperature: float = 0.75,
    sort: str = "learned",
    n_top: int | None = None,
    sortcut: int | None = None,
    learned: bool = False,
    gumbel: bool = False,
) -> Mechanism:
    ops.positive(block=block, iterations=iterations, n_top=n_top or 1, sortcut=sortcut or 1)
    if sort not in SORTS:
        raise ValueError(f"sort must be one of {', '.join(SORTS)}, got {sort!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature!r}")
    if (learned and n_top is None) or (gumbel and n_top is not None):
        raise ValueError(
            "learned needs n_top, and gumbel goes without it; got "
            f"learned={learned}, gumbel={gumbel}, n_top={n_top}"
        )
    picks = n_top if sortcut is None else sortcut  # blocks taken one by one
    each = picks if n_top is not None and sortcut is None else 1  # sorted blocks a row of W gives
    nulls = picks if learned else 0

    def init(rng, dims: Dims):
        H, D = dims.heads, dims.head_dim
        names = ["sort_q", "sort_k"] * (sort == "learned")
        params = {
            name: jax.random.normal(jax.random.fold_in(rng, n), (H, D, D)) * D**-0.5
            for n, name in enumerate(names)
        }
        if learned:
            keys, values = jax.random.split(jax.random.fold_in(rng, 2))
            params["learned_keys"] = jax.random.normal(keys, (H, D))
            params["learned_values"] = jax.random.normal(values, (H, dims.value_dim))
        if gumbel:
            n = -(-dims.kv_len // block)
            params["gumbel"] = jax.random.gumbel(jax.random.fold_in(rng, 3), (H, n, n))
        return params

    def refresh(rng, params, q, k, *, mask=None):
        return {**params, "gumbel": jax.random.gumbel(rng, params["gumbel"].shape)}

    def score(params, q, k):
        """[B, H, U, V] of pooled queries [B, U, H, D] and keys [B, V, H, D]."""
        if sort == "learned":
            q, k = (
                jnp.einsum("buhd,hde->buhe", x, params[name])
                for name, x in (("sort_q", q), ("sort_k", k))
            )
        return jnp.einsum("buhd,bvhd->bhuv", q, k) * q.shape[-1] ** -0.5

    def pooled_keys(k, shown, causal):
        """[B, V, H, D] of blocks [B, V, b, H, D]."""
        if not causal or sort == "learned":
            return sorting.mean(k, shown)
        flat = k.reshape(len(k), -1, *k.shape[3:]).astype(jnp.float32)
        count = jnp.cumsum(shown.reshape(len(k), -1) * 1.0, 1)[..., None, None]
        running = ops.safe_divide(jnp.cumsum(flat, 1), count).reshape(k.shape)
        return jnp.where(shown[..., None, None], running, 0).sum(2)

    def pooled_queries(q, shown, causal):
        if sortcut is not None and n_top is not None:
            return sorting.mean(
                q.reshape(len(q), 1, -1, *q.shape[3:]), shown.reshape(len(q), 1, -1)
            )
        if not causal:
            return sorting.mean(q, shown)
        total = sorting.before(q.sum(2, dtype=jnp.float32)) + q[:, :, 0]
        count = sorting.before(shown.sum(2) * 1.0) + shown[:, :, 0]
        return ops.safe_divide(total, count[..., None, None])

    def arrange(params, scores, allowed, k, v, shown, noise, columns=None):
        """Sorted (keys, values, visible) [B, U, tokens, H, ...] by scores [B, H, U, V], and the
        columns' causal normalisers, after those before [iterations, B, H, V]."""
        B, _, b, H, _ = k.shape
        if n_top is None:
            logits = scores if sort == "learned" else jnp.log(jax.nn.relu(scores) + 1e-6)
            weights, columns = sorting.balance(
                (logits + noise) / temperature, allowed, iterations, columns
            )
            weights, allowed = weights[:, :, :sortcut], allowed[:, :, :sortcut]
            k, v = (sorting.mixed(weights.astype(x.dtype), x) for x in (k, v))
            seen = jnp.einsum("bxuv,bvs->bus", allowed * 1.0, shown * 1.0) > 0
            return k, v, jnp.repeat(seen[..., None], H, 3), columns
        null = ((0, 0), (0, 0), (0, 0), (nulls, 0))
        scores = jnp.pad(scores / temperature, null)
        allowed = jnp.pad(allowed, null, constant_values=True)
        shown = jnp.pad(shown, ((0, 0), (nulls, 0), (0, 0)), constant_values=True)
        k, v = (
            jnp.concatenate([jnp.broadcast_to(params[name], (B, nulls, b, *x.shape[3:])), x], 1)
            if nulls
            else x
            for name, x in (("learned_keys", k), ("learned_values", v))
        )
        found = [
            sorting.take(*best, k, v, shown) for best in sorting.likeliest(scores, allowed, picks)
        ]
        return *(jnp.concatenate(parts, 2) for parts in zip(*found, strict=True)), columns

    def run(params, q, k, v, mask, causal, b):
        """(out, sorted blocks, columns)."""
        B, T, H, _ = q.shape
        shown = jnp.ones((B, T), bool) if mask is None else mask
        q_blocks, k, v, shown = (
            ops.pad_to(x, ops.ceil_to(T, b), 1).reshape(B, -1, b, *x.shape[2:])
            for x in (ops.hide(q, mask), ops.hide(k, mask), ops.hide(v, mask), shown)
        )
        n, has = shown.shape[1], shown.any(2)
        scores = score(
            params, pooled_queries(q_blocks, shown, causal), pooled_keys(k, shown, causal)
        )
        rows = has.any(1, keepdims=True) if scores.shape[2] < n else has
        allowed = has[:, None, None, :] & (
            jnp.tri(n, k=-1) > 0 if causal else rows[:, None, :, None]
        )
        columns = jnp.full((iterations, B, H, n), ops.LOWEST) if causal else None
        *sorted_, columns = arrange(params, scores, allowed, k, v, shown, noise(params, n), columns)
        seen = jnp.repeat(shown[..., None], H, 3)
        keys, values, seen = (
            jnp.concatenate([x.reshape(B, n * b, *x.shape[3:]), y.reshape(B, -1, *y.shape[3:])], 1)
            for x, y in zip((k, v, seen), sorted_, strict=True)
        )

        def sees(i, j):
            return (j >= n * b) | (j <= i)

        past = sees if causal else None
        out, _ = tiles.attend(q, keys, values, layout(n, b), past, mask=seen)
        return out.astype(v.dtype), sorted_, columns

    def layout(n, b):
        """Its own block, then the sorted ones."""
        if sortcut is not None:
            cut = sortcut if n_top is not None else min(sortcut, n)
            return tiles.schedule(b, ([u, *range(n, n + cut)] for u in range(n)))
        return tiles.schedule(b, ([u, *range(n + u * each, n + (u + 1) * each)] for u in range(n)))

    def noise(params, n, row=None):
        if not gumbel:
            return 0.0
        longest = params["gumbel"].shape[-1]
        if n > longest:
            raise ValueError(f"sinkhorn: gumbel is sized for {longest} blocks of {block}, got {n}")
        drawn = params["gumbel"][..., :n, :n]
        return drawn if row is None else jax.lax.dynamic_slice_in_dim(drawn, row, 1, -2)

    def apply(params, q, k, v, *, mask=None, causal=False):
        b = min(block, q.shape[1])

        def some(mask, q, k, v, *tables):
            """A few heads, heads first."""
            q, k, v = (jnp.moveaxis(x, 1, 2) for x in (q, k, v))
            own = dict(zip(params, tables, strict=True))
            return jnp.moveaxis(run(own, q, k, v, mask, causal, b)[0], 2, 1)

        group = group_of(q.shape[0], q.shape[2], q.shape[1], b)
        return heads.each(some, group, (q, k, v), mask, tuple(params.values()))

    def group_of(B, H, T, b):
        """Heads at a time: their blocks' scores, and what is sorted, are held."""
        return heads.group_size(B, H, max(4 * T, (-(-T // b)) ** 2))

    def reference(params, q, k, v, *, mask=None, causal=False):
        B, T, H, D = q.shape
        b = min(block, T)
        n = -(-T // b)
        shown = jnp.ones((B, T), bool) if mask is None else mask
        q, k, v, shown = (
            ops.pad_to(x, n * b, 1) for x in (q, ops.hide(k, mask), ops.hide(v, mask), shown)
        )
        i = jnp.arange(n * b)
        member = i // b == jnp.arange(n)[:, None]
        first = (i <= jnp.arange(n)[:, None] * b) if causal else member
        if sortcut is not None and n_top is not None:
            first = jnp.ones((1, n * b), bool)

        def average(rows):
            rows = (rows & shown[:, None]) * 1.0
            return ops.safe_divide(rows, rows.sum(-1, keepdims=True))

        pool_k = average(member)
        if causal and sort == "mean":
            pool_k = (member & shown[:, None]) @ average(i <= i[:, None])
        scores = score(
            params,
            *(
                jnp.einsum("bun,bnhd->buhd", pool, x.astype(jnp.float32))
                for pool, x in ((average(first), q), (pool_k, k))
            ),
        )
        has = (member & shown[:, None]).any(-1)
        allowed = has[:, None, None, :] & (first & shown[:, None]).any(-1)[:, None, :, None]
        if causal:
            allowed = has[:, None, None, :] & (jnp.arange(n) < jnp.arange(n)[:, None])
        allowed = jnp.broadcast_to(allowed, scores.shape)
        if n_top is None:
            logits = scores if sort == "learned" else jnp.log(jax.nn.relu(scores) + 1e-6)
            logits = (logits + noise(params, n)) / temperature
            weights = jnp.where(allowed, jnp.exp(logits - logits.max()), 0)
            for _ in range(iterations):
                weights = ops.safe_divide(weights, weights.sum(-1, keepdims=True))
                columns = weights.cumsum(-2) if causal else weights.sum(-2, keepdims=True)
                weights = ops.safe_divide(weights, columns)
            parts = [(weights, allowed)]
            if sortcut is not None:
                parts = [
                    (weights[:, :, r : r + 1], allowed[:, :, r : r + 1])
                    for r in range(min(sortcut, n))
                ]
        else:
            left, parts = jnp.pad(allowed, ((0, 0),) * 3 + ((nulls, 0),), constant_values=True), []
            scores = jnp.pad(scores, ((0, 0),) * 3 + ((nulls, 0),)) / temperature
            for _ in range(picks):
                odds = ops.softmax(scores, left)
                best = (jnp.arange(odds.shape[-1]) == odds.argmax(-1)[..., None]) & left
                parts.append((odds * best, best))
                left &= ~best
        null = (B, nulls * b, H)
        if nulls:
            k, v = (
                jnp.concatenate([jnp.broadcast_to(params[name], (*null, x.shape[-1])), x], 1)
                for name, x in (("learned_keys", k), ("learned_values", v))
            )
        logits = ops.dot(q, k).reshape(B, H, n, b, -1, b) * D**-0.5
        open_ = jnp.pad(shown, ((0, 0), (nulls * b, 0)), constant_values=True).reshape(B, -1, b)
        own = jnp.eye(n)[:, None]
        own_seen = shown.reshape(B, 1, n, 1, b) & ((jnp.tri(b) > 0) | (not causal))
        sights = [jnp.einsum("bhutvs,uxv->bhuts", logits[..., nulls:, :], own)]
        seen = [jnp.broadcast_to(own_seen, sights[0].shape)]
        for weights, allowed in parts:
            weights = jnp.broadcast_to(weights, (B, H, n, weights.shape[-1]))
            sights.append(jnp.einsum("bhutvs,bhuv->bhuts", logits, weights))
            slots = jnp.einsum("bhuv,bvs->bhus", allowed * 1.0, open_ * 1.0) > 0
            seen.append(jnp.broadcast_to(slots[:, :, :, None], sights[0].shape))
        shares = ops.softmax(jnp.concatenate(sights, -1), jnp.concatenate(seen, -1))
        own_share, *shares = jnp.split(shares, len(sights), -1)
        matrix = jnp.einsum("bhuts,uv->bhutvs", own_share, jnp.eye(n))
        matrix = jnp.pad(matrix, ((0, 0),) * 4 + ((nulls, 0), (0, 0)))
        for share, (weights, _) in zip(shares, parts, strict=True):
            weights = jnp.broadcast_to(weights, (B, H, n, weights.shape[-1]))
            matrix = matrix + jnp.einsum("bhuts,bhuv->bhutvs", share, weights)
        return ops.weigh(matrix.reshape(B, H, n * b, -1), v)[:, :T]

    def cost(dims: Dims, *, causal=False):
        T, D, E, lanes = dims.q_len, dims.head_dim, dims.value_dim, dims.batch * dims.heads
        b = min(block, T)
        n = -(-T // b)
        rows = 1 if sortcut is not None and n_top is not None else n
        pairs = rows * n * D + (sort == "learned") * (rows + n) * D * D
        slots = 0 if n_top is not None else min(sortcut or n, n) * n * b  # of sorted by unsorted
        kinds = each if sortcut is None else layout(n, b).cols.shape[1] - 1
        inner = layout(n, b).cost(dims, ideal_pairs=T * b * (1 + kinds))
        arranged = 2 * lanes * (pairs + slots * (D + E))
        # which sorted tokens are visible: found for every group of heads, without gradient
        group = group_of(dims.batch, dims.heads, T, b)
        visible = 2 * dims.batch * slots * (dims.heads // group)
        again = inner.flops + visible  # in the backward pass
        out, grads = lanes * T * E, lanes * T * (2 * D + E)
        sorted_keys = dataclasses.replace(dims, kv_len=n * b * (1 + kinds), heads=group)
        held, train_held = sorting.held(
            layout(n, b).held(sorted_keys),
            sorted_keys,
            b,
            each,
            (8.5 if causal else 7) * iterations if n_top is None else None,
            whole=group == dims.heads,
        )
        # before the results arrays of all heads stand in their places, unless those are padded
        apart = group < dims.heads or T % b > 0
        return Cost(
            inner.flops + arranged + visible,
            train_flops=inner.train_flops + heads.TRAIN_PRODUCTS * arranged + visible + again,
            ideal_flops=inner.ideal_flops + 2 * lanes * slots * (D + E),
            bytes=dims.itemsize * out * apart + 4 * held,
            train_bytes=dims.itemsize * (grads + out) * apart + 4 * max(out, train_held),
            state_bytes=state_bytes(dims) if sortcut is None else 0,
        )

    def sort_for(params, mean_q, k, shown, u, v, columns):
        """What block u sees sorted, by the mean of the queries up to its first token."""
        n = shown.shape[1]
        scores = score(params, mean_q, pooled_keys(k, shown, True))
        allowed = (shown.any(2) & (jnp.arange(n) < u))[:, None, None]
        return arrange(params, scores, allowed, k, v, shown, noise(params, n, u), columns)

    decode, state_bytes = sorted_cache.decode(
        block, each, iterations if n_top is None else 0, run, sort_for
    )

    return Mechanism(
        "sinkhorn",
        apply,
        reference,
        cost,
        citation="2002.11296",
        formula="(d+d')N(2·block+N/block)",
        init=init,
        decode=decode if sortcut is None else None,
        parallel=transposed.by_heads("sinkhorn", apply, "qkv", "a head mixes all its blocks"),
        refresh=refresh if gumbel else None,
        causal=sortcut is None,
        cross=False,
        frozen=frozenset({"gumbel"} if gumbel else ()),
        reasons={
            "causal": "with sortcut all queries share blocks sorted by the whole sequence",
            "cross": "blocks of queries are paired with blocks of keys",
        },
    )
