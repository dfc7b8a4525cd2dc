"""Trains the alphabet, for tests of the runner. While OUT/slow is there, validation takes longer
than a runner that is asked to end waits for its worker."""

import dataclasses
import time

from experiments import tasks, train
from tests.alphabet import POINT, alphabet

SLOW = POINT | {"kind": "tests.slow_training", "batch": 2}
# a validation has 10 batches
SECONDS = 3.0


def run_point(point, out):
    task = alphabet(point["n"])

    def held_out(split, size):
        for batch in task.held_out(split, size):
            if (out / "slow").exists():
                (out / "validating").touch()
                time.sleep(SECONDS)
            yield batch

    tasks.make = lambda name, n, **args: dataclasses.replace(task, held_out=held_out)
    return train.run_point(point, out)
