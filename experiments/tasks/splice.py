"""DNA around a splice junction, or none: 3,190 sequences of 60 letters, three classes.

There is no split of its own: a tenth validates and a fifth tests, by what the sequence holds, so
that the many repeated ones are on one side.
"""

import functools

import numpy as np

from experiments.tasks import Task, data, labelled, shallow

LENGTH = 60
CLASSES = ("EI", "IE", "N")
# the last four are letters for "one of several"; the classes' N is another N
LETTERS = "ACGTNDRS"
FORM = labelled.Form(vocab=len(LETTERS))


def make(n: int = LENGTH) -> Task:
    labelled.check_length(n, LENGTH, "the length of every sequence")
    return labelled.from_splits(
        n,
        "splice",
        splits(),
        len(CLASSES),
        FORM,
        rules={"position_accuracy": shallow.positions(len(LETTERS))},
        facts={**data.facts("splice"), "note": "no published split: 70/10/20 by contents"},
    )


@functools.cache
def splits() -> dict[str, labelled.Examples]:
    lines = data.read("splice", "splice.arff").decode("ascii").splitlines()
    # a name, the letters and the class
    fields = [line.split(",") for line in lines if line and line[0] not in "@%"]
    letters = np.array([[LETTERS.index(letter) for letter in row[1:-1]] for row in fields])
    labels = np.array([CLASSES.index(row[-1]) for row in fields])
    return labelled.carve(labelled.from_rows(letters.astype(np.uint8), labels), val=0.1, test=0.2)
