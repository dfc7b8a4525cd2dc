"""Bytes that each device sends, by the algorithms that send least on a ring of P devices.

A device sends (P - 1) times its own array so that all have it (gather) or so that each has its
share of a sum (its transpose, scatter); (P - 1) / P of an array of which every other device gets
another P-th (transpose); twice that for a sum that all have (reduce). A permute counts in full,
also for a device at the end that has no one to send to. Gradients go the opposite way, by as much.
"""

import math
from fractions import Fraction

from attention_zoo.types import Dims, Traffic

FLOAT = 4  # bytes of sums, which are float32 whatever the arrays are


def gather(P: int, own: int, *, gradient: bool = True) -> Traffic:
    """All devices get the `own` bytes of each."""
    return _both((P - 1) * own, gradient, held=(P - 1) * own)


def reduce(P: int, whole: int, *, gradient: bool = True) -> Traffic:
    """All devices get the sum (or the maximum) of arrays of `whole` bytes."""
    return _both(Fraction(2 * (P - 1) * whole, P), gradient, held=whole)


def transpose(P: int, own: int, *, gradient: bool = True) -> Traffic:
    """Every device gets a P-th of the `own` bytes of each."""
    return _both(Fraction((P - 1) * own, P), gradient, held=own)


def permute(own: int, *, times: int = 1, gradient: bool = True) -> Traffic:
    """Every device gets `own` bytes of one other, so many times."""
    return _both(own * times, gradient, held=own)


def scan_steps(P: int) -> int:
    """Permutes of a prefix sum over devices, each device's own part left out."""
    return 0 if P == 1 else 1 + math.ceil(math.log2(P - 1))


def keys_and_values(dims: Dims, count: int) -> int:
    """Bytes of so many positions of k and v."""
    width = dims.head_dim + dims.value_dim
    return dims.batch * dims.heads * count * width * dims.itemsize


def _both(size, gradient, held):
    size = Fraction(size)
    return Traffic(size, size if gradient else Fraction(0), Fraction(held))
