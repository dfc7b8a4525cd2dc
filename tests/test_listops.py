"""ListOps expressions: their distribution, their text and their values."""

import itertools

import numpy as np
import pytest

from experiments import tasks
from experiments.tasks import drawn, listops, trees

# of the Long-Range Arena's distribution
ACCEPTED, LENGTH, ARGUMENTS = 12.1, 1040, 6.87
QUANTILES = {0.05: 537, 0.25: 702, 0.5: 963, 0.75: 1318, 0.95: 1803}
LABELS = (0.172, 0.088, 0.077, 0.081, 0.091, 0.085, 0.081, 0.076, 0.082, 0.168)
SMALL = {"n": 60, "train_examples": 300, "val_examples": 50, "test_examples": 50}


def evaluated(ids):
    """The value of one expression, word by word."""
    stack = [[]]
    for word in (trees.TOKENS[i] for i in ids):
        if word.startswith("["):
            stack.append([word])
        elif word == "]":
            operator, *values = stack.pop()
            values.sort()
            count = len(values)
            middle = values[count // 2] if count % 2 else sum(values[count // 2 - 1 :][:2]) / 2
            found = {"[MIN": values[0], "[MAX": values[-1], "[MED": middle, "[SM": sum(values) % 10}
            stack[-1].append(int(found[operator]))
        else:
            stack[-1].append(int(word))
    ((value,),) = stack
    return value


def texts(examples):
    ends = examples.begins + examples.lengths
    return [examples.tokens[a:b] for a, b in zip(examples.begins, ends, strict=True)]


@pytest.fixture(scope="module")
def arena():
    """Expressions of the benchmark's window, and how many were grown for one that was kept."""
    generator, kept, grown = drawn.generator("train", 1), [], 14 * 1024
    for _ in range(14):
        levels, lengths = trees.grow(generator, 1024, 2000, 10)
        kept.append(trees.select(levels, (lengths > 500) & (lengths < 2000)))
    written = [trees.write(levels) for levels in kept]
    return {
        "tokens": np.concatenate([tokens for tokens, _ in written]),
        "lengths": np.concatenate([lengths for _, lengths in written]),
        "labels": np.concatenate([trees.values(levels)[0] for levels in kept]),
        "arguments": np.concatenate([levels[0].arguments for levels in kept]),
        "grown": grown,
    }


def test_one_draw_in_twelve_is_kept(arena):
    # three quarters of the draws are a digit, which is not grown
    draws, kept = 4 * arena["grown"], len(arena["lengths"])
    error = ACCEPTED * np.sqrt(1 / kept - 1 / arena["grown"])
    assert draws / kept == pytest.approx(ACCEPTED, abs=4 * error + 0.05)


def test_lengths_are_the_benchmarks(arena):
    lengths = arena["lengths"]
    for share, length in QUANTILES.items():
        error = np.sqrt(share * (1 - share) / len(lengths))
        assert (lengths <= length).mean() == pytest.approx(share, abs=4 * error + 0.001)
    error = lengths.std() / np.sqrt(len(lengths))
    assert lengths.mean() == pytest.approx(LENGTH, abs=4 * error + 5)


def test_labels_and_root_arguments_are_the_benchmarks(arena):
    labels, arguments = arena["labels"], arena["arguments"]
    shares = np.bincount(labels, minlength=10) / len(labels)
    error = np.sqrt(np.multiply(LABELS, 1 - np.array(LABELS)) / len(labels))
    np.testing.assert_array_less(np.abs(shares - LABELS), 4 * error + 0.0005)
    error = arguments.std() / np.sqrt(len(arguments))
    assert arguments.mean() == pytest.approx(ARGUMENTS, abs=4 * error + 0.005)


def test_the_benchmarks_answers_are_right(arena):
    ends = arena["lengths"].cumsum()[:400]
    found = [evaluated(ids) for ids in np.split(arena["tokens"], ends)[:400]]
    np.testing.assert_array_equal(found, arena["labels"][:400])


@pytest.mark.parametrize("split", ["val", "test"])
def test_every_answer_is_right(split):
    task = tasks.make("listops", **SMALL)
    for batch in task.held_out(split, 50):
        columns = (batch[field] for field in ("inputs", "mask", "targets"))
        for ids, mask, target in zip(*columns, strict=True):
            assert evaluated(ids[mask]) == target


def test_nodes_have_the_distribution_of_the_definition():
    levels, lengths = trees.grow(drawn.generator("test", 5), 20000, 10**6, 4)
    assert len(levels) == 4
    assert levels[0].opens.all()
    assert not levels[-1].opens.any()
    assert lengths.max() < 10**6
    for level in levels[1:-1]:
        assert level.opens.mean() == pytest.approx(0.25, abs=0.005)
        for found, low, high in (
            (level.tokens[level.opens], trees.OPERATOR, trees.CLOSE - 1),
            (level.arguments[level.opens], 2, 10),
            (level.tokens[~level.opens], trees.DIGIT, trees.DIGIT + 9),
        ):
            shares = np.bincount(found)[low:] / len(found)
            assert len(shares) == high - low + 1
            error = np.sqrt(1 / len(shares) / len(found))
            np.testing.assert_array_less(np.abs(shares - 1 / len(shares)), 4.5 * error)


def test_lengths_are_those_written_and_what_is_too_long_is_cut():
    levels, lengths = trees.grow(drawn.generator("test", 6), 500, 300, 10)
    finished = lengths < 300
    assert 0 < finished.sum() < 500
    assert (lengths[~finished] == 300).all()
    _, written = trees.write(trees.select(levels, finished))
    np.testing.assert_array_equal(written, lengths[finished])


def test_what_was_written_reads_back():
    levels, lengths = trees.grow(drawn.generator("test", 7), 300, 300, 10)
    levels = trees.select(levels, lengths < 300)
    back = trees.read(*trees.write(levels))
    for before, after in itertools.zip_longest(levels, back):
        for field in ("owner", "tokens", "arguments"):
            np.testing.assert_array_equal(getattr(before, field), getattr(after, field))


def test_a_batch_pads_behind_the_expression():
    task = tasks.make("listops", **SMALL)
    batch = task.batch(0, 0, 40)
    lengths = batch["mask"].sum(1)
    assert task.masked
    np.testing.assert_array_equal(batch["mask"], np.arange(60) < lengths[:, None])
    assert (batch["inputs"][~batch["mask"]] == trees.PAD).all()
    assert set(batch["inputs"][batch["mask"]]) == set(range(trees.DIGIT, trees.CLOSE + 1))
    assert lengths.min() > 15
    assert lengths.max() < 60
    assert batch["weights"].all()


def test_no_expression_comes_twice():
    counts = {"val": 40, "test": 40, "train": 300}
    found = [
        text.tobytes()
        for split in counts
        for text in texts(listops.data_set(split, (1, 5), 10, tuple(counts.items())))
    ]
    assert len(set(found)) == len(found) == 380


def test_too_few_expressions_are_refused():
    # four operators and two digits: there are 400
    with pytest.raises(ValueError, match=r"keep 400 distinct of .* where 500 are asked for"):
        listops.draw(drawn.generator("train"), 500, (1, 5), 10, set())


def test_rows_are_in_order_of_what_they_read():
    rows = tasks.make("listops", **{**SMALL, "train_examples": 2000}).oracles()
    chance, majority, root, *depths = rows.values()
    names = ("chance", "majority", "root", "depth1", "depth2", "depth3")
    assert list(rows) == [f"{name}_accuracy" for name in names]
    assert 0.1 == chance < majority < root < depths[0] < depths[1] < depths[2] < 1


def test_a_rule_that_reads_all_of_an_expression_is_right():
    args = {"max_depth": 2, "train_examples": 2000, "val_examples": 1, "test_examples": 300}
    rows = tasks.make("listops", 14, **args).oracles()
    assert rows["root_accuracy"] < rows["depth1_accuracy"] == rows["depth2_accuracy"] == 1


@pytest.mark.slow
def test_rows_are_the_benchmarks():
    task = tasks.make("listops", 2000, train_examples=20000, test_examples=8000)
    rows = task.oracles()
    published = {"majority": 0.172, "root": 0.365, "depth1": 0.598, "depth2": 0.737}
    published |= {"depth3": 0.837}
    for name, share in published.items():
        assert rows[f"{name}_accuracy"] == pytest.approx(share, abs=0.02)
