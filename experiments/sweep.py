"""Run a sweep: measure the points that have no record, each in a process that may die."""

import contextlib
import dataclasses
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import psutil

from experiments import records
from experiments.measuring import environment
from experiments.running import configuration, distributed, progress, worker
from experiments.running.isolate import Worker
from experiments.tasks import data
from experiments.training import mesh as meshes

ISOLATION = ("point", "mechanism", "none")
# what --retry repeats: more time, or a quieter machine, may be all that was wanting
RETRIED = ("error", "timeout")
# between looks at the points that other runners hold
WAIT_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """How points are run; no part of what they are.

    `isolate`: a process a point, a process a mechanism, or none (then the limits do not hold).
    `time_limit` in seconds a point; `memory_limit_gb` of its process, 0 for 4/5 of the machine.
    `mesh`: of the devices that a point is spread over, see mesh.py.
    """

    isolate: str = "point"
    time_limit: float = 600.0
    memory_limit_gb: float = 0.0
    mesh: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.isolate not in ISOLATION:
            raise ValueError(f"isolate must be one of {', '.join(ISOLATION)}, got {self.isolate!r}")
        if not self.time_limit > 0:
            raise ValueError(f"time_limit must be positive seconds, got {self.time_limit!r}")
        if not self.memory_limit_gb >= 0:
            raise ValueError(f"memory_limit_gb must be 0 or more, got {self.memory_limit_gb!r}")
        meshes.check(self.mesh)

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_limit_gb * 1e9) or memory_of_machine() * 4 // 5


def pending(
    points: Iterable[dict], store: records.Store, *, retry: bool | str = False
) -> list[dict]:
    """The points without a final record: absent data are not final, and with `retry` neither is an
    error or a timeout, or one of before that date, nor what reads such a record."""
    known = store.all()

    def final(point):
        return _final(known.get(records.point_id(point)), retry)

    def reads_final(point):
        return not retry or all(map(final, configuration.required(point)))

    return [p for p in points if not (final(p) and reads_final(p))]


def run(
    points: list[dict],
    store: records.Store,
    settings: Settings,
    env: dict,
    *,
    retry: bool | str = False,
    wait: bool = False,
    done: Callable[[dict, dict | None], None] = lambda point, record: None,
    told: Callable[[dict, str], None] = lambda point, text: None,
) -> list[dict]:
    """Measure what is pending and return the points that another runner still holds.

    A point that requires what another runner is measuring is left to that one too; with `wait` this
    one stays until all points have records, and takes over from a runner that dies.
    `done(point, record)` is called after each point, with None where another runner has it;
    `told(point, text)` while one runs that says how far it is.
    """
    first = distributed.is_first()
    # a second pass takes over what another runner had claimed and then died on
    held = distributed.agree(lambda: pending(points, store, retry=retry))
    for last in itertools.repeat(False) if wait else (False, True):
        todo, held = held, []
        for group in _groups(todo, settings.isolate):
            with _measurer(settings) as measure:
                for point in group:
                    id = records.point_id(point)
                    with store.claim(id) if first else contextlib.nullcontext() as mine:
                        free = distributed.agree(lambda: mine and not _waits(point, store, retry))  # noqa: B023
                        if not free:
                            held.append(point)
                            continue
                        record = distributed.agree(lambda: store.get(id))  # noqa: B023
                        if not _final(record, retry) or _is_outdated(point, record, store, retry):
                            listen = functools.partial(told, point)
                            began = time.monotonic()
                            outcome = _refused(point) or measure(point, store.folder, listen)
                            if _still_absent(record, outcome):
                                done(point, record)
                                continue
                            took = {"elapsed": round(time.monotonic() - began, 2)}
                            record = records.make(point, **_of_all(outcome), env=env | took)
                            if first:
                                store.write(record)
                    done(point, record)
        if last:
            for point in held:
                done(point, None)
        if wait and not held:
            break
        if wait:
            time.sleep(WAIT_SECONDS)
    return held


def _still_absent(record, outcome):
    """The row stays as it is: nothing has come."""
    return record is not None and record["status"] == outcome["status"] == "absent"


def _of_all(outcome):
    """The outcome of a point on all processes; LostError where one is gone."""
    failed = distributed.count - distributed.total(outcome["status"] == "ok")
    if outcome["status"] == "ok" and failed:
        return worker.outcome("error", f"it failed on {failed} of {distributed.count} processes")
    return outcome


def memory_of_machine() -> int:
    """Bytes that this process may use: the machine's, or less where a container limits it."""
    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


def _final(record, retry):
    # a file may have been given since
    if record is not None and record["status"] == "absent":
        return False
    if record is None or record["status"] not in RETRIED:
        return record is not None
    return not retry or (retry is not True and record["env"]["date"] >= retry)


def _is_outdated(point, record, store, retry):
    """Whether what was measured again since, to retry it, makes another point of this one."""
    module = worker.kind_module(point["kind"])
    asked = retry and record["status"] == "ok" and hasattr(module, "is_outdated")
    return asked and distributed.agree(lambda: module.is_outdated(point, record, store.get))


def _waits(point, store, retry=False):
    """Whether the point reads a record that there is not yet."""
    for other in configuration.required(point):
        record = store.get(records.point_id(other))
        # whose files have come since is measured first
        if record is None or (record["status"] == "absent" and not refusal(other)):
            return True
        # without a date, whether it was measured again cannot be told
        if isinstance(retry, str) and record["status"] != "absent" and not _final(record, retry):
            return True
    return False


def _groups(points, isolate):
    if isolate != "mechanism":
        return [[point] for point in points] if isolate == "point" else [points]
    groups = {}
    for point in points:
        key = (point.get("experiment"), point["kind"], point.get("label"))
        groups.setdefault(key, []).append(point)
    return list(groups.values())


@contextlib.contextmanager
def _measurer(settings):
    if settings.isolate == "none":
        yield functools.partial(_measure_here, mesh=dict(settings.mesh))
        return
    limits = {"seconds": settings.time_limit, "memory": settings.memory_bytes}
    limits["mesh"] = dict(settings.mesh)
    variables = environment.worker_variables()
    with Worker({**os.environ, **variables}) as process:
        yield functools.partial(process.measure, **limits)


def _measure_here(point, out, listen, mesh):
    progress.listener = listen
    try:
        return worker.perform(point, out, mesh)
    finally:
        progress.listener = None


def refusal(point: Mapping) -> tuple[str, str] | None:
    """("refused" or, where its data are not at hand, "absent", why) of a point that cannot run."""
    module = worker.kind_module(point["kind"])
    try:
        reasons = module.objections(point) if hasattr(module, "objections") else []
    except data.AbsentError as error:
        return "absent", error.brief
    return ("refused", "; ".join(reasons)) if reasons else None


def _refused(point):
    """The outcome of a point that cannot run on every process, without running it; None where it
    can."""
    why = refusal(point)
    if distributed.total(why is not None) and why is None:
        why = "absent", "another process has not the files"
    if why is None:
        return None
    module = worker.kind_module(point["kind"])
    traced = why[0] == "refused" and hasattr(module, "trace_point")
    return worker.outcome(*why, module.trace_point(point) if traced else {})
