"""Bytes of film reviews, liked or not: Long-Range Arena's text task, which cuts them to N.

25,000 reviews train, 25,000 test, half of each liked. A tenth of train is held back for validation:
the arena has none. Longer reviews are cut at N bytes; the mask says where a shorter one ends.
"""

import bz2
import functools

from experiments.tasks import Task, data, labelled, shallow

SHARDS = 3
# a byte of its own for what is no byte of the text
FORM = labelled.Form(vocab=257, pad=256)
RULES = {"bytes_accuracy": shallow.ngrams(1), "fourgram_accuracy": shallow.ngrams(4)}


def make(n: int) -> Task:
    return labelled.from_splits(n, "imdb", splits(), 2, FORM, rules=RULES, facts=data.facts("imdb"))


@functools.cache
def splits() -> dict[str, labelled.Examples]:
    return {**labelled.carve(_read("train"), val=0.1), "test": _read("test")}


def _read(split):
    """Lines of label, stars, id and text. Only "\\n" ends a line: reviews hold other breaks."""
    lines = []
    for shard in range(SHARDS):
        packed = data.read("imdb", f"{split}-{shard}.tsv.bz2")
        lines += bz2.decompress(packed).rstrip(b"\n").split(b"\n")
    fields = [line.split(b"\t") for line in lines]
    return labelled.from_texts((text for *_, text in fields), (int(label) for label, *_ in fields))
