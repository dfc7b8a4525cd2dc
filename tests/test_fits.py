"""Exponents and crossings of curves whose answers are known."""

import numpy as np
import pytest
from scipy import stats

from experiments.analysis import fits


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
def test_exponent_of_a_power(exponent):
    n = np.array([64, 128, 256, 512, 1024, 2048])
    fit = fits.exponent(n, 3e-7 * n**exponent)
    assert fit.exponent == pytest.approx(exponent)
    assert (fit.low, fit.high, fit.points) == (256, 2048, 4)
    assert fit.stderr == pytest.approx(0, abs=1e-9)


def test_exponent_uses_only_its_range_and_what_was_had():
    n = np.array([16, 32, 64, 128, 256])
    y = np.array([1e9, 1e9, 64.0**2, np.nan, 256.0**2])
    fit = fits.exponent(n, y, start=64)
    assert fit.exponent == pytest.approx(2)
    assert (fit.low, fit.high, fit.points, fit.stderr) == (64, 256, 2, None)
    assert fits.exponent(n, y, start=256) is None
    assert fits.exponent(n, [0] * 5) is None


def test_exponent_per_log_of_n_log_n():
    n = 2 ** np.arange(8, 13)
    assert fits.exponent(n, n * np.log2(n)).exponent == pytest.approx(1.139, abs=1e-3)
    assert fits.exponent(n, n * np.log2(n), per_log=True).exponent == pytest.approx(1)


def test_crossing_of_powers_is_exact_with_its_bracket():
    n = np.array([16, 32, 64, 128])
    met = fits.crossing(n, 4096.0 * n, 96.0 * n**2)
    assert met.at == pytest.approx(128 / 3)
    assert (met.low, met.high) == (32, 64)
    assert met.text == "43, between 32 and 64"


@pytest.mark.parametrize(
    ("candidate", "at", "text"),
    [
        ([5, 5, 5], None, "never up to 64"),
        ([1, 1, 1], None, "cheaper from 16, the smallest measured"),
        ([2, 2, 2], None, "equal from 16 to 64"),
        ([3, 2, 1], 32, "32, measured equal there"),
        ([3, 3, 2], None, "never up to 64"),
        ([1, 1, 2], None, "never for good up to 64, only between 16 and 32"),
        ([1, 2, 1], None, "cheaper from 16, the smallest measured"),
        ([1, 3, 1], None, "between 32 and 64"),
        ([np.nan] * 3, None, "no N measured for both"),
        ([1, 3, 3], None, "never for good up to 64, only at 16"),
    ],
)
def test_crossing_in_words(candidate, at, text):
    met = fits.crossing([16, 32, 64], candidate, [2, 2, 2])
    assert text in met.text
    assert at is None or met.at == at


def test_a_curve_that_goes_to_and_fro_has_a_bracket_and_no_crossing():
    """As one that is padded to a size at every other N."""
    n = 2 ** np.arange(4, 10)
    met = fits.crossing(n, [3, 1, 3, 1, 3, 1], [2] * 6)
    assert (met.at, met.low, met.high) == (None, 16, 512)
    assert met.text == "to and fro between 16 and 512"
    assert fits.crossing(n, [3, 1, 3, 1, 1, 3], [2] * 6).text == (
        "never for good up to 512, only between 32 and 256"
    )
    # where they are all but equal, that is noise
    met = fits.crossing(n, [3, 1.9, 2.1, 1, 1, 1], [2] * 6)
    assert (met.low, met.high) == (64, 128)


def test_standard_error_needs_two():
    assert fits.standard_error([1.0, 2.0, 4.0]) == pytest.approx(np.std([1, 2, 4], ddof=1) / 3**0.5)
    assert fits.standard_error([1.0]) is None


def test_so_many_octaves_are_all():
    n = np.array([64, 128, 256])
    assert fits.exponent(n, n**2.0, octaves=2000.0).low == 64


@pytest.mark.parametrize(
    ("one", "other"),
    [((0.77, 0.68, 0.60), (0.79, 0.83, 0.84)), ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7, 0.8))],
)
def test_two_means_are_clear_as_welch_s_test_says(one, other):
    expected = stats.ttest_ind(one, other, equal_var=False).pvalue < 0.05
    errors, seeds = [*map(fits.standard_error, (one, other))], [len(one), len(other)]
    assert fits.is_clear(np.mean(one) - np.mean(other), errors, seeds) == expected


def test_means_without_any_spread_differ_where_they_do():
    assert fits.is_clear(0.01, [0.0, 0.0], [3, 3])
    assert not fits.is_clear(0.0, [0.0, 0.0], [3, 3])
