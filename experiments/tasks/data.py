"""Files of public data sets: the user's folder, then a cache, then the data set's public home.

Every file is checked against its size and digest on every reading. Nothing is unpickled, and an
archive is read member by member in memory: its paths name, they place nothing.
"""

import hashlib
import io
import lzma
import os
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from experiments.tasks.sources import DATASETS

VARIABLE = "ATTENTION_ZOO_DATA"
TIMEOUT = 30
# of a file whose size is not known
MOST_BYTES = 1 << 26
# homes that this process did not reach, and why: it tries none of them twice
_unreachable: dict[str, str] = {}


class AbsentError(ValueError):
    """A file is neither at hand nor to be had: the message says where it was sought, `brief` what
    is so on any machine."""

    def __init__(self, message: str, brief: str):
        # both, so that it can be pickled
        super().__init__(message, brief)
        self.brief = brief

    def __str__(self):
        return self.args[0]


def has(dataset: str, name: str) -> bool:
    """Whether a file is at hand, in the user's folder or the cache."""
    _find(dataset, name)
    paths = [folder / name for folder in _folders(dataset)]
    return any(path.is_file() or Path(f"{path}.xz").is_file() for path in paths)


def read(dataset: str, name: str) -> bytes:
    """The checked contents of a file. ValueError says what was expected, `AbsentError` where it was
    sought."""
    file = _find(dataset, name)
    folders = _folders(dataset)
    for folder in folders:
        # a folder may hold the file under xz; the digest is of what is inside
        for path, unpack in ((folder / name, bytes), (folder / f"{name}.xz", _unxz)):
            if path.is_file():
                return _checked(unpack(path.read_bytes()), file, dataset, path)
    return _download(file, dataset, folders)


def members(packed: bytes) -> Iterator[tuple[str, bytes]]:
    """(path as text, contents) of each regular file in a packed tar, in order; nothing is
    written."""
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:*") as archive:
        for member in archive:
            if member.isfile():
                yield member.name, archive.extractfile(member).read()


def facts(dataset: str) -> dict[str, str]:
    """What a record says of a data set beside its sizes and digest."""
    return {"data": dataset, "licence": DATASETS[dataset].licence}


def cache_folder(dataset: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "attention_zoo" / dataset


def _find(dataset, name):
    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r}; known: {', '.join(sorted(DATASETS))}")
    files = {file.name: file for file in DATASETS[dataset].files}
    if name not in files:
        raise ValueError(f"{dataset} has no file {name!r}; it has {', '.join(files)}")
    return files[name]


def _folders(dataset):
    given = os.environ.get(VARIABLE)
    return ([Path(given) / dataset] if given else []) + [cache_folder(dataset)]


def _unxz(packed):
    try:
        return lzma.decompress(packed)
    except (lzma.LZMAError, EOFError):
        return packed  # the digest check reports the damage


def _checked(contents, file, dataset, origin):
    if file.sha256 is None:
        return contents
    found = hashlib.sha256(contents).hexdigest()
    if (len(contents), found) != (file.bytes, file.sha256):
        raise ValueError(
            f"{origin} is damaged: {len(contents)} bytes with sha256 {found}, expected "
            f"{file.bytes} bytes with sha256 {file.sha256}; put the file of {file.url or dataset} "
            f"into ${VARIABLE}/{dataset}/{file.name}"
            + (", or delete it to download it again" if file.url else "")
        )
    return contents


def _download(file, dataset, folders):
    target = cache_folder(dataset) / file.name
    try:
        if file.url is None:
            raise FileNotFoundError("no public home serves it in this form")
        if file.url in _unreachable:
            raise OSError(_unreachable[file.url])
        with urllib.request.urlopen(file.url, timeout=TIMEOUT) as response:
            contents = response.read(MOST_BYTES if file.bytes is None else file.bytes + 1)
    except OSError as error:
        if file.url:
            _unreachable[file.url] = str(error)
        named, sought = f"{dataset}/{file.name}", ", ".join(map(str, folders))
        fetched = f", and {file.url} could not be fetched" if file.url else ""
        put = f"put it into ${VARIABLE}/{named}"
        size = f" ({file.bytes} bytes, sha256 {file.sha256})" if file.sha256 else ""
        raise AbsentError(
            f"{named} is in none of {sought}{fetched} ({error}); {put}{size}",
            f"{named} is not at hand{fetched}; {put}",
        ) from error
    _checked(contents, file, dataset, file.url)
    _write(target, contents)
    return contents


def _write(target, contents):
    """All of it or nothing, under its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(contents)
        os.replace(draft, target)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise
