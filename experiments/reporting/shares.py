"""Sections of kind step -> attention's share of a training step: tables, figures, headlines.

Imports no jax. A share is 1 - rest / whole, with the rest measured in the same process.
"""

import pandas as pd

from experiments.analysis import findings, fits, frames
from experiments.analysis.formats import Column, Table
from experiments.analysis.frames import Section
from experiments.figures import canvas, palette
from experiments.figures.canvas import Drawing
from experiments.figures.palette import INK

# key of the whole, words
QUANTITIES = {
    "flops_counted": "FLOPs",
    "seconds": "time",
    "bytes_compiled": "memory, compiled",
}
HALF = ("flops_counted", "seconds")
STEPS = (
    Column("label", "mechanism"),
    Column("n", "N", 12),
    Column("flops_counted", "GFLOP", 4, 1e9),
    Column("flops_counted_share", "attention's part", decimals=3),
    Column("time_ms", "ms", 4),
    Column("time_ms_q1", "ms q1", 4),
    Column("time_ms_q3", "ms q3", 4),
    Column("seconds_share", "attention's part", decimals=3),
    Column("bytes_compiled", "MB compiled", 4, 1e6),
    Column("bytes_compiled_share", "attention's part", decimals=3),
    Column("bytes_measured", "MB measured", 4, 1e6),
    Column("status", "status"),
)
CROSSINGS = (
    Column("label", "mechanism"),
    Column("flops_counted_n", "N by FLOPs", 4),
    Column("flops_counted_verdict", "half of the step's FLOPs"),
    Column("seconds_n", "N by time", 4),
    Column("seconds_verdict", "half of the step's time"),
)


def cells(section: Section) -> pd.DataFrame:
    """A row a mechanism and N; `<key>_share` is attention's part of the whole, from 0 to 1."""
    rows = findings.timed(frames.cells(section))
    for key in QUANTITIES:
        rows[key] = findings.column(rows, key)
        share = 1 - findings.column(rows, f"{key}_rest") / rows[key]
        # a difference of two times may fall below nothing
        rows[f"{key}_share"] = share.clip(lower=0)
    return rows.sort_values(["label", "n"], ignore_index=True)


def crossings(rows: pd.DataFrame) -> list[dict]:
    """From which N on attention is more than half of the step, by FLOPs and by time."""
    found = []
    for label, curve in rows.groupby("label", sort=True):
        row = {"label": label, "records": frames.sources(curve.records)}
        for key in HALF:
            share = curve[f"{key}_share"].clip(1e-6, 1 - 1e-6)
            met = fits.crossing(curve.n, 1 - share, share)
            row |= {f"{key}_n": met.at, f"{key}_verdict": met.text.replace("cheaper ", "")}
        found.append(row)
    return found


def tables(section: Section, text: str) -> list[Table]:
    rows = cells(section)
    what = (
        "A training step of the whole transformer (AdamW, projections, feed-forward) and "
        "attention's part: what it costs more than one whose q, k and v meet entry by entry."
    )
    half = "Interpolated in log-log between the neighbouring N that were measured."
    return [
        Table.of(
            f"{section.name}-half",
            f"{section.title}: from which N attention is half of a training step",
            f"{half} {text}",
            CROSSINGS,
            crossings(rows),
        ),
        Table.of(section.name, section.title, f"{what} {text}", STEPS, rows),
    ]


def draw(section: Section) -> list[Drawing]:
    rows = cells(section)
    look = palette.styles(rows)
    return [
        _share_figure(section, rows, key, words, look)
        for key, words in QUANTITIES.items()
        if (rows[f"{key}_share"] > 0).any()
    ]


def _share_figure(section, rows, key, words, look):
    title = f"Attention's part of a training step: {words}"
    figure, ax = canvas.page(section, title, labels=len(look))
    ends, failed = [], []
    for label, curve in rows.groupby("label", sort=True):
        y = 100 * curve[f"{key}_share"]
        failed += [(r.n, r.word, look[label]) for r in curve.itertuples() if r.word != "ok"]
        end = canvas.line(ax, curve, y, look[label])
        if end:
            ends.append((*end, f"{label}  {end[1]:.0f} %", look[label].color))
    canvas.axes(ax, rows.n, None)
    ax.set_ylim(0, 100)
    ax.set_ylabel("per cent of the step")
    ax.axhline(50, color=INK, lw=1, ls=(0, (4, 3)), zorder=1)
    canvas.failures(ax, failed)
    canvas.end_labels(ax, ends, f"at N = {rows.n.max():,}, or the last had")
    text = f"Attention's part of a training step's {words} against N; the line is half of it."
    return Drawing(f"{section.name}-{key.replace('_', '-')}-share", text, figure)


def lines(section: Section):
    """(figure, words, records): where full attention is half of the step, by FLOPs and by time."""
    rows = cells(section)
    baseline = findings.baseline_label(rows)
    for row in crossings(rows):
        if row["label"] == baseline:
            for key in HALF:
                words = f"{baseline} is half of a training step's {QUANTITIES[key]}"
                yield f"N: {row[f'{key}_verdict']}", words, row["records"]
