"""What the tasks that draw their own data share: numbers by stream, held-out batches, the score."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

STREAMS = {"train": 0, "val": 1, "test": 2, "pool": 3}


def generator(stream: str, seed: int = 0, step: int = 0) -> np.random.Generator:
    """Random numbers of a stream, a seed and a step; those of two streams never meet."""
    counter = np.array([0, 0, 0, STREAMS[stream]], np.uint64)
    key = np.array([seed, step], np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


def take(arrays: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: array[rows] for name, array in arrays.items()}


def in_batches(make: Callable[[np.ndarray], Mapping], count: int, size: int) -> Iterator[dict]:
    """`make(rows)` of the rows 0..count - 1, `size` at a time, the last filled up with zeros."""
    for begin in range(0, count, size):
        rows = np.arange(begin, min(begin + size, count))
        missing = size - len(rows)
        yield {
            name: np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
            for name, array in make(rows).items()
        }


def splits(draw: Callable[[str], Mapping], count: int) -> tuple[Callable, Callable]:
    """`draw(name)`, drawn once: `count` examples; and a task's `held_out` that takes from it."""
    split = functools.cache(draw)

    def held_out(name: str, size: int) -> Iterator[dict]:
        return in_batches(lambda rows: take(split(name), rows), count, size)

    return split, held_out


def accuracy(totals: Mapping[str, float]) -> float:
    return totals["correct"] / totals["count"] if totals["count"] else math.nan


def check_whole(least: int = 1, **sizes: int) -> None:
    """ValueError names the size that is not a whole number from `least` up."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < least:
            raise ValueError(f"{name} must be a whole number from {least} up, got {size!r}")


def growth(grow: Sequence[int]) -> Callable[[int], int]:
    """How often training sequences have doubled at a step: once at each of the steps `grow`."""
    for step in grow:
        check_whole(grow=step)
    return lambda step: sum(step >= end for end in grow)


def lengths(grow: Sequence[int], n: int, shortest: int) -> Callable[[int], int]:
    """The length of training sequences at a step: they double from `shortest` up to n, once at each
    of the steps `grow`, or are n from the first where there are none."""
    doublings, longest = growth(grow), shortest << len(grow)
    if grow and n > longest:
        raise ValueError(f"grow must double {shortest} up to n={n}, got {len(grow)}, to {longest}")
    return lambda step: min(n, shortest << doublings(step)) if grow else n
