"""Softmax attention among tokens of one bucket, in O(N) memory: sort, cut in chunks, look one back.

    tokens   0 1 2 3 4 5 6 7      slots    1 4 5 | 0 2 7 | 3 6 .    a chunk of slots sees its
    bucket   b a b c a a c b  ->  bucket   a a a | b b b | c c .    own keys and the chunk before's

Sorting by (bucket, position) makes the last c earlier tokens of a bucket the last c slots, so a
window of c slots lies within two chunks of c. Hidden tokens (bucket -1) take the last slots.
`lsh` and `routing` say who is in which bucket; `by_head` runs them a few heads at a time.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from attention_zoo import heads, ops, tiles


class Tags(NamedTuple):
    """What is known of the token in a slot; a key's bucket is -1 where it is hidden."""

    slot: jax.Array
    bucket: jax.Array
    position: jax.Array


def last_of_bucket(count: int) -> Callable:
    """A query sees its own token and the last `count` before it, in its bucket."""

    def sees(a, b):
        back = a.slot - b.slot
        return (a.bucket == b.bucket) & (back >= 0) & (back <= count)

    return sees


def windows(q, k, v, bucket, *, buckets, block, sees, scale, once=True, circular=False):
    """(out [N, E], logsumexp [N]), float32, of a head: q, k [N, D], v [N, E], bucket [N, rounds].

    In every round a query sees the keys of its chunk of `block` slots and of the chunk before,
    where `sees(query tags, key tags)` allows; rounds are one softmax. `once`: a key met in
    several rounds counts once. `circular`: the first chunk of a round sees the last one of the
    round before.
    A row with nothing to see has out 0 and logsumexp ops.LOWEST.
    """
    N, rounds = bucket.shape
    block = min(block, N)
    size = ops.ceil_to(N, block)
    back = size > block or circular
    tokens = jnp.arange(N, dtype=jnp.int32)
    order, slot = jax.vmap(lambda b: sort(b, buckets, size))(bucket.T)
    once = once and rounds > 1

    def chunks(x):
        return x.reshape(size // block, block, *x.shape[1:])

    def one_round(r):
        to, home = slot[r], order[r]
        q_slots, k_slots, v_slots = (chunks(move(x, to, home)) for x in (q, k, v))
        owner = jnp.minimum(home, N - 1)
        real = home < N
        own = Tags(jnp.arange(size, dtype=jnp.int32), jnp.where(real, bucket[owner, r], -1), owner)
        every = [
            Tags(slot[n, owner], jnp.where(real, bucket[owner, n], -1), owner)
            for n in range(rounds if once else 0)
        ]
        before = order[(r - 1) % rounds, -block:] if circular else None

        def look(x, token_rows, empty):
            """Each chunk's keys after those of the chunk before: [chunks, 2 block, ...]."""
            x = chunks(x) if x.ndim < 3 else x
            if not back:
                return x
            first = jnp.full_like(x[:1], empty)
            if before is not None:
                first = jnp.where(
                    (before < N).reshape((1, block) + (1,) * (x.ndim - 2)),
                    token_rows[jnp.minimum(before, N - 1)][None],
                    first,
                )
            return jnp.concatenate([jnp.concatenate([first, x[:-1]]), x], 1)

        def pair(tags, n):
            """Tags of queries [chunks, block, 1] and of keys [chunks, 1, keys]."""
            queries = Tags(*(chunks(x)[:, :, None] for x in tags))
            # the chunk before the first has slots before 0
            rows = Tags(slot[n], bucket[:, n], tokens)
            keys = Tags(*(look(x, y, -1)[:, None] for x, y in zip(tags, rows, strict=True)))
            return queries, keys

        queries, keys = pair(own, r)
        if back:
            at = jnp.arange(-block, block) + block * jnp.arange(size // block)[:, None]
            keys = keys._replace(slot=at[:, None])
        allowed = sees(queries, keys) & (keys.bucket >= 0)
        logits = jnp.einsum(
            "mqd,mkd->mqk", q_slots, look(k_slots, k, 0), preferred_element_type=jnp.float32
        )
        logits *= scale
        if once:
            met = sum(sees(*pair(tags, n)).astype(jnp.float32) for n, tags in enumerate(every))
            # around the end of a round a pair may be met in no round: reformer-pytorch's 1e-9
            logits -= jnp.log(jnp.maximum(met, 1e-9))
        out, lse = attend(logits, allowed, look(v_slots, v, 0))
        return move(out.reshape(size, -1), home, to), move(lse.reshape(size), home, to)

    if rounds == 1:
        return one_round(0)
    out, lse = jax.lax.map(one_round, jnp.arange(rounds))
    return tiles.merge(*zip(out, lse, strict=True))


def attend(logits, allowed, v):
    """(out [m, q, E], logsumexp [m, q]) of logits [m, q, k] over values [m, k, E]."""
    logits = jnp.where(allowed, logits, ops.LOWEST)
    peak = jax.lax.stop_gradient(logits.max(-1))
    weights = jnp.exp(logits - peak[..., None])
    total = weights.sum(-1)
    out = jnp.einsum("mqk,mke->mqe", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
    empty = peak == ops.LOWEST
    out = jnp.where(empty[..., None], 0.0, out / total[..., None])
    return out, jnp.where(empty, ops.LOWEST, peak + jnp.log(total))


def sort(bucket, buckets, size):
    """(token of each slot [size], N where there is none; slot of each token [N]), sorted by
    (bucket, position)."""
    N = bucket.shape[0]
    if (buckets + 1) * N >= 2**31:
        raise ValueError(f"buckets * length must be below 2**31, got {buckets} * {N}")
    tokens = jnp.arange(N, dtype=jnp.int32)
    # one integer a token sorts much faster than a pair
    packed = jnp.sort(jnp.where(bucket < 0, buckets, bucket).astype(jnp.int32) * N + tokens)
    order = packed % N
    slot = jnp.zeros(N, jnp.int32).at[order].set(tokens, unique_indices=True)
    return jnp.pad(order, (0, size - N), constant_values=N), slot


@jax.custom_vjp
def move(x, to, home):
    """x[n] put at to[n] among as many rows as `home` has, or dropped; `home` is the way back.

    Forward and backward both scatter: XLA copies whole rows in a scatter, but not in a gather.
    """
    rows = jnp.zeros((home.shape[0], *x.shape[1:]), x.dtype)
    return rows.at[to].set(x, mode="drop")


move.defvjp(
    lambda x, to, home: (move(x, to, home), (to, home)),
    lambda ways, rows: (move(rows, ways[1], ways[0]), None, None),
)


def by_head(lane: Callable, group: int, arrays, mask, tables=()):
    """lane(*arrays, mask, *tables) for `group` heads at a time, recomputed in the backward pass.

    `arrays` are [B, N, H, ...], `tables` [H, ...], `mask` [B, N]; lane takes one head of one
    sequence ([N, ...], [N], [...]) to [N, E].
    """
    count = len(arrays)

    def call(mask, *xs):
        arrays, tables = xs[:count], xs[count:]

        def sequence(mask, *arrays):
            head = jax.vmap(lambda arrays, tables: lane(*arrays, mask, *tables))
            return head(arrays, tables)

        return jax.vmap(sequence)(mask, *arrays)

    return heads.each(call, group, arrays, mask, tables)


def window_pairs(N: int, block: int, circular: bool = False) -> int:
    """Query-key pairs that one round of `windows` computes."""
    block = min(block, N)
    size = ops.ceil_to(N, block)
    return size * block * (2 if size > block or circular else 1)


def window_held(N: int, block: int, rounds: int, D: int, E: int) -> tuple[int, int]:
    """Numbers of `windows` alive at once, forward and in the backward pass."""
    size, pairs = ops.ceil_to(N, min(block, N)), window_pairs(N, block)
    # slots, buckets and positions
    tags = 10 * rounds * N
    # by slot, and by look: with the chunk before
    slots, looks = size * (D + E), 2 * size * (D + E)
    # logits, weights and who is seen (a truth value is a quarter of a number)
    forward = tags + N * E + max(9 * pairs // 4 + 2 * size * E, slots + looks)
    # weights, the gradients of weights and logits, and those of q, k and v
    backward = tags + 3 * pairs + 2 * looks + slots
    if rounds > 1:
        forward += rounds * N * E + N * (2 * D + E)
        # the loop over rounds keeps weights, who is seen, slots, looks, results and gradients
        backward += rounds * (5 * pairs // 4 + looks + slots + 2 * N * E)
    return forward, backward


def unit(x):
    """x / |x| over the last axis, in x's dtype; 0 stays 0."""
    wide = x.astype(jnp.float32)
    square = (wide * wide).sum(-1, keepdims=True)
    return (wide * jax.lax.rsqrt(jnp.maximum(square, 1e-24))).astype(x.dtype)
