"""Decode state of attention to the last tokens of one's bucket: a ring of keys and values a bucket.

State: k [B, H, rounds, buckets, C, D], v likewise, how many tokens each bucket has had; where a
token met in several rounds counts once, also each slot's position and the length. Hidden tokens
are not stored.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from attention_zoo import ops
from attention_zoo.buckets import sort
from attention_zoo.types import Decode, Dims


def decode(
    apply: Callable,
    bucket_of: Callable,
    keys_of: Callable,
    *,
    buckets: int,
    rounds: int,
    window: int,
    once: bool,
    itself: bool,
    scale: float | None,
) -> Decode:
    """Decode of `apply`: `bucket_of(params, q, k)` is [B, T, H, rounds], `keys_of(q, k)` the keys.

    `itself`: a query always sees its own token, not only where it sees nothing else.
    """
    once = once and rounds > 1

    def init(params, dims: Dims, dtype=jnp.float32):
        slots = (dims.batch, dims.heads, rounds, buckets, min(window, dims.kv_len))
        state = {
            "k": jnp.zeros((*slots, dims.head_dim), dtype),
            "v": jnp.zeros((*slots, dims.value_dim), dtype),
            "count": jnp.zeros(slots[:-1], jnp.int32),
        }
        if once:
            state |= {"position": jnp.zeros(slots, jnp.int32), "length": jnp.zeros((), jnp.int32)}
        return state

    def tokens(params, q, k, v, mask):
        """(buckets [B, T, H, rounds], -1 where hidden; keys; values; visible [B, T])."""
        visible = jnp.ones(v.shape[:2], bool) if mask is None else mask
        bucket = jnp.where(visible[..., None, None], bucket_of(params, q, k), -1)
        return bucket, keys_of(q, k), v, visible

    def prefill(params, state, q, k, v, *, mask=None):
        out = apply(params, q, k, v, mask=mask, causal=True)
        T, C = v.shape[1], state["k"].shape[4]
        bucket, k, v, _ = tokens(params, q, k, v, mask)

        def fill(ring, bucket, rows):
            """Rings [buckets, C, ...] of one head and round, and its tokens [T], [T, ...]."""
            had, index = arrivals(bucket, buckets)
            kept = (bucket >= 0) & (index >= had[bucket] - C)
            at = jnp.where(kept, bucket * C + index % C, buckets * C)
            flat = ring.reshape(buckets * C, *ring.shape[2:])
            return flat.at[at].set(rows.astype(ring.dtype), mode="drop").reshape(ring.shape)

        def every(rows_axes):
            by_round = jax.vmap(fill, (0, 1, None))
            by_head = jax.vmap(by_round, (0, 1, rows_axes[1]))
            return jax.vmap(by_head, (0, 0, rows_axes[0]))

        count = jax.vmap(jax.vmap(jax.vmap(lambda b: arrivals(b, buckets)[0], 1), 1))(bucket)
        filled = {
            "k": every((0, 1))(state["k"], bucket, k),
            "v": every((0, 1))(state["v"], bucket, v),
            "count": count,
        }
        if once:
            position = jnp.arange(T, dtype=jnp.int32)
            filled["position"] = every((None, None))(state["position"], bucket, position)
            filled["length"] = jnp.asarray(T, jnp.int32)
        return out, filled

    def one_head(ring, length, bucket, visible, q, k, v):
        """The next token of one head: rings [rounds, buckets, ...], bucket [rounds], q [D]."""
        r, at = jnp.arange(rounds), jnp.maximum(bucket, 0)
        C = ring["k"].shape[2]
        had = ring["count"][r, at]
        allowed = (jnp.arange(C) < had[:, None]).reshape(-1) & visible
        keys, values = (ring[name][r, at].reshape(rounds * C, -1) for name in ("k", "v"))
        logits = jnp.einsum("d,cd->c", q, keys, preferred_element_type=jnp.float32)
        logits *= q.shape[-1] ** -0.5 if scale is None else scale
        if once:
            position = jnp.where(allowed, ring["position"][r, at].reshape(-1), -1)
            met = (position[:, None] == position).sum(-1)
            logits -= jnp.log(met.astype(jnp.float32))
        values = jnp.append(values.astype(v.dtype), v[None], 0)
        own = jnp.einsum("d,d->", q, k, preferred_element_type=jnp.float32)
        logits = jnp.append(logits, own * (q.shape[-1] ** -0.5 if scale is None else scale))
        allowed = jnp.append(allowed, visible & (itself | ~allowed.any()))
        out = jnp.einsum("c,ce->e", ops.softmax(logits, allowed).astype(v.dtype), values)
        slot = (r, jnp.where(visible, at, buckets), had % C)
        new = {"k": k, "v": v} | ({"position": length} if once else {})
        ring = ring | {
            name: ring[name].at[slot].set(x.astype(ring[name].dtype), mode="drop")
            for name, x in new.items()
        }
        return ring | {"count": ring["count"].at[slot[:2]].add(1, mode="drop")}, out

    heads = jax.vmap(one_head, (0, None, 0, None, 0, 0, 0))
    batch = jax.vmap(heads, (0, None, 0, 0, 0, 0, 0))

    def step(params, state, q, k, v, *, mask=None):
        bucket, k, v, visible = tokens(params, q, k, v, mask)

        def one(state, token):
            bucket, visible, q, k, v = token
            length = state.get("length", 0)
            rings = {name: x for name, x in state.items() if name != "length"}
            rings, out = batch(rings, length, bucket, visible, q, k, v)
            return rings | ({"length": length + 1} if once else {}), out

        xs = tuple(jnp.moveaxis(x, 1, 0) for x in (bucket, visible, q, k, v))
        state, out = jax.lax.scan(one, state, xs)
        return jnp.moveaxis(out, 0, 1), state

    return Decode(init, prefill, step)


def arrivals(bucket, buckets: int):
    """(tokens in each bucket [buckets], index of each token in its bucket [T]); hidden: -1."""
    count = (
        jnp.zeros(buckets, jnp.int32).at[jnp.where(bucket < 0, buckets, bucket)].add(1, mode="drop")
    )
    _, slot = sort(bucket, buckets, bucket.shape[0])
    return count, slot - (jnp.cumsum(count) - count)[bucket]


def state_bytes(dims: Dims, buckets: int, rounds: int, window: int, once: bool) -> int:
    rings = dims.batch * dims.heads * rounds * buckets
    once = once and rounds > 1
    per_slot = (dims.head_dim + dims.value_dim) * dims.itemsize + 4 * once
    return rings * (min(window, dims.kv_len) * per_slot + 4) + 4 * once
