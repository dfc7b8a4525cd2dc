"""Exponents and crossings of measured curves, each with the range it rests on."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

# growth of FLOPs and time in N by the papers; of memory it is the formula column that says
THEORY = {
    "full": "2",
    "local": "1",
    "strided": "1.5 (stride √N), 2 (fixed)",
    "global": "1",
    "bigbird": "1",
    "lsh": "1, times log N",
    "routing": "1.5 (√N clusters)",
    "sinkhorn": "1 to 1.5 (block √N)",
    "linformer": "1",
    "compressed": "2",
    "nystrom": "1",
    "query_reduction": "1 (latents), 2 (strided)",
    "linear": "1",
    "efficient": "1",
    "performer": "1",
    "rfa": "1",
    "synthesizer": "2",
    "fourier": "1, times log N",
    "spatial_gating": "2",
    "mlp_mixer": "1",
    "probsparse": "1, times log N",
    "auto_correlation": "1, times log N",
    "fourier_enhanced": "1",
    "recurrent": "1",
    "none": "1",
    "convolution": "1",
}
# that a difference of two means is called clear where there is none
CHANCE = 0.05
# curves closer than this factor may change places by chance
NOISE = 1.25


@dataclasses.dataclass(frozen=True)
class Fit:
    """y ~ N^exponent over `points` lengths from `low` to `high`; `stderr` needs 3 of them."""

    exponent: float
    stderr: float | None
    low: int
    high: int
    points: int


@dataclasses.dataclass(frozen=True)
class Crossing:
    """Where a curve becomes the cheaper one and stays so; `at` is None where it never does, and
    where it is cheaper and dearer by turns between `low` and `high`."""

    at: float | None
    low: int | None
    high: int | None
    text: str


def has_log(mechanism: str | None) -> bool:
    return "log N" in THEORY.get(mechanism, "")


def exponent(
    n, y, *, octaves: float = 3, start: int | None = None, per_log: bool = False
) -> Fit | None:
    """Slope of log y on log N over the top `octaves` octaves, or over N >= `start`.

    `per_log` fits y / log2 N instead, for N log N. None with fewer than two usable points.
    """
    n, y = _usable(n, y)
    if per_log:
        n, y = n[n > 1], y[n > 1] / np.log2(n[n > 1])
    if n.size == 0:
        return None
    lowest = start if start is not None else n.max() * np.exp2(-octaves)
    n, y = n[n >= lowest], y[n >= lowest]
    if n.size < 2:
        return None
    x, z = np.log(n), np.log(y)
    x = x - x.mean()
    slope = float(x @ z / (x @ x))
    stderr = None
    if n.size > 2:
        residual = z - z.mean() - slope * x
        stderr = float(np.sqrt(residual @ residual / (n.size - 2) / (x @ x)))
    return Fit(slope, stderr, int(n[0]), int(n[-1]), int(n.size))


def crossing(n, candidate, baseline) -> Crossing:
    """Where `candidate` falls below `baseline` for good, interpolated in log-log."""
    n, candidate, baseline = (np.asarray(a, float) for a in (n, candidate, baseline))
    kept = np.isfinite(candidate) & np.isfinite(baseline) & (candidate > 0) & (baseline > 0)
    order = np.argsort(n[kept], kind="stable")
    n, ratio = n[kept][order], np.log(candidate[kept] / baseline[kept])[order]
    if n.size == 0:
        return Crossing(None, None, None, "no N measured for both")
    if not ratio.any():
        return Crossing(None, None, None, f"equal from {n[0]:,.0f} to {n[-1]:,.0f}")
    if (ratio <= 0).all() and ratio[0] < 0 and ratio[-1] < 0:
        return Crossing(None, None, None, f"cheaper from {n[0]:,.0f}, the smallest measured")
    last = int(np.flatnonzero(ratio >= 0)[-1])
    clear = np.flatnonzero(abs(ratio) > np.log(NOISE))
    falls = clear[:-1][(ratio[clear[:-1]] > 0) & (ratio[clear[1:]] < 0)]
    if last < n.size - 1 and falls.size > 1:
        low, high = int(n[falls[0]]), int(n[last + 1])
        return Crossing(None, low, high, f"to and fro between {low:,} and {high:,}")
    if last < n.size - 1 and ratio[last] == 0:
        at = float(n[last])
        return Crossing(at, int(at), int(at), f"{at:,.0f}, measured equal there")
    if last == n.size - 1:
        end, cheaper = f"up to {n[-1]:,.0f}", n[ratio < 0]
        text = f"never for good {end}, only {_range(cheaper)}" if cheaper.size else f"never {end}"
        return Crossing(None, None, None, text)
    share = ratio[last] / (ratio[last] - ratio[last + 1])
    at = float(np.exp(np.log(n[last]) + share * np.log(n[last + 1] / n[last])))
    low, high = int(n[last]), int(n[last + 1])
    return Crossing(at, low, high, f"{at:,.0f}, between {low:,} and {high:,}")


def _range(n):
    low, high = f"{n.min():,.0f}", f"{n.max():,.0f}"
    return f"at {low}" if low == high else f"between {low} and {high}"


def interpolate(n, y, at: float) -> float:
    """y at N = `at`, in log-log."""
    n, y = _usable(n, y)
    return float(np.exp(np.interp(np.log(at), np.log(n), np.log(y))))


def standard_error(values) -> float | None:
    """std(ddof=1) / sqrt(n); None for fewer than two values."""
    values = np.asarray(values, float)
    return float(values.std(ddof=1) / np.sqrt(values.size)) if values.size > 1 else None


def is_clear(difference: float, errors: Sequence[float], seeds: Sequence[int]) -> bool:
    """Whether two means with these standard errors differ: by more than two standard errors of the
    difference and, since few seeds tell an error badly, by Welch's t-test at 5 %."""
    variances, seeds = np.square(np.asarray(errors, float)), np.asarray(seeds, float)
    total = variances.sum()
    if total == 0:
        return difference != 0
    # one over the degrees of freedom
    rarity = ((variances / total) ** 2 / (seeds - 1)).sum()
    needed = stdtrit(1 / rarity, 1 - CHANCE / 2) if rarity else 0.0
    return bool(abs(difference) > max(2.0, needed) * np.sqrt(total))


def _usable(n, y):
    n, y = np.asarray(n, float), np.asarray(y, float)
    kept = np.isfinite(y) & (y > 0)
    order = np.argsort(n[kept], kind="stable")
    return n[kept][order], y[kept][order]
