"""Files of public data sets: the user's folder, then a cache, then the data set's public home.

Every file is checked against its size and digest on every reading; nothing is unpickled.
"""

import dataclasses
import hashlib
import lzma
import os
import tempfile
import urllib.request
from pathlib import Path

VARIABLE = "ATTENTION_ZOO_DATA"
TIMEOUT = 30


@dataclasses.dataclass(frozen=True)
class File:
    """One file as its public home serves it."""

    name: str
    sha256: str
    bytes: int
    url: str


@dataclasses.dataclass(frozen=True)
class Dataset:
    files: tuple[File, ...]
    licence: str
    citation: str


_CHAR_RNN = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/"
)
_TORCH_EXAMPLES = (
    "https://raw.githubusercontent.com/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8/"
)

DATASETS = {
    "tinyshakespeare": Dataset(
        files=(
            File(
                name="input.txt",
                sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                bytes=1115394,
                url=f"{_CHAR_RNN}data/tinyshakespeare/input.txt",
            ),
        ),
        licence="public domain text; repository MIT",
        citation="github.com/karpathy/char-rnn",
    ),
    "wikitext2": Dataset(
        files=(
            File(
                name="valid.txt",
                sha256="f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                bytes=1121681,
                url=f"{_TORCH_EXAMPLES}word_language_model/data/wikitext-2/valid.txt",
            ),
            File(
                name="test.txt",
                sha256="d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
                bytes=1256449,
                url=f"{_TORCH_EXAMPLES}word_language_model/data/wikitext-2/test.txt",
            ),
        ),
        licence="CC BY-SA 3.0",
        citation="arXiv:1609.07843",
    ),
}


def read(dataset: str, name: str) -> bytes:
    """The checked contents of a file. ValueError says where it was sought and what was expected."""
    file = _find(dataset, name)
    folders = _folders(dataset)
    for folder in folders:
        # a folder may hold the file under xz; the digest is of what is inside
        for path, unpack in ((folder / name, bytes), (folder / f"{name}.xz", _unxz)):
            if path.is_file():
                return _checked(unpack(path.read_bytes()), file, dataset, path)
    return _download(file, dataset, folders)


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
    found = hashlib.sha256(contents).hexdigest()
    if (len(contents), found) != (file.bytes, file.sha256):
        raise ValueError(
            f"{origin} is damaged: {len(contents)} bytes with sha256 {found}, expected "
            f"{file.bytes} bytes with sha256 {file.sha256}; put the file of {file.url} into "
            f"${VARIABLE}/{dataset}/{file.name}, or delete it to download it again"
        )
    return contents


def _download(file, dataset, folders):
    target = cache_folder(dataset) / file.name
    try:
        with urllib.request.urlopen(file.url, timeout=TIMEOUT) as response:
            contents = response.read(file.bytes + 1)
    except OSError as error:
        raise ValueError(
            f"{dataset}/{file.name} is in none of {', '.join(map(str, folders))}, and {file.url} "
            f"could not be fetched ({error}); put it into ${VARIABLE}/{dataset}/{file.name} "
            f"({file.bytes} bytes, sha256 {file.sha256})"
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
