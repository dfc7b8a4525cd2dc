"""Cells and columns that tables of trainings share. Imports no jax."""

import dataclasses
import re

from experiments.analysis import frames
from experiments.analysis.formats import Column, cell, missing
from experiments.analysis.frames import Section
from experiments.tasks.metric import Metric

N, STATUS = Column("n", "N", 12), Column("status", "status")
SPANS = (
    Column("params", "parameters", 12),
    Column("params_length_sized", "of them by length", 12),
    Column("steps", "steps", decimals=0),
    Column("batch", "batch", 12),
    Column("lr", "rate", 2),
)
COSTS = (
    Column("flops_per_step", "GFLOP a step", 4, 1e9),
    Column("seconds_per_step", "s a step", 3),
)
# the caption has them for people
SOURCE = tuple(
    Column(key, key, shown=False) for key in ("width", "depth", "dtype", "device", "commit", "date")
)
OPTIONAL = ("params_length_sized", "tokens_per_step", "decode_state_bytes", "memory")
MEAN = "± is the standard error over seeds, in brackets how many."
BOLD = (
    "Bold: ahead of the next by more than two standard errors of their difference and by Welch's "
    "t-test at 5 %, of those with as many parameters; nothing where a rule is better."
)
TIMED = (
    "s a step: the median of a training's steps, the least over seeds, beside whatever else ran on "
    "the machine."
)


def mean_column(key: str, header: str, metric: Metric) -> Column:
    beside = (f"{key}_stderr", f"{key}_seeds", f"{key}_word")
    return Column(key, header, decimals=metric.decimals, scale=metric.scale, beside=beside)


def mean_cell(key: str, row: dict) -> dict:
    """What a `mean_column` shows of a row."""
    seeds = row.get("seeds") or None
    return {
        key: row.get("score"),
        f"{key}_stderr": row.get("stderr"),
        f"{key}_seeds": seeds,
        f"{key}_word": row.get("word") or None,
        f"{key}_records": row.get("records"),
    }


def overall(rows: list[dict]) -> dict:
    """Of the rows of one label, by N: their spans, and the costs of the longest with a score."""
    line = spans(rows) | {"records": frames.sources(row.get("records") for row in rows)}
    scored = [row for row in rows if not missing(row.get("score"))]
    longest = max(scored, key=lambda row: row["n"] or 0) if scored else {}
    line |= costs(longest, line["device"])
    line["costs_n"] = longest.get("n") if longest.get("flops_per_step") else None
    at = {}
    for row in rows:
        # what all seeds share needs no count
        at.setdefault(re.sub(r" \((\d+) of \1\)$", "", row["status"]), []).append(row["n"])
    if len(at) == 1:
        return line | {"status": next(iter(at))}
    said = [f"N = {', '.join(f'{n:,}' for n in ns)}: {text}" for text, ns in at.items()]
    return line | {"status": "; ".join(text for text in said if not text.endswith(": ok"))}


def costs(row: dict, devices: str | None) -> dict:
    """Of one row, in a line of these devices: the time of one of several would not say of which."""
    found = {c.key: row.get(c.key) for c in COSTS}
    return found | ({"seconds_per_step": None} if ", " in (devices or "") else {})


def spans(rows: list[dict]) -> dict:
    """What all rows share that have a score, or from where to where."""
    rows = [row for row in rows if not missing(row.get("score"))] or rows
    return {c.key: _span([row.get(c.key) for row in rows], c) for c in (*SPANS, *SOURCE)}


def _span(values, column):
    known = list(dict.fromkeys(value for value in values if not missing(value)))
    if len(known) < 2:
        return known[0] if known else None
    if any(isinstance(value, str) for value in known):
        # some of them are several
        return ", ".join(sorted({part for value in known for part in str(value).split(", ")}))
    return f"{cell(min(known), column)} to {cell(max(known), column)}"


def used(section: Section, columns, rows):
    """Without the optional ones that no row has; the device where the section has several."""
    known = {key for row in rows for key, value in row.items() if not missing(value)}
    shown = section.device not in set(section.frame[frames.DEVICE])
    return [
        dataclasses.replace(column, shown=column.shown or (shown and column.key == "device"))
        for column in columns
        if column.key in known or column.key not in OPTIONAL
    ]
