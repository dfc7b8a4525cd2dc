"""Points to measure again, from records alone: a record's config is all that was asked.

python -m experiments.run --again results/scaling/DEVICE --ids 82839f304a --out out/again
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from experiments import records
from experiments.running import configuration

# of what the longest took; nothing is given less than this many seconds
PATIENCE, LEAST = 3, 600.0


def settings(folder: str | Path, points: Sequence[Mapping]) -> ConfigDict:
    """How these are run, where no config says: in thrice the time that the longest of them took."""
    asked = set(map(records.point_id, points))
    took = [r["env"].get("elapsed") or 0.0 for r in records.load(folder) if r["id"] in asked]
    limit = max(LEAST, PATIENCE * max(took, default=0.0))
    return ConfigDict({"isolate": "point", "time_limit": limit, "memory_limit_gb": 0.0})


def points(folder: str | Path, ids: Sequence[str] = ()) -> list[dict]:
    """Those of the records under `folder`, or of these ids, each after what it requires."""
    known = {record["id"]: record["config"] for record in records.load(folder)}
    if not known:
        raise ValueError(f"--again: no records under {folder}")
    for id in ids:
        if id not in known:
            raise ValueError(f"--ids: {folder} has no record {id}")
    found = {}
    for point in (known[id] for id in ids or known):
        for one in (*configuration.required(point), point):
            configuration.check(one)
            found[records.point_id(one)] = one
    return list(found.values())
