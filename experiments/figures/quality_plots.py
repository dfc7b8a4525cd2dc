"""A training section -> figures: the score, of any metric, against N, state, speed and steps."""

import collections
import textwrap

import matplotlib.ticker as ticks
from matplotlib.lines import Line2D

from experiments.analysis import published, quality, verdicts
from experiments.analysis.formats import missing
from experiments.figures import (
    attention_maps,
    bubbles,
    canvas,
    confusions,
    learning,
    multiples,
    palette,
    ranking,
)
from experiments.figures.canvas import Drawing
from experiments.figures.palette import MUTED

# published points of one N beyond which their names are left to the table
NAMED = 6


def draw(section, curves: dict) -> list[Drawing]:
    """Every figure that has a number to show."""
    metric, rows = quality.metric_of(section), quality.rows(section)
    look = palette.styles(
        section.frame.rename(columns={"config.mechanism": "mechanism"}).astype({"label": str})
    )
    models = [row for row in rows if row["what"] == "model" and not missing(row.get("score"))]
    drawings = []
    if models:
        drawings += _by_length(section, metric, rows, models, look)
        drawings += ranking.draw(section, metric, rows, look)
    if any(row.get("decode_state_bytes") for row in models):
        drawings.append(_frontier(section, metric, rows, models, look))
    drawings += _speed(section, metric, rows, look) if models else []
    drawings += learning.draw(section, metric, curves, look)
    return drawings + attention_maps.draw(section) + confusions.draw(section, look)


def _by_length(section, metric, rows, models, look):
    """Curves in one figure, where they can be read; a ranking says all of many models at two N."""
    counts = collections.Counter(row["label"] for row in models)
    crowded = [count for count in counts.values() if count > 2]
    if len(crowded) > ranking.CROWD:
        return [multiples.draw(section, metric, rows, models, look)]
    if len(counts) > ranking.CROWD and not crowded:
        return []
    return [_against_length(section, metric, rows, models, look)]


def _against_length(section, metric, rows, models, look):
    others = [row for row in rows if row["what"] == "published" and not missing(row["score"])]
    is_far = quality.far(models)
    beyond = [row for row in rows if row["what"] != "model" and is_far(row.get("score"))]
    others = [row for row in others if row not in beyond]
    named = others if len(others) <= NAMED * len({row["n"] for row in others}) else []
    count = len({row["label"] for row in rows if row["what"] == "model" or row in named})
    rules = {}
    for row in rows:
        if row["what"] == "rule" and row not in beyond:
            rules.setdefault(row["label"], []).append((row["n"], row["score"]))
    title = f"{metric.title} against N"
    figure, ax = canvas.page(section, title, labels=count + len(rules))
    ends, longest = [], max(row["n"] for row in models)
    for label in sorted({row["label"] for row in models}):
        mine = sorted((row for row in models if row["label"] == label), key=lambda row: row["n"])
        n, y = [row["n"] for row in mine], [row["score"] for row in mine]
        bars = [row["stderr"] or 0 for row in mine]
        ax.errorbar(n, y, yerr=bars, capsize=3, elinewidth=1, zorder=3, **look[label].plot())
        verdict = f", {verdicts.FAILED}" if verdicts.FAILED in mine[-1]["status"] else ""
        at = "" if n[-1] == longest else f" at {n[-1]:,}"
        text = f"{label}  {metric.text(y[-1])}{at}{verdict}"
        ends.append((n[-1], y[-1], text, look[label].color))
    for label in dict.fromkeys(row["label"] for row in others):
        mine = sorted((row for row in others if row["label"] == label), key=lambda row: row["n"])
        n, y = [row["n"] for row in mine], [row["score"] for row in mine]
        ax.plot(n, y, zorder=2, **grey(mine[0]["mechanism"]))
        if mine[0] in named:
            ends.append((n[-1], y[-1], f"{mine[0]['model']}  {metric.text(y[-1])}", MUTED))
    refused = quality.refused(rows)
    failed = [r for r in rows if r["what"] == "model" and r["word"] and r["label"] not in refused]
    canvas.axes(ax, [row["n"] for row in [*models, *failed, *others]], None)
    low, high = ax.get_xlim()
    for label, line in rules.items():
        line = [(low, line[0][1]), (high, line[0][1])] if line[0][0] is None else line
        ax.plot(*zip(*line, strict=True), **canvas.RULE)
        ends.append((*line[-1], f"{label}  {metric.text(line[-1][1])}", MUTED))
    ax.set_xlim(low, high)
    canvas.score_axis(ax, metric)
    lost = [(row["n"], f"{row['label']}: {row['word']}", look[row["label"]]) for row in failed]
    canvas.failures(ax, lost)
    canvas.end_labels(ax, ends, heading(models, others, refused))
    far = {row.get("model") or row["label"]: metric.text(row["score"]) for row in beyond}
    text = (
        f"{metric.title} on the test split against N; bars are the standard error "
        "over seeds, dashed lines need no model, x is a failed point."
    )
    if others:
        text += " Grey and hollow: published, with the marker of ours of the same idea."
    if far:
        text += (
            f" Too far off to draw: {', '.join(f'{name} {score}' for name, score in far.items())}."
        )
    return Drawing(f"{section.name}-by-n", text, figure)


