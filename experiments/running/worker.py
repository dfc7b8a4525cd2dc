"""The process that measures points: one JSON line in, one out, until its input ends.

Lines before the one out say how far it is, {"progress": text}, and what went another way than it
should, {"warning": text}. It dies with its parent, however that dies: the end of its input, watched
at all times, is its own.
"""

import importlib
import json
import logging
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from experiments.running import progress
from experiments.tasks import data

# a kind is a module with `run_point(point, out) -> metrics`, and where they make sense
# `check_point(point)` (ValueError), `objections(point) -> list of reasons`,
# `trace_point(point) -> metrics` of a refused point, `requires(point) -> points` whose records it
# reads, `is_outdated(point, record, get) -> bool` where these, by id, make another point of it than
# was measured, `predict(point) -> {"flops", "bytes"}` and, where it is known, the "share" of a
# matrix product's rate that it reaches and "seconds" beside. One with `check_mesh(point, mesh)`
# (ValueError) spreads its points over devices: `run_point(point, out, mesh)`
KINDS = {
    "kernel": "experiments.kinds.kernel",
    # kernels too, apart from those that a cost model is calibrated on
    "option": "experiments.kinds.kernel",
    "reorder": "experiments.kinds.reorder",
    "train": "experiments.train",
    "step": "experiments.kinds.whole_step",
    "decoding": "experiments.kinds.decoding",
    "fidelity": "experiments.kinds.fidelity",
    "numbers": "experiments.kinds.numbers",
    "compiled": "experiments.kinds.compiled",
    "sharding": "experiments.kinds.sharding",
    "plan": "experiments.kinds.plan",
}


# what jax's runtimes, and torch's, say of it
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "Out of memory", "can't allocate memory")


def kind_module(kind: str) -> ModuleType:
    """The module of a kind by its name, or by a dotted module path."""
    path = KINDS.get(kind, kind)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and not (path == error.name or path.startswith(f"{error.name}.")):
            raise
        known = ", ".join(KINDS)
        raise ValueError(f"kind must be one of {known} or a module, got {kind!r}") from error


def perform(point: dict, out: Path, mesh: dict | None = None) -> dict:
    """{"status", "reason", "metrics"} of measuring a point here; nothing it does wrong raises."""
    try:
        module = kind_module(point["kind"])
        spread = (mesh,) if hasattr(module, "check_mesh") else ()
        metrics = module.run_point(point, out, *spread)
    except data.AbsentError as error:
        return outcome("absent", error.brief)
    except MemoryError as error:
        return outcome("oom", _line(error))
    except FloatingPointError as error:
        return outcome("nan", str(error))
    except Exception as error:
        traceback.print_exc()
        spent = any(words in str(error) for words in OUT_OF_MEMORY)
        return outcome("oom" if spent else "error", _line(error))
    lost = [name for name, value in metrics.items() if isinstance(value, float) and value != value]
    if lost:
        return outcome("nan", f"{', '.join(lost)} is not a number", metrics)
    return outcome("ok", "", metrics)


def outcome(status: str, reason: str = "", metrics: dict | None = None) -> dict:
    return {"status": status, "reason": reason, "metrics": metrics or {}}


def _line(error):
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0]} ({Path(frame.filename).name}:{frame.lineno})"


class _Warnings(logging.Handler):
    """Hands what this package warns of to `tell(text)`."""

    def __init__(self, tell: Callable[[str], None]):
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record):
        self._tell(self.format(record))


def main() -> None:
    # prints of libraries must not reach the pipe that answers go through
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    requests, one = queue.Queue(), threading.Lock()

    def answer(message):
        with one:
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    def listen():
        for line in sys.stdin:
            requests.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    progress.listener = lambda text: answer({"progress": text})
    logging.getLogger("experiments").addHandler(_Warnings(lambda text: answer({"warning": text})))
    while True:
        request = requests.get()
        answer(perform(request["point"], Path(request["out"]), request["mesh"]))


if __name__ == "__main__":
    main()
