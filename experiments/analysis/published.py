"""Figures that others published, of `published.toml`, as one flat table. Imports no jax."""

import functools
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

FILE = Path(__file__).with_name("published.toml")
ARENA = "Long-Range Arena"
FIELDS = ("task", "n", "width", "setting")


@functools.cache
def figures() -> pd.DataFrame:
    """A row a figure: `value` in our records' units, NaN where `word` stands instead of a number.

    `mechanism` is ours of the same idea, else the model; `setting` how it was evaluated, where that
    was not as trained; `status` says whether and where to read it up; `differs`, in words, what it
    is of that ours are not, `ours` why ours are as far off as they are.
    """
    content = tomllib.loads(FILE.read_text())
    rows = []
    for table in content["table"]:
        verb = "published" if table["checked"] else "as remembered, not checked"
        for model, values in table["values"].items():
            for column, value in zip(table["columns"], values, strict=True):
                word = value if isinstance(value, str) else ""
                row = dict.fromkeys(FIELDS) | column
                row |= {key: table[key] for key in ("name", "source", "checked", "metric")}
                row |= {"model": model, "mechanism": content["mechanisms"].get(model, model)}
                row |= {"word": word, **{key: table.get(key, "") for key in ("differs", "ours")}}
                row["value"] = float("nan") if word else value * table.get("unit", 1)
                row["status"] = f"{verb}: {table['where']}"
                rows.append(row)
    found = pd.DataFrame(rows)
    return found[found.value.notna() | (found.word != "")].reset_index(drop=True)


def of(task: str, metric: str) -> pd.DataFrame:
    found = figures()
    return found[(found.task == task) & (found.metric == metric)]


def task_of(frame: pd.DataFrame) -> str:
    """What the figures call the task of a section: its experiment where that is one, as where a
    task has several horizons."""
    experiment = frame["config.experiment"].iloc[0]
    return experiment if (figures().task == experiment).any() else frame["config.task"].iloc[0]


def of_width(found: pd.DataFrame, width: float | None) -> pd.DataFrame:
    """Of figures given by model width those of `width`; where there are none, all."""
    same = found[found.width.isna() | (found.width == width)]
    return found if same.empty else same


def differences(rows: Iterable[Mapping]) -> list[str]:
    """What the published figures among the rows are of that ours are not, each said once."""
    said = {row["differs"]: row["source"].split(",")[0] for row in rows if row.get("differs")}
    return [f"{source}: {words}" for words, source in said.items()]


def arena_lengths() -> dict[str, int]:
    """The N of each of the Long-Range Arena's tasks; of a task with several the least."""
    found = figures()
    return found[found.name == ARENA].groupby("task").n.min().to_dict()


def arena(task: str | None = None) -> pd.DataFrame:
    """The Long-Range Arena's bubbles by model: mechanism, score (of a task, else the mean of five),
    and speed and bytes of byte text at its longest N. Empty for a task that it does not have.
    """
    found = figures().set_index("model")
    scores = found[(found.name == ARENA) & found.value.notna()]
    if task:
        scores = scores[scores.task == task]
    costs = found[(found.name == f"{ARENA}, cost")]
    costs = costs[costs.n == costs.n.max()]
    table = {key: costs.value[costs.metric == key] for key in ("steps_per_second", "bytes")}
    table = pd.DataFrame(table).rename(columns={"steps_per_second": "speed"})
    by_model = scores.groupby(level=0)
    return table.assign(score=by_model.value.mean(), mechanism=by_model.mechanism.first()).dropna()
