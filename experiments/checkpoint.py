"""Checkpoints of one training run: all that is needed to go on bit for bit, written meanwhile.

Arrays and notes (what is no array: the curve, the best value) lie side by side, each step whole or
absent. Beside the notes is a checksum of both: a damaged step is reported and passed over. Each
process writes what its devices hold; what was written on one mesh is read onto any other.
"""

import json
import logging
import shutil
import textwrap
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from experiments.running import distributed

log = logging.getLogger(__name__)
# an odd number of random bits
SPREAD = np.uint64(0x9E3779B97F4A7C15)
# what tensorstore begins with where files are absent, cut or hold another thing than was written
ABSENT = "NOT_FOUND"
DAMAGE = ("DATA_LOSS", "OUT_OF_RANGE", "FAILED_PRECONDITION", "INVALID_ARGUMENT")
# what it adds where it was the system that failed
SYSTEM = "os_error_code"
# characters of its messages that are told: more are specifications of what was to be read
LINE = 240


class DamagedError(ValueError):
    """What a step holds is not what was saved."""


class UnreadableError(RuntimeError):
    """A step could not be read, which may be no fault of its own: it is left as it is."""


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
        """Copies the arrays, which may be donated right after, and sums them; the files are written
        meanwhile, after those of the save before. Takes the place of the same step's, if any."""
        arrays = _written(jax.tree.map(jnp.copy, tree))
        self._manager.wait_until_finished()
        if step in self._manager.all_steps():
            self._manager.delete(step)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays),
                notes=ocp.args.JsonSave({"notes": notes, "checksum": _checksum(arrays, notes)}),
            ),
        )

    def restore(self, like: Any) -> tuple[int, Any, dict] | None:
        """The newest whole step: its number, arrays in the structure of `like`, notes; or None.

        Damaged ones are deleted. UnreadableError names one that may be whole.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            found = failure = None
            try:
                found = self._read(step, like)
            except Exception as error:
                failure = _root(error)
            if not distributed.total(failure is not None):
                return step, *found
            doubtful = failure is not None and not _is_damage(failure)
            where = self._folder / str(step)
            reason = "another process failed" if failure is None else _line(failure)
            if distributed.total(doubtful):
                if isinstance(failure, MemoryError):
                    raise failure
                raise UnreadableError(
                    f"checkpoint {where} could not be read and is left as it is: {reason}; run "
                    "again with --retry, or delete it to go on from the one before"
                ) from failure
            log.warning("checkpoint %s is damaged, passed over: %s", where, reason)
            self._discard(step)
        return None

    def _read(self, step, like):
        expected = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), _written(like)
        )
        found = self._manager.restore(
            step,
            args=ocp.args.Composite(
                arrays=ocp.args.StandardRestore(expected), notes=ocp.args.JsonRestore()
            ),
        )
        told = dict(found.notes)
        if set(told) != {"notes", "checksum"}:
            raise DamagedError(f"its notes are {', '.join(told)}, not notes and checksum")
        if told["checksum"] != _checksum(found.arrays, told["notes"]):
            raise DamagedError("its arrays and notes are not those that were saved")
        leaves = [found.arrays.get(name, leaf) for name, leaf in _named(like).items()]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), told["notes"]

    def _discard(self, step):
        if distributed.is_first():
            shutil.rmtree(self._folder / str(step))
        distributed.total(0)
        self._manager.reload()


def remove(folder: Path) -> None:
    """All checkpoints of a run that needs them no more."""
    if distributed.is_first():
        shutil.rmtree(folder, ignore_errors=True)


def _root(error):
    return error if error.__cause__ is None else _root(error.__cause__)


def _is_damage(error):
    """Whether it is proof of files that are absent, or hold what was never written."""
    text = str(error)
    told = text.startswith(ABSENT) or (text.startswith(DAMAGE) and SYSTEM not in text)
    return (told and isinstance(error, ValueError)) or isinstance(
        error, DamagedError | FileNotFoundError | json.JSONDecodeError | UnicodeDecodeError
    )


def _line(error):
    text = str(error).strip().splitlines() or [""]
    return textwrap.shorten(f"{type(error).__name__}: {text[0]}", LINE, placeholder=" ...")


def _named(tree):
    """The leaves under their paths, in the tree's order."""
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _written(tree):
    """The named leaves that have entries: orbax writes no others, and they are all alike."""
    return {name: leaf for name, leaf in _named(tree).items() if leaf.size}


def _checksum(arrays, notes):
    """A sum over all entries, each times an odd number of its place, one however they are split;
    and the notes' as JSON."""
    words = zlib.crc32(json.dumps(notes, sort_keys=True).encode())
    mine = 0
    for name, array in arrays.items():
        start = np.uint64(zlib.crc32(name.encode()))
        for shard in array.addressable_shards:
            if shard.replica_id == 0:
                places = _places(shard.index, array.shape) + start
                bits = np.ascontiguousarray(shard.data).reshape(-1)
                bits = bits.view(f"u{bits.itemsize}").astype(np.uint64)
                mine += int((bits * (places * SPREAD | np.uint64(1))).sum())
    return (distributed.total(mine % 2**64) + words * int(SPREAD)) % 2**64


def _places(index, shape):
    """The numbers, in the whole array, of the entries of a part of it, in order."""
    found = np.zeros(1, np.uint64)
    for part, size in zip(index, shape, strict=True):
        along = np.arange(*part.indices(size), dtype=np.uint64)
        found = (found[:, None] * np.uint64(size) + along).reshape(-1)
    return found
