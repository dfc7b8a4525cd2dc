"""Several processes that train as one: how they find each other, what they agree on, how they end.

All run the same sweep in step; the first alone decides what is measured and writes records. They
share the folder of the records, where each writes its part of a checkpoint. One that dies ends all:
a collective that it leaves fails, or its heartbeat is missed.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

# a process that is silent for so long is dead; then all end
HEARTBEAT_SECONDS = 20
# to wait for the others to start, and to end
START_SECONDS = 300
END_SECONDS = 20
LOST = 75

count, number = 1, 0


class LostError(RuntimeError):
    """Another process is gone; nothing can be agreed on any more."""


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Make this process one of several; ValueError where the environment does not tell which.

    What is None is taken from Slurm, Kubernetes, Open MPI or a TPU pod, or from
    JAX_COORDINATOR_ADDRESS. Must come before anything that starts a device.
    """
    global count, number
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=END_SECONDS,
        )
    except ValueError as error:
        raise ValueError(
            f"--distributed: {error} Start under srun, mpirun or Kubernetes, or give --coordinator "
            "HOST:PORT --processes N --process I"
        ) from error
    count, number = jax.process_count(), jax.process_index()


def is_first() -> bool:
    return number == 0


def agree(decide: Callable[[], Any]) -> Any:
    """What the first process decides, a value of JSON, on all of them."""
    if count == 1:
        return decide()
    text = json.dumps(decide()).encode() if is_first() else b""
    with _together():
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
        # a program a size is compiled: few sizes
        padded = text.ljust(1 << (length - 1).bit_length())
        told = multihost_utils.broadcast_one_to_all(np.frombuffer(padded, np.uint8))
    return json.loads(told.tobytes())


def total(value: int) -> int:
    """The sum of a whole number below 2^64 over all processes."""
    if count == 1:
        return value
    halves = np.array([value >> 32, value & 0xFFFFFFFF], np.uint32)
    with _together():
        found = multihost_utils.process_allgather(halves)
    return sum((int(high) << 32) + int(low) for high, low in found)


def stops(step: int) -> bool:
    """Whether all processes stop after this step, for one of them was asked to."""
    return count > 1 and multihost_utils.reached_preemption_sync_point(step)


@contextlib.contextmanager
def _together():
    try:
        yield
    except Exception as error:
        raise LostError(f"another process of this run is gone ({error})") from error


def leave(code: int) -> None:
    """End at once where others are gone: the runtime would wait for them."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
