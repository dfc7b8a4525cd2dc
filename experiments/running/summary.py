"""What a run says of its points when it ends."""

import collections
import sys

from experiments import records


def name(point: dict) -> str:
    """A point in a few words."""
    words = [point.get("experiment"), point.get("label"), point.get("option"), f"n={point['n']}"]
    words += [point[key] for key in ("mode", "order", "feature_map") if key in point]
    words += [f"{key}={point[key]}" for key in ("value_dim", "seed") if point.get(key)]
    words += [f"lr={point['lr']}"] if point.get("role") == "grid" else []
    return " ".join(str(word) for word in words if word) + (
        " causal" if point.get("causal") else ""
    )


def show(points, store, held=()):
    """Failures, counts, and where the records are."""
    known = store.all()
    mine = [known[id] for id in map(records.point_id, points) if id in known]
    failed = [record for record in mine if record["status"] != "ok"]
    for record in failed[:20]:
        print(f"{record['status']:8} {name(record['config'])}: {record['reason']}")
    if len(failed) > 20:
        print(f"... and {len(failed) - 20} more that are not ok")
    counts = collections.Counter(record["status"] for record in mine)
    words = ", ".join(f"{counts[status]} {status}" for status in records.STATUSES if counts[status])
    missing = len(points) - len(mine) - len(held)
    words += f", {len(held)} with another runner" if held else ""
    words += f", {missing} not measured yet" if missing else ""
    print(f"{len(mine)} of {len(points)} points: {words}\nrecords: {store.merged}")


def stopped(stop):
    print(f"stopped by {stop}; the same command goes on from here", file=sys.stderr)
