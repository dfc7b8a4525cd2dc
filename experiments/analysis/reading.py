"""Records on disk -> one flat table, a row a record. Imports no jax.

What cannot be read is told in a note of one line; everything else is still reported.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from experiments.analysis import damage
from experiments.analysis.frames import CELL, KINDS
from experiments.tasks.metric import METRICS, UNKNOWN

SCORES = [key for one in (*METRICS, UNKNOWN) for key in (one.key, *dict(one.beside))]
# metrics that are numbers; others may be words and lists
NUMBER = re.compile(
    r"(seconds|bytes|flops|sent|error|params|fit|multiply_adds)(_\w+)?|repeats|lr|crossing_n"
    rf"|(\w+_)?(seconds|bytes|steps?|loss|{'|'.join(SCORES)})(_best|_last)?(@.+)?"
)
TIMES = ("metrics.seconds", "metrics.seconds_per_step")


@dataclasses.dataclass(frozen=True)
class Records:
    """`frame`: a row a record. `curves`: rows by (id, device). `notes`: what was not read.

    `folders`: where a record lies, by (id, device). `records`: what the rows are of.
    """

    frame: pd.DataFrame
    curves: dict[tuple[str, str], list[dict]]
    notes: list[str]
    folders: dict[tuple[str, str], Path] = dataclasses.field(default_factory=dict)
    records: list[dict] = dataclasses.field(default_factory=list)


def read(folders: Iterable[str | Path]) -> Records:
    """Every record under the folders; of two with one id and device, the later."""
    notes, damaged, older = [], [], 0
    kept, found, bases, curves = {}, {}, {}, {}
    for file, base in _files(folders, notes):
        for record in _records(file, damaged):
            row = _flat(record)
            key = (row["id"], row["env.device"])
            older += key in kept and bases[key] != base
            if key in kept and _rank(kept[key]) >= _rank(row):
                continue
            kept[key], found[key], bases[key] = row, record, base
            curve = base / "curves" / f"{row['id']}.jsonl"
            if curve.is_file():
                curves[key] = [damage.finite(line) for _, line in damage.lines(curve, damaged)]
    if older:
        notes.append(
            f"{older} records left out: the same point and device is in another folder, later"
        )
    notes += damage.told(list(dict.fromkeys(damaged)))
    rows, of_rows = ([of[key] for key in sorted(kept)] for of in (kept, found))
    frame = _ordered(pd.DataFrame(rows))
    return Records(frame, curves, list(dict.fromkeys(notes)), bases, of_rows)


def _files(folders, notes):
    for folder in map(Path, folders):
        if folder.is_file():
            found = [folder]
        elif folder.is_dir():
            found = sorted([*folder.rglob("records.jsonl"), *folder.rglob("points/*.json")])
            if not found:
                notes.append(f"{folder}: no records.jsonl and no points/*.json below it")
        else:
            found = []
            notes.append(f"{folder}: no such folder")
        for file in found:
            yield file, file.parent.parent if file.parent.name == "points" else file.parent


def _records(file, damaged):
    for where, record in damage.records(file, damaged):
        problem = _problem(record)
        if problem:
            damaged.append((where, problem))
        else:
            yield record


def _problem(record):
    """Why a record does not say which cell of its experiment it is, of which device, or what was
    measured."""
    config, env = record["config"], record["env"]
    if not isinstance(env.get("device"), str):
        return f"env.device should be a name, got {env.get('device')!r}"
    if not isinstance(config.get("kind", ""), str):
        return f"config.kind should be a name, got {config['kind']!r}"
    if config.get("kind") not in KINDS:
        return None
    n = config.get("n")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        return f"config.n should be a whole number from 1 up, got {n!r}"
    fields = [c.removeprefix("config.").split(".")[0] for c in CELL[config["kind"]]]
    missing = [f for f in dict.fromkeys([*fields, "experiment"]) if f not in config]
    if missing:
        return f"config has no {', '.join(missing)}"
    for name, value in _numbers(record):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in TIMES and (not number or value <= 0):
            return f"{name} should be a number above 0, got {value!r}"
        if not number:
            return f"{name} should be a number or null, got {value!r}"
    return None


def _numbers(record):
    """(name, value) of the metrics that this code counts with, where they were had."""
    known = {k: v for k, v in record["metrics"].items() if NUMBER.fullmatch(k)}
    known = {f"metrics.{k}": v for k, v in known.items()} | {"env.load": record["env"].get("load")}
    return [(name, value) for name, value in known.items() if value is not None]


def _flat(record):
    row = {"id": record["id"], "status": record["status"], "reason": record.get("reason") or ""}
    for part in ("config", "metrics", "env"):
        _flatten(part, record.get(part) or {}, row)
    return row


def _flatten(prefix, value, row):
    if isinstance(value, dict):
        for key in sorted(value):
            _flatten(f"{prefix}.{key}", value[key], row)
    elif isinstance(value, list):
        row[prefix] = json.dumps(value)
    elif isinstance(value, float) and not math.isfinite(value):
        row[prefix] = None
    else:
        row[prefix] = value


def _rank(row):
    return str(row.get("env.date") or ""), row["status"] == "ok"


FIRST = (
    "config.experiment",
    "config.kind",
    "config.label",
    "config.mode",
    "config.n",
    "config.seed",
    "env.device",
    "id",
)


def _ordered(frame):
    """Rows by what they are, columns by part and name: the same records give the same bytes."""
    if frame.empty:
        return frame
    for column in (*FIRST, "config.mechanism", "env.date"):
        if column not in frame:
            frame[column] = None
    head = ["id", "status", "reason"]
    rest = [
        c
        for part in ("config", "metrics", "env")
        for c in sorted(frame)
        if c.startswith(f"{part}.")
    ]
    frame = frame[head + rest]
    return frame.sort_values(list(FIRST), key=_sortable, ignore_index=True)


def _sortable(column):
    if pd.api.types.is_numeric_dtype(column) and column.name in ("config.n", "config.seed"):
        return column.fillna(-1)
    return column.map(lambda value: "" if pd.isna(value) else str(value))
