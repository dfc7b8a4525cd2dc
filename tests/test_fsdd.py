"""Spoken digits: the published recordings, and what their lengths alone tell."""

import numpy as np
import pytest

from experiments import tasks
from experiments.tasks import fsdd, labelled
from tests.test_real_tasks import folder, real

__all__ = ["folder"]


@real
def test_the_recordings_are_read(folder):
    fsdd.read.cache_clear()
    splits = fsdd.read()
    assert {split: len(of) for split, of in splits.items()}.keys() == {"train", "val", "test"}
    assert len(splits["train"]) + len(splits["val"]) == 600
    assert len(splits["test"]) == 300
    assert max(of.lengths.max() for of in splits.values()) == fsdd.LONGEST
    np.testing.assert_array_equal(np.bincount(splits["test"].labels), [30] * 10)
    task = tasks.make("fsdd", 4096)
    assert task.masked
    batch = task.batch(0, 0, 4)
    assert batch["inputs"].shape == (4, 4096, 1)
    assert np.abs(batch["inputs"]).max() < 100
    rules = task.oracles()
    assert rules["chance_accuracy"] == rules["majority_accuracy"] == pytest.approx(0.1)
    assert 0.1 < rules["length_accuracy"] < 0.5
    # a longer n has nothing to read
    with pytest.raises(ValueError, match="n must be at most 10504, the longest recording of fsdd"):
        tasks.make("fsdd", 10_505)


def test_lengths_tell_what_lengths_tell():
    def of(lengths, labels):
        values = np.zeros((sum(lengths), 1), np.float32)
        return labelled.Examples(values, np.array(lengths), np.array(labels))

    train = of([10, 12, 100, 120, 1000, 1300], [0, 0, 1, 1, 2, 2])
    test = of([11, 110, 1100, 1200], [0, 1, 2, 0])
    assert fsdd.by_length(train, test, 5000, 3) == 0.75
    # cut at 50 the longer two are alike
    assert fsdd.by_length(train, test, 50, 3) <= 0.5
