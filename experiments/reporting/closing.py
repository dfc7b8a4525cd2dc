"""Sections of tasks of the Long-Range Arena -> one over them: scores by task, speed, memory.

Imports no jax.
"""

import dataclasses

import pandas as pd

from experiments.analysis import frames, published, quality, verdicts
from experiments.analysis.formats import Column, Table, missing
from experiments.analysis.frames import Section
from experiments.figures import bubbles, learning, palette
from experiments.figures.canvas import Drawing
from experiments.reporting import quality_cells
from experiments.reporting.quality_cells import mean_cell, mean_column

# of a row, what says whether it may be called best
FAIR = ("unequal", "beaten")


def sections(found: list[Section]) -> list[Section]:
    """One for each dtype and size that trained most models on two of the tasks, each task at the
    published N where most of its models have that, else at its fullest."""
    groups = {}
    for section in found:
        first = section.frame.iloc[0]
        if section.kind == "train" and first["config.task"] in published.arena_lengths():
            said = (first.get(c) for c in ("config.dtype", "config.size"))
            key = tuple(str(value) for value in said if not missing(value))
            kept, task = groups.setdefault(key, {}), first["config.task"]
            if task not in kept or _worth(section) > _worth(kept[task]):
                kept[task] = section
    whole = {key: _whole(kept) for key, kept in groups.items()}
    return [_over(key, kept, len(groups)) for key, kept in whole.items() if len(kept) > 1]


def _whole(by_task):
    """Those that most models have a score of, for a mean over all tasks is of what has them all,
    and where some model beats every rule, for else they tell nobody apart."""
    came = {task: set(s.frame.label[s.frame.status == "ok"]) for task, s in by_task.items()}
    models = set().union(*came.values())
    return {
        task: section
        for task, section in by_task.items()
        if 2 * len(came[task]) > len(models) and _learned(section)
    }


def _learned(section):
    rows, n = quality.variants(section, quality.metric_of(section)), _length(section)
    return verdicts.learned(row for row in rows if row["n"] == n)


def _worth(section):
    """That of the published N first, then the fullest."""
    return _length(section) == _published(section), len(section.frame)


def _published(section):
    """The benchmark's own N, or the section's that is within a twentieth of it."""
    asked = published.arena_lengths()[section.frame["config.task"].iloc[0]]
    nearest = min(section.frame["config.n"], key=lambda n: abs(n - asked))
    return nearest if abs(nearest - asked) <= asked / 20 else asked


def _length(section):
    rows = quality.variants(section, quality.metric_of(section))
    of_published = [row for row in rows if row["n"] == _published(section)]
    known = sum(not missing(row.get("score")) for row in of_published)
    most = 2 * known > len({row["label"] for row in rows})
    return _published(section) if most else quality.fullest(rows)


def _over(key, by_task, groups):
    parts = [
        section.frame[section.frame["config.n"] == _length(section)] for section in by_task.values()
    ]
    name = "arena" if groups == 1 else "-".join(["arena", *key])
    frame = pd.concat(parts)
    title = f"Long-Range Arena's tasks on {', '.join([frames.devices(frame), *key])}"
    return Section("arena", name, title, frame)


