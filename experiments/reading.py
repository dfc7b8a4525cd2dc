"""Records on disk -> one flat table, a row a record. Imports no jax.

What cannot be read becomes a note of one line; everything else is still reported.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from experiments.frames import CELL, KINDS

SCHEMA = 1
STATUSES = ("ok", "refused", "oom", "timeout", "nan", "error")


@dataclasses.dataclass(frozen=True)
class Records:
    """`frame`: a row a record. `curves`: rows by (id, device). `notes`: what was not read.

    `folders`: where a record lies, by (id, device).
    """

    frame: pd.DataFrame
    curves: dict[tuple[str, str], list[dict]]
    notes: list[str]
    folders: dict[tuple[str, str], Path] = dataclasses.field(default_factory=dict)


def read(folders: Iterable[str | Path]) -> Records:
    """Every record under the folders; of two with one id and device, the later."""
    notes, kept, bases, curves, older = [], {}, {}, {}, 0
    for file, base in _files(folders, notes):
        for record in _records(file, notes):
            row = _flat(record)
            key = (row["id"], str(row.get("env.device")))
            older += key in kept and bases[key] != base
            if key in kept and _rank(kept[key]) >= _rank(row):
                continue
            kept[key], bases[key] = row, base
            curve = base / "curves" / f"{row['id']}.jsonl"
            if curve.is_file():
                curves[key] = [line for _, line in _lines(curve, notes)]
    if older:
        notes.append(
            f"{older} records left out: the same point and device is in another folder, later"
        )
    frame = pd.DataFrame([kept[key] for key in sorted(kept)])
    return Records(_ordered(frame), curves, list(dict.fromkeys(notes)), bases)


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


def _records(file, notes):
    found = 0
    for where, record in _lines(file, notes):
        found += 1
        problem = _problem(record)
        if problem:
            notes.append(f"{where}: {problem}")
        else:
            yield record
    if not found:
        notes.append(f"{file}: no records in it")


def _lines(file, notes):
    """(where, object) for every line of a .jsonl, or for the one object of a .json."""
    try:
        text = file.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        notes.append(f"{file}: {error.strerror}")
        return
    whole = file.suffix == ".json"
    for number, line in enumerate([text] if whole else text.split("\n"), 1):
        where = str(file) if whole else f"{file}:{number}"
        if not line.strip() and not whole:
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            notes.append(f"{where}: damaged, not JSON ({str(error).split(':')[0].lower()})")
            continue
        if isinstance(found, dict):
            yield where, found
        else:
            notes.append(f"{where}: damaged, expected an object, got {type(found).__name__}")


def _problem(record):
    if record.get("schema") != SCHEMA:
        return f"schema {record.get('schema')!r}; this report reads schema {SCHEMA}"
    for field, kind in {"id": str, "config": dict, "status": str}.items():
        if not isinstance(record.get(field), kind):
            return f"damaged, {field!r} should be {kind.__name__}, got {record.get(field)!r}"
    if record["status"] not in STATUSES:
        return f"status {record['status']!r}; known: {', '.join(STATUSES)}"
    for field in ("metrics", "env"):
        if not isinstance(record.get(field, {}) or {}, dict):
            return f"damaged, {field!r} should be dict, got {record[field]!r}"
    config = record["config"]
    if config.get("kind") in KINDS:
        n = config.get("n")
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            return f"damaged, config.n should be a whole number from 1 up, got {n!r}"
        fields = [c.removeprefix("config.").split(".")[0] for c in CELL[config["kind"]]]
        missing = [field for field in dict.fromkeys(fields) if field not in config]
        missing += [] if "experiment" in config else ["experiment"]
        if missing:
            return f"damaged, config has no {', '.join(missing)}"
    return None


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
