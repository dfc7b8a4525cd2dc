"""Sections -> quantities against N, log-log: exponents fitted, crossings with exact attention;
the table of the exponents.

Imports no jax. Of kernels a figure a pass; of training steps, which have no passes, one.
"""

from collections.abc import Collection

from experiments.analysis import findings, fits, frames
from experiments.analysis.formats import Column, Table
from experiments.analysis.frames import Section
from experiments.figures import canvas, palette
from experiments.figures.canvas import Drawing
from experiments.figures.palette import MUTED

QUANTITIES = (
    ("flops_counted", "FLOPs counted"),
    ("bytes_compiled", "memory, compiled"),
    ("bytes_measured", "memory, measured peak"),
    ("seconds", "time"),
)
# what a crowded figure is drawn once more with, these alone named
MAIN = (
    *("full", "full chunked", "local", "bigbird", "lsh", "routing", "linformer", "nystrom"),
    *("linear", "performer", "fourier", "recurrent"),
    *("full, patches of 16", "linear, patches of 16"),
)
EXPONENTS = (
    Column("label", "mechanism"),
    Column("mode", "mode"),
    Column("quantity", "quantity"),
    Column("exponent", "exponent", decimals=3),
    Column("stderr", "±", decimals=3),
    Column("from_n", "from N", 12),
    Column("to_n", "to N", 12),
    Column("points", "points", 12),
    Column("exponent_per_log", "of y / log N", decimals=3),
    Column("formula", "of the formula", decimals=3),
    Column("theory", "theory"),
    Column("as_expected", "as expected"),
)
# those that a step has, which no formula tells
OF_STEPS = ("label", "quantity", "exponent", "stderr", "from_n", "to_n", "points")
EXPECTED = (
    "As expected: FLOPs and memory within .02 of the formula's slope, time within .15; compile "
    "time that does not grow, within .15. "
)
# of what a caption speaks
CALL = "the {mode} pass"
STEP = "a training step of the whole transformer"


def draw(section: Section, *, octaves: float = 3, start: int | None = None) -> list[Drawing]:
    """A figure a pass and quantity that has a number; before them that of the first pass's time
    with the mechanisms of MAIN alone named, where there are others."""
    cells = frames.cells(section)
    look = palette.styles(cells)
    main, panels, drawings = findings.passes(cells)[0], list(measured(cells)), []
    fit = {"octaves": octaves, "start": start}
    if (main, "seconds", "time") in panels and not {*look} <= {*MAIN} and {*look} & {*MAIN}:
        figure = _figure(section, main, "seconds", "time", look, named=MAIN, **fit)
        text = f"Time of {_of(main)} against N; the other mechanisms are thin grey lines."
        drawings.append(Drawing(f"{section.name}-main", text, figure))
    for mode, key, words in panels:
        figure = _figure(section, mode, key, words, look, **fit)
        text = (
            f"{titled(words)} of {_of(mode)} against N, exponents fitted; ◇ cheaper than the best "
            "exact attention from there on, x a failed point."
        )
        name = "-".join([section.name, key.replace("_", "-"), mode or "step"])
        drawings.append(Drawing(name, text, figure))
    return drawings


def table(section: Section, text: str, *, octaves: float = 3, start: int | None = None) -> Table:
    """The exponents of every curve."""
    cells = frames.cells(section)
    how = f"N >= {start:,}" if start else f"the top {octaves:g} octaves of N"
    of_steps = findings.passes(cells) == [None]
    expected = "" if of_steps else EXPECTED
    return Table.of(
        f"{section.name}-exponents",
        f"{section.title}: fitted exponents",
        f"Slope of log y on log N over {how}; ± is its standard error. {expected}{text}",
        [column for column in EXPONENTS if column.key in OF_STEPS or not of_steps],
        findings.exponents(cells, octaves=octaves, start=start),
    )


def measured(cells):
    """(pass, key, words) of what has a number in some cell; the pass of steps is None."""
    for mode in findings.passes(cells):
        for key, words in QUANTITIES:
            if (findings.column(findings.of_pass(cells, mode), key) > 0).any():
                yield mode, key, words


def titled(words: str) -> str:
    return words[:1].upper() + words[1:]


def failed(curve, style) -> list[tuple]:
    """(N, what befell it, style) of each failed point of a curve."""
    return [(row.n, row.word, style) for row in curve.itertuples() if row.word != "ok"]


def _of(mode):
    return CALL.format(mode=mode) if mode else STEP


def _figure(section, mode, key, words, look, octaves, start, named: Collection | None = None):
    """Labels beside their curves; of those that are not `named` a thin grey line without."""
    shown = look if named is None else {*look} & {*named}
    title = f"{titled(words)}, {mode or 'training step'}"
    figure, ax = canvas.page(section, title, labels=len(shown))
    cells, exact = frames.cells(section), findings.exact_labels(section)
    found, missing = [], []
    for label, of_mode, curve in findings.curves(cells):
        if of_mode != mode:
            continue
        y = findings.column(curve, key).where(lambda y: y > 0)
        if label not in shown:
            ax.plot(curve.n, y, color=MUTED, alpha=0.35, lw=0.9, zorder=1)
            continue
        missing += failed(curve, look[label])
        end = canvas.line(ax, curve, y, look[label], spread=key == "seconds")
        if end is None:
            continue
        fit = fits.exponent(curve.n, y, octaves=octaves, start=start)
        per_log = None
        has_log = mode and fits.has_log(curve.mechanism.iloc[0])
        if has_log and not key.startswith("bytes"):
            per_log = fits.exponent(curve.n, y, octaves=octaves, start=start, per_log=True)
        met = findings.meeting(section, label, mode, key) if label not in exact else None
        if met and met.at:
            canvas.crossing(ax, met.at, fits.interpolate(curve.n, y, met.at), look[label].color)
        found.append((label, end, fit, per_log, met))
    fitted = [fit for _, _, fit, _, _ in found if fit]
    known = [(fit.low, fit.high) for fit in fitted]
    common = max(set(known), key=lambda pair: (known.count(pair), pair)) if known else None
    canvas.axes(ax, findings.of_pass(cells, mode).n, key)
    canvas.failures(ax, missing)
    ends = [
        (*end, _end_text(label, fit, per_log, met, common), look[label].color)
        for label, end, fit, per_log, met in found
    ]
    heading = "too few points to fit"
    if common:
        points = max(fit.points for fit in fitted if (fit.low, fit.high) == common)
        heading = f"fit over N = {common[0]:,} to {common[1]:,}, {points} points"
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
