"""Which numbers of a row are the largest: without sorting them, where a CPU would sort slowly."""

import jax
import jax.numpy as jnp

STRIP = 16  # the largest are searched among the best strips of so many neighbours
PARTS = 8  # of a row are compared at once


def largest(x, count: int):
    """Indices [..., min(count, N)] of the largest of each row of x [..., N], float32, of equal ones
    the first, 0 and -0 among them.

    They lie in the `count` strips of largest maximum, so most of a row is read once.
    """
    N = x.shape[-1]
    count = min(count, N)
    if not in_strips(N, count):
        return _of_few(x, count)
    padded = _whole(x, STRIP, -jnp.inf).reshape(*x.shape[:-1], -1, STRIP)
    # in their order, so that of equal ones the first is the first among them too
    best = _of_few(padded.max(-1), count)
    near = jnp.take_along_axis(padded, best[..., None], -2).reshape(*x.shape[:-1], -1)
    at = _of_few(near, count)
    return jnp.take_along_axis(best, at // STRIP, -1) * STRIP + at % STRIP


def in_strips(N: int, count: int) -> bool:
    """Whether the strips are enough more than what is chosen."""
    return 4 * count <= -(-N // STRIP)


def _whole(x, multiple: int, value):
    """Rows with `value` after their ends, up to a multiple of so many."""
    ends = [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % multiple)]
    return jnp.pad(x, ends, constant_values=value)


def _of_few(x, count):
    # a GPU sorts fast, and starts a loop's steps slowly
    if jax.default_backend() != "cpu" or x.shape[-1] * count >= 2**30:
        return jnp.sort(jax.lax.top_k(jnp.where(x == 0, 0.0, x), count)[1], -1)
    return by_bisection(x, count)


def by_bisection(x, count: int):
    """`largest` by the highest bound that `count` of a row reach, bit by bit in all rows at once.

    XLA's top_k on a CPU takes 2 to 3 times as long, for 128 of 1,024 to 2,048. `count` times the
    length of a row must be below 2**30.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    # integers in the order of the floats
    x = jnp.where(bits < 0, -(bits & 0x7FFFFFFF), bits)

    lowest = jnp.iinfo(jnp.int32).min
    # in one pass that vectorises: a sum of truth values along a row would not
    parts = jnp.split(_whole(x, PARTS, lowest), PARTS, -1)

    def bit(i, bound):
        """The bound with its bit i, from the highest, where `count` numbers reach it so."""
        higher = bound + (jnp.int32(1) << (31 - i))
        reach = sum((part >= higher[..., None]).astype(jnp.int32) for part in parts)
        enough = reach.astype(jnp.float32).sum(-1) >= count
        return jnp.where(enough, higher, bound)

    bound = jax.lax.fori_loop(0, 32, bit, jnp.full(x.shape[:-1], lowest))
    # how many above it and how many equal to it there are up to here, in one integer
    width, bound = x.shape[-1].bit_length(), bound[..., None]
    both = jnp.where(x > bound, 1 << width, (x == bound).astype(jnp.int32))
    both = jax.lax.associative_scan(jnp.add, both, axis=-1)
    above, equal = both >> width, both & ((1 << width) - 1)
    chosen = above + jnp.minimum(equal, count - above[..., -1:])
    find = jnp.vectorize(jnp.searchsorted, signature="(n),(k)->(k)")
    return find(chosen, jnp.arange(1, count + 1)).astype(jnp.int32)
