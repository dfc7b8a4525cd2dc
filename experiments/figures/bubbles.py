"""The closing picture of the lectures: score upwards, speed to the right, memory as the area."""

import dataclasses
import textwrap

import matplotlib.ticker as ticks
from matplotlib.lines import Line2D

from experiments.analysis import published
from experiments.analysis.formats import significant
from experiments.analysis.quality import MEMORY, memory_of
from experiments.figures import canvas, palette
from experiments.figures.canvas import Drawing
from experiments.figures.palette import MUTED
from experiments.tasks.metric import Metric

# square points
LARGEST = 1300
# points, of the key of sizes
KEY = 7.5
# speeds that differ by more than this factor would crowd the slow ones on a linear axis
WIDE = 20


@dataclasses.dataclass(frozen=True)
class Bubble:
    """`speed` in steps a second; without `bytes` only its marker is drawn."""

    label: str
    style: palette.Style
    score: float
    speed: float
    bytes: float | None


def of_rows(rows, look) -> list[Bubble]:
    """Of rows with a score and a time, such as `quality.of_one_device` has."""
    return [
        Bubble(
            row["label"],
            look[row["label"]],
            row["score"],
            1 / row["seconds_per_step"],
            row.get("memory"),
        )
        for row in rows
    ]


def of_arena(task: str | None = None) -> list[Bubble]:
    """As published by the Long-Range Arena: of a task, or the mean of its five."""
    return [
        Bubble(row.Index, palette.style(row.mechanism), row.score, row.speed, row.bytes)
        for row in published.arena(task).itertuples()
    ]


def draw(
    section, title, metric: Metric, ours, theirs, lost, what, scored, rule=None
) -> list[Drawing]:
    """One figure, with a second panel where there are published bubbles; [] without our own.

    `lost`: words on what has no score; `what`: on the scores, `scored`: on the published ones;
    `rule`: (name, score) of the best rule without a model.
    """
    if not ours:
        return []
    held = memory_of(section.frame)
    rows, labels = 1 + bool(theirs), len(ours) + len(theirs) + 6 * bool(theirs)
    figure, axes = canvas.page(section, title, rows=rows, labels=labels, share=False)
    axes = list(axes) if theirs else [axes]
    memory = f"memory: {MEMORY[held]}" if held else "memory was not recorded"
    words = [line for text in (memory, "; ".join(lost)) for line in textwrap.wrap(text, 40)]
    _panel(axes[0], metric, ours, "\n".join(["ours", *words]), rule)
    area = f"the area is memory: {MEMORY[held]}" if held else memory
    text = f"{what} against training steps a second; {area}."
    if rule:
        text += " The dashed line needs no model."
    if theirs:
        where = f"published, arXiv:2011.04006\n{scored}\nspeed, memory: table 2, N = 4,000"
        _panel(axes[1], metric, theirs, where)
        text += (
            " Below, the coordinates of the Long-Range Arena (arXiv:2011.04006, tables 1 and 2): "
            "steps a second and memory of byte text at N = 4,000, batch 32, on 16 TPU v3."
        )
    return [Drawing(f"{section.name}-speed", text, figure)]


def _panel(ax, metric, bubbles, heading, rule=None):
    largest = max((bubble.bytes or 0 for bubble in bubbles), default=0)
    ends = []
    for bubble in sorted(bubbles, key=lambda bubble: -(bubble.bytes or 0)):
        color, at = bubble.style.color, (bubble.speed, bubble.score)
        if bubble.bytes:
            area = LARGEST * bubble.bytes / largest
            ax.scatter(*at, s=area, color=color, alpha=0.22, linewidths=0, zorder=2)
        ax.plot(*at, **bubble.style.plot() | {"linestyle": "none"}, zorder=3)
        size = f", {_bytes(bubble.bytes)}" if bubble.bytes else ""
        ends.append((*at, f"{bubble.label}  {metric.text(bubble.score)}{size}", color))
    if rule:
        ax.axhline(rule[1], **canvas.RULE)
    ax.margins(0.12, 0.2)
    ax.autoscale_view()
    slowest, fastest = (of(bubble.speed for bubble in bubbles) for of in (min, max))
    if fastest > WIDE * slowest:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(ticks.FuncFormatter(lambda x, _: f"{x:g}"))
        ax.set_xlim(slowest / 1.6, 1.6 * fastest)
    else:
        ax.set_xlim(0, 1.18 * fastest)
    if rule:
        ends.append((ax.get_xlim()[1], rule[1], f"{rule[0]}  {metric.text(rule[1])}", MUTED))
    ax.set_xlabel("training steps a second")
    canvas.score_axis(ax, metric)
    if not metric.higher_is_better:
        ax.invert_yaxis()
    if largest:
        size = {"ls": "none", "marker": "o", "mfc": "none", "mec": MUTED}
        smallest = min(bubble.bytes for bubble in bubbles if bubble.bytes)
        keys = [
            Line2D([], [], label=_bytes(held), ms=(held / largest * LARGEST) ** 0.5, **size)
            for held in dict.fromkeys((largest, smallest))
        ]
        # as wide and as far apart as the largest needs, in units of the font
        wide = LARGEST**0.5 / KEY
        room = {"handlelength": wide, "labelspacing": wide - 1, "borderpad": wide / 2}
        ax.legend(handles=keys, frameon=False, labelcolor=MUTED, fontsize=KEY, loc="best", **room)
    canvas.end_labels(ax, ends, heading)


def _bytes(count):
    scale, unit = (1e9, "GB") if count >= 1e9 else (1e6, "MB")
    return f"{significant(count / scale, 2)} {unit}"
