"""Sections of kind option -> what each choice between speed and memory costs beside the default.

Imports no jax.
"""

import re

import pandas as pd

from experiments.analysis import findings, frames
from experiments.analysis.formats import Column, Table, significant
from experiments.analysis.frames import Section

DEFAULT = "default"
COLUMNS = (
    Column("label", "mechanism"),
    Column("option", "option"),
    Column("mode", "mode"),
    Column("form", "form"),
    Column("n", "N", 12),
    Column("flops_counted", "GFLOP counted", 4, 1e9),
    Column("time_ms", "ms", 4),
    Column("time_ms_q1", "ms q1", 4),
    Column("time_ms_q3", "ms q3", 4),
    Column("seconds_ratio", "time / default's", 3),
    Column("bytes_compiled", "MB compiled", 4, 1e6),
    Column("bytes_compiled_ratio", "memory / default's", 3),
    Column("status", "status"),
)
RATIOS = ("seconds", "bytes_compiled")


def cells(section: Section) -> pd.DataFrame:
    """A row a choice, the default of a mechanism, pass and form before the others."""
    rows = findings.timed(frames.cells(section))
    rows["form"] = rows.causal.map({True: "causal", False: ""})
    for key in RATIOS:
        rows[key] = findings.column(rows, key)
    call = ["label", "mode", "form", "n"]
    rows["size"] = rows.option.map(_size)
    rows = rows.sort_values([*call, "size", "option"], ignore_index=True)
    of_default = rows[rows.option == DEFAULT].set_index(call)
    at = pd.MultiIndex.from_frame(rows[call])
    for key in RATIOS:
        rows[f"{key}_ratio"] = rows[key] / of_default[key].reindex(at).to_numpy()
    return rows


def _size(option):
    """The first number in it: what the choices of one option are sorted by, the default first."""
    found = re.search(r"\d+", option)
    return int(found[0]) if found else -(option == DEFAULT)


def tables(section: Section, text: str) -> list[Table]:
    what = (
        "The same values in other pieces. Memory is scratch and output of the compiled program; "
        "both ratios are to the default's of the same run. What asks for the default's own sizes "
        "is the same program: so far times of one program are apart."
    )
    return [Table.of(section.name, section.title, f"{what} {text}", COLUMNS, cells(section))]


TABLES = {"option": tables}


def name(row: dict) -> str:
    """A point in words, from a row of the table of records."""
    form = " causal" if row["config.causal"] else ""
    return f"{row['config.label']}, {row['config.option']}{form}"


def lines(section: Section):
    """(figure, words, records): how far apart the times of one mechanism's choices are at most."""
    rows = cells(section)
    known = rows[rows.seconds > 0]
    if known.empty:
        return
    spread = known.groupby(["label", "mode", "form", "n"]).seconds
    ratio = spread.max() / spread.min()
    label, mode, form, n = ratio.idxmax()
    call = (known.label == label) & (known["mode"] == mode) & (known.form == form) & (known.n == n)
    words = f"between the slowest and the fastest choice of {label}, {mode} at N = {n:,}"
    yield f"{significant(ratio.max(), 3)}x", words, frames.sources(known[call].records)
