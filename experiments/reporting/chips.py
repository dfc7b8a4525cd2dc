"""Sections of kind compiled -> what a chip would hold, and the largest N that fits.

Imports no jax.
"""

import math

import pandas as pd

from experiments.analysis import frames
from experiments.analysis.formats import Column, Table
from experiments.analysis.frames import Section

LARGEST = (
    Column("label", "mechanism"),
    Column("mode", "mode"),
    Column("topology", "chips"),
    Column("n", "largest N that fits", 12),
    Column("bytes_held", "MB held a chip there", 4, 1e6),
    Column("bytes_accessed", "MB accessed a chip there", 4, 1e6),
    Column("next_n", "next N", 12),
    Column("why", "why"),
)
POINTS = (
    Column("label", "mechanism"),
    Column("mode", "mode"),
    Column("topology", "chips"),
    Column("n", "N", 12),
    Column("bytes_held", "MB held a chip", 4, 1e6),
    Column("bytes_arguments", "MB arguments", 4, 1e6),
    Column("bytes_temporaries", "MB temporaries", 4, 1e6),
    Column("bytes_accessed", "MB accessed", 4, 1e6),
    Column("status", "status"),
)
MISSING = "not compiled yet"
WHAT = (
    "Compiled for TPU v5e chips of 16 GB by their own compiler (libtpu), not run and not timed. "
    "Bytes are of each chip: held with arguments and results, accessed with a loop's body once."
)


def tables(section: Section, text: str) -> list[Table]:
    rows = frames.cells(section).sort_values(["label", "mode", "topology", "n"], ignore_index=True)
    # the device of the record is the machine that compiled
    text = text.replace("device ", "compiled on ", 1)
    return [
        Table.of(
            f"{section.name}-largest",
            f"{section.title}: the largest N that fits",
            f"{WHAT} {text}",
            LARGEST,
            largest(rows),
        ),
        Table.of(section.name, section.title, f"{WHAT} {text}", POINTS, rows),
    ]


def largest(rows: pd.DataFrame) -> list[dict]:
    """By mechanism, mode and chips: the last N before the first that did not compile, or that has
    no record though others have one of it."""
    found, lengths = [], sorted(rows.n.unique())
    for (label, mode, topology), curve in rows.groupby(["label", "mode", "topology"], sort=True):
        bad = {n: MISSING for n in lengths if n not in set(curve.n)}
        bad |= {r.n: r.status for r in curve[curve.word != "ok"].itertuples()}
        first = min(bad, default=math.inf)
        good = curve[(curve.word == "ok") & (curve.n < first)]
        row = {"label": label, "mode": mode, "topology": topology}
        row["records"] = frames.sources([*good.records[-1:], *curve.records[curve.n == first]])
        if not good.empty:
            row |= good.iloc[-1][["n", "bytes_held", "bytes_accessed"]].to_dict()
        if bad:
            row |= {"next_n": first, "why": bad[first]}
        found.append(row)
    return found


def lines(section: Section):
    """(figure, words, records): how many mechanisms fit a million positions, on how many chips."""
    rows = frames.cells(section)
    longest = rows[rows.n == rows.n.max()]
    for (topology, mode), part in longest.groupby(["topology", "mode"], sort=True):
        fit, of = (part.word == "ok").sum(), len(part)
        words = f"compile and fit N = {rows.n.max():,} on {topology}, {mode}"
        yield f"{fit} of {of}", words, frames.sources(part.records)
