"""Scores and losses against steps: of few models together, of many a panel each."""

import numpy as np

from experiments.analysis.formats import missing
from experiments.figures import canvas, multiples
from experiments.figures.canvas import Drawing
from experiments.figures.palette import GRID
from experiments.tasks.metric import validation

# models beyond which curves cover each other
FEW = 6
# of a classifier: (key, how it is drawn, how that is called)
LOSSES = (("train_loss", "--", "dashed on batches"), ("val_loss", "-", "solid on validation"))
HOW = " and ".join(words for *_, words in LOSSES)
# the faintest of several N in one panel
FAINT = 0.35


def draw(section, metric, curves, look, by="config.n") -> list[Drawing]:
    """A line a seed; [] where there are no curves. Few models share a panel for each value of the
    column `by`. A score that is no loss has the losses beside it."""
    metric = validation(metric)
    key = f"val_{metric.key}"
    found = _found(section, key, curves, by)
    if not found:
        return []
    shown = {label for lines in found.values() for label, _ in lines}
    shown = sorted(shown, key=lambda label: (label != "full", label))
    drawn = _together if len(shown) <= FEW else _apart
    return drawn(section, metric, found, shown, look)


def _found(section, key, curves, by):
    """{value of `by` in words: (label, points) of each seed}"""
    frame, found = section.frame, {}
    for row in frame.sort_values([by, "label", "id"]).itertuples():
        points = [
            point
            for point in curves.get((row.id, str(frame["env.device"][row.Index])), [])
            if all(isinstance(point.get(k), int | float) for k in ("step", key))
        ]
        if points:
            n, at = int(frame["config.n"][row.Index]), frame[by][row.Index]
            name = f"N = {n:,}" if by == "config.n" else f"{at}, N = {n:,}"
            found.setdefault(name, []).append((row.label, points))
    return found


def _together(section, metric, found, shown, look):
    handles = [canvas.legend_entry(label, look[label]) for label in shown]
    rows = 1 + metric.higher_is_better
    figure, grid = canvas.panels(section, "Learning curves", [*found], rows, handles)
    for column, lines in zip(grid.T, found.values(), strict=True):
        for label, points in lines:
            style = look[label]
            _curve(column[0], points, f"val_{metric.key}", style.color, style.line, style.marker)
            for name, line, _ in LOSSES if rows > 1 else ():
                _curve(column[1], points, name, style.color, line)
        column[-1].set_xlabel("step")
    canvas.score_axis(grid[0][0], metric, "validation")
    text = f"{metric.title} on the validation split while training, a line a seed."
    if rows > 1:
        grid[1][0].set_ylabel("loss, nats")
        text += f" Below it the loss, {HOW}."
    return [Drawing(f"{section.name}-curves", text, figure)]


def _apart(section, metric, found, shown, look):
    several = len(found) > 1
    shades = dict(zip(found, np.linspace(FAINT if several else 1, 1, len(found)), strict=True))
    names = "; ".join(found)
    notes = ["a line a seed", f"from faint to full colour: {names}" if several else names]
    kinds = {"curves": ("Learning curves", ((f"val_{metric.key}", "-"),))}
    if metric.higher_is_better:
        kinds["losses"] = ("Losses while training", tuple(loss[:2] for loss in LOSSES))
    drawings = []
    for kind, (title, keys) in kinds.items():
        said = notes + [HOW] * (kind == "losses")
        said += ["behind it, in grey, the others on validation"] * (not several)
        figure, axes = multiples.panels(section, title, len(shown), said)
        for ax, label in zip(axes, shown, strict=True):
            for name, lines in found.items():
                for other, points in lines if not several else ():
                    if other != label:
                        _curve(ax, points, keys[-1][0], GRID, "-", zorder=1)
                for _, points in (line for line in lines if line[0] == label):
                    for key, line in keys:
                        _curve(ax, points, key, look[label].color, line, alpha=shades[name])
            ax.set_title(label, fontsize=8, color=look[label].color)
            ax.tick_params(labelsize=7)
        if kind == "curves":
            canvas.score_axis(axes[0], metric, "validation")
            axes[0].set_ylabel("")
        figure.supylabel(
            "loss, nats" if kind == "losses" else f"{metric.header}, validation", fontsize=8
        )
        figure.supxlabel("step", fontsize=8)
        text = f"{title}, a panel a model: {'; '.join(said)}."
        drawings.append(Drawing(f"{section.name}-{kind}", text, figure))
    return drawings


def _curve(ax, points, key, color, line, marker=None, *, alpha=0.9, zorder=2):
    """A thin line of what the points have of `key`, its end marked."""
    found = [(point["step"], point[key]) for point in points if not missing(point.get(key))]
    if found:
        steps, y = zip(*found, strict=True)
        ax.plot(steps, y, color=color, ls=line, lw=1.2, alpha=alpha, zorder=zorder)
        if marker:
            ax.plot(steps[-1], y[-1], marker, color=color, ms=5)
