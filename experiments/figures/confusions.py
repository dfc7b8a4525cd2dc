"""What classifiers confuse, of their records -> pictures: a matrix a model, and ROC curves."""

import json

import numpy as np

from experiments.analysis.findings import column
from experiments.figures import canvas
from experiments.figures.canvas import WIDTH, Drawing
from experiments.figures.palette import MUTED

# inches of a panel, and classes up to which each is named
PANEL, NAMED = 1.5, 12


def of(section, name) -> dict[str, np.ndarray]:
    """{label: the metric `name` of each seed [seeds, ...]} at the longest N that has any; full
    attention first."""
    values = column(section.frame, f"metrics.test_{name}")
    known = section.frame[values.notna()]
    known = known[known["config.n"] == known["config.n"].max()]
    found = {
        label: np.array([_read(value) for value in values[group.index]], float)
        for label, group in known.groupby("label", sort=True)
    }
    return dict(sorted(found.items(), key=lambda item: item[0] != "full"))


def _read(value):
    """Lists come as JSON."""
    return json.loads(value) if isinstance(value, str) else value


def draw(section, look) -> list[Drawing]:
    return [
        make(section, found, look)
        for name, make in (("confusion", _matrices), ("roc", _curves))
        if (found := of(section, name))
    ]


def _matrices(section, found, look):
    columns = min(len(found), int(WIDTH / PANEL))
    rows = -(-len(found) // columns)
    size = (WIDTH, rows * (PANEL + 0.35) + 1.0)
    figure, axes = canvas.tiles(section, "What is taken for what", len(found), columns, size)
    for ax, (label, seeds) in zip(axes, found.items(), strict=True):
        total = seeds.sum(0)
        ax.imshow(total / np.maximum(total.sum(1, keepdims=True), 1), cmap="Greys", vmin=0, vmax=1)
        ax.set_title(f"{label}  {total.trace() / total.sum():.0%}", fontsize=8)
        ticks = range(len(total)) if len(total) <= NAMED else ()
        ax.set_xticks(ticks)
        ax.set_yticks(ticks)
        ax.tick_params(labelsize=6, length=0)
    figure.supylabel("true class", fontsize=8)
    figure.supxlabel("said", fontsize=8)
    words = (
        "Confusion matrices on the test split, the sum over seeds: of each true class (rows) the "
        "share that was said to be each class (columns), white 0, black 1. Beside the name, how "
        "many of all are right."
    )
    return Drawing(f"{section.name}-confusion", words, figure)


def _curves(section, found, look):
    areas = of(section, "auc")
    handles = [
        canvas.legend_entry(f"{label}  {areas[label].mean():.3f}", look[label]) for label in found
    ]
    figure, grid = canvas.panels(section, "ROC curves", ["mean of the classes"], 1, handles)
    (ax,) = grid[0]
    for label, seeds in found.items():
        style, mean = look[label], seeds.mean(0)
        at = np.linspace(0, 1, len(mean))
        ax.plot(at, mean, color=style.color, ls=style.line, lw=1.2)
        ax.plot(at[5::15], mean[5::15], style.marker, color=style.color, ms=4)
    ax.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)))
    ax.set_xlabel("false positive rate")
    ax.set_ylabel("true positive rate")
    words = (
        "ROC curves on the test split: each class against the rest, the mean of the classes and of "
        "the seeds; with its area. Dashed: chance."
    )
    return Drawing(f"{section.name}-roc", words, figure)
