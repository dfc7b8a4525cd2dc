"""Rates fitted to the nearest points: exact where the model is, honest where it is not."""

import dataclasses

import pytest

from experiments.analysis import estimates
from experiments.analysis.estimates import Point


def roofline(size, fixed=3.0, rate=2.0):
    return Point(size, (1.0, size), fixed + rate * size)


KNOWN = [roofline(2.0**e) for e in range(5)]


@pytest.mark.parametrize("size", [0.5, 3.0, 100.0])
def test_a_sum_of_its_terms_is_found_everywhere(size):
    found = estimates.estimate(KNOWN, Point(size, (1.0, size)))
    assert found.value == pytest.approx(3 + 2 * size, rel=1e-6)
    assert found.error < 1e-6
    assert found.how == ("interpolated" if 1 < size < 16 else "extrapolated")


def test_near_points_count_more():
    """A rate that doubles at size 100 does not change what small calls cost."""
    known = [*KNOWN, *(roofline(100 * 2.0**e, rate=4.0) for e in range(5))]
    assert estimates.fit(known, Point(3.0, (1.0, 3.0))) == pytest.approx(9, rel=0.05)


def padded(*sizes, factor=1.0):
    """Points of two regimes by turns: those at odd places cost so many times more."""
    return [
        Point(s, (1.0, s), (3 + 2 * s) * (factor if i % 2 else 1.0), (i % 2 == 0,))
        for i, s in enumerate(sizes)
    ]


@pytest.mark.parametrize(("aligned", "value"), [(True, 11), (False, 110)])
def test_apart_points_of_the_same_regime_count_alone(aligned, value):
    known = padded(*(2.0**e for e in range(5)), factor=10.0)
    at = Point(4.0, (1.0, 4.0), regime=(aligned,))
    assert estimates.apart(known, at) == pytest.approx(value)


def test_together_a_regime_is_a_factor():
    """Interpolated across the regimes every point is off by nearly half, together by little."""
    known = padded(*(2.0**e for e in range(9)), factor=1.4)
    across, together = (estimates.held_out(known, by) for by in (estimates.fit, estimates.together))
    assert min(map(estimates.off, across[2:-2])) > 0.2
    assert max(map(estimates.off, together[2:-2])) < 0.1


@pytest.mark.parametrize("by", [estimates.apart, estimates.together])
def test_of_one_regime_or_a_lone_point_of_one_all_points_count(by):
    at = Point(3.0, (1.0, 3.0), regime=(False,))
    for known in (KNOWN, [*KNOWN, Point(8.0, (1.0, 8.0), 25.0, (False,))]):
        assert by(known, at) == estimates.fit(known, at)


def test_the_error_is_that_of_the_nearest_held_out():
    known = [*KNOWN[:2], Point(4.0, (1.0, 4.0), 22.0), *KNOWN[3:]]
    ratios = estimates.held_out(known)
    near = estimates.estimate(known, Point(4.5, (1.0, 4.5)))
    assert near.error >= estimates.off(ratios[2]) > 0.4
    assert near.error >= abs(ratios[2] - 1)
    assert not near.within(0.3)


def test_the_error_grows_beyond_the_points():
    known = [Point(s, (1.0, s), s * f) for s, f in ((1.0, 1), (2.0, 1.2), (4.0, 1), (8.0, 1.2))]
    errors = [estimates.estimate(known, Point(s, (1.0, s))).error for s in (16.0, 64.0)]
    assert errors[1] == pytest.approx(errors[0] * 3**0.5)


def test_two_points_tell_no_error():
    found = estimates.estimate(KNOWN[:2], Point(3.0, (1.0, 3.0)))
    assert found.value == pytest.approx(9)
    assert not found.within(1e9)


def test_a_group_of_few_points_is_a_factor_of_the_largest():
    """And one of many is a curve of its own, whatever the others are."""
    other = [dataclasses.replace(point, value=2 * point.value, group=("other",)) for point in KNOWN]
    third = dataclasses.replace(KNOWN[0], value=1e3, group=("third",))
    at = Point(3.0, (1.0, 3.0), group=("other",))
    for few in ([], other[1:2], other[1:4:2]):
        found = estimates.together([*KNOWN, third, *few], at)
        assert found == pytest.approx(9 * (2 if few else 1))
    crooked = [dataclasses.replace(point, value=7.0) for point in KNOWN]
    assert estimates.together([*crooked, *other[:4]], at) == pytest.approx(18)


def test_the_error_is_first_that_of_the_group():
    other = [dataclasses.replace(KNOWN[4], value=2 * KNOWN[4].value, group=("other",))]
    at = dataclasses.replace(KNOWN[1], size=2.5, terms=(1.0, 2.5))
    errors = [
        estimates.estimate(
            [*KNOWN, *other], dataclasses.replace(at, group=group), estimates.together
        ).error
        for group in ((), ("other",))
    ]
    assert errors[0] < 1e-6
    assert errors[1] == pytest.approx(1.0)
