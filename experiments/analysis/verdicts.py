"""Scores against what needs no model: which rules a training was to beat, and whether it did.

Imports no jax.
"""

from collections.abc import Iterable

import pandas as pd

from experiments.analysis.findings import column
from experiments.tasks.metric import RULES, Metric

# a verdict begins with one of them
FAILED, SHALLOW = "failed run", "no better than"


def beaten(rows: pd.DataFrame, values: pd.Series, metric: Metric) -> str:
    """The verdict on seeds that do no better than the best of the rules that they have to beat, or
    that count and look nothing up; "" without any."""
    kinds = {f"{FAILED}: does not beat": metric.floor, SHALLOW: metric.shallow}
    for words, keys in kinds.items():
        levels = {key: pd.to_numeric(column(rows, f"metrics.{key}")) for key in keys}
        known = {key: level for key, level in levels.items() if level.notna().any()}
        if known:
            best = max(known, key=lambda key: metric.sign * known[key].mean())
            lost = int((metric.sign * values <= metric.sign * known[best]).sum())
            if lost:
                return f"{words} {RULES[best]} in {lost} of {len(values)} seeds"
    return ""


def strongest(rows: Iterable[dict], metric: Metric, n: int) -> dict | None:
    """The row of the best rule at N of those that a model has to beat; None where none is known."""
    words = {RULES[key] for key in (*metric.floor, *metric.shallow)}
    known = [row for row in rows if row["what"] == "rule" and row["n"] in (None, n)]
    known = [row for row in known if row["label"] in words]
    return max(known, key=lambda row: metric.sign * row["score"], default=None)


def learned(rows: Iterable[dict]) -> bool:
    """Whether some model beats every rule: else their order tells nothing."""
    return any(row.get("seeds") and not row.get("beaten") for row in rows)
