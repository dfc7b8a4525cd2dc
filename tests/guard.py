"""Counted FLOPs and compiled temporaries of every mechanism at one length, as last accepted.

    python -m tests.guard

writes tests/guard.json anew; test_guard.py fails where a program now does or holds more. Look at
what changed in the file before you commit it.
"""

# before jax: programs are compiled as in the tests
import tests.conftest  # noqa: F401, I001

import json
import os
from pathlib import Path

import jax

from configs import scaling
from experiments import measure
from experiments.kinds import kernel
from experiments.measuring import flops

FILE = Path(__file__).with_suffix(".json")
LENGTH = 1024
MODES = {
    "forward": {"mode": "forward", "causal": False},
    "causal": {"mode": "forward", "causal": True},
    "train": {"mode": "train", "causal": False},
}


def compiler() -> dict[str, str]:
    """What compiled bytes depend on beside the program."""
    backend, flags = jax.default_backend(), os.environ.get("XLA_FLAGS", "")
    return {"jax": jax.__version__, "backend": backend, "xla_flags": flags}


def points(n: int = LENGTH) -> dict[str, dict]:
    """A point of kind "kernel" for every mechanism of the scaling sweep and mode, by name."""
    config = scaling.get_config()
    config.lengths, config.causal = (n,), (False, True)
    asked = {tuple(mode.values()): name for name, mode in MODES.items()}
    return {
        f"{point['label']}, {asked[point['mode'], point['causal']]}": point
        for point in scaling.get_sweep(config)
        if (point["mode"], point["causal"]) in asked and not kernel.objections(point)
    }


def counted(traced) -> int:
    return flops.count_jaxpr(traced.jaxpr).flops


def temporaries(traced) -> int:
    return int(measure.memory_of(traced.lower()).temp_size_in_bytes)


def main() -> None:
    cells = {}
    for name, point in points().items():
        traced = kernel.trace(point)
        cells[name] = {"flops": counted(traced), "bytes": temporaries(traced)}
    FILE.write_text(json.dumps({"compiler": compiler(), "cells": cells}, indent=1) + "\n")
    print(f"{len(cells)} cells: {FILE}")


if __name__ == "__main__":
    main()
