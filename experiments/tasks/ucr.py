"""Time series of the UCR and UEA archives, a class each. arXiv:1810.07758.

OSULeaf, ACSF1, GunPoint and ItalyPowerDemand have one length; PLAID and JapaneseVowels (12 features
a step) lengths of their own, behind a mask. A fifth of the published training set validates, by
what a series holds; the test set is the published one. Values are divided by the training set's
deviation; where steps have several features, each is less its mean and over a deviation of its own.
FordA, of the lectures' lab, is downloaded, or read where its two .tsv files are given.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from experiments.tasks import Task, confusion, data, labelled

NAMES = ("OSULeaf", "ACSF1", "GunPoint", "ItalyPowerDemand", "PLAID", "JapaneseVowels", "FordA")


def make(n: int, dataset: str = "OSULeaf") -> Task:
    if dataset not in NAMES:
        raise ValueError(f"dataset must be one of {', '.join(NAMES)}, got {dataset!r}")
    splits, classes = read(dataset)
    longest = max(int(examples.lengths.max()) for examples in splits.values())
    if n > longest:
        raise ValueError(f"n must be at most {longest}, the longest series of {dataset}, got {n}")
    digest = splits["test"].digest
    scale, features = float(splits["train"].values.std()), splits["train"].values.shape[1]
    if features > 1:
        splits, scale = standardised(splits), 1.0
    train, test = splits["train"], splits["test"]
    form = labelled.Form(scale=scale, features=features)
    unequal = any(len(set(examples.lengths)) > 1 for examples in splits.values())
    majority = np.bincount(train.labels, minlength=len(classes)).argmax()
    rules = confusion.of_majority(train.labels, test.labels, len(classes))
    return labelled.classification(
        n,
        "ucr",
        labelled.epochs(train, n, form),
        splits.get,
        len(classes),
        form,
        rules={
            "majority_accuracy": lambda: float((test.labels == majority).mean()),
            **{rule: functools.partial(float, value) for rule, value in rules.items()},
        },
        facts={
            **data.facts("ucr"),
            "dataset": dataset,
            "classes": classes,
            "data_sha256": digest,
            **{f"{split}_examples": len(examples) for split, examples in splits.items()},
        },
        masked=unequal,
    )


@functools.lru_cache(4)
def read(name: str) -> tuple[dict[str, labelled.Examples], list[str]]:
    """(train, val and test; the classes' names)."""
    ending, parse = ("tsv", table) if name == "FordA" else ("ts", series)
    texts = {split: data.read("ucr", f"{name}_{split}.{ending}") for split in ("TRAIN", "TEST")}
    rows = {split: list(parse(text)) for split, text in texts.items()}
    classes = sorted({label for found in rows.values() for _, label in found})

    def examples(found):
        values = np.concatenate([steps for steps, _ in found]).astype(np.float32)
        lengths = np.array([len(steps) for steps, _ in found])
        labels = np.array([classes.index(label) for _, label in found], np.int32)
        return labelled.Examples(values, lengths, labels)

    carved = labelled.carve(examples(rows["TRAIN"]), val=0.2)
    return {**carved, "test": examples(rows["TEST"])}, classes


def standardised(splits: Mapping[str, labelled.Examples]) -> dict[str, labelled.Examples]:
    """Each feature less its mean and over its deviation, both of all steps of the training split; a
    constant one is 0 there. Padding comes later: it is no step, and stays 0."""
    steps = splits["train"].values.astype(np.float64)
    mean, deviation = steps.mean(0), steps.std(0)
    deviation[deviation == 0] = 1

    def of(examples):
        values = ((examples.values - mean) / deviation).astype(np.float32)
        return dataclasses.replace(examples, values=values)

    return {split: of(examples) for split, examples in splits.items()}


def series(text: bytes):
    """(steps [length, features], label) of each line of a .ts file."""
    for line in text.decode("utf-8-sig").splitlines():
        if line.strip() and line[0] not in "@#":
            *features, label = line.strip().split(":")
            columns = [np.array(feature.split(","), np.float64) for feature in features]
            yield np.stack(columns, 1), label


def table(text: bytes):
    """(steps [length, 1], label) of each line of a .tsv file, the label first."""
    for line in text.decode("ascii").splitlines():
        label, *values = line.split()
        yield np.array(values, np.float64)[:, None], label
