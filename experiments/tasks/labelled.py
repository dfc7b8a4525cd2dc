"""Sequences with a class each, as a task: accuracy. What every loader of such data shares.

Where a data set has no split of its own, an example's contents decide where it goes: the rule needs
no order and no seed, and equal examples are never on both sides.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from experiments.tasks import Batch, Task, confusion


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Sequences laid end to end [sum of lengths, ...], how long each is, and its class."""

    values: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def starts(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths

    @functools.cached_property
    def digest(self) -> str:
        arrays = (self.values, self.lengths, self.labels)
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def rows(self) -> Iterator[np.ndarray]:
        ends = self.starts + self.lengths
        return (self.values[i:j] for i, j in zip(self.starts, ends, strict=True))

    def shares(self) -> np.ndarray:
        """Where what each example holds falls in [0, 1)."""
        heads = (hashlib.sha256(row.tobytes()).digest()[:6] for row in self.rows())
        return np.array([int.from_bytes(head, "big") / 2**48 for head in heads])

    def take(self, rows: np.ndarray) -> "Examples":
        pieces = list(self.rows())
        pieces = [pieces[i] for i in rows]
        values = np.concatenate(pieces) if pieces else self.values[:0]
        return Examples(values, self.lengths[rows], self.labels[rows])

    def pick(self, rows: np.ndarray, n: int, pad: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The first n steps of these rows [B, n, ...], and which of them are real."""
        real = np.arange(n) < self.lengths[rows, None]
        found = self.values[np.where(real, self.starts[rows, None] + np.arange(n), 0)]
        found[~real] = pad
        return found, real


@dataclasses.dataclass(frozen=True)
class Form:
    """What the model is given: tokens of a `vocab`, or with a `scale` numbers, divided by it."""

    vocab: int | None = None
    pad: int = 0
    """What stands where there is nothing: masked, and never a sign of it."""
    scale: float | None = None
    features: int = 1

    @property
    def model(self) -> dict[str, Any]:
        if self.scale is None:
            return {"inputs": "tokens", "vocab": self.vocab}
        return {"inputs": "continuous", "features": self.features}


def pixels(continuous: bool) -> Form:
    """Brightness as one of 256 tokens, or from 0 to 1. Black is a value like any other."""
    return Form(scale=255) if continuous else Form(vocab=256)


def from_texts(texts: Iterable[bytes], labels: Iterable[int]) -> Examples:
    texts = list(texts)
    values = np.frombuffer(b"".join(texts), np.uint8).astype(np.int16)
    return Examples(values, np.array(list(map(len, texts))), np.array(list(labels), np.int32))


def from_rows(rows: np.ndarray, labels: np.ndarray) -> Examples:
    """Of equal length [M, N, ...]."""
    lengths = np.full(len(rows), rows.shape[1])
    return Examples(rows.reshape(-1, *rows.shape[2:]), lengths, labels.astype(np.int32))


def carve(examples: Examples, **shares: float) -> dict[str, Examples]:
    """`carve(e, val=0.1)`: a tenth as `val`, the rest as `train`, by what each example holds."""
    where, begin, splits = examples.shares(), 0.0, {}
    for split, share in shares.items():
        inside = (begin <= where) & (where < begin + share)
        splits[split] = examples.take(np.flatnonzero(inside))
        begin += share
    return {"train": examples.take(np.flatnonzero(where >= begin)), **splits}


def of_held_out(splits: Mapping[str, Examples], **most: int | None) -> dict[str, Examples]:
    """`of_held_out(splits, val=1000)`: so many of `val`, all for None. What each example holds
    decides, for files may have their classes in turns."""
    return {split: _some(split, of, most.get(split)) for split, of in splits.items()}


@functools.lru_cache(maxsize=None, typed=True)
def _some(split, examples, most):
    """The same object for the same examples, so that what is worked out of them is kept."""
    if most is None:
        return examples
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= len(examples):
        limits = f"a whole number from 1 to {len(examples)}"
        raise ValueError(f"{split}_examples must be {limits}, got {most!r}")
    return examples.take(np.sort(np.argsort(examples.shares(), kind="stable")[:most]))


def epochs(examples: Examples, n: int, form: Form) -> Callable[[int, int, int], Batch]:
    """Training batches: each example once an epoch, in an order of (seed, epoch)."""

    def batch(seed, step, size):
        epoch, place = np.divmod(step * size + np.arange(size), len(examples))
        rows = np.empty(size, np.int64)
        for number in np.unique(epoch):
            here = epoch == number
            rows[here] = _order(seed, int(number), len(examples))[place[here]]
        return batch_of(examples, rows, n, form)

    return batch


def batch_of(
    examples: Examples, rows: np.ndarray, n: int, form: Form, *, size: int | None = None
) -> Batch:
    """These rows, and empty ones up to `size`."""
    inputs, mask = examples.pick(rows, n, form.pad)
    if form.scale is None:
        inputs = inputs.astype(np.int32)
    else:
        inputs = (inputs / np.float32(form.scale)).reshape(*mask.shape, form.features)
    batch = {
        "inputs": inputs,
        "targets": examples.labels[rows],
        "mask": mask,
        "weights": np.ones(len(rows), bool),
    }
    missing = (size or len(rows)) - len(rows)
    blank = {"inputs": form.pad, "targets": 0, "mask": False, "weights": False}
    return {
        name: np.pad(
            array, [(0, missing)] + [(0, 0)] * (array.ndim - 1), constant_values=blank[name]
        )
        for name, array in batch.items()
    }


def classification(
    n: int,
    name: str,
    batch: Callable[[int, int, int], Batch],
    held: Callable[[str], Examples],
    classes: int,
    form: Form,
    *,
    rules: Mapping[str, Callable[[], float]],
    facts: Mapping[str, Any],
    masked: bool = False,
) -> Task:
    """The task of training batches and of the `Examples` that `held` gives for "val" and "test".

    `rules` are accuracies without a model, by name.
    """

    def held_out(split, size) -> Iterator[Batch]:
        examples = held(split)
        for begin in range(0, len(examples), size):
            rows = np.arange(begin, min(begin + size, len(examples)))
            yield batch_of(examples, rows, n, form, size=size)

    def oracles():
        return {"chance_accuracy": 1 / classes, **{name: rule() for name, rule in rules.items()}}

    return Task(
        name=name,
        n=n,
        model={"kind": "encoder", "outputs": "sequence", "classes": classes, **form.model},
        batch=batch,
        held_out=held_out,
        sums=confusion.sums,
        score=lambda totals: totals["correct"] / totals["count"],
        metric="accuracy",
        extra=confusion.scores,
        oracles=oracles,
        facts=facts,
        higher_is_better=True,
        masked=masked,
    )


def from_splits(
    n: int,
    name: str,
    splits: Mapping[str, Examples],
    classes: int,
    form: Form,
    *,
    rules: Mapping[str, Callable[[Examples, Examples, int, int], float]],
    facts: Mapping[str, Any],
) -> Task:
    """The task of these `train`, `val` and `test` examples, cut to their first n steps.

    `rules` take the training and the test examples, n and the number of classes.
    """
    train, test = splits["train"], splits["test"]
    digests = "".join(examples.digest for examples in splits.values())
    rules = {"majority_accuracy": majority, **rules}
    return classification(
        n,
        name,
        epochs(train, n, form),
        splits.__getitem__,
        classes,
        form,
        rules={
            key: functools.partial(_by_rule, rule, train, test, n, classes)
            for key, rule in rules.items()
        },
        facts={
            **facts,
            "data_sha256": hashlib.sha256(digests.encode()).hexdigest(),
            **{f"{split}_examples": len(examples) for split, examples in splits.items()},
        },
        masked=any(examples.lengths.min() < n for examples in splits.values()),
    )


def check_length(n: int, only: int, what: str) -> None:
    if n != only:
        raise ValueError(f"n must be {only}, {what}, got {n}")


@functools.lru_cache(maxsize=64)
def _by_rule(rule, *given):
    """Once for all the trainings of a process: some take minutes."""
    return rule(*given)


def majority(train: Examples, test: Examples, n: int, classes: int) -> float:
    """The training split's most frequent class, as the answer to everything."""
    return float((test.labels == np.bincount(train.labels, minlength=classes).argmax()).mean())


@functools.lru_cache(maxsize=4)
def _order(seed, epoch, size):
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    return generator.permutation(size)
