"""How far this process's memory grows while something runs. Imports no jax."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path


def growth(run: Callable) -> tuple:
    """(what `run()` returns, bytes by which memory in use grew at its highest, None if unknown)."""
    gc.collect()
    # memory that was freed but kept by the allocator would hide what the run takes
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_bytes("VmRSS")
    except OSError:
        return run(), None
    out = run()
    return out, max(_status_bytes("VmHWM") - before, 0)


def highest() -> int | None:
    """The most bytes this process held since `growth` began, None if unknown."""
    try:
        return _status_bytes("VmHWM")
    except OSError:
        return None


def _status_bytes(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")
