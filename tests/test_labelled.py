"""Labelled sequences as tasks, on made-up examples: splits, batches, masks, rules by counting."""

import itertools

import numpy as np
import pytest

from experiments.tasks import imdb, labelled, shallow


def texts(count=40, words=b"ab"):
    """Of lengths 1..7, some alike, some holding zero bytes."""
    rows = [bytes([words[i % 2]]) * (i % 7 + 1) + b"\0" * (i % 3 == 0) for i in range(count)]
    return labelled.from_texts(rows, [i % 2 for i in range(count)])


def contents(examples):
    return [row.tobytes() for row in examples.rows()]


def tiny(n=5):
    splits = {**labelled.carve(texts(), val=0.3), "test": texts(11)}
    return labelled.from_splits(n, "tiny", splits, 2, imdb.FORM, rules={}, facts={})


def test_carved_splits_are_the_whole_and_share_nothing():
    whole = labelled.from_texts([b"%d" % (i // 2) for i in range(600)], [i % 3 for i in range(600)])
    splits = labelled.carve(whole, val=0.1, test=0.2)
    found = {split: contents(examples) for split, examples in splits.items()}
    assert sorted(itertools.chain(*found.values())) == sorted(contents(whole))
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not set(found[a]) & set(found[b])
    assert len(splits["val"]) == pytest.approx(60, abs=25)
    assert len(splits["test"]) == pytest.approx(120, abs=35)


def test_an_example_keeps_its_split_whatever_the_others_are():
    before = labelled.carve(texts(20), val=0.4)
    after = labelled.carve(texts(40), val=0.4)
    assert set(contents(before["val"])) <= set(contents(after["val"]))
    assert set(contents(before["train"])) <= set(contents(after["train"]))


def test_held_out_splits_can_be_a_few_of_all():
    splits = {"train": texts(), "val": texts(20), "test": texts(9)}
    some = labelled.of_held_out(splits, val=4, test=None)
    chosen, of = contents(some["val"]), contents(splits["val"])
    assert len(chosen) == 4
    rest = iter(of)
    assert all(one in rest for one in chosen)
    assert some["train"] is splits["train"]
    assert some["test"] is splits["test"]
    # what is worked out of them is kept by what they are
    assert labelled.of_held_out(splits, val=4)["val"] is some["val"]
    for wrong in (0, 21, 4.0, True):
        with pytest.raises(ValueError, match=f"val_examples must be .* 1 to 20, got {wrong}"):
            labelled.of_held_out(splits, val=wrong)


def test_a_few_of_what_has_its_classes_in_turns_are_of_all_classes():
    numbers = np.arange(1000)
    splits = {"test": labelled.from_rows(numbers[:, None], numbers % 10)}
    some = labelled.of_held_out(splits, test=200)["test"]
    assert np.bincount(some.labels, minlength=10).min() >= 10


def test_a_rule_is_worked_out_once_for_the_same_examples():
    asked = []
    splits = {"train": texts(), "val": texts(20), "test": texts(9)}
    rules = {"rule_accuracy": lambda *given: asked.append(given) or 0.5}
    for _ in range(2):
        task = labelled.from_splits(5, "tiny", splits, 2, imdb.FORM, rules=rules, facts={})
        assert task.oracles()["rule_accuracy"] == 0.5
    assert len(asked) == 1


def test_every_epoch_has_each_example_once_in_its_own_order():
    rows = labelled.from_rows(np.arange(21)[:, None], np.arange(21) % 4)
    batch = labelled.epochs(rows, 1, labelled.Form(vocab=21))
    seen = np.concatenate([batch(0, step, 6)["inputs"][:, 0] for step in range(7)])
    epochs = seen.reshape(2, 21)
    assert np.array_equal(np.sort(epochs, 1), np.tile(np.arange(21), (2, 1)))
    assert not np.array_equal(*epochs)
    other = np.concatenate([batch(1, step, 6)["inputs"][:, 0] for step in range(7)])
    assert not np.array_equal(seen, other)


def test_a_batch_is_a_function_of_seed_and_step():
    first = tiny().batch(3, 7, 5)
    for field, array in tiny().batch(3, 7, 5).items():
        assert np.array_equal(array, first[field])


def test_masks_come_from_lengths_not_from_ids():
    examples = texts()
    batch = labelled.batch_of(examples, np.arange(len(examples)), 5, imdb.FORM)
    assert np.array_equal(batch["mask"].sum(1), np.minimum(examples.lengths, 5))
    assert np.array_equal(batch["inputs"] == 256, ~batch["mask"])
    assert (batch["inputs"][batch["mask"]] == 0).any()


@pytest.mark.parametrize("size", [3, 4, 11])
def test_every_held_out_example_comes_once(size):
    batches = list(tiny().held_out("test", size))
    assert all(batch["inputs"].shape == (size, 5) for batch in batches)
    kept = [batch["inputs"][batch["weights"]] for batch in batches]
    expected = labelled.batch_of(texts(11), np.arange(11), 5, imdb.FORM)
    assert np.array_equal(np.concatenate(kept), expected["inputs"])
    for batch in batches:
        assert not batch["mask"][~batch["weights"]].any()


def test_the_score_is_accuracy_over_what_is_weighted():
    task = tiny()
    totals = {"correct": 0.0, "count": 0.0}
    for batch in task.held_out("test", 4):
        logits = np.eye(2, dtype=np.float32)[batch["targets"] * 0]
        for name, value in task.sums(logits, batch).items():
            if name in totals:
                totals[name] += float(value)
    assert totals["count"] == 11
    assert task.score(totals) == pytest.approx(6 / 11)
    assert task.higher_is_better


def test_oracles_by_hand():
    train = labelled.from_texts([b"ax", b"ay", b"by"], [0, 0, 1])
    test = labelled.from_texts([b"aa", b"bb", b"b"], [0, 1, 0])
    assert labelled.majority(train, test, 2, 2) == pytest.approx(2 / 3)
    # b is in class 1 alone: rates (1 + 1) / (2 + 256) there, (0 + 1) / (4 + 256) in class 0
    assert shallow.ngrams(1)(train, test, 2, 2) == pytest.approx(2 / 3)
    assert shallow.positions(256)(train, test, 1, 2) == pytest.approx(2 / 3)


def test_order_tells_bigrams_what_single_tokens_cannot_see():
    train = labelled.from_texts([b"abab", b"aabb"] * 5, [0, 1] * 5)
    test = labelled.from_texts([b"aabb", b"abab"], [1, 0])
    assert shallow.ngrams(1)(train, test, 4, 2) == 0.5
    assert shallow.ngrams(3)(train, test, 4, 2) == 1.0
    assert shallow.ngrams(9)(train, test, 4, 2) == 0.5
