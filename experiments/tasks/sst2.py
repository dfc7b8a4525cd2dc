"""Bytes of film sentences, liked or not: 6,920 train, 872 validation, 1,821 test; 273 at most.

The treebank's own split, not that of GLUE.
"""

import functools

from experiments.tasks import Task, data, imdb, labelled

FILES = {"train": "train.tsv", "val": "dev.tsv", "test": "test.tsv"}


def make(n: int) -> Task:
    return labelled.from_splits(
        n, "sst2", splits(), 2, imdb.FORM, rules=imdb.RULES, facts=data.facts("sst2")
    )


@functools.cache
def splits() -> dict[str, labelled.Examples]:
    return {split: _read(name) for split, name in FILES.items()}


def _read(name):
    lines = data.read("sst2", name).rstrip(b"\n").split(b"\n")
    fields = [line.rsplit(b"\t", 1) for line in lines]
    return labelled.from_texts((text for text, _ in fields), (int(label) for _, label in fields))
