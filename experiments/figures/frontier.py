"""A fidelity section -> figures: error against FLOPs over full's, the budget, and N."""

import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from experiments.analysis.formats import missing, significant
from experiments.analysis.frames import Section
from experiments.figures import canvas, palette
from experiments.figures.canvas import Drawing
from experiments.figures.palette import MUTED
from experiments.reporting import errors

# what errs less is full attention but for rounding, and would flatten the figure
EXACT = 1e-5


def draw(section: Section) -> list[Drawing]:
    """Two figures for each kind of inputs and N that has numbers, and one over all N."""
    rows = errors.fidelity(section)
    look = palette.styles(rows)
    drawings = []
    for inputs, of_inputs in rows.groupby("inputs", sort=True):
        for n, panel in of_inputs.groupby("n", sort=True):
            failed = panel[panel.word != "ok"]
            panel = panel[(panel.error > EXACT) & (panel.flops_ratio > 0)]
            if len(panel):
                drawings.append(_against_flops(section, inputs, n, panel, look))
            budgeted = panel[panel.value > 0] if len(panel) else panel
            if len(budgeted):
                drawings.append(_against_budget(section, inputs, n, budgeted, failed, look))
        usual = middle(of_inputs[of_inputs.error > EXACT])
        if usual.n.nunique() > 1:
            drawings.append(_against_length(section, inputs, usual, look))
    return drawings


def middle(rows: pd.DataFrame) -> pd.DataFrame:
    """A label's rows of one budget: the middle one of those that most N have."""
    kept = []
    for _, curve in rows.groupby("label", sort=True):
        if curve.value.notna().any():
            lengths = curve.groupby("value").n.nunique()
            values = lengths.index[lengths == lengths.max()]
            curve = curve[curve.value == values[len(values) // 2]]
        kept.append(curve)
    return pd.concat(kept) if kept else rows


def _against_flops(section, inputs, n, panel, look):
    labels = panel.label.nunique()
    figure, ax = canvas.page(section, f"Error per FLOP, {inputs} inputs, N = {n:,}", labels=labels)
    ends = _curves(ax, panel, "flops_ratio", look)
    ax.axvline(1, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
    ax.set_xscale("log")
    wide = panel.flops_ratio.max() > 1e3 * panel.flops_ratio.min()
    subs = (1, 3) if wide else (1, 2, 5)
    ax.xaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=20))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.set_xlabel("FLOPs over those of full attention")
    heading = "label: its last budget\n" + _baseline(ax, panel)
    _error_axis(ax)
    canvas.end_labels(ax, ends, heading)
    text = (
        f"Relative error against full attention and FLOPs over full's, {inputs} inputs, "
        f"N = {n:,}: lower and further left is better. A marker is a budget; bars are the least "
        "and most over seeds; the upright line is full's FLOPs, the level one the mean of the "
        "visible values. Errors of rounding alone are left out."
    )
    return Drawing(f"{section.name}-frontier-{inputs}-n{n}", text, figure)


def _against_budget(section, inputs, n, panel, failed, look):
    labels = panel.label.nunique()
    figure, ax = canvas.page(
        section, f"Error per budget, {inputs} inputs, N = {n:,}", labels=labels
    )
    ends = _curves(ax, panel, "value", look)
    ax.set_xscale("log", base=2)
    failed = failed[failed.value > 0]
    values = sorted({int(value) for value in [*panel.value, *failed.value]})
    ax.xaxis.set_major_locator(FixedLocator(values[:: -(-len(values) // 10)]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.set_xlabel("budget")
    heading = "label: what is counted\n" + _baseline(ax, panel)
    _error_axis(ax)
    canvas.failures(ax, [(row.value, row.word, look[row.label]) for row in failed.itertuples()])
    canvas.end_labels(ax, ends, heading)
    text = (
        f"Relative error against full attention and the budget that each mechanism has (named at "
        f"its curve), {inputs} inputs, N = {n:,}; x a failed point, the level line the mean of the "
        "visible values."
    )
    return Drawing(f"{section.name}-budget-{inputs}-n{n}", text, figure)


def _against_length(section, inputs, usual, look):
    labels = usual.label.nunique()
    figure, ax = canvas.page(section, f"Error against N, {inputs} inputs", labels=labels)
    ends = _curves(ax, usual, "n", look)
    canvas.axes(ax, usual.n, None)
    level = usual.groupby("n").error_mean.median()
    ax.plot(level.index, level, color=MUTED, lw=1, ls=(0, (1.2, 1.6)), zorder=1)
    _error_axis(ax)
    canvas.end_labels(ax, ends, "label: its one budget\ndotted: the mean of values")
    text = (
        f"Relative error against full attention and N, {inputs} inputs, each mechanism at one "
        "budget: the middle one of those measured at every N. The dotted line is the mean of the "
        "visible values."
    )
    return Drawing(f"{section.name}-length-{inputs}", text, figure)


def _curves(ax, panel, key, look):
    """A curve a label in the order of its budgets; what to write at their right ends."""
    ends = []
    for label, curve in panel.groupby("label", sort=True):
        curve = curve.sort_values(["value", key])
        style = look[label]
        ax.plot(curve[key], curve.error, **style.plot(), zorder=3)
        several = curve[curve.seeds > 1]
        ax.vlines(
            several[key], several.error_min, several.error_max, color=style.color, lw=1, zorder=2
        )
        last = curve.iloc[-1]
        right = curve.loc[curve[key].idxmax()]
        # a label such as lsh_buckets names its budget
        where = (
            "" if missing(last.value) or label.endswith(f"_{last.budget}") else f" {last.budget}"
        )
        if key != "value" and not missing(last.value):
            where += f" {right.value:g}"
        ends.append((right[key], right.error, f"{label}{where}", style.color))
    return ends


def _baseline(ax, panel):
    """The level that ignoring q and k reaches, drawn and in words."""
    # targets differ; that of most
    level = float(panel.error_mean.median())
    ax.axhline(level, color=MUTED, lw=1, ls=(0, (1.2, 1.6)), zorder=1)
    return f"dotted: the mean of values, {significant(level, 2)}"


def _error_axis(ax):
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=20))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.set_ylabel("relative error")
