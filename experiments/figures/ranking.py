"""Many models at one N, ranked: a row each, which no bundle of curves lets anyone read."""

import textwrap

from experiments.analysis import formats, quality
from experiments.analysis.formats import Column, missing
from experiments.figures import canvas
from experiments.figures.canvas import Drawing
from experiments.figures.palette import GRID, MUTED, PAPER

# models beyond which curves cover each other
CROWD = 12


def draw(section, metric, rows, look) -> list[Drawing]:
    """[] where curves can be read."""
    models = [row for row in rows if row["what"] == "model" and not missing(row.get("score"))]
    n = quality.fullest(models) if models else None
    here = [row for row in models if row["n"] == n]
    if len(here) <= CROWD:
        return []
    here.sort(key=lambda row: -metric.sign * row["score"])
    others = _other(models, n, here)
    tall = 1.5 + 0.2 * len(here)
    figure = canvas.headed(section, f"{metric.title} at N = {n:,}, ranked", canvas.WIDTH, tall)
    ax = figure.subplots()
    for y, row in enumerate(here):
        _row(ax, y, row, others.get(row["label"]), look[row["label"]].plot())
        text = _exact(metric, row["score"])
        text += f" ± {_exact(metric, row['stderr'])}" if row["stderr"] else ""
        place = {"transform": ax.get_yaxis_transform(), "fontsize": 8, "va": "center"}
        ax.text(1.01, y, f"{text} ({row['seeds']})", **place)
    low, high = ax.get_xlim()
    beside = [row for row in rows if row["what"] != "model" and row["n"] in (None, n)]
    beside = [row for row in beside if not missing(row["score"])]
    lines = sorted((row["score"], _name(row)) for row in beside)
    for score, _ in lines:
        ax.axvline(score, **canvas.RULE)
    ax.set_xlim(low, high)
    ax.set_ylim(len(here) - 0.4, -0.6)
    ax.set_yticks(range(len(here)), [row["label"] for row in here])
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", color=GRID)
    canvas.score_axis(ax, metric, axis="x")
    drawn = [f"{name} {_exact(metric, score)}" for score, name in lines if low <= score <= high]
    off = [f"{name} {_exact(metric, score)}" for score, name in lines if not low <= score <= high]
    notes = [f"hollow: N = {next(iter(others.values()))['n']:,}"] if others else []
    notes += [f"dashed: {'; '.join(drawn)}"] if drawn else []
    notes += [f"beyond the axis: {'; '.join(off)}"] if off else []
    said = "\n".join(line for note in notes for line in textwrap.wrap(note, 90))
    ax.set_title(said, fontsize=7.5, color=MUTED, fontweight="normal")
    text = (
        f"{metric.title} on the test split at N = {n:,}, the best on top; bars are the standard "
        "error over seeds, in brackets how many; dashed lines need no model or are published."
    )
    return [Drawing(f"{section.name}-ranked", text, figure)]


def _row(ax, y, row, other, style):
    """The score with its bar, joined to that of another N, which is hollow."""
    style = style | {"linestyle": "none"}
    ax.errorbar(row["score"], y, xerr=row["stderr"] or 0, capsize=3, zorder=4, **style)
    if other:
        ax.plot([other["score"], row["score"]], [y, y], color=style["color"], lw=0.8, zorder=2)
        hollow = {"markerfacecolor": PAPER, "markeredgecolor": style["color"]}
        ax.plot(other["score"], y, **style | hollow, zorder=3)


def _name(row):
    return f"published {row['model']}" if row["what"] == "published" else row["label"]


def _exact(metric, value):
    return formats.cell(value, Column("", "", decimals=metric.decimals, scale=metric.scale))


def _other(models, n, here):
    """By label, the rows of the N besides that most of these have too."""
    labels = {row["label"] for row in here}
    beside = [row for row in models if row["n"] != n and row["label"] in labels]
    if not beside:
        return {}
    at = quality.fullest(beside)
    return {row["label"]: row for row in beside if row["n"] == at}
