"""Measured values -> a value at another size, and how far such estimates were off.

A value is the sum of two terms (a fixed cost and FLOPs, powers of N next to each other) times rates
that are not negative, fitted to the points nearest in size. Where a curve has two regimes (sizes
that are padded and sizes that are not) exact values are fitted `apart` and noisy ones `together`.
Imports no jax.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import nnls

# doublings of size at which a point counts half
REACH = 1.0
# held-out neighbours that an estimate's error is taken from
NEIGHBOURS = 2
# points that make a curve of their own
FEW = 3


@dataclasses.dataclass(frozen=True)
class Point:
    """`size` orders points and tells how near they are; `terms` are two or more; `regime` is alike
    for those of one regime, `group` for those of one curve: of another group it is a factor."""

    size: float
    terms: tuple[float, ...]
    value: float = math.nan
    regime: tuple = ()
    group: tuple = ()


@dataclasses.dataclass(frozen=True)
class Estimate:
    """`how` is one of HOW; `error` the relative error that held-out neighbours had."""

    value: float
    how: str
    error: float

    def within(self, tolerance: float) -> bool:
        return self.error <= tolerance


HOW = {
    "measured": "a record of this very call; the error is its quartiles'",
    "interpolated": "the formula, calibrated on records of smaller and larger calls",
    "extrapolated": "the formula, calibrated on records of smaller or of larger calls alone",
    "other sizes": "the formula, calibrated on records of other batches or heads; 9 of 10 held out "
    "so were off by less than the error, which of memory is 10 % or more where none could be",
    "not causal": "the causal form's formula, calibrated on records of the form that is not causal",
    "padded otherwise": "the formula, calibrated on records whose N are other multiples of blocks",
    "compiled": "this program compiled here, and what records held over their compiled memory",
}


def fit(points: Sequence[Point], at: Point, reach: float = REACH) -> float:
    """The value at `at`, by the two neighbouring terms that fit best."""
    values = np.array([point.value for point in points])
    weights = _nearness(points, at, reach) / values
    # in units of the term at `at`, so that the value there is the sum of the rates
    terms = np.array([point.terms for point in points]) / np.array(at.terms)
    fits = [
        nnls(pair * weights[:, None], values * weights)
        for pair in np.lib.stride_tricks.sliding_window_view(terms, 2, axis=1).swapaxes(0, 1)
    ]
    # of equally good ones the first, whatever the last digit says
    rates, _ = min(fits, key=lambda fit: round(fit[1], 9))
    return float(rates.sum())


def apart(points: Sequence[Point], at: Point) -> float:
    """The value at `at` by the points of its regime alone, where there are two of them."""
    alike = [point for point in points if point.regime == at.regime]
    return fit(alike if len(alike) > 1 else points, at)


def together(points: Sequence[Point], at: Point) -> float:
    """The value at `at` by all points of its group, times the ratio of the points of its regime to
    their estimates by all others, where there are two of them; of a group with fewer points than
    FEW by those of the largest group, times the ratio of its own."""
    own = [point for point in points if point.group == at.group]
    if len(own) >= min(FEW, len(points)):
        return _of_group(own, at)
    sizes = collections.Counter(point.group for point in points if point.group != at.group)
    largest = max(sizes, key=sizes.__getitem__)
    base = [point for point in points if point.group == largest]
    return _of_group(base, at) * _ratio(own, at, lambda point: _of_group(base, point))


def _of_group(points, at):
    alike = [point for point in points if point.regime == at.regime]
    if len(alike) in (0, 1, len(points)):
        return fit(points, at)
    return fit(points, at) * _ratio(alike, at, lambda point: fit(_without(points, point), point))


def _ratio(points, at, estimated):
    """Values over their estimates: a geometric mean, the nearer the more; 1 of no points."""
    logs = [math.log(point.value / estimated(point)) for point in points]
    return math.exp(np.average(logs, weights=_nearness(points, at))) if points else 1.0


def _without(points, held):
    return [point for point in points if point is not held]


def _nearness(points, at, reach=REACH):
    """1 at the size of `at`, a half at `reach` doublings from it."""
    return 1 / (1 + (np.log2([point.size / at.size for point in points]) / reach) ** 2)


Fit = Callable[[Sequence[Point], Point], float]


def held_out(points: Sequence[Point], by: Fit = fit) -> list[float]:
    """The estimate of each point from the others, over its value."""
    if len(points) < 3:
        return [math.nan] * len(points)
    return [by(_without(points, point), point) / point.value for point in points]


def estimate(points: Sequence[Point], at: Point, by: Fit = fit) -> Estimate:
    """The value at `at` with the worst error of the points nearest to it, those of its group before
    all others, each held out.

    Beyond the points it grows as the root of the doublings; from fewer than three it is infinite:
    not known.
    """
    points = sorted(points, key=lambda point: point.size)
    low, high = points[0].size, points[-1].size
    beyond = max(math.log2(low / at.size), math.log2(at.size / high), 0.0)
    near = sorted(
        zip(points, held_out(points, by), strict=True),
        key=lambda pair: (pair[0].group != at.group, abs(math.log2(pair[0].size / at.size))),
    )[:NEIGHBOURS]
    error = max(off(ratio) for _, ratio in near) if len(points) > 2 else math.inf
    how = "extrapolated" if beyond else "interpolated"
    return Estimate(by(points, at), how, error * max(1.0, beyond) ** 0.5)


def off(ratio: float) -> float:
    """A ratio's relative error, the same for a half and a double."""
    return max(ratio, 1 / ratio) - 1 if ratio > 0 else math.inf
