"""Sections of kind decoding -> what a generated token costs, with a state and without. No jax."""

import pandas as pd

from experiments.analysis import findings, fits, frames
from experiments.analysis.formats import Column, Table, significant
from experiments.analysis.frames import Section
from experiments.figures import canvas, palette
from experiments.figures.canvas import Drawing

COLUMNS = (
    Column("label", "mechanism"),
    Column("n", "N", 12),
    Column("token_ms", "ms a token", 4),
    Column("token_ms_uncached", "without a state", 4),
    Column("speedup", "times as fast", 3),
    Column("token_flops", "MFLOP a token", 4, 1e6),
    Column("token_flops_uncached", "without a state", 4, 1e6),
    Column("state_bytes", "decode state, kB", 4, 1e3),
    Column("status", "status"),
)


def cells(section: Section) -> pd.DataFrame:
    """A row a mechanism and N, times and FLOPs a generated token."""
    rows = frames.cells(section)
    for form in ("", "_uncached"):
        rows[f"token_ms{form}"] = findings.column(rows, f"seconds{form}") / (rows.n - 1) * 1e3
        rows[f"token_flops{form}"] = findings.column(rows, f"flops_counted{form}") / (rows.n - 1)
    rows["speedup"] = rows.token_ms_uncached / rows.token_ms
    return rows.sort_values(["label", "n"], ignore_index=True)


def tables(section: Section, text: str) -> list[Table]:
    what = (
        "A model goes on from one token to N, of a source of N tokens if it reads one; times and "
        "FLOPs are of a token. Without a state the whole network is called on all of it, padded "
        "to N, again for each."
    )
    return [
        Table.of(section.name, section.title, f"{what} {text}", COLUMNS, cells(section)),
    ]


def draw(section: Section) -> list[Drawing]:
    rows = cells(section)
    look, found = palette.styles(rows), []
    for key, words in (("token_ms", "with a cached state"), ("token_ms_uncached", "with no state")):
        if not (rows[key] > 0).any():
            continue
        figure, ax = canvas.page(section, f"Time a generated token, {words}", labels=len(look))
        ends, failed = [], []
        for label, curve in rows.groupby("label", sort=True):
            failed += [(r.n, r.word, look[label]) for r in curve.itertuples() if r.word != "ok"]
            end = canvas.line(ax, curve, curve[key] / 1e3, look[label])
            fit = fits.exponent(curve.n, curve[key])
            if end:
                slope = "" if fit is None else f"  N^{fit.exponent:.2f}"
                ends.append((*end, f"{label}{slope}", look[label].color))
        canvas.axes(ax, rows.n, "seconds")
        ax.set_ylabel("time a token")
        canvas.failures(ax, failed)
        canvas.end_labels(ax, ends, "exponents fitted")
        text = f"Time a generated token {words}, against the length that is generated."
        found.append(Drawing(f"{section.name}-{key.replace('_', '-')}", text, figure))
    return found


def lines(section: Section):
    """(figure, words, records): what a state saves full attention at the largest N."""
    rows = cells(section)
    known = rows[(rows.label == findings.baseline_label(rows)) & (rows.word == "ok")]
    if len(known):
        last = known.iloc[-1]
        words = f"a cached state makes {last.label} generate faster, N = {last.n:,}"
        yield f"{significant(last.speedup, 3)}x", words, last.records
