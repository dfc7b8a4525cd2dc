"""CIFAR-10 as pixels in a row, a token of 256 each: Long-Range Arena's image task, but for JPEG.

The images read here went through JPEG at quality 75, which loses: their pixels are not those of the
original release, and the record says so. Grey at N = 1,024; colour, red, green and blue of a pixel
one after another, at N = 3,072. A tenth of train validates, by what the image holds.
"""

import functools
import io
from pathlib import PurePosixPath

import numpy as np

from experiments.tasks import Task, data, labelled, shallow

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SHARDS = {"train": 5, "test": 1}
RULES = {"position_accuracy": shallow.positions(256)}


def make(n: int, colour: bool = False, continuous: bool = False) -> Task:
    """`continuous`: brightness from 0 to 1 instead of tokens."""
    labelled.check_length(n, 3072 if colour else 1024, f"32 x 32 pixels with colour={colour}")
    return labelled.from_splits(
        n,
        "cifar10",
        splits(colour),
        len(CLASSES),
        labelled.pixels(continuous),
        rules=RULES,
        facts={**data.facts("cifar10_jpeg"), "note": "CIFAR-10 (JPEG q75)"},
    )


@functools.lru_cache(maxsize=2)
def splits(colour: bool) -> dict[str, labelled.Examples]:
    mode = "RGB" if colour else "L"
    return {**labelled.carve(_read("train", mode), val=0.1), "test": _read("test", mode)}


def _read(split, mode):
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
