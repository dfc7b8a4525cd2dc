"""Cells of a scaling section -> how near each mechanism's longest call is to what two CPU cores are
to do. Imports no jax.
"""

import pandas as pd

from experiments.analysis import findings, frames
from experiments.analysis.formats import Column, Table, missing
from experiments.analysis.frames import Section

# of the longest call: its time and the memory of its whole process; of all: their compilation
MOST = {"seconds": (60, "time"), "bytes_process": (4 * 2**30, "memory")}
COMPILATION = (10, "compilation")
COLUMNS = (
    Column("label", "mechanism"),
    Column("mode", "mode"),
    Column("n", "longest N", 12),
    Column("seconds", "s", 3),
    Column("bytes_process", "GiB of the process", 3, 2**30),
    Column("compile_seconds", "longest compilation s", 3),
    Column("compile_n", "at N", 12),
    Column("trace_seconds", "longest tracing s", 3),
    Column("within", "within"),
    Column("status", "beyond"),
)
HOW = (
    "The longest N that came through, and why the next did not. Within: a call of at most 60 s in "
    "a process of at most 4 GiB, inputs and libraries and all, and compilation of at most 10 s at "
    "every N. Tracing, with lowering, is no compilation."
)


def tables(section: Section, text: str) -> list[Table]:
    """[] where no record tells what the process held."""
    cells = section.cells
    if not findings.column(cells, "bytes_process").notna().any():
        return []
    rows = [row for _, _, curve in findings.curves(cells) if (row := _row(curve))]
    title = f"{section.title}: within the bounds of two cores"
    return [Table.of(f"{section.name}-bounds", title, f"{HOW} {text}", COLUMNS, rows)]


def _row(curve):
    came = curve[curve.word == "ok"].sort_values("n")
    if came.empty:
        return None
    took = findings.column(came, "compile_seconds").fillna(0.0)
    last, slowest = came.iloc[-1], came.loc[took.idxmax()]
    lost = curve[(curve.word != "ok") & (curve.n > last.n)].sort_values("n")
    over = [words for key, (most, words) in MOST.items() if last[key] > most]
    most, words = COMPILATION
    over += [words] if took.max() > most else []
    # an older record does not tell what its process held
    known = "unknown" if missing(last.bytes_process) else "yes"
    kept = ("label", "mode", "n", "seconds", "bytes_process")
    return {
        **{key: last[key] for key in kept},
        "compile_seconds": took.max(),
        "compile_n": slowest.n,
        "trace_seconds": pd.to_numeric(findings.column(came, "trace_seconds")).max(),
        "within": f"no: {', '.join(over)}" if over else known,
        "status": lost.status.iloc[0] if len(lost) else "",
        "records": frames.sources([last.records, slowest.records]),
    }
