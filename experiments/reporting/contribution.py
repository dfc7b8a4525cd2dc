"""What the attention block adds: full attention beside the same model without it, a row a task.

The question of the lectures' lab, asked of every task that was trained with both. Imports no jax.
"""

import math

import pandas as pd

from experiments.analysis import frames, quality
from experiments.analysis.formats import Column, Table, missing
from experiments.analysis.frames import Section
from experiments.figures.canvas import Drawing
from experiments.reporting import quality_tables
from experiments.reporting.quality_tables import mean_cell, mean_column

WITH, WITHOUT, BESIDE = "full", "none", "recurrent"
CLEAR = "yes, better", "yes, worse"


def sections(found: list[Section]) -> list[Section]:
    """One for each metric and device whose tasks have final runs with the block and without."""
    groups = {}
    for section in found:
        if section.kind == "train" and {WITH, WITHOUT} <= set(section.frame["label"]):
            metric = quality.metric_of(section)
            key = metric.key, str(section.frame["env.device"].iloc[0])
            groups.setdefault(key, []).append(section)
    return [_over(*key, parts, groups) for key, parts in groups.items()]


def _over(metric, device, parts, groups):
    alone = sum(key[0] == metric for key in groups) == 1
    name = f"attention-adds-{metric}" + ("" if alone else f"-{device}")
    frame = pd.concat([part.frame.assign(part=part.name) for part in parts])
    return Section("contribution", name, f"What the attention block adds on {device}", frame)


def tables(section: Section, text: str) -> list[Table]:
    """A row a task and N."""
    metric = quality.metric_of(section)
    columns = (
        Column("label", metric.header),
        Column("n", "N", 12),
        mean_column(WITH, "with attention", metric),
        mean_column(WITHOUT, "without", metric),
        mean_column(BESIDE, "LSTM", metric),
        mean_column("gain", "attention adds", metric),
        Column("verdict", "more than two standard errors"),
        *quality_tables.SOURCE,
    )
    how = (
        f"Of the test split. {quality_tables.MEAN} Without: the block without its attention, its "
        "feed-forward part widened to as many parameters. What attention adds is above 0 where it "
        "is better with it; its standard error is of both."
    )
    return [Table.of(section.name, section.title, f"{how} {text}", columns, lines(section))]


def headlines(section: Section):
    """(figure, words, records) of each task's longest N where the difference is clear."""
    metric, longest = quality.metric_of(section), {}
    for line in lines(section):
        if line["verdict"] in CLEAR:
            longest[line["label"]] = line
    for name, line in longest.items():
        words = f"{metric.words} that attention adds on {name} at N = {line['n']:,}"
        yield metric.change(line["gain"]), words, line["records"]


def lines(section: Section) -> list[dict]:
    """A row a task and N, in order."""
    metric, found = quality.metric_of(section), []
    for name, frame in section.frame.groupby("part", sort=True):
        part = Section("train", name, section.title, frame)
        rows = {(row["label"], row["n"]): row for row in quality.variants(part, metric)}
        both = sorted(n for label, n in rows if label == WITH and (WITHOUT, n) in rows)
        found += [_line(name, n, rows, metric) for n in both]
    return found


def draw(section: Section, curves: dict) -> list[Drawing]:
    """The pictures are those of each task."""
    return []


def _line(name, n, found, metric):
    rows = {label: found.get((label, n), {}) for label in (WITH, WITHOUT, BESIDE)}
    line = {
        "label": frames.heading(name),
        "n": n,
        **quality_tables.spans([rows[WITH], rows[WITHOUT]]),
    }
    for label, row in rows.items():
        line |= mean_cell(label, row)
    line["records"] = frames.sources(row.get("records") for row in rows.values())
    gain, error = difference(rows[WITH], rows[WITHOUT], metric.sign)
    line |= mean_cell("gain", {"score": gain, "stderr": error, "records": line["records"]})
    if missing(gain) or missing(error):
        return line | {"verdict": "one seed" if not missing(gain) else ""}
    return line | {"verdict": CLEAR[int(gain < 0)] if abs(gain) > 2 * error else "no"}


def difference(one: dict, other: dict, sign: int) -> tuple[float | None, float | None]:
    """(how much better the first is, its standard error); None where a score or seed is missing."""
    scores = [row.get("score") for row in (one, other)]
    if any(map(missing, scores)):
        return None, None
    errors = [row.get("stderr") for row in (one, other)]
    error = None if any(map(missing, errors)) else math.hypot(*errors)
    return sign * (scores[0] - scores[1]), error
