"""Bytes of film reviews, liked or not: Long-Range Arena's text task, which cuts them to N.

25,000 reviews train, 25,000 test, half of each liked. A tenth of train is held back for validation:
the arena has none. Longer reviews are cut at N bytes; the mask says where a shorter one ends. Read
from the release, or where shards of it are at hand from those. The known shards come from a copy
of which a few reviews are of apps, not films; a record's `note` says which was read.
"""

import bz2
import functools
import re

from experiments.tasks import Task, data, labelled, shallow

RELEASE = "aclImdb_v1.tar.gz"
SHARDS = 3
# a byte of its own for what is no byte of the text
FORM = labelled.Form(vocab=257, pad=256)
RULES = {"bytes_accuracy": shallow.ngrams(1), "fourgram_accuracy": shallow.ngrams(4)}
BREAKS = bytes.maketrans(b"\t\r\n", b"   ")


def make(n: int, val_examples: int | None = None, test_examples: int | None = None) -> Task:
    note = {"note": "IMDB (repacked copy)"} if _sharded() else {}
    facts = data.facts("imdb") | note
    some = labelled.of_held_out(splits(), val=val_examples, test=test_examples)
    return labelled.from_splits(n, "imdb", some, 2, FORM, rules=RULES, facts=facts)


def _sharded():
    return data.has("imdb", "train-0.tsv.bz2") and not data.has("imdb", RELEASE)


@functools.cache
def splits() -> dict[str, labelled.Examples]:
    if _sharded():
        train, test = _shards("train"), _shards("test")
    else:
        train, test = released(data.read("imdb", RELEASE))
    return {**labelled.carve(train, val=0.1), "test": test}


def _shards(split):
    """Lines of label, stars, id and text. Only "\\n" ends a line: reviews hold other breaks."""
    lines = []
    for shard in range(SHARDS):
        packed = data.read("imdb", f"{split}-{shard}.tsv.bz2")
        lines += bz2.decompress(packed).rstrip(b"\n").split(b"\n")
    fields = [line.split(b"\t") for line in lines]
    return labelled.from_texts((text for *_, text in fields), (int(label) for label, *_ in fields))


def released(packed: bytes) -> tuple[labelled.Examples, labelled.Examples]:
    """(train, test) of the release's archive, as the shards have them: by id, disliked first."""
    found = {"train": [], "test": []}
    for path, text in data.members(packed):
        if match := re.fullmatch(r"aclImdb/(train|test)/(neg|pos)/(\d+)_\d+\.txt", path):
            split, side, number = match.groups()
            found[split].append((int(number), side, text.translate(BREAKS)))
    both = (sorted(found[split]) for split in ("train", "test"))
    return tuple(
        labelled.from_texts((text for *_, text in rows), (side == "pos" for _, side, _ in rows))
        for rows in both
    )
