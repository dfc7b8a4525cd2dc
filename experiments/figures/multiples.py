"""Many models: a panel each, where one bundle of curves could not be read."""

import textwrap

from experiments.analysis import quality
from experiments.analysis.formats import missing
from experiments.figures import canvas
from experiments.figures.canvas import Drawing
from experiments.figures.palette import GRID, INK, MUTED, PAPER

COLUMNS = 5
# what every panel shows in black
REFERENCE = "full"


def draw(section, metric, rows, models, look) -> Drawing:
    """`models` are the rows that have a score; what lies beyond theirs is only named."""
    n = quality.fullest(models)
    last = {row["label"]: row["score"] for row in models if row["n"] == n}
    labels = sorted({row["label"] for row in models}, key=lambda label: _rank(metric, last, label))
    lines = {label: _sorted(models, label) for label in labels}
    low, high = _limits(models)
    known = [row for row in rows if row["what"] != "model" and not missing(row["score"])]
    beside = [row for row in known if low <= row["score"] <= high]
    notes = [f"the best at N = {n:,} first, with its score there; black: {REFERENCE}"]
    notes += _notes(metric, rows, models, beside, [row for row in known if row not in beside])
    figure, grid = panels(section, f"{metric.title} against N", len(labels), notes)
    first = grid[0]
    canvas.axes(first, [row["n"] for row in models], None, ticks=3)
    canvas.score_axis(first, metric)
    first.set_ylim(low, high)
    for ax, label in zip(grid, labels, strict=True):
        _bundle(ax, lines, label)
        _beside(ax, beside, label, labels, look[label])
        mine = [[row[key] or 0 for row in lines[label]] for key in ("n", "score", "stderr")]
        style = look[label].plot() | {"markersize": 4, "capsize": 2, "elinewidth": 1, "zorder": 4}
        ax.errorbar(*mine[:2], yerr=mine[2], **style)
        lost = [row for row in rows if row["label"] == label and row["word"]]
        canvas.failures(ax, [(row["n"], row["word"], look[label]) for row in lost])
        end = f"  {metric.text(last[label])}" if label in last else ""
        ax.set_title(f"{label}{end}", fontsize=8, color=look[label].color)
        ax.set(xlabel="", ylabel="")
        ax.tick_params(labelsize=7)
    figure.supylabel(f"{metric.header}, test split", fontsize=8)
    figure.supxlabel("N", fontsize=8)
    text = (
        f"{metric.title} on the test split against N, a panel a model, the best at N = {n:,} "
        "first, with its score there; behind it the others in grey and full attention in black. "
        "Bars are the standard error over seeds; dashed lines need no model; hollow: published."
    )
    return Drawing(f"{section.name}-by-n", text, figure)


def panels(section, title, count, notes):
    """(figure, [axes]): so many small panels of one scale, under a heading and notes below it."""
    notes = [line for note in notes for line in textwrap.wrap(note, 130)]
    down = -(-count // COLUMNS)
    top = 0.6 + 0.13 * len(notes)
    tall = top + 0.4 + 1.4 * down
    figure = canvas.headed(section, title, 1.2 * canvas.WIDTH, tall)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - top / tall))
    place = {"x": 0.09 / figure.get_figwidth(), "y": 1 - 0.55 / tall, "va": "top"}
    figure.text(s="\n".join(notes), fontsize=7.5, color=MUTED, **place)
    grid = figure.subplots(down, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in grid[count:]:
        ax.axis("off")
    for ax in grid[max(0, count - COLUMNS) : count]:
        ax.tick_params(labelbottom=True)
    return figure, list(grid[:count])


def _limits(models):
    scores = [row["score"] for row in models]
    room = 0.08 * (max(scores) - min(scores)) or 0.05 * abs(scores[0])
    return min(scores) - room, max(scores) + room


def _beside(ax, rows, label, labels, style):
    """Rules without a model, and what was published of this one."""
    for name in {row["label"] for row in rows if row["what"] == "rule"}:
        rule = _sorted(rows, name)
        if rule[0]["n"] is None:
            ax.axhline(rule[0]["score"], **canvas.RULE)
        else:
            ax.plot([row["n"] for row in rule], [row["score"] for row in rule], **canvas.RULE)
    for row in rows:
        if row["what"] == "published" and _same(row, label, labels):
            hollow = {"mfc": PAPER, "mec": MUTED, "ms": 5, "zorder": 5}
            ax.plot(row["n"], row["score"], style.marker, **hollow)


def _rank(metric, last, label):
    return label not in last, -metric.sign * last.get(label, 0.0), label


def _sorted(models, label):
    return sorted((row for row in models if row["label"] == label), key=lambda row: row["n"])


def _bundle(ax, lines, own):
    for label, line in lines.items():
        if label != own:
            n, y = [row["n"] for row in line], [row["score"] for row in line]
            behind = {"color": INK, "lw": 1, "zorder": 3} if label == REFERENCE else {"color": GRID}
            ax.plot(n, y, **{"lw": 0.8, "zorder": 2} | behind)


def _same(row, label, labels):
    """Whether a published row is of the model that a panel is of."""
    return row["model"] == label or (row["model"] not in labels and row["mechanism"] == label)


def _notes(metric, rows, models, beside, far):
    def named(found):
        scores = {row.get("model") or row["label"]: metric.text(row["score"]) for row in found}
        return "; ".join(map(" ".join, scores.items()))

    notes = [quality.seeds(models)]
    rules = [row for row in beside if row["what"] == "rule"]
    notes += [f"dashed: {named(rules)}"] if rules else []
    notes += [f"beyond the axis: {named(far)}"] if far else []
    refused = quality.refused(rows)
    notes += [f"refused: {', '.join(refused)}"] if refused else []
    return notes
