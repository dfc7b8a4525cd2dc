"""Cells of a scaling section -> tables for a paper: a row a mechanism, a column an N."""

import pandas as pd

from experiments.analysis import findings, quality
from experiments.analysis.formats import Column, Table
from experiments.analysis.frames import Section
from experiments.tasks.metric import Metric

# columns that fit a page; the CSV has every N
SHOWN = 6
# key, words, unit, what the unit divides by, how it is measured; the first that most points have
QUANTITIES = {
    "time": (("seconds", "Time", "ms", 1e-3, "median of warm calls"),),
    "memory": (
        (
            *("bytes_measured", "Memory", "MB", 1e6),
            "growth at the peak of a call, or scratch and output as compiled where that is more",
        ),
        ("bytes_compiled", "Memory", "MB", 1e6, "scratch and output of the compiled program"),
    ),
}
LESS_IS_BETTER = Metric("score", "score", False, 4)
# of many normal samples the standard error of the median is 1.25 sigma / sqrt(n), the quartiles'
# distance 1.35 sigma; of a few the inclusive quartiles are closer: 0.93 is then too little by
# 1.48 at n = 3, 1.30 at 5, 1.18 at 7, about 1 + 1.5 / n
RATIO, OF_FEW = 0.93, 1.5
ERROR = (
    f"± is the standard error of the median, {RATIO} (1 + {OF_FEW} / repeats) of the quartiles' "
    "distance over the root of the repeats: jitter within one run, not between runs; bold: the "
    "quartiles lie below all others', and the median is ahead of the next by more than two "
    "standard errors of their difference. "
)


def tables(section: Section, cells: pd.DataFrame, text: str) -> list[Table]:
    """One for each pass of time and of memory."""
    found = []
    for mode in findings.MODES:
        rows = cells[cells["mode"] == mode]
        came = rows[rows.word == "ok"]
        for name, choices in QUANTITIES.items():
            counts = {of: findings.column(came, of[0]).notna().sum() for of in choices}
            known = max(choices, key=counts.get)
            if (findings.quantity(came, known[0]) > 0).any():
                found.append(_table(section, rows, mode, name, known, text))
    return found


def _table(section, rows, mode, name, quantity, text):
    key, words, unit, scale, how = quantity
    rows = rows.assign(score=findings.quantity(rows, key), stderr=None)
    if key == "seconds":
        quartiles = findings.column(rows, "seconds_q3") - findings.column(rows, "seconds_q1")
        repeats = findings.column(rows, "repeats")
        rows["stderr"] = RATIO * (1 + OF_FEW / repeats) * quartiles / repeats**0.5
    lengths = sorted(rows.n.unique())
    baseline = findings.baseline_label(rows)
    lines = {
        label: {"label": label}
        for label in sorted(rows.label.unique(), key=lambda label: (label != baseline, label))
    }
    for row in rows.to_dict("records"):
        at = f"n{row['n']}"
        lines[row["label"]] |= {
            at: row["score"],
            f"{at}_stderr": row["stderr"],
            f"{at}_word": None if row["word"] == "ok" else row["word"],
            f"{at}_records": row["records"],
        }
    bold = set()
    for n in lengths:
        here = rows[rows.n == n]
        # an error of repeats, not of seeds
        timed = here.drop(columns="seeds", errors="ignore").to_dict("records")
        best = quality.clear_best(timed, LESS_IS_BETTER)
        if best and _apart(best, here[here.label != best["label"]]):
            bold.add(([*lines].index(best["label"]), f"n{n}"))
    # the longest and every so many before it
    shown = lengths[:: -1 * -(-len(lengths) // SHOWN)]
    columns = [
        Column(
            f"n{n}",
            f"{n:,}",
            digits=4,
            scale=scale,
            beside=(f"n{n}_stderr", f"n{n}_seeds", f"n{n}_word"),
            shown=n in shown,
        )
        for n in lengths
    ]
    return Table.of(
        f"{section.name}-{name}-{mode}",
        f"{section.title}: {words.lower()} by N, {mode}",
        f"{words} in {unit}, {how}. {ERROR if key == 'seconds' else ''}{text}",
        (Column("label", f"{unit} at N ="), *columns),
        lines.values(),
        bold,
    )


def _apart(best, others):
    """Whether its quartiles lie below those of all others that were timed."""
    return (others.seconds_q1.dropna() > best["seconds_q3"]).all()
