"""Files of records, read however damaged they are; what is no record is told in one line.

What is left out is (where, why); of one kind are reasons that say the same up to what they got.
Imports no jax.
"""

import collections
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA = 1
STATUSES = ("ok", "refused", "absent", "oom", "timeout", "nan", "error")
FIELDS = {"id": str, "config": dict, "status": str, "metrics": dict, "env": dict}


def finite(value: Any) -> Any:
    """The value with NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def point_id(point: Mapping[str, Any]) -> str:
    """Ten hex digits of the resolved point: same config, same id."""
    canonical = json.dumps(point, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def records(file: Path, damaged: list[tuple[str, str]]) -> Iterator[tuple[str, dict]]:
    """(where, record) of every whole one in a file; of others where and why to `damaged`."""
    for where, record in lines(file, damaged):
        reason = problem(record)
        if reason:
            damaged.append((where, reason))
        else:
            yield where, record


def lines(file: Path, damaged: list[tuple[str, str]]) -> Iterator[tuple[str, dict]]:
    """(where, object) of every line of a .jsonl, or of the one object of a .json.

    What is none is added to `damaged`: where, and why.
    """
    try:
        text = file.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        # a point file that was merged since it was listed
        return
    except OSError as error:
        damaged.append((str(file), error.strerror))
        return
    whole = file.suffix == ".json"
    for number, line in enumerate([text] if whole else text.split("\n"), 1):
        where = str(file) if whole else f"{file}:{number}"
        if not line.strip() and not whole:
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            damaged.append((where, f"not JSON ({str(error).split(':')[0].lower()})"))
            continue
        if isinstance(found, dict):
            yield where, found
        else:
            damaged.append((where, f"expected an object, got {type(found).__name__}"))


def problem(record: Mapping) -> str | None:
    """Why an object is no record."""
    if record.get("schema") != SCHEMA:
        return f"of schema {record.get('schema')!r}, and this code reads {SCHEMA}"
    for field, kind in FIELDS.items():
        if not isinstance(record.get(field), kind):
            return f"{field!r} should be {kind.__name__}, got {record.get(field)!r}"
    if record["status"] not in STATUSES:
        return f"status {record['status']!r}; known: {', '.join(STATUSES)}"
    try:
        own = point_id(record["config"])
    except ValueError:
        return "config has a number that is not finite"
    if record["id"] != own:
        return f"the id is not that of its config, got {record['id']!r}"
    return None


def told(damaged: list[tuple[str, str]]) -> list[str]:
    """One line for all of it: how many there are, and of each kind of reason the first."""
    if not damaged:
        return []
    kinds = collections.defaultdict(list)
    for where, reason in damaged:
        kinds[reason.split(", got ")[0]].append(f"{where}: {reason}")
    if len(damaged) == 1:
        return [f"1 record is left out: {kinds.popitem()[1][0]}"]
    reasons = "; ".join(f"{len(of)} as {of[0]}" for of in kinds.values())
    return [f"{len(damaged)} records are left out: {reasons}"]
