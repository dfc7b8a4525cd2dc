"""Sections of records -> figures."""

import matplotlib
from matplotlib.lines import Line2D

from experiments.analysis import findings, fits, frames
from experiments.analysis.frames import Section
from experiments.figures import canvas, frontier, palette, quality_plots
from experiments.figures.canvas import Drawing
from experiments.figures.palette import INK, MUTED
from experiments.reporting import (
    closing,
    contribution,
    crossovers,
    decoding_report,
    horizons,
    lookback,
    shares,
)

SCALING = (
    ("flops_counted", "FLOPs counted"),
    ("bytes_compiled", "Memory, compiled"),
    ("bytes_measured", "Memory, measured peak"),
    ("seconds", "Time"),
)
# the panel that is drawn once more with these alone named, where there are others
MAIN_PANEL = ("forward", "seconds", "Time")
MAIN = (
    *("full", "full chunked", "local", "bigbird", "lsh", "routing", "linformer", "nystrom"),
    *("linear", "performer", "fourier", "recurrent"),
)


def draw(
    section: Section, curves: dict, *, octaves: float = 3, start: int | None = None
) -> list[Drawing]:
    """Every figure of a section; one with no number to show is left out."""
    with matplotlib.rc_context(canvas.RC):
        if section.kind == "kernel":
            return scaling(section, octaves=octaves, start=start)
        return DRAW[section.kind](section, curves)


def scaling(section: Section, *, octaves: float, start: int | None) -> list[Drawing]:
    cells = frames.cells(section)
    look = palette.styles(cells)
    panels = [
        (mode, key, words)
        for mode in findings.MODES
        for key, words in SCALING
        if (findings.column(cells, key)[cells["mode"] == mode] > 0).any()
    ]
    drawings = [_overview(section, cells, panels, look)] if panels else []
    if MAIN_PANEL in panels and not {*look} <= {*MAIN} and {*look} & {*MAIN}:
        figure = _scaling_figure(section, *MAIN_PANEL, look, octaves, start, named=MAIN)
        text = "Time of the forward pass against N; the other mechanisms are thin grey lines."
        drawings.append(Drawing(f"{section.name}-main", text, figure))
    for mode, key, words in panels:
        figure = _scaling_figure(section, mode, key, words, look, octaves, start)
        text = (
            f"{words} of the {mode} pass against N, exponents fitted; ◇ cheaper than the best "
            "exact attention from there on, x a failed point."
        )
        drawings.append(Drawing(f"{section.name}-{key.replace('_', '-')}-{mode}", text, figure))
    return drawings + crossovers.draw(section)


def _overview(section, cells, panels, look):
    """All panels small, under one legend."""
    modes = [mode for mode in findings.MODES if any(mode == of for of, *_ in panels)]
    keys = [(key, words) for key, words in SCALING if any(key == of for _, of, _ in panels)]
    tall = 2.5 * len(modes) + 1.25
    figure = canvas.headed(section, "Everything at a glance", 3.1 * len(keys), tall)
    grid = figure.subplots(len(modes), len(keys), squeeze=False)
    for row, mode in zip(grid, modes, strict=True):
        for ax, (key, words) in zip(row, keys, strict=True):
            ax.set_title(f"{words}, {mode}")
            failed = []
            for label, of_mode, curve in findings.curves(cells):
                if of_mode == mode:
                    canvas.line(ax, curve, findings.column(curve, key), look[label])
                    failed += _failed(curve, look[label])
            canvas.axes(ax, cells.n, key, ticks=5)
            canvas.failures(ax, failed)
    labels = dict.fromkeys(label for label, _, _ in findings.curves(cells))
    handles = [Line2D([], [], **look[label].plot(), label=label) for label in labels]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(7, len(handles)), frameon=False
    )
    text = "Everything at a glance; the figures that follow add exponents and crossings."
    return Drawing(f"{section.name}-overview", text, figure)


def _failed(curve, style):
    return [(row.n, row.word, style) for row in curve.itertuples() if row.word != "ok"]


def _scaling_figure(section, mode, key, words, look, octaves, start, named=None):
    """Labels beside their curves; of those that are not `named` a thin grey line without."""
    shown = look if named is None else {*look} & {*named}
    figure, ax = canvas.page(section, f"{words}, {mode}", labels=len(shown))
    cells, exact = frames.cells(section), findings.exact_labels(section)
    found, failed = [], []
    for label, of_mode, curve in findings.curves(cells):
        if of_mode != mode:
            continue
        y = findings.column(curve, key).where(lambda y: y > 0)
        if label not in shown:
            ax.plot(curve.n, y, color=MUTED, alpha=0.35, lw=0.9, zorder=1)
            continue
        failed += _failed(curve, look[label])
        end = canvas.line(ax, curve, y, look[label], spread=key == "seconds")
        if end is None:
            continue
        fit = fits.exponent(curve.n, y, octaves=octaves, start=start)
        per_log = None
        if fits.has_log(curve.mechanism.iloc[0]) and not key.startswith("bytes"):
            per_log = fits.exponent(curve.n, y, octaves=octaves, start=start, per_log=True)
        met = findings.meeting(section, label, mode, key) if label not in exact else None
        if met and met.at:
            canvas.crossing(ax, met.at, fits.interpolate(curve.n, y, met.at), look[label].color)
        found.append((label, end, fit, per_log, met))
    known = [(fit.low, fit.high) for _, _, fit, _, _ in found if fit]
    common = max(set(known), key=lambda pair: (known.count(pair), pair)) if known else None
    canvas.axes(ax, cells.n[cells["mode"] == mode], key)
    canvas.failures(ax, failed)
    ends = [
        (*end, _end_text(label, fit, per_log, met, common), look[label].color)
        for label, end, fit, per_log, met in found
    ]
    heading = f"fit over N = {common[0]:,} to {common[1]:,}" if common else "too few points to fit"
    if any(fit and (fit.low, fit.high) != common for _, _, fit, _, _ in found):
        heading += "\n* over its own longest N"
    if any(met and met.at for *_, met in found):
        heading += "\n◇ cheaper than the best\n   exact attention from N"
    if named is not None:
        heading += "\ngrey: the other mechanisms"
    canvas.end_labels(ax, ends, heading)
    return figure


def _end_text(label, fit, per_log, met, common):
    text = f"{label}  " + (rf"$N^{{{fit.exponent:.2f}}}$" if fit else "")
    if per_log:
        text += rf" or $N^{{{per_log.exponent:.2f}}}\log N$"
    if fit and (fit.low, fit.high) != common:
        text += "*"
    if met and met.at:
        text += f", ◇ {met.at:,.0f}"
    return text


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
            failed += _failed(curve, look)
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


DRAW = {
    "reorder": reordering,
    "train": quality_plots.draw,
    "arena": closing.draw,
    "horizons": horizons.draw,
    "lookback": lookback.draw,
    "contribution": contribution.draw,
    "grid": lambda section, curves: [],
    "step": lambda section, curves: shares.draw(section),
    "decoding": lambda section, curves: decoding_report.draw(section),
    "fidelity": lambda section, curves: frontier.draw(section),
    **{kind: lambda section, curves: [] for kind in ("numbers", "compiled", "sharding", "plan")},
}
