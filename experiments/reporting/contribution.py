"""What attention adds: a model with it beside one without, a row a task.

The question of the lectures' lab, asked of every task that was trained with both; of translation a
row a model, for all have a decoder that looks at the source. Imports no jax.
"""

import functools
import math

import pandas as pd

from experiments.analysis import findings, fits, frames, quality
from experiments.analysis.formats import Column, Table, missing
from experiments.analysis.frames import Section
from experiments.figures.canvas import Drawing
from experiments.reporting import quality_cells
from experiments.reporting.quality_cells import mean_cell, mean_column

WITH, BESIDE = "full", "recurrent"
# labels of models without attention: what they are
WITHOUT = {
    "none": "the block without its attention, its feed-forward part widened to as many parameters",
    "RNN without attention": "a recurrent encoder-decoder whose decoder is given the encoder's "
    "last state alone, evened in parameters by its width",
}
CLEAR = "yes, better", "yes, worse"


def sections(found: list[Section]) -> list[Section]:
    """One for each metric whose tasks have final runs with the block and without."""
    groups = {}
    for section in found:
        metric = quality.metric_of(section)
        if section.kind == "train" and metric != quality.UNKNOWN and _asked(section.frame):
            groups.setdefault(metric.key, []).append(section)
    return [_over(metric, parts) for metric, parts in groups.items()]


def _over(metric, parts):
    frame = pd.concat([part.frame.assign(part=part.name) for part in parts])
    title = f"What attention adds on {frames.devices(frame)}"
    return Section("contribution", f"attention-adds-{metric}", title, frame)


def _asked(frame):
    """Whether models differ by attention alone: where all channels of a step are forecast at
    positions ahead, a block without attention is not given the past at all."""
    mixed = findings.column(frame, "config.task_args.mixed").eq(True).any()
    return not mixed and bool(_pairs(frame["label"]))


def _pairs(labels):
    """(a model with attention, the one without it): full attention where the model is the same
    but for that, else every other."""
    labels = sorted(set(labels))
    beside = {"none": [WITH]}
    return [
        (one, other)
        for other in WITHOUT
        for one in beside.get(other, labels)
        if one != other and {one, other} <= set(labels)
    ]


def tables(section: Section, text: str) -> list[Table]:
    """A row a task, model and N."""
    metric, rows = quality.metric_of(section), lines(section)
    columns = (
        Column("label", metric.header),
        Column("model", "model"),
        Column("n", "N", 12),
        mean_column("with", "with attention", metric),
        mean_column("without", "without", metric),
        *([mean_column("beside", "LSTM", metric)] if _known(rows, "beside") else []),
        mean_column("gain", "attention adds", metric),
        Column("verdict", "clearly"),
        *quality_cells.SPANS,
        *quality_cells.SOURCE,
    )
    kinds = "; or ".join(words for key, words in WITHOUT.items() if key in set(section.frame.label))
    how = (
        f"Of the test split. {quality_cells.MEAN} Without: {kinds}. What attention adds is above "
        "0 where it is better with it; its standard error is of both. Clearly: by more than two "
        "standard errors and by Welch's t-test at 5 %."
    )
    columns = quality_cells.used(section, columns, rows)
    return [Table.of(section.name, section.title, f"{how} {text}", columns, rows)]


def headlines(section: Section):
    """(figure, words, records) of each task's longest N where the difference is clear."""
    metric, longest = quality.metric_of(section), {}
    for line in lines(section):
        if line["verdict"] in CLEAR:
            longest[line["label"], line["model"]] = line
    for (name, model), line in longest.items():
        adds = "attention" if model == WITH else model
        words = f"{metric.words} that {adds} adds on {name} at N = {line['n']:,}"
        yield metric.change(line["gain"]), words, line["records"]


@functools.lru_cache(8)
def lines(section: Section) -> list[dict]:
    """A row a task, model and N, in order."""
    metric, found = quality.metric_of(section), []
    for name, frame in section.frame.groupby("part", sort=True):
        part = Section("train", name, section.title, frame)
        rows = {(row["label"], row["n"]): row for row in quality.variants(part, metric)}
        for one, other in _pairs(part.frame["label"]):
            both = sorted(n for label, n in rows if label == one and (other, n) in rows)
            found += [_line(name, one, other, n, rows, metric) for n in both]
    return found


def _known(rows, key):
    return any(not missing(row.get(key)) for row in rows)


def draw(section: Section, curves: dict) -> list[Drawing]:
    """The pictures are those of each task."""
    return []


def _line(name, one, other, n, found, metric):
    labels = {"with": one, "without": other, "beside": BESIDE}
    rows = {key: found.get((label, n), {}) for key, label in labels.items()}
    line = {
        "label": frames.heading(name),
        "model": one,
        "n": n,
        **quality_cells.spans([rows["with"], rows["without"]]),
    }
    for key, row in rows.items():
        line |= mean_cell(key, row)
    line["records"] = frames.sources(row.get("records") for row in rows.values())
    gain, error = difference(rows["with"], rows["without"], metric.sign)
    line |= mean_cell("gain", {"score": gain, "stderr": error, "records": line["records"]})
    if missing(gain) or missing(error):
        return line | {"verdict": "one seed" if not missing(gain) else ""}
    pair = [rows["with"], rows["without"]]
    clear = fits.is_clear(gain, [row["stderr"] for row in pair], [row["seeds"] for row in pair])
    verdict, better = CLEAR[int(gain < 0)] if clear else "no", pair[int(gain < 0)]
    if clear and better["beaten"]:
        verdict += "; both behind a rule"
    return line | {"verdict": verdict}


def difference(one: dict, other: dict, sign: int) -> tuple[float | None, float | None]:
    """(how much better the first is, its standard error); None where a score or seed is missing."""
    scores = [row.get("score") for row in (one, other)]
    if any(map(missing, scores)):
        return None, None
    errors = [row.get("stderr") for row in (one, other)]
    error = None if any(map(missing, errors)) else math.hypot(*errors)
    return sign * (scores[0] - scores[1]), error
