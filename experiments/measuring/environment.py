"""Facts about the machine and the code that a record was made with.

`python -m experiments.measuring.environment` prints them as JSON: the runner asks a process
of its own, so that it never holds the accelerator that its workers need.
"""

import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# fresh memory from glibc in pages of 2 MB: on a virtual machine pages of 4 KB cost 1 ms a MB, more
# than most kernels' work
HUGE_PAGES = "glibc.malloc.hugetlb=1"
# free blocks of 4 KB * 2**order and more are given back to the host of a virtual machine: to touch
# them again went at .1 to .5 GB/s on one, and at 4 once 11 was written there, for none, and all
# memory had been touched: most of a large N's time
PAGE_REPORTING = Path("/sys/module/page_reporting/parameters/page_reporting_order")


def probe(**variables: str) -> dict:
    """The facts, asked of a process of its own, with these environment variables."""
    asked = subprocess.run(
        [sys.executable, "-m", "experiments.measuring.environment"],
        env={**os.environ, **worker_variables(), **variables},
        capture_output=True,
        text=True,
    )
    if asked.returncode == 0:
        return json.loads(asked.stdout.splitlines()[-1])
    last = [line for line in asked.stderr.splitlines() if line.strip()][-1:]
    raise RuntimeError(f"jax does not start here: {''.join(last) or asked.returncode}")


def worker_variables() -> dict[str, str]:
    """What a process of ours needs: to find this code, to give freed memory back when asked, and
    huge pages.

    With several arenas glibc keeps freed memory, which would hide what a measured call takes.
    """
    known = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(ROOT), *([known] if known else [])])
    tunables = os.environ.get("GLIBC_TUNABLES", HUGE_PAGES)
    return {"PYTHONPATH": path, "MALLOC_ARENA_MAX": "1", "GLIBC_TUNABLES": tunables}


@functools.cache
def facts() -> dict:
    """Of this process, which from now on holds the accelerator."""
    import jax

    device = jax.devices()[0]
    commit, dirty = _git()
    return {
        "device": device_slug(device.platform, device.device_kind, jax.device_count()),
        "platform": device.platform,
        "devices": jax.device_count(),
        "cores": _cores(),
        **{name: _version(name) for name in ("jax", "jaxlib", "flax", "numpy")},
        "python": platform.python_version(),
        "matmul_precision": jax.config.jax_default_matmul_precision or "",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "page_reporting_order": _page_reporting(),
        "commit": commit,
        "dirty": dirty,
    }


def device_slug(platform_name: str, kind: str, count: int) -> str:
    """Such as cpu-amd-epyc-9b14-2c, gpu-nvidia-h200 or tpu-v5-lite-x4."""
    if platform_name == "cpu":
        return f"cpu-{_slug(_cpu_model())}-{_cores()}c"
    words = _slug(kind).removeprefix(f"{platform_name}-")
    return f"{platform_name}-{words}" + (f"-x{count}" if count > 1 else "")


def _slug(text):
    text = re.sub(r"\(r\)|\(tm\)|\d+-core|processor|cpu|@.*", " ", text.lower())
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-") or "unknown"


def _cpu_model():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _page_reporting():
    """None where the system has no such thing, or does not say."""
    try:
        return int(PAGE_REPORTING.read_text())
    except (OSError, ValueError):
        return None


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git():
    """(commit, whether tracked files but results differ from it).

    Of files outside a checkout SOURCE_COMMIT tells the commit; whether they differ is not known.
    """

    def ask(*words):
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = ask("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results")
        return ask("rev-parse", "HEAD"), bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("SOURCE_COMMIT"), None


def differs(commit: str | None, folder: str) -> bool:
    """Whether files in a folder are others now than at the commit; no, where git cannot tell."""
    return _status(commit, "diff", "--quiet", commit, "--", folder) == 1


def knows(commit: str | None) -> bool:
    """Whether git has the commit here."""
    return _status(commit, "cat-file", "-e", f"{commit}^{{commit}}") == 0


def _status(commit, *words):
    """Of git, asked about a commit; None where there is none, or no git."""
    if not re.fullmatch("[0-9a-f]{7,40}", commit or ""):
        return None
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True).returncode
    except OSError:
        return None


if __name__ == "__main__":
    print(json.dumps(facts()))
