"""Records: one JSON object a point, in a folder that survives a kill and that runners may share.

While running, OUT/points/<id>.json, each written whole by atomic rename; at the end all are merged
into OUT/records.jsonl, sorted. Both are read when resuming; a point file wins, for it is the newer.
"""

import contextlib
import datetime
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.analysis import damage
from experiments.analysis.damage import SCHEMA, STATUSES, finite, point_id

# claims lock one byte each, at the offset that the id names; merging locks a byte past all of them
MERGE_BYTE = 16**10


class StorageError(RuntimeError):
    """A record could not be written; those written before are whole."""


def make(point: Mapping, status: str, *, reason: str = "", metrics=None, env=None) -> dict:
    """A record of now. A metric that is not finite becomes null."""
    if status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}, got {status!r}")
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "schema": SCHEMA,
        "id": point_id(point),
        "config": dict(point),
        "status": status,
        "reason": reason,
        "metrics": finite(metrics or {}),
        # processes that ran or waited over the last minute: more than one, and times are shared
        "env": {**(env or {}), "date": now, "load": round(os.getloadavg()[0], 2)},
    }


def load(folder: str | os.PathLike, *, complain: Callable[[str], Any] | None = None) -> list[dict]:
    """Every whole record under `folder` and its subfolders, sorted; damage is one line."""
    folder, found, damaged = Path(folder), {}, []
    # point files before merged ones: a merge in between then hides nothing
    paths = [*sorted(folder.rglob("points/*.json")), *sorted(folder.rglob("records.jsonl"))]
    for path in paths:
        root = path.parent.parent if path.parent.name == "points" else path.parent
        for _, record in damage.records(path, damaged):
            found.setdefault((root, record["id"]), record)
    for line in damage.told(damaged):
        (complain or _to_stderr)(line)
    return sorted(found.values(), key=_order)


class Store:
    """The records of one folder, and claims on its points that die with this process.

    Claims are POSIX record locks: they hold between processes, not within one.
    """

    def __init__(self, folder: str | os.PathLike, *, complain: Callable[[str], Any] | None = None):
        self.folder = Path(folder)
        self.points = self.folder / "points"
        self.merged = self.folder / "records.jsonl"
        self._complain = complain or _to_stderr
        self._lock_path = self.folder / ".lock"
        self._lock = None
        self._cache = (None, {})
        with _storage(self.folder):
            self.points.mkdir(parents=True, exist_ok=True)

    def all(self) -> dict[str, dict]:
        """The record of every id."""
        found = self._read(*sorted(self.points.glob("*.json")))
        return {**self._merged_records(), **found}

    def get(self, id: str) -> dict | None:
        return self._read(self.points / f"{id}.json").get(id) or self._merged_records().get(id)

    def write(self, record: Mapping) -> None:
        text = json.dumps(record, sort_keys=True, allow_nan=False) + "\n"
        _write_atomic(self.points / f"{record['id']}.json", text)

    @contextlib.contextmanager
    def claim(self, id: str) -> Iterator[bool]:
        """Whether this process alone may measure the point, for as long as the block lasts."""
        byte = int(id, 16)
        mine = self._acquire(fcntl.LOCK_EX | fcntl.LOCK_NB, byte)
        try:
            yield mine
        finally:
            if mine:
                fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, byte)

    def merge(self) -> None:
        """Move all point files into records.jsonl."""
        self._acquire(fcntl.LOCK_EX, MERGE_BYTE)
        try:
            paths = sorted(self.points.glob("*.json"))
            if paths:
                ordered = sorted(self.all().values(), key=_order)
                lines = (json.dumps(record, sort_keys=True, allow_nan=False) for record in ordered)
                _write_atomic(self.merged, "".join(f"{line}\n" for line in lines))
            for path in paths:
                path.unlink(missing_ok=True)
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN, 1, MERGE_BYTE)

    def close(self) -> None:
        """Leave no litter, unless another runner is still at work here."""
        if self._lock is not None and self._try(fcntl.LOCK_EX | fcntl.LOCK_NB, 0, 0):
            self._lock_path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.points.rmdir()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _merged_records(self):
        try:
            stat = self.merged.stat()
        except FileNotFoundError:
            return {}
        version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if version != self._cache[0]:
            self._cache = (version, self._read(self.merged))
        return self._cache[1]

    def _read(self, *paths):
        damaged = []
        found = {
            record["id"]: record for path in paths for _, record in damage.records(path, damaged)
        }
        for line in damage.told(damaged):
            self._complain(line)
        return found

    def _acquire(self, how, byte):
        while True:
            if self._lock is None:
                with _storage(self._lock_path):
                    self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o666)
            if not self._try(how, 1, byte):
                return False
            # a runner that ended may have removed the file we hold open
            try:
                if os.path.samestat(os.stat(self._lock_path), os.fstat(self._lock)):
                    return True
            except FileNotFoundError:
                pass
            os.close(self._lock)
            self._lock = None

    def _try(self, how, length, start):
        try:
            fcntl.lockf(self._lock, how, length, start)
        except (BlockingIOError, PermissionError):
            return False
        except OSError as error:
            raise StorageError(
                f"cannot lock {self._lock_path}: {error.strerror}; the folder must be in a file "
                "system with POSIX locks, such as NFSv4 or Lustre mounted with flock"
            ) from error
        return True


def _order(record):
    config = record["config"]
    size = config.get("n")
    size = size if isinstance(size, int) else 0
    return str(config.get("experiment")), str(config.get("label")), size, record["id"]


def _write_atomic(path, text):
    # one writer a name at a time (its claim), so a leftover of a kill is overwritten by the next
    temporary = path.with_name(path.name + ".tmp")
    with _storage(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def _sync_folder(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _storage(path):
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"cannot write {path}: {reason}; earlier records are safe") from error


def _to_stderr(line):
    print(line, file=sys.stderr)
