"""CIFAR-10 as pixels in a row, a token of 256 each: Long-Range Arena's image task.

Read from the release; where JPEG files of it are at hand and the release is not, from those: they
went through JPEG at quality 75, which loses, and a record's `note` says so. Grey at N = 1,024;
colour, red, green and blue of a pixel one after another, at N = 3,072. A tenth of train validates,
by what the image holds.
"""

import functools
import io
from pathlib import PurePosixPath

import numpy as np

from experiments.tasks import Task, data, labelled, shallow

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
RELEASE = "cifar-10-binary.tar.gz"
SHARDS = {"train": 5, "test": 1}
RULES = {"position_accuracy": shallow.positions(256)}


def make(
    n: int,
    colour: bool = False,
    continuous: bool = False,
    val_examples: int | None = None,
    test_examples: int | None = None,
) -> Task:
    """`continuous`: brightness from 0 to 1 instead of tokens."""
    labelled.check_length(n, 3072 if colour else 1024, f"32 x 32 pixels with colour={colour}")
    facts = data.facts("cifar10")
    if _as_jpeg():
        facts = {**data.facts("cifar10_jpeg"), "note": "CIFAR-10 (JPEG q75)"}
    form = labelled.pixels(continuous)
    some = labelled.of_held_out(splits(colour), val=val_examples, test=test_examples)
    return labelled.from_splits(n, "cifar10", some, len(CLASSES), form, rules=RULES, facts=facts)


def _as_jpeg():
    return data.has("cifar10_jpeg", "train-0.tar.xz") and not data.has("cifar10", RELEASE)


@functools.lru_cache(maxsize=2)
def splits(colour: bool) -> dict[str, labelled.Examples]:
    if _as_jpeg():
        train, test = (_shards(split, "RGB" if colour else "L") for split in SHARDS)
    else:
        train, test = released(data.read("cifar10", RELEASE), colour)
    return {**labelled.carve(train, val=0.1), "test": test}


def released(packed: bytes, colour: bool) -> tuple[labelled.Examples, labelled.Examples]:
    """(train, test) of the release's archive: a byte of class, then planes of red, green, blue."""
    files = {PurePosixPath(path).name: contents for path, contents in data.members(packed)}

    def of(*names):
        rows = np.frombuffer(b"".join(files[f"{name}.bin"] for name in names), np.uint8)
        rows = rows.reshape(-1, 1 + 3 * 1024)
        planes = np.moveaxis(rows[:, 1:].reshape(-1, 3, 1024), 1, 2)
        return labelled.from_rows(planes.reshape(len(rows), -1) if colour else grey(planes),
                                  rows[:, 0])  # fmt: skip

    return of(*(f"data_batch_{i}" for i in range(1, 6))), of("test_batch")


def grey(pixels: np.ndarray) -> np.ndarray:
    """Brightness [...] of red, green and blue [..., 3], to a byte as Pillow has it (ITU-R 601)."""
    weighed = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((weighed + 0x8000) >> 16).astype(np.uint8)


def _shards(split, mode):
    rows, labels = [], []
    for shard in range(SHARDS[split]):
        packed = data.read("cifar10_jpeg", f"{split}-{shard}.tar.xz")
        for path, contents in data.members(packed):
            rows.append(_decode(contents, mode))
            labels.append(CLASSES.index(PurePosixPath(path).parent.name))
    return labelled.from_rows(np.stack(rows), np.array(labels))


def _decode(contents, mode):
    # here, as listing the tasks imports this file where there may be no Pillow
    from PIL import Image

    with Image.open(io.BytesIO(contents), formats=["JPEG"]) as image:
        return np.asarray(image.convert(mode)).reshape(-1)