def _frontier(section, metric, rows, models, look):
    """A panel an N: ours against the state, above what was published by model width."""
    models = [row for row in models if row.get("decode_state_bytes")]
    lengths = sorted({row["n"] for row in models})
    theirs = published.of(published.task_of(section.frame), metric.key)
    theirs = theirs.dropna(subset=["width", "value"]).query("n in @lengths")
    handles = [canvas.legend_entry(label, look[label]) for label in quality.ordered(models)]
    lines = theirs.drop_duplicates("model").reset_index(drop=True)
    lines = {row.model: grey(row.mechanism, row.Index) for row in lines.itertuples()}
    handles += [Line2D([], [], label=model, **line) for model, line in lines.items()]
    title = f"{metric.title} against decode state"
    names = [f"N = {n:,}" for n in lengths]
    figure, grid = canvas.panels(section, title, names, 1 + bool(lines), handles)
    for ax, n in zip(grid[0], lengths, strict=True):
        lost = [r for r in rows if r["what"] == "model" and r["n"] == n and r["word"]]
        lost = [row for row in lost if row["label"] not in quality.refused(rows)]
        _states(ax, metric, [row for row in models if row["n"] == n], lost, look)
    for ax, n in zip(grid[1] if lines else (), lengths, strict=False):
        for model, line in lines.items():
            curve = theirs[(theirs.n == n) & (theirs.model == model)].sort_values("width")
            ax.plot(curve.width, curve.value, **line)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter(ticks.FuncFormatter(lambda x, _: f"{x:g}"))
        ax.set_xlabel(f"model width, {theirs.source.iloc[0]}")
    for row in grid:
        canvas.score_axis(row[0], metric)
    figure.draw_without_rendering()
    for ax, n in zip(grid[0], lengths, strict=True):
        here = [row for row in models if row["n"] == n]
        points = [(r["decode_state_bytes"], r["score"], r["label"]) for r in here]
        canvas.name_points(ax, [(*point, look[point[-1]].color) for point in points])
    text = (
        f"{metric.title} on the test split against the bytes of decode state that one "
        "sequence of N needs; bars are the standard error over seeds, the dotted line joins what "
        "no smaller state reaches."
    )
    if lines:
        text += " Below, in grey, the published figure: its x is the model's width."
    return Drawing(f"{section.name}-frontier", text, figure)


def _states(ax, metric, rows, lost, look):
    for row in rows:
        style = look[row["label"]].plot() | {"linestyle": "none", "markersize": 7, "zorder": 3}
        bar = row["stderr"] or 0
        ax.errorbar(row["decode_state_bytes"], row["score"], yerr=bar, capsize=2, **style)
    edge = []
    for x, y in sorted((row["decode_state_bytes"], metric.sign * row["score"]) for row in rows):
        if not edge or y > metric.sign * edge[-1][1]:
            edge.append((x, metric.sign * y))
    x, y = zip(*edge, strict=True)
    ax.step(x, y, where="post", color=MUTED, lw=1, ls=(0, (1.2, 1.6)), zorder=1)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(ticks.LogLocator(base=4, numticks=6))
    ax.xaxis.set_major_formatter(ticks.FuncFormatter(lambda x, _: f"{x / 1024:g}"))
    ax.set_xlabel("decode state, KiB")
    if lost:
        words = textwrap.wrap("x " + "; ".join(quality.losses(lost)), 44)
        ax.set_xlabel("\n".join(["decode state, KiB", *words]), fontsize=8)


def _speed(section, metric, rows, look):
    """At the N that most variants reached."""
    models = [row for row in rows if row["what"] == "model"]
    n = quality.fullest(models)
    here = [row for row in models if row["n"] == n]
    timed, words = quality.of_one_device(here)
    if timed:
        words = [quality.seeds(timed), *words]
    rule = verdicts.strongest(rows, metric, n)
    if rule and timed and quality.far(timed)(rule["score"]):
        words.append(f"too far off to draw: {rule['label']} {metric.text(rule['score'])}")
        rule = None
    return bubbles.draw(
        section,
        f"{metric.title}, speed and memory, N = {n:,}",
        metric,
        bubbles.of_rows(timed, look),
        bubbles.of_arena(section.frame["config.task"].iloc[0]),
        [*words, *quality.losses(here)],
        f"{metric.title} on the test split at N = {n:,}",
        f"score: {section.frame['config.task'].iloc[0]}, table 1",
        rule and (rule["label"], rule["score"]),
    )


def heading(models, others, refused) -> str:
    sources = dict.fromkeys(f"grey: {row['source']}" for row in others)
    cannot = textwrap.wrap(f"refused: {', '.join(refused)}", 40) if refused else ()
    return "\n".join([quality.seeds(models), *sources, *cannot])


def grey(name: str, line: int = 0) -> dict:
    """Keywords of `Axes.plot` for what others measured."""
    style = palette.style(name)
    lines = palette.LINES[line % len(palette.LINES)]
    return {
        **style.plot(),
        "color": MUTED,
        "markeredgecolor": MUTED,
        "markerfacecolor": palette.PAPER,
        "linestyle": lines,
        "linewidth": 1,
    }
