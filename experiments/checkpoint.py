"""Checkpoints of one training run: all that is needed to go on bit for bit, written meanwhile.

Arrays and notes (what is no array: the curve, the best value) lie side by side, each step whole or
absent. A checksum of the arrays is among the notes: a damaged step is reported and passed over.
"""

import logging
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

log = logging.getLogger(__name__)


class Checkpoints:
    """The last `keep` steps under `folder`. Leaving the context waits for the writes."""

    def __init__(self, folder: Path, keep: int = 2):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._folder = Path(folder).absolute()
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._manager.close()

    def save(self, step: int, tree: Any, notes: dict) -> None:
        """Copies the arrays, which may be donated right after, and writes them meanwhile."""
        arrays = _named(jax.tree.map(jnp.copy, tree))
        self._manager.save(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays),
                notes=ocp.args.JsonSave({**notes, "checksum": _checksum(arrays)}),
            ),
        )

    def restore(self, like: Any) -> tuple[int, Any, dict] | None:
        """The newest whole step: its number, arrays in the structure of `like`, notes; or None."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return step, *self._read(step, like)
            except Exception as damage:
                reason = str(damage).splitlines()[0] if str(damage) else type(damage).__name__
                log.warning(
                    "checkpoint %s/%d is damaged, passed over: %s", self._folder, step, reason
                )
                self._discard(step)
        return None

    def _read(self, step, like):
        expected = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _named(like)
        )
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(expected), notes=ocp.args.JsonRestore()
            ),
        )
        notes = dict(found.notes)
        if notes.pop("checksum") != _checksum(found.arrays):
            raise ValueError("its arrays are not those that were saved")
        leaves = [found.arrays[name] for name in expected]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), notes

    def _discard(self, step):
        shutil.rmtree(self._folder / str(step))
        self._manager.reload()


def remove(folder: Path) -> None:
    """All checkpoints of a run that needs them no more."""
    shutil.rmtree(folder, ignore_errors=True)


def _named(tree):
    """The leaves under their paths, in the tree's order."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _checksum(arrays):
    total = 0
    for name in sorted(arrays):
        total = zlib.crc32(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8), total)
    return total
