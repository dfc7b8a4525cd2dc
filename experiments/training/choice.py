"""A learning rate chosen on validation: the best of a grid's points, from their records.

A point's `lr` is a number, or {"grid": numbers, "at": fields}: the number that did best in the
points that are like this one but for the fields `at` and have each number as their `lr`. The runner
measures those points first, in the same folder.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments import records
from experiments.measuring import environment
from experiments.tasks.metric import merit


class NoneChosenError(ValueError):
    """No point of the grid came to its end."""


def grid_of(point: Mapping) -> list[dict]:
    """The points that must have records before this one can run; none where `lr` is a number."""
    rate = point["lr"]
    if not isinstance(rate, Mapping):
        return []
    return [{**point, **rate["at"], "lr": lr} for lr in rate["grid"]]


def check(rate: Any) -> None:
    """ValueError unless it is a learning rate, or a grid of them."""
    if not isinstance(rate, Mapping):
        check_rate("lr", rate)
        return
    if set(rate) != {"grid", "at"} or not isinstance(rate["at"], Mapping):
        raise ValueError(f'lr must be a number or {{"grid": numbers, "at": fields}}, got {rate!r}')
    if not rate["grid"]:
        raise ValueError("lr's grid must have a number, got none")
    for number in rate["grid"]:
        check_rate("lr's grid", number)


def check_rate(name: str, rate: Any) -> None:
    """ValueError says that the rate of this name is no number from 0 up."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < math.inf:
        raise ValueError(f"{name} must be a number from 0 up, got {rate!r}")


def choose(
    point: Mapping, get: Callable[[str], dict | None], metric: str, *, higher_is_better: bool
) -> tuple[float, dict[str, float | None]]:
    """The point's learning rate, and what the record says of the choice by column.

    `get(id)`: the record of a point, None without one. Which is best says `metric.merit`, with the
    point's `target`.
    """
    found = {}
    for candidate in grid_of(point):
        found[candidate["lr"]] = get(records.point_id(candidate))
        if found[candidate["lr"]] is None:
            raise NoneChosenError(
                f"the grid's point {records.point_id(candidate)} with lr={candidate['lr']} has no "
                "record; run it first"
            )
    if not found:
        return point["lr"], {"lr": point["lr"]}
    name = f"val_{metric}_best"
    good = {lr: r["metrics"] for lr, r in found.items() if r["status"] == "ok"}
    if not good:
        reasons = (f"{lr:g}: {r['status']}, {r['reason']}" for lr, r in found.items())
        raise NoneChosenError(f"no lr of the grid came to its end ({'; '.join(reasons)})")

    def merit_of(lr):
        of = good[lr]
        rule = {"higher_is_better": higher_is_better, "target": point.get("target")}
        return merit(of[name], of.get("val_loss_best"), of["best_step"], **rule)

    columns = {f"{name}@lr={lr:g}": good[lr][name] if lr in good else None for lr in found}
    best = max(good, key=merit_of)
    return best, {"lr": best, **columns}


def same_training(point: Mapping, lr: float, out: Path) -> dict | None:
    """The record of the grid's point that is this training in all but its role; None without one.

    To the bit that holds only where this code ran on this machine.
    """
    for candidate in grid_of(point):
        if _but_role(candidate) == _but_role({**point, "lr": lr}):
            record = records.Store(out).get(records.point_id(candidate))
            here = record["env"].items() >= environment.facts().items()
            return record if here and not record["env"].get("dirty") else None
    return None


def _but_role(point):
    return records.point_id({**point, "role": None})
