"""Points to measure again, from records alone: a record's config is all that was asked.

python -m experiments.run --again results/scaling/DEVICE --ids 82839f304a --out out/again
"""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from experiments import records
from experiments.running import configuration


def settings() -> ConfigDict:
    """How they are run, where no config says."""
    return ConfigDict({"isolate": "point", "time_limit": 600.0, "memory_limit_gb": 0.0})


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
