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


def windows(q, k, v, bucket, *, buckets, block, sees, scale, once=True, circular=False, lanes=1):
    """(out [N, E], logsumexp [N]), float32, of a head: q, k [N, D], v [N, E], bucket [N, rounds].

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
    tokens = jnp.arange(N, dtype=jnp.int32)
    order, slot = jax.vmap(lambda b: sort(b, buckets, size))(bucket.T)
    once = once and rounds > 1

    def chunks(x):
        return x.reshape(size // block, block, *x.shape[1:])

    def one_round(r):
        to, home = slot[r], order[r]
        owner = jnp.minimum(home, N - 1)
        real = home < N
        last = order[(r - 1) % rounds, -block:] if circular else None

        def tags(n):
            """(tags of slots, of tokens) in round n."""
            here = Tags(slot[n, owner], jnp.where(real, bucket[owner, n], -1), owner)
            return here, Tags(slot[n], bucket[:, n], tokens)

        def before(x, token_rows, empty):
            """Of the chunk before each: [chunks, block, ...]."""
            first = jnp.full_like(x[:1], empty)
            if last is not None:
                shown = (last < N).reshape((1, block) + (1,) * (x.ndim - 2))
                first = jnp.where(shown, token_rows[jnp.minimum(last, N - 1)][None], first)
            return jnp.concatenate([first, x[:-1]])

        q_slots, k_slots, v_slots = (chunks(move(x, to, home)) for x in (q, k, v))
        pairs = [tags(r), *(tags(n) for n in range(rounds if once else 0))]
        # of this round the slots after the last token too
        pairs[0] = pairs[0][0]._replace(slot=jnp.arange(size, dtype=jnp.int32)), pairs[0][1]
        own = [Tags(*map(chunks, here)) for here, _ in pairs]
        sides = [(k_slots, v_slots, own)]
        if back:
            earlier = [
                Tags(*(before(x, y, -1) for x, y in zip(here, of_tokens, strict=True)))
                for here, (_, of_tokens) in zip(own, pairs, strict=True)
            ]
            # the chunk before the first has slots before 0
            earlier[0] = earlier[0]._replace(slot=own[0].slot - block)
            sides.insert(0, (before(k_slots, k, 0), before(v_slots, v, 0), earlier))

        def some(q, own, sides):
            """(out [m, block, E], logsumexp [m, block]) of m chunks."""
            keys, values, theirs = jax.tree.map(lambda *x: jnp.concatenate(x, 1), *sides)
            own = [Tags(*(x[:, :, None] for x in each)) for each in own]
            theirs = [Tags(*(x[:, None] for x in each)) for each in theirs]
            allowed = sees(own[0], theirs[0]) & (theirs[0].bucket >= 0)
            logits = jnp.einsum("mqd,mkd->mqk", q, keys, preferred_element_type=jnp.float32)
            logits *= scale
            met = sum(
                sees(*each).astype(jnp.float32) for each in zip(own[1:], theirs[1:], strict=True)
            )
            # around the end of a round a pair may be met in no round: reformer-pytorch's 1e-9
            share = 1 / jnp.maximum(met, 1e-9) if once else None
            return attend(logits, allowed, values, share)

        out, lse = in_turns(some, chunks_at_once(N, block, lanes), q_slots, own, sides)
        return move(out.reshape(size, -1), home, to), move(lse.reshape(size), home, to)

    if rounds == 1:
        return one_round(0)
    out, lse = jax.lax.map(one_round, jnp.arange(rounds))
    return tiles.merge(*zip(out, lse, strict=True))


def in_turns(step: Callable, some: int, *arrays):
    """step(*arrays), which works along their first axis, on `some` entries at a time, a divisor of
    how many there are; recomputed in the backward pass unless that is all."""
    n = len(jax.tree.leaves(arrays)[0])
    if some == n:
        return step(*arrays)
    parts = jax.tree.map(lambda x: x.reshape(n // some, some, *x.shape[1:]), arrays)
    step = jax.checkpoint(step, prevent_cse=False)
    found = jax.lax.map(lambda part: step(*part), parts)
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


def window_held(N: int, block: int, rounds: int, D: int, E: int, lanes: int) -> tuple[int, int]:
    """Numbers of `windows` alive at once in each of the lanes, forward and in the backward pass."""
    block, pairs = min(block, N), window_pairs(N, block)
    size, some = ops.ceil_to(N, block), chunks_at_once(N, block, lanes)
    several = rounds > 1
    if some * block == size:
        # slots, buckets and positions
        tags = 10 * rounds * N
        # by slot, and by look: with the chunk before
        slots, looks = size * (D + E), 2 * size * (D + E)
        # logits, weights and who is seen (a truth value is a quarter of a number)
        forward = tags + N * E + max(9 * pairs // 4 + 2 * size * E, slots + looks)
        # weights, the gradients of weights and logits, and those of q, k and v; the output
        backward = tags + 3 * pairs + 2 * looks + slots + N * E
        if several:
            # the loop over rounds keeps weights, who is seen, slots, looks, results and gradients
            forward += rounds * N * E + N * (2 * D + E)
            backward += rounds * (5 * pairs // 4 + looks + slots + 2 * N * E)
        return forward, backward
    # of q, k and v: by token, by slot, of the chunk before each; what comes out by both; in the
    # backward pass their gradients too. A turn's logits and weights, keys and values
    logits, keys = some * 2 * block**2, some * 2 * block
    forward = N * (5 * D + 5 * E + 10) + 5 * logits // 4 + keys * E
    backward = N * (10 * D + 21 * E // 2 + 20) + 5 * logits + 2 * keys * E
    if several:
        # the loop over rounds keeps what each gave, and in the backward pass what it was given
        forward += N * D + rounds * N * (E + 9)
        backward += 3 * N * D + rounds * N * (3 * D + 5 * E // 2 + 60)
    return forward, backward


def unit(x):
    """x / |x| over the last axis, in x's dtype; 0 stays 0."""
    wide = x.astype(jnp.float32)
    square = (wide * wide).sum(-1, keepdims=True)
    return (wide * jax.lax.rsqrt(jnp.maximum(square, 1e-24))).astype(x.dtype)
