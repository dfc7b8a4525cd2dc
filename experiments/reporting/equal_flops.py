"""Rows of a fidelity section -> each mechanism's error at equal FLOPs, between its own budgets."""

import numpy as np
import pandas as pd

from experiments.analysis import fits, frames
from experiments.analysis.formats import Column

# of full attention's FLOPs
RATIOS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
COLUMNS = (
    Column("inputs", "inputs"),
    Column("n", "N", 12),
    Column("ratio", "of full's FLOPs", 4),
    Column("label", "mechanism"),
    Column("target", "approximates"),
    Column("error", "error", 3),
    Column("budget", "budget"),
    Column("from_value", "from", 12),
    Column("to_value", "to", 12),
    Column("verdict", "verdict"),
)


def table(rows: pd.DataFrame) -> list[dict]:
    """By inputs, N and ratio; the least error first, what has no budgets around the ratio last."""
    found = []
    for (inputs, n), panel in rows.groupby(["inputs", "n"], sort=True):
        for ratio in RATIOS:
            here = [at(curve, ratio) for _, curve in panel.groupby("label", sort=True)]
            here.sort(key=lambda row: (row["error"] is None, row["error"] or 0.0, row["label"]))
            found += [{"inputs": inputs, "n": n, "ratio": ratio, **row} for row in here]
    return found


def at(curve: pd.DataFrame, ratio: float) -> dict:
    """A label's error at this ratio, in log-log between its nearest budgets below and above."""
    first = curve.iloc[0]
    row = {"label": first.label, "target": first.target, "budget": first.budget, "error": None}
    row["records"] = frames.sources(curve.records)
    known = curve[(curve.error > 0) & (curve.flops_ratio > 0)]
    # the better one of two budgets of the same FLOPs
    known = known.sort_values(["flops_ratio", "error"]).drop_duplicates("flops_ratio")
    below, above = known[known.flops_ratio <= ratio], known[known.flops_ratio >= ratio]
    if known.empty:
        return row | {"verdict": "no error measured"}
    if below.empty or above.empty:
        low, high = known.flops_ratio.iloc[[0, -1]]
        return row | {"verdict": f"out of range: measured {spell(low, high)}"}
    ends = pd.DataFrame([below.iloc[-1], above.iloc[0]])
    error = fits.interpolate(ends.flops_ratio, ends.error, ratio)
    low, high = np.sort(ends.value.astype(float))
    row["records"] = frames.sources(ends.records)
    verdict = "measured" if below.index[-1] == above.index[0] else "interpolated"
    return row | {"error": error, "from_value": low, "to_value": high, "verdict": verdict}


def spell(low: float, high: float) -> str:
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
