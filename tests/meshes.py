"""Trainings on meshes of 8 devices, of the alphabet or of the point's own task:

python -m tests.meshes OUT < {name: run}

prints a line {name: curve, bytes of a step} for every run, which is {"mesh", "point"} and may have
"stop": the step before whose batch it is asked to end, and "after": the name of a run from whose
checkpoints it goes on.
"""

import functools
import json
import os
import signal
import sys
from pathlib import Path

from experiments import records, tasks, train
from tests.alphabet import POINT, alphabet

FIELDS = {"batch": 8, "n": 16, "steps": 9, "eval_every": 3}


MADE = tasks.make


def task(stop, name, n, **args):
    if name != POINT["task"]:
        return MADE(name, n, **args)

    def strike(step):
        if step == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    return alphabet(n, strike)


def main() -> None:
    out = Path(sys.argv[1])
    for name, run in json.load(sys.stdin).items():
        tasks.make = functools.partial(task, run.get("stop"))
        point, folder = POINT | FIELDS | run["point"], out / run.get("after", name)
        metrics = {}
        try:
            metrics = train.run_point(point, folder, run["mesh"])
        except SystemExit:
            assert "stop" in run
        curve = folder / "curves" / f"{records.point_id(point)}.jsonl"
        lines = [json.loads(line) for line in curve.read_text().splitlines()]
        losses = [line[key] for line in lines for key in line if key not in ("step", "seconds")]
        found = {name: metrics.get(name) for name in ("bytes_compiled", "mesh", "test_bpb")}
        print(json.dumps({"name": name, "curve": losses, **found}), flush=True)


if __name__ == "__main__":
    main()
