"""Bytes of the running Python's own standard library: real text, long-range names, always there.

Files are split by the hash of their path, 90/5/5, and follow each other in the order of those
hashes. Tests, tables of data and what the build wrote are left out.
"""

import functools
import hashlib
import os
import platform
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from experiments.tasks import Task, language

LEFT_OUT = {
    "site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "pydoc_data",
}  # fmt: skip
BOUNDS = {"train": 0.9, "val": 0.95, "test": 1.0}


def make(n: int, eval_tokens: int = 131072, grow: Sequence[int] = ()) -> Task:
    root = Path(sysconfig.get_path("stdlib"))
    version = f"{platform.python_implementation()} {platform.python_version()}"
    facts = {"data": version}
    return language.language_model(n, "stdlib", splits(root), eval_tokens, facts, grow)


@functools.cache
def splits(root: Path) -> dict[str, bytes]:
    """The texts under `root`: each file in one split, decided by its path alone."""
    texts = {split: [] for split in BOUNDS}
    for share, path in sorted((_share(path, root), path) for path in _sources(root)):
        split = next(split for split, bound in BOUNDS.items() if share < bound)
        texts[split].append(path.read_bytes())
    if not all(texts.values()):
        raise ValueError(
            f"{root} must hold .py files enough for three splits, as a standard library"
        )
    return {split: b"".join(files) for split, files in texts.items()}


def _sources(root):
    for folder, inner, files in os.walk(root):
        inner[:] = [
            name for name in inner if name not in LEFT_OUT and not name.startswith("config-")
        ]
        for name in files:
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                yield Path(folder, name)


def _share(path, root):
    """Where a path falls in [0, 1)."""
    digest = hashlib.sha256(path.relative_to(root).as_posix().encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
