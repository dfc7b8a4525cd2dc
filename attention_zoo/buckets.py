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

F32 = {"preferred_element_type": jnp.float32}


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


def windows(q, k, v, bucket, *, buckets, block, sees, scale, once=True, circular=False, lanes=1):
    """(out [N, E], logsumexp [N]), float32, of a head: q [N, D], v [N, E], bucket [N, rounds], and
    k [N, D], or a function that makes keys [..., D] of queries [..., D].

    In every round a query sees the keys of its chunk of `block` slots and of the chunk before,
    where `sees(query tags, key tags)` allows; rounds are one softmax. `once`: a key met in
    several rounds counts once. `circular`: the first chunk of a round sees the last one of the
    round before. `lanes`: of how many heads and sequences this is called at once.
    A row with nothing to see has out 0 and logsumexp ops.LOWEST.
    """
    N, rounds = bucket.shape
    block = min(block, N)
    size = ops.ceil_to(N, block)
    back = size > block or circular
    order, slot = jax.vmap(lambda b: sort(b, buckets, size))(bucket.T)
    once = once and rounds > 1
    own_keys = () if callable(k) else (k,)

    def tags(rows, n):
        """Of the tokens in rows [...] in round n; N is no token."""
        token = jnp.minimum(rows, N - 1)
        return Tags(slot[n, token], jnp.where(rows < N, bucket[token, n], -1), token)

    def one_round(r):
        to, home = slot[r], order[r]

        def tagged(rows, slots):
            """In this round, where slots after the last token have their own, and in all."""
            here = tags(rows, r)._replace(slot=slots)
            return [here, *(tags(rows, n) for n in range(rounds if once else 0))]

        def chunks(x):
            return x.reshape(size // block, block, *x.shape[1:])

        slots = jnp.arange(size, dtype=jnp.int32)
        arrays = [chunks(move(x, to, home)) for x in (q, v, *own_keys)]
        # before the first chunk there is nothing, in slots before 0, or the last of another round
        earlier = order[(r - 1) % rounds, -block:] if circular else jnp.full(block, N, jnp.int32)
        first = [
            jnp.where((earlier < N)[:, None], x[jnp.minimum(earlier, N - 1)], 0)
            for x in (q, v, *own_keys)
        ]
        first = first, tagged(earlier, slots[:block] - block)

        def step(last, mine, own_tags):
            """(the last of m chunks, (out [m, block, E], logsumexp [m, block])); `last` is the one
            before them."""

            def met(x):
                return jnp.concatenate([x[:-1], x[1:]], 1) if back else x[1:]

            both = jax.tree.map(
                lambda one, xs: jnp.concatenate([one[None], xs]), last, (mine, own_tags)
            )
            (queries, values, *keys), theirs = both
            keys = k(queries) if callable(k) else keys[0]
            keys, values, theirs = jax.tree.map(met, (keys, values, theirs))
            own = [Tags(*(x[:, :, None] for x in each)) for each in own_tags]
            theirs = [Tags(*(x[:, None] for x in each)) for each in theirs]
            allowed = sees(own[0], theirs[0]) & (theirs[0].bucket >= 0)
            logits = dot(mine[0], keys) * scale
            times = sum(
                sees(*each).astype(jnp.float32) for each in zip(own[1:], theirs[1:], strict=True)
            )
            # around the end of a round a pair may be met in no round: reformer-pytorch's 1e-9
            share = 1 / jnp.maximum(times, 1e-9) if once else None
            return jax.tree.map(lambda x: x[-1], both), attend(logits, allowed, values, share)

        in_chunks = jax.tree.map(chunks, tagged(home, slots))
        out, lse = in_turns(step, chunks_at_once(N, block, lanes), first, arrays, in_chunks)
        return move(out.reshape(size, -1), home, to), move(lse.reshape(size), home, to)

    if rounds == 1:
        return one_round(0)
    out, lse = jax.lax.map(one_round, jnp.arange(rounds))
    return tiles.merge(*zip(out, lse, strict=True))


def in_turns(step: Callable, some: int, carry, *arrays):
    """What step(carry, *arrays) -> (carry, found), which works along their first axis, finds on
    `some` entries at a time, a divisor of how many there are; recomputed in the backward pass
    unless that is all."""
    n = len(jax.tree.leaves(arrays)[0])
    if some == n:
        return step(carry, *arrays)[1]
    parts = jax.tree.map(lambda x: x.reshape(n // some, some, *x.shape[1:]), arrays)
    step = jax.checkpoint(step, prevent_cse=False)
    _, found = jax.lax.scan(lambda carry, part: step(carry, *part), carry, parts)
    return jax.tree.map(lambda x: x.reshape(n, *x.shape[2:]), found)


def at_once(n: int, numbers: int) -> int:
    """How many of n entries of so many numbers each `in_turns` takes, so that a CPU's cache holds
    them: products of what lies there are three times as fast."""
    most = max(1, min(n, heads.budget() // numbers))
    return next(m for m in range(most, 0, -1) if n % m == 0)


def train_products(n: int, some: int) -> int:
    """How often a product that `in_turns` does within `heads.each` is done in training."""
    return heads.TRAIN_PRODUCTS + (some < n)


def chunks_at_once(N: int, block: int, lanes: int) -> int:
    """Of the chunks of `windows`."""
    block = min(block, N)
    return at_once(-(-N // block), lanes * 2 * block**2)


def window_products(N: int, block: int, lanes: int) -> int:
    """How often a product of `windows` is done in training."""
    return train_products(-(-N // min(block, N)), chunks_at_once(N, block, lanes))


def attend(logits, allowed, v, share=None):
    """(out [m, q, E], logsumexp [m, q]) of logits [m, q, k] over values [m, k, E]; a key counts
    `share` times."""
    logits = jnp.where(allowed, logits, ops.LOWEST)
    peak = jax.lax.stop_gradient(logits.max(-1))
    weights = jnp.exp(logits - peak[..., None])
    if share is not None:
        weights *= share
    total = weights.sum(-1)
    out = weigh(weights.astype(v.dtype), v)
    empty = peak == ops.LOWEST
    out = ops.divide_rows(out, jnp.where(empty, 0.0, total))
    return out, jnp.where(empty, ops.LOWEST, peak + jnp.log(total))


@jax.custom_vjp
def dot(q, k):
    """Products [m, q, k], float32, of rows [m, q, d] and [m, k, d]."""
    return jnp.einsum("mqd,mkd->mqk", q, k, **F32)


@jax.custom_vjp
def weigh(weights, v):
    """Sums [m, q, e], float32, of rows [m, k, e] by weights [m, q, k]."""
    return jnp.einsum("mqk,mke->mqe", weights, v, **F32)


def _dot_gradients(residuals, d_logits):
    q, k = residuals
    d_logits = d_logits.astype(q.dtype)
    d_q = jnp.einsum("mqk,mkd->mqd", d_logits, k, **F32)
    return d_q.astype(q.dtype), ops.over_rows(d_logits, q).astype(k.dtype)


def _weigh_gradients(residuals, d_out):
    weights, v = residuals
    # not rounded: what is taken from it, the mean over a row, is not either
    d_weights = jnp.einsum("mqe,mke->mqk", d_out, v.astype(jnp.float32))
    d_v = ops.over_rows(weights, d_out.astype(v.dtype))
    return d_weights.astype(weights.dtype), d_v.astype(v.dtype)


dot.defvjp(lambda q, k: (dot(q, k), (q, k)), _dot_gradients)
weigh.defvjp(lambda weights, v: (weigh(weights, v), (weights, v)), _weigh_gradients)


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

    Forward and backward both scatter: XLA copies whole rows in a scatter, but not in a gather. Of
    windows of one row each, the form that it would bring any scatter into by a copy of x.
    """
    rows = jnp.zeros((home.shape[0], *x.shape[1:]), x.dtype)
    return jax.lax.scatter(
        rows,
        to[:, None],
        x[:, None],
        jax.lax.ScatterDimensionNumbers(tuple(range(1, x.ndim + 1)), (), (0,)),
        mode="drop",
    )


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
            return mapped(lambda arrays, tables: lane(*arrays, mask, *tables), arrays, tables)

        return mapped(sequence, mask, *arrays)

    return heads.each(call, group, arrays, mask, tables)


def mapped(call: Callable, *arrays):
    """jax.vmap(call)(*arrays). A scatter of a batch XLA turns around twice, even of a batch of one,
    so that is none."""
    if len(jax.tree.leaves(arrays)[0]) > 1:
        return jax.vmap(call)(*arrays)
    return jax.tree.map(lambda x: x[None], call(*jax.tree.map(lambda x: x[0], arrays)))


def window_pairs(N: int, block: int, circular: bool = False) -> int:
    """Query-key pairs that one round of `windows` computes."""
    block = min(block, N)
    size = ops.ceil_to(N, block)
    return size * block * (2 if size > block or circular else 1)


def unit(x):
    """x / |x| over the last axis, in x's dtype; 0 stays 0."""
    wide = x.astype(jnp.float32)
    square = (wide * wide).sum(-1, keepdims=True)
    return (wide * jax.lax.rsqrt(jnp.maximum(square, 1e-24))).astype(x.dtype)
