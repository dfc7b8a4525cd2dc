"""One of several processes that train the alphabet: python -m tests.group OUT STEP [ARGUMENT ...]

runs the runner with the arguments on the sweep of this file. It dies before the training batch of
that step, is asked to end there where it is negative, and lives where it is "".
"""

import os
import signal
import sys

from experiments import run, tasks
from tests.alphabet import POINT, alphabet

FIELDS = {"batch": 8, "n": 16, "checkpoint_every": 3}


def get_config():
    from configs import base

    return base.settings("group")


def get_sweep(config):
    return [POINT | FIELDS]


def main() -> int:
    out, at, *arguments = sys.argv[1:]

    def strike(step):
        if at and step == abs(int(at)):
            os.kill(os.getpid(), signal.SIGKILL if int(at) > 0 else signal.SIGTERM)

    tasks.make = lambda name, n, **args: alphabet(n, strike)
    return run.main(["--config", __file__, "--out", out, *arguments])


if __name__ == "__main__":
    sys.exit(main())
