"""Sections of a series' horizons -> one table over them, the published figures beside ours.

Imports no jax.
"""

import numpy as np
import pandas as pd

from experiments.analysis import frames, published, quality, verdicts
from experiments.analysis.formats import Column, Table, missing
from experiments.analysis.frames import Section
from experiments.figures.canvas import Drawing
from experiments.reporting import quality_cells
from experiments.reporting.quality_cells import mean_cell, mean_column

HORIZON = "config.task_args.horizon"


def sections(found: list[Section]) -> list[Section]:
    """One for each dtype and size that forecast a series at two horizons, by setting."""
    groups = {}
    for section in found:
        first = section.frame.iloc[0]
        if section.kind == "train" and first["config.task"] == "forecast":
            experiment = str(first["config.experiment"]).rsplit("-", 1)[0]
            key = experiment, str(first["config.dtype"]), str(first.get("config.size"))
            groups.setdefault(key, []).append(section)
    return [_over(*key, parts, groups) for key, parts in groups.items() if len(parts) > 1]


def _over(experiment, dtype, size, parts, groups):
    alone = sum(key[0] == experiment for key in groups) == 1
    name = experiment if alone else f"{experiment}-{dtype}-{size}"
    frame = pd.concat([part.frame for part in parts])
    title = f"{frames.heading(experiment)} on {frames.devices(frame)}, {dtype}, {size}"
    return Section("horizons", name, title, frame)


def tables(section: Section, text: str) -> list[Table]:
    """A row a variant and look-back, of a rule that has none a row; a column a horizon, and beside
    it what was published."""
    metric, frame = quality.metric_of(section), section.frame
    horizons, lines = sorted(int(h) for h in frame[HORIZON].unique()), {}
    figures = {h: _published(frame[frame[HORIZON] == h], metric) for h in horizons}
    for horizon in horizons:
        part = Section("train", section.name, section.title, frame[frame[HORIZON] == horizon])
        for row in [*quality.variants(part, metric), *quality.rules(part.frame, metric)]:
            n = row["n"] or _only_lookback(part.frame)
            lines.setdefault((row["label"], n), []).append({**row, "at": horizon})
    rows = [_line(label, n, found, figures) for (label, n), found in lines.items()]
    rows.sort(key=_place)
    columns = [Column("label", f"{metric.header}, horizon"), Column("n", "look-back", 12)]
    for horizon in horizons:
        columns.append(mean_column(f"h{horizon}", f"{horizon}", metric))
        if any(not missing(row.get(f"p{horizon}")) for row in rows):
            columns.append(Column(f"p{horizon}", "published", decimals=3))
    columns += [
        Column("of", "published as"),
        Column("times", "ours / published", decimals=2),
        *quality_cells.SPANS,
        *quality_cells.COSTS,
        quality_cells.STATUS,
        *quality_cells.SOURCE,
    ]
    how = (
        f"Of the test split, every window of it. {quality_cells.MEAN} Published: the system that "
        "has the mechanism in it, at the look-back it was published for or the nearest of ours, "
        "from the papers that the tables by N name; ours / published is the geometric mean over "
        "the horizons that are no failed run."
    )
    if differs := _said(frame, metric, rows, "differs"):
        how += f" What is published differs: {differs}."
    if ours := _said(frame, metric, rows, "ours"):
        how += f" {ours}."
    columns = tuple(quality_cells.used(section, columns, rows))
    return [Table.of(section.name, section.title, f"{how} {text}", columns, rows)]


def draw(section: Section, curves: dict) -> list[Drawing]:
    """The pictures are those of each horizon."""
    return []


def _place(row):
    return row["what"] != "model", row["mechanism"] != "full", row["label"], row["n"] or 0


def _only_lookback(frame):
    """None where there are several: what is the same at all of them has none."""
    return frame["config.n"].iloc[0] if frame["config.n"].nunique() == 1 else None


def _published(frame, metric):
    found = published.of(published.task_of(frame), metric.key)
    return {(row.model, row.mechanism, row.n): row.value for row in found.itertuples()}


def _said(frame, metric, rows, key):
    """What `published.toml` says under `key` of the published systems in the table."""
    shown, task = {row.get("of") for row in rows}, published.task_of(frame)
    found = published.of(task, metric.key)
    return "; ".join(text for text in found[found.model.isin(shown)][key].unique() if text)


def _line(label, n, rows, figures):
    line = {"label": label, "n": n, "what": rows[0]["what"], "mechanism": rows[0].get("mechanism")}
    for row in rows:
        line |= mean_cell(f"h{row['at']}", row)
        for (model, mechanism, at), value in figures[row["at"]].items():
            ours = label in (model, mechanism) or mechanism == line["mechanism"]
            # a rule is the same at every look-back
            if ours and (at == n or line["what"] == "rule"):
                line |= {f"p{row['at']}": value, "of": model}
    said = [f"{row['at']}: {row['status']}" for row in rows]
    alike = {row["status"] for row in rows}
    status = alike.pop() if len(alike) == 1 else "; ".join(said)
    spans = quality_cells.spans(rows) if line["what"] == "model" else {}
    ratios = [
        line[f"h{row['at']}"] / line[f"p{row['at']}"]
        for row in rows
        if not missing(row.get("score"))
        and f"p{row['at']}" in line
        # two that learned nothing agree for nothing
        and not row.get("beaten", "").startswith(verdicts.FAILED)
    ]
    if ratios:
        line["times"] = float(np.exp(np.mean(np.log(ratios))))
    return {
        **line,
        **spans,
        **quality_cells.costs(rows[0], spans.get("device")),
        "status": status,
        "records": frames.sources(row.get("records") for row in rows),
    }
