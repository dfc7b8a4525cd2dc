"""Routing attention: softmax inside clusters of online k-means. arXiv:2003.05997.

Each cluster takes the `window` queries, and the `window` keys, whose directions are nearest to
its centroid; they attend among themselves; a token's output is the mean over the clusters in
which it saw something, 0 where no cluster took it. `memory`: learned keys and values that a
cluster always sees. `shared`: keys are q / |q|, a token sees itself only where it sees nothing
else (q and v are read).

Causal, `membership="exact"`: a token is routed once, by its query (the paper sets K = Q there),
to the nearest centroid, and sees itself and the last `window` tokens before it there. The paper's
balanced membership is a choice among all tokens, so it leaks which earlier ones are seen:
`membership="paper"`.

Centroids are buffers: `refresh` moves them to the mean of what is nearest, by 1 - `decay`.
Differs from the paper: centroids stay on the unit sphere; no local heads (`mixed` has them);
hidden positions join no cluster.
"""

import functools

import jax
import jax.numpy as jnp

from attention_zoo import bucket_memory, heads, ops, rings, selection
from attention_zoo import buckets as sorting
from attention_zoo.parallel import transposed
from attention_zoo.types import Cost, Dims, Mechanism

MEMBERSHIP = ("exact", "paper")


def make(
    clusters: int = 128,
    window: int = 128,
    membership: str = "exact",
    shared: bool = False,
    memory: int = 0,
    decay: float = 0.999,
) -> Mechanism:
    ops.positive(clusters=clusters, window=window)
    if membership not in MEMBERSHIP:
        raise ValueError(f"membership must be one of {', '.join(MEMBERSHIP)}, got {membership!r}")
    if memory:
        ops.positive(memory=memory)
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be from 0 up and below 1, got {decay!r}")
    exact = membership == "exact"

    def init(rng, dims: Dims):
        centroids, keys, values = jax.random.split(rng, 3)
        shape = (dims.heads, clusters)
        params = {"centroids": sorting.unit(jax.random.normal(centroids, (*shape, dims.head_dim)))}
        if memory:
            params["memory_keys"] = jax.random.normal(keys, (*shape, memory, dims.head_dim))
            params["memory_values"] = jax.random.normal(values, (*shape, memory, dims.value_dim))
        return params

    def refresh(rng, params, q, k, *, mask=None):
        shown = jnp.ones(q.shape[:2], bool) if mask is None else mask
        shown = jnp.tile(shown, (1, 1 if shared else 2)).reshape(-1)

        def move(args):
            centroids, points = args
            nearest = jnp.where(shown, jnp.argmax(similarity(points, centroids), 0), clusters)
            points = sorting.unit(points)
            total = jnp.zeros_like(centroids).at[nearest].add(points, mode="drop")
            moved = decay * centroids + (1 - decay) * sorting.unit(total)
            chosen = (total != 0).any(-1, keepdims=True)
            return jnp.where(chosen, sorting.unit(moved), centroids)

        points = [q] if shared else [q, k]
        points = jnp.concatenate([jnp.einsum("bnhd->hbnd", x) for x in points], 2)
        points = points.reshape(len(points), -1, points.shape[-1]).astype(jnp.float32)
        return {**params, "centroids": jax.lax.map(move, (params["centroids"], points))}

    def keys_of(q, k):
        return sorting.unit(q) if shared else k

    def balanced(causal, lanes, q, k, v, mask, centroids, *memories):
        def some(_, q, k, v, q_at, k_at, shown, *memories):
            """(None, (out [c, w, E], logsumexp [c, w])) of the members of c clusters."""
            f32 = {"preferred_element_type": jnp.float32}
            allowed = jnp.broadcast_to(shown[:, None], (*q.shape[:2], k.shape[1]))
            if causal:
                allowed &= k_at[:, None, :] <= q_at[:, :, None]
            logits = jnp.einsum("cqd,ckd->cqk", q, k, **f32) * q.shape[-1] ** -0.5
            if shared:
                itself = k_at[:, None, :] == q_at[:, :, None]
                logits = jnp.where(itself, ops.LOWEST / 2, logits)
            if memory:
                memory_keys, memory_values = (x.astype(v.dtype) for x in memories)
                extra = jnp.einsum("cqd,cmd->cqm", q, memory_keys, **f32) * q.shape[-1] ** -0.5
                logits = jnp.concatenate([extra, logits], -1)
                allowed = jnp.concatenate([jnp.ones(extra.shape, bool), allowed], -1)
                v = jnp.concatenate([memory_values, v], 1)
            return None, sorting.attend(logits, allowed, v)

        keys = keys_of(q, k)
        q_at = selection.largest(jnp.where(mask, similarity(q, centroids), ops.LOWEST), window)
        k_at = q_at
        if not shared:
            k_at = selection.largest(jnp.where(mask, similarity(k, centroids), ops.LOWEST), window)
        taken = q[q_at], keys[k_at], v[k_at], q_at, k_at, mask[k_at]
        rows, lse = sorting.in_turns(some, clusters_at_once(len(q), lanes), None, *taken, *memories)
        real = (lse > ops.LOWEST) & mask[q_at]
        rows = jnp.where(real[..., None], rows, 0.0)
        out = jnp.zeros((len(q), v.shape[1]), jnp.float32).at[q_at].add(rows)
        count = jnp.zeros(len(q), jnp.float32).at[q_at].add(real.astype(jnp.float32))
        return ops.safe_divide(out, count[:, None]).astype(v.dtype)

    def clusters_at_once(N, lanes):
        members = min(window, N)
        return sorting.at_once(clusters, lanes * members * (members + memory))

    def nearest(q, centroids):
        return jnp.argmax(similarity(q, centroids), 0).astype(jnp.int32)

    def sees(block):
        near = sorting.last_of_bucket(block)
        if not shared:
            return near
        return lambda a, b: near(a, b) & (a.position != b.position)

    def by_query(causal, lanes, q, k, v, mask, centroids):
        N, D = q.shape
        bucket = jnp.where(mask, nearest(q, centroids), -1)[:, None]
        out, lse = sorting.windows(
            q,
            sorting.unit if shared else k,
            v,
            bucket,
            buckets=clusters,
            block=window,
            sees=sees(min(window, N)),
            scale=D**-0.5,
            lanes=lanes,
        )
        alone = (lse == ops.LOWEST) & mask
        return jnp.where(alone[:, None], v, out.astype(v.dtype))

    def pairs_of(N, causal):
        if causal and exact:
            return sorting.window_pairs(N, window)
        members = min(window, N)
        return clusters * members * (members + memory)

    def apply(params, q, k, v, *, mask=None, causal=False):
        B, N, H, _ = q.shape
        mask = jnp.ones((B, N), bool) if mask is None else mask
        group = heads.group_size(B, H, pairs_of(N, causal) + 2 * clusters * N)
        tables = (params["centroids"],)
        if memory:
            tables += (params["memory_keys"], params["memory_values"])
        form = by_query if causal and exact else balanced
        lane = functools.partial(form, causal, B * group)
        if shared:
            arrays, own = (q, v), lane

            def lane(q, v, *rest):
                return own(q, None, v, *rest)
        else:
            arrays = (q, k, v)
        return sorting.by_head(lane, group, arrays, mask, tables)

    def reference(params, q, k, v, *, mask=None, causal=False):
        N, D = q.shape[1], q.shape[-1]
        keys = keys_of(q, k)
        itself = jnp.eye(N, dtype=bool)
        seen = ops.visible(N, N, mask, causal)
        logits = ops.dot(q, keys) * D**-0.5
        if shared:
            logits = jnp.where(itself, ops.LOWEST / 2, logits)
        each = jax.vmap(jax.vmap(similarity, (1, 0)), (0, None))  # [B, H, C, N]
        near_q = each(q, params["centroids"])
        if causal and exact:
            member = jax.nn.one_hot(jnp.argmax(near_q, 2), clusters, dtype=jnp.int32)
            if mask is not None:
                member = member * mask[:, None, :, None]
            order = jnp.einsum("bhnc,bhnc->bhn", jnp.cumsum(member, 2), member)
            back = order[..., :, None] - order[..., None, :]
            seen &= jnp.einsum("bhtc,bhsc->bhts", member, member) > 0
            return ops.weigh(ops.softmax(logits, seen & (back <= window)), v)
        visible = jnp.ones((1, N), bool) if mask is None else mask
        visible = visible[:, None, None, :]

        def taken(near):
            near = jnp.where(visible, near, ops.LOWEST)
            worst = jnp.sort(near, -1)[..., -min(window, N), None]
            return (near >= worst) & visible

        queries = taken(near_q)
        keys_taken = queries if shared else taken(each(k, params["centroids"]))
        seen = seen[:, :, None] & queries[..., :, None] & keys_taken[..., None, :]
        logits = jnp.broadcast_to(logits[:, :, None], seen.shape)
        if memory:
            extra = jnp.einsum("bthd,hcmd->bhctm", q, params["memory_keys"]) * D**-0.5
            always = jnp.broadcast_to(queries[..., :, None], extra.shape)
            logits, seen = (jnp.concatenate(x, -1) for x in ((extra, logits), (always, seen)))
        weights = ops.softmax(logits, seen)
        share = ops.safe_divide(1.0, seen.any(-1, keepdims=True).sum(2, keepdims=True, dtype=float))
        weights = (weights * share).astype(v.dtype)
        out = jnp.einsum("bhcts,bshe->bthe", weights[..., memory:], v)
        if memory:
            values = params["memory_values"].astype(v.dtype)
            out += jnp.einsum("bhctm,hcme->bthe", weights[..., :memory], values)
        return out

    def held_by_head(dims, once, pairs, lanes):
        """Numbers alive at once in the heads that are taken, forward and in the backward pass:
        fitted to draws 1 to 83 of tests/cost_grid.py."""
        N, D, E = dims.q_len, dims.head_dim, dims.value_dim
        if once:
            # keys, similarities
            held = bucket_memory.window_held(N, window, 1, D, E, lanes, dims.heads)
            return held[0] + N * (1.5 * D + clusters), held[1] + N * (3.5 * D + clusters / 4)
        members, near = clusters * min(window, N), clusters * N
        whole = 0 if selection.in_strips(N, window) else near  # of which members are chosen at once
        some = clusters_at_once(N, lanes)
        if some == clusters:
            apart = lanes < dims.batch * dims.heads
            forward = N * (1.8 * D + apart * (1.5 * D + 2 * E)) + 2.5 * near + 2.2 * whole
            backward = N * ((1.2 + 4.7 * apart) * D + 6.8 * E) + 1.8 * near + 1.7 * whole
            return forward, backward + 4.3 * members * E + 1.6 * pairs
        forward = N * (2.4 * D + 1.65 * E) + 4 * whole + members * (1.1 * D + 2 * E)
        backward = N * (4.1 * D + 7.5 * E) + 2.8 * near + members * (3.2 * D + 3.6 * E)
        return forward, backward + 0.77 * pairs * some / clusters

    def cost(dims: Dims, *, causal=False):
        N, D, E = dims.q_len, dims.head_dim, dims.value_dim
        lanes, once = dims.batch * dims.heads, causal and exact
        pairs = pairs_of(N, causal)
        at_once = dims.batch * heads.group_size(dims.batch, dims.heads, pairs + 2 * clusters * N)
        routed = 1 if shared or once else 2
        out, grads = lanes * N * E, lanes * N * ((1 if shared else 2) * D + E)
        counted = held_by_head(dims, once, pairs, at_once)
        held, train_held = (round(at_once * x) for x in counted)
        products = sorting.train_products(clusters, clusters_at_once(N, at_once))
        if once:
            products = sorting.window_products(N, window, at_once)
        seen, near = pairs * (D + E), routed * clusters * N * D
        return Cost(
            flops=2 * lanes * (seen + near),
            # similarities have no gradient, but are recomputed
            train_flops=2 * lanes * (products * seen + 2 * near),
            ideal_flops=2 * lanes * (N * min(window, N) * (D + E) + N * clusters * D),
            bytes=out * dims.itemsize + 4 * held,
            train_bytes=grads * dims.itemsize + 4 * max(2 * out, train_held),
            state_bytes=rings.state_bytes(dims, clusters, 1, window, False) if decode else 0,
        )

    decode = None
    if exact and not memory:

        def bucket_of(params, q, k):
            near = jax.vmap(jax.vmap(nearest, (1, 0), 1), (0, None))(q, params["centroids"])
            return near[..., None]

        decode = rings.decode(
            apply,
            bucket_of,
            keys_of,
            buckets=clusters,
            rounds=1,
            window=window,
            once=False,
            itself=not shared,
            scale=None,
        )
    return Mechanism(
        "routing",
        apply,
        reference,
        cost,
        citation="2003.05997",
        formula="(d+d')N·window+N·clusters·d",
        init=init,
        decode=decode,
        parallel=transposed.by_heads(
            "routing", apply, "qv" if shared else "qkv", "a cluster has members anywhere"
        ),
        refresh=refresh,
        streams="qv" if shared else "qkv",
        causal=not (exact and memory),
        leaks=not exact,
        cross=False,
        frozen=frozenset({"centroids"}),
        reasons={
            "causal": 'with memory only the paper\'s form is causal: membership="paper"',
            "cross": "queries and keys are routed as one sequence, so of one length",
        },
    )


def similarity(x, centroids):
    """Cosine of every token x [N, D] with every unit centroid [C, D]: [C, N], without gradient."""
    x, centroids = jax.lax.stop_gradient((sorting.unit(x.astype(jnp.float32)), centroids))
    return jnp.einsum("cd,nd->cn", centroids, x, precision="highest")


def commitment(centroids, q, k=None, weight: float = 1e-4):
    """The paper's auxiliary loss: `weight` times the mean squared distance of q / |q| and k / |k|,
    [B, N, H, D], from the nearest centroid [H, C, D]. Its gradient moves q and k alone."""
    points = sorting.unit(jnp.concatenate([x for x in (q, k) if x is not None], 1))
    centroids = jax.lax.stop_gradient(centroids)
    near = jnp.argmax(jnp.einsum("bnhd,hcd->bnhc", points, centroids), -1)
    home = centroids[jnp.arange(len(centroids)), near]
    return weight * jnp.mean((points - home) ** 2)