def tables(section: Section, text: str) -> list[Table]:
    """A row a variant, a column a task, and their mean."""
    metric, lines, bold = quality.metric_of(section), over_tasks(section), set()
    lengths = section.frame.groupby("config.task")["config.n"].first()
    for task in lengths.index:
        here = [
            line
            | {"score": line.get(task)}
            | {key: line.get(f"{task}_{key}") for key in ("stderr", "seeds", *FAIR)}
            for line in lines
            if line["what"] == "model"
        ]
        if best := quality.clear_best(here, metric):
            bold.add(([line["label"] for line in lines].index(best["label"]), task))
    columns = (
        Column("label", metric.header),
        *(mean_column(task, f"{task}, N = {n:,}", metric) for task, n in lengths.items()),
        Column("score", "mean", decimals=metric.decimals, scale=metric.scale),
        Column("stderr", "±", decimals=metric.decimals, scale=metric.scale),
        *quality_cells.SPANS,
        Column("seconds_per_step", "s a step", 3),
        Column("memory", "MB held", 4, 1e6),
        quality_cells.STATUS,
        *quality_cells.SOURCE,
    )
    how = (
        f"Of the test splits. {quality_cells.MEAN} s a step: mean over the tasks; MB: the most. "
        "Published rows are of the benchmark's own N (listops 2,000, imdb 4,000, others 1,024)."
    )
    if bold:
        how += f" {quality_cells.BOLD}"
    columns = quality_cells.used(section, columns, lines)
    return [Table.of(section.name, section.title, f"{how} {text}", columns, lines, bold)]


def draw(section: Section, curves: dict) -> list[Drawing]:
    """The bubbles of the mean score, ours above the published ones; a panel a task of curves."""
    metric, lines = quality.metric_of(section), over_tasks(section)
    frame = section.frame
    look = palette.styles(frame.rename(columns={"config.mechanism": "mechanism"}))
    models = [line for line in lines if line["what"] == "model"]
    timed, words = quality.of_one_device(models)
    tasks = sorted(frame["config.task"].unique())
    seeds = {line.get(f"{task}_seeds") for line in models for task in tasks}
    seeds = sorted(n for n in seeds if not missing(n) and n > 0)
    said = [f"seeds of a task: {' or '.join(f'{n:g}' for n in seeds)}"] if seeds else []
    lost = [line["label"] for line in models if missing(line.get("score"))]
    if lost:
        said.append(f"not on all tasks: {', '.join(lost)}")
    drawings = bubbles.draw(
        section,
        "Score, speed and memory",
        metric,
        bubbles.of_rows(timed, look),
        bubbles.of_arena(),
        [*words, *said],
        f"Mean {metric.words} over {', '.join(tasks)}",
        "score: the mean of its five tasks",
    )
    return drawings + learning.draw(section, metric, curves, look, by="config.task")


def over_tasks(section: Section) -> list[dict]:
    """A row a label: a mean cell a task, `score` over all tasks where it has all, costs."""
    rows, tasks = [], section.frame.groupby("config.task", sort=True)
    for task, frame in tasks:
        of_task = quality.rows(dataclasses.replace(section, frame=frame))
        rows += [{**row, "task": task} for row in of_task if row["word"] != "FAIL"]
    return [_line([row for row in rows if row["label"] == label], len(tasks))
            for label in quality.ordered(rows)]  # fmt: skip


def _line(rows, tasks):
    line = {key: rows[0].get(key) for key in ("label", "what", "mechanism")}
    for row in rows:
        line |= mean_cell(row["task"], row)
        line |= {f"{row['task']}_{key}": row.get(key) for key in FAIR}
    line |= quality_cells.spans(rows)
    line["records"] = frames.sources(row.get("records") for row in rows)
    known = [row for row in rows if not missing(row.get("score"))]
    if len(known) == tasks:
        line["score"] = sum(row["score"] for row in known) / tasks
        errors = [row.get("stderr") for row in known]
        if not any(map(missing, errors)):
            line["stderr"] = sum(error**2 for error in errors) ** 0.5 / tasks
        seconds = [row.get("seconds_per_step") for row in known]
        # a mean over devices is no time of any
        seconds = seconds if len({row.get("device") for row in known}) == 1 else [None]
        line["seconds_per_step"] = None if any(map(missing, seconds)) else sum(seconds) / tasks
        line["memory"] = max((row["memory"] for row in known if row.get("memory")), default=None)
    said = [f"{row['task']}: {row['status']}" for row in rows if row["status"] != "ok"]
    alike = dict.fromkeys(row["status"] for row in rows)
    return line | {"status": next(iter(alike)) if len(alike) == 1 else "; ".join(said)}
