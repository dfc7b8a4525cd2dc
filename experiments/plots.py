"""Sections of records -> figures."""

import matplotlib
from matplotlib.lines import Line2D

from experiments.analysis import findings, fits, frames
from experiments.analysis.frames import Section
from experiments.figures import canvas, frontier, palette, quality_plots
from experiments.figures.canvas import Drawing
from experiments.figures.palette import INK
from experiments.reporting import (
    closing,
    contribution,
    crossovers,
    decoding_report,
    growth,
    horizons,
    lookback,
    shares,
)


def draw(
    section: Section, curves: dict, *, octaves: float = 3, start: int | None = None
) -> list[Drawing]:
    """Every figure of a section; one with no number to show is left out."""
    with matplotlib.rc_context(canvas.RC):
        if section.kind in FITTED:
            return FITTED[section.kind](section, octaves=octaves, start=start)
        return DRAW[section.kind](section, curves)


def scaling(section: Section, **fit) -> list[Drawing]:
    cells = frames.cells(section)
    panels = list(growth.measured(cells))
    drawings = [_overview(section, cells, panels, palette.styles(cells))] if panels else []
    return drawings + growth.draw(section, **fit) + crossovers.draw(section)


def steps(section: Section, **fit) -> list[Drawing]:
    return shares.draw(section) + growth.draw(section, **fit)


def _overview(section, cells, panels, look):
    """All panels small, under one legend."""
    modes = [mode for mode in findings.MODES if any(mode == of for of, *_ in panels)]
    keys = [pair for pair in growth.QUANTITIES if any(pair[0] == of for _, of, _ in panels)]
    tall = 2.5 * len(modes) + 1.25
    figure = canvas.headed(section, "Everything at a glance", 3.1 * len(keys), tall)
    grid = figure.subplots(len(modes), len(keys), squeeze=False)
    for row, mode in zip(grid, modes, strict=True):
        for ax, (key, words) in zip(row, keys, strict=True):
            ax.set_title(f"{growth.titled(words)}, {mode}")
            failed = []
            for label, of_mode, curve in findings.curves(cells):
                if of_mode == mode:
                    canvas.line(ax, curve, findings.column(curve, key), look[label])
                    failed += growth.failed(curve, look[label])
            canvas.axes(ax, cells.n, key, ticks=5)
            canvas.failures(ax, failed)
    labels = dict.fromkeys(label for label, _, _ in findings.curves(cells))
    handles = [Line2D([], [], **look[label].plot(), label=label) for label in labels]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(7, len(handles)), frameon=False
    )
    text = "Everything at a glance; the figures that follow add exponents and crossings."
    return Drawing(f"{section.name}-overview", text, figure)


def reordering(section: Section, _) -> list[Drawing]:
    cells = findings.reorder_cells(section)
    drawings = []
    for (feature_map, d, e), panel in findings.reorder_panels(cells):
        words = "no softmax" if feature_map == "identity" else f"feature map {feature_map}"
        figure, (top, bottom) = canvas.page(section, f"{words}, d = {d}, d' = {e}", rows=2)
        predicted = 2 * d * e / (d + e)
        for ax, key, what in (
            (top, "multiply_adds", "multiply-adds a head"),
            (bottom, "seconds", "time"),
        ):
            _reorder_panel(ax, panel, key, what, predicted)
        top.tick_params(labelbottom=False)
        top.set_xlabel("")
        text = (
            f"(qk)v against q(kv), {words}, d = {d}, d' = {e}. The line is "
            f"N* = 2dd'/(d+d') = {predicted:.4g}; ◇ where the curves meet, counted and timed."
        )
        drawings.append(Drawing(f"{section.name}-{feature_map}-d{d}-e{e}", text, figure))
    return drawings


def _reorder_panel(ax, panel, key, what, predicted):
    ends, failed = [], []
    for order, words in (("qk_v", "(qk)v"), ("q_kv", "q(kv)")):
        curve, look = panel[panel.order == order].sort_values("n"), palette.style(order)
        if key == "seconds":
            failed += growth.failed(curve, look)
        end = canvas.line(ax, curve, findings.column(curve, key), look, spread=key == "seconds")
        if end:
            ends.append((*end, words, look.color))
    both = findings.pair(panel, key)
    met = fits.crossing(both.index, both.q_kv, both.qk_v)
    if met.at:
        canvas.crossing(ax, met.at, fits.interpolate(both.index, both.q_kv, met.at), INK)
    ax.axvline(predicted, color=INK, lw=1, ls=(0, (4, 3)), zorder=1)
    canvas.axes(ax, panel.n, key)
    canvas.failures(ax, failed)
    ax.set_ylabel(what)
    text = met.text.replace(", ", ",\n", 1)
    heading = f"line: N* = {predicted:.4g} by formula\n" + (
        f"◇ {text}" if met.at else f"q(kv) {text}"
    )
    canvas.end_labels(ax, ends, heading)


UNDRAWN = ("option", "numbers", "compiled", "sharding", "plan")
# of what exponents are fitted
FITTED = {"kernel": scaling, "step": steps}
DRAW = {
    "reorder": reordering,
    "train": quality_plots.draw,
    "arena": closing.draw,
    "horizons": horizons.draw,
    "lookback": lookback.draw,
    "contribution": contribution.draw,
    "grid": lambda section, curves: [],
    "decoding": lambda section, curves: decoding_report.draw(section),
    "fidelity": lambda section, curves: frontier.draw(section),
    **{kind: lambda section, curves: [] for kind in UNDRAWN},
}
