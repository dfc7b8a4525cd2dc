"""Handwritten digits as 784 pixels, a token of 256 each: quick image rows.

Of MNIST only the 10,000 test images are read. They are carved into 7,000 / 1,000 / 2,000, near
enough, by what the image holds: a figure here compares with no published one.
"""

import functools
import gzip

import numpy as np

from experiments.tasks import Task, data, labelled, shallow

LENGTH = 28 * 28
# what the header of each file must be: a type, the number of dimensions, the dimensions
IMAGES = np.array([0x803, 10_000, 28, 28], ">u4").tobytes()
LABELS = np.array([0x801, 10_000], ">u4").tobytes()
RULES = {"position_accuracy": shallow.positions(256)}


def make(n: int = LENGTH, continuous: bool = False) -> Task:
    """`continuous`: brightness from 0 to 1 instead of tokens."""
    labelled.check_length(n, LENGTH, "28 x 28 pixels")
    return labelled.from_splits(
        n,
        "mnist",
        splits(),
        10,
        labelled.pixels(continuous),
        rules=RULES,
        facts={**data.facts("mnist"), "note": "MNIST's 10,000 test images, split 70/10/20"},
    )


@functools.cache
def splits() -> dict[str, labelled.Examples]:
    images = _read("t10k-images-idx3-ubyte.gz", IMAGES).reshape(-1, LENGTH)
    labels = _read("t10k-labels-idx1-ubyte.gz", LABELS)
    return labelled.carve(labelled.from_rows(images, labels), val=0.1, test=0.2)


def _read(name, header):
    contents = gzip.decompress(data.read("mnist", name))
    if not contents.startswith(header):
        raise ValueError(f"{name} must begin with {header.hex()}, got {contents[:16].hex()}")
    return np.frombuffer(contents, np.uint8, offset=len(header))
