"""Tasks that draw their own data: what they draw, against its definition and reference figures."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attention_zoo as zoo
from experiments import tasks
from experiments.tasks import drawn, mqar
from experiments.training import fields, networks, prediction, steps

HELD = 50
TASKS = {
    "mqar": {"n": 64, "vocab": 256, "eval_examples": HELD},
    "duplicate": {"n": 14, "eval_examples": HELD},
    "listops": {
        "n": 60,
        "train_examples": 300,
        "val_examples": HELD,
        "test_examples": HELD,
    },
}
each = pytest.mark.parametrize("name", TASKS)


def made(name, **args):
    return tasks.make(name, **{**TASKS[name], **args})


def joined(batches):
    """Real rows of all batches, one after the other."""
    batches = list(batches)
    real = np.concatenate([batch["mask"].any(1) for batch in batches])
    return {
        field: np.concatenate([batch[field] for batch in batches])[real] for field in batches[0]
    }


def assert_share(counts, expected, total, width=4.5):
    """Shares of `total` draws within `width` standard errors of what is expected."""
    error = np.sqrt(expected * (1 - np.asarray(expected)) / total)
    np.testing.assert_array_less(np.abs(counts / total - expected), width * error + 1e-12)


@each
def test_a_batch_is_a_function_of_seed_and_step(name):
    first = made(name).batch(3, 7, 5)
    for field, array in made(name).batch(3, 7, 5).items():
        np.testing.assert_array_equal(array, first[field])
    for other in ((4, 7), (3, 8), (7, 3)):
        assert not np.array_equal(made(name).batch(*other, 5)["inputs"], first["inputs"])


@each
@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize("size", [7, HELD, 64])
def test_every_held_out_example_comes_once(name, split, size):
    task = made(name)
    batches = list(task.held_out(split, size))
    assert all(batch["inputs"].shape == (size, task.n) for batch in batches)
    assert len(batches) == -(-HELD // size)
    assert prediction.examples(task, split) == HELD
    last = batches[-1]
    assert last["mask"].any(1).sum() == HELD - size * (len(batches) - 1)
    assert not last["weights"][~last["mask"].any(1)].any()
    whole = joined(batches)
    for field, array in joined(task.held_out(split, 11)).items():
        np.testing.assert_array_equal(whole[field], array)


@each
def test_splits_share_no_example(name):
    task = made(name)
    seen = [{row.tobytes() for row in task.batch(seed, 0, 400)["inputs"]} for seed in range(3)]
    splits = [set().union(*seen)]
    for split in ("val", "test"):
        splits.append({row.tobytes() for row in joined(task.held_out(split, 9))["inputs"]})
    assert [len(split) for split in splits[1:]] == [HELD, HELD]
    assert not any(a & b for a, b in itertools.combinations(splits, 2))


def test_streams_of_random_numbers_are_apart():
    first = {drawn.generator(stream, 2, 3).random() for stream in drawn.STREAMS}
    assert len(first) == len(drawn.STREAMS)


@each
def test_the_right_answers_score_one(name):
    task = made(name)
    totals = {"correct": 0.0, "count": 0.0, "loss": 0.0}
    for batch in task.held_out("test", 64):
        classes = task.model.get("classes", task.model["vocab"])
        outputs = 50.0 * jax.nn.one_hot(batch["targets"], classes)
        for key, value in task.sums(outputs, batch).items():
            totals[key] += float(value)
    assert task.score(totals) == 1.0
    assert totals["loss"] == pytest.approx(0.0, abs=1e-3)
    assert task.higher_is_better
    assert task.metric == "accuracy"


@each
def test_a_small_transformer_learns_something(name):
    task = made(name)
    point = {
        **fields.OPTIONAL,
        "n": task.n,
        "mechanism": "full",
        "hparams": {},
        "model": {"width": 32, "depth": 1, "heads": 1, "ff": 8},
    }
    point |= {"steps": 20, "warmup": 2, "lr": 1e-2, "final_lr": 1.0, "seed": 0}
    network = zoo.Transformer(networks.config_of(point, task), rngs=nnx.Rngs(0))
    graph, optimiser, state = steps.start(network, point)
    step, losses = jax.jit(steps.train_step(graph, task, optimiser)), []
    for i in range(point["steps"]):
        state, loss = step(state, task.batch(0, i, 32), jnp.int32(i))
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < np.mean(losses[:3]) - 0.05


def test_a_query_is_answered_by_what_followed_its_key_first():
    batch = made("mqar", vocab=24).batch(0, 0, 200)
    rows, at = np.nonzero(batch["weights"])
    inputs = batch["inputs"]
    first = (inputs[rows] == inputs[rows, at, None]).argmax(1)
    np.testing.assert_array_equal(inputs[rows, first + 1], batch["targets"][rows, at])
    assert (first < 8).all()
    assert (first % 2 == 0).all()
    # fillers repeat keys: a rule by the latest would fail
    before = [row[:t] == row[t] for row, t in zip(inputs[rows], at, strict=True)]
    assert any(same.sum() > 1 for same in before)


def test_mqar_pairs_are_asked_for_once_each():
    task = made("mqar", vocab=24)
    batch = task.batch(1, 0, 300)
    keys, values = batch["inputs"][:, :8:2], batch["inputs"][:, 1:8:2]
    for tokens, low, high in ((keys, 1, 12), (values, 12, 24)):
        assert (tokens.min(), tokens.max()) == (low, high - 1)
        assert all(len(set(row)) == 4 for row in tokens.tolist())
    assert batch["mask"].all()
    assert not batch["weights"][:, :8].any()
    assert not batch["weights"][:, 1::2].any()
    for row, scored, own in zip(batch["inputs"], batch["weights"], keys, strict=True):
        assert sorted(row[scored]) == sorted(own)


def test_mqar_gaps_follow_the_power_law():
    task, size = made("mqar", vocab=256), 20000
    batch = task.batch(0, 0, size)
    p = np.arange(1, 29) ** -0.99
    p /= p.sum()
    # the second of two draws without repetition
    second = np.array([(p * p[s] / (1 - p))[np.arange(28) != s].sum() for s in range(28)])
    for pair, expected in ((0, p), (1, second)):
        key = batch["inputs"][:, 2 * pair, None]
        at = ((batch["inputs"] == key) & batch["weights"]).argmax(1)
        assert_share(np.bincount((at - 8) // 2, minlength=28), expected, size)


def test_mqar_fillers_are_uniform():
    batch = made("mqar", vocab=24).batch(0, 0, 5000)
    fillers = batch["inputs"][:, 8:][~batch["weights"][:, 8:]]
    assert_share(np.bincount(fillers, minlength=24), np.full(24, 1 / 24), len(fillers))


def test_mqar_fillers_may_be_zeros():
    task = made("mqar", vocab=24, random_fillers=False)
    for batch in (task.batch(0, 0, 50), *task.held_out("test", 50)):
        inputs, queried = batch["inputs"][:, 8:], batch["weights"][:, 8:]
        np.testing.assert_array_equal(inputs != 0, queried)


@pytest.mark.parametrize(("count", "k"), [(5, 2), (4, 3), (9, 1)])
def test_distinct_numbers_favour_none(count, k):
    found = mqar._distinct(drawn.generator("train"), count, 30000, k)
    choices = list(itertools.permutations(range(count), k))
    code = found @ count ** np.arange(k)
    counts = np.bincount(code, minlength=count**k)[np.array(choices) @ count ** np.arange(k)]
    assert counts.sum() == 30000
    assert_share(counts, np.full(len(choices), 1 / len(choices)), 30000)


def test_default_pairs_are_those_published():
    published = {8: 1, 64: 4, 128: 8, 256: 16, 512: 64, 1024: 128, 4096: 512}
    assert {n: tasks.make("mqar", n).facts["pairs"] for n in published} == published


def test_mqar_is_tested_on_fewer_pairs():
    task = tasks.make("mqar", 128, vocab=64, eval_examples=40)
    assert task.also == ("pairs=4",)
    batch = joined(task.held_out("pairs=4", 16))
    np.testing.assert_array_equal(batch["weights"].sum(1), np.full(40, 4))
    assert len(joined(task.held_out("test", 16))["inputs"]) == 40
    assert tasks.make("mqar", 512).also == ("pairs=4", "pairs=8", "pairs=16", "pairs=32")


def test_mqar_sequences_grow_at_as_many_tokens():
    task = tasks.make("mqar", 256, vocab=64, eval_examples=40, grow=(3, 5))
    found = {step: task.batch(0, step, 2) for step in (0, 2, 3, 4, 5, 9)}
    shapes = {step: batch["inputs"].shape for step, batch in found.items()}
    assert shapes == {0: (8, 64), 2: (8, 64), 3: (4, 128), 4: (4, 128), 5: (2, 256), 9: (2, 256)}
    scored = {step: batch["weights"][0].sum() for step, batch in found.items()}
    assert scored == {0: 4, 2: 4, 3: 8, 4: 8, 5: 16, 9: 16}
    assert next(task.held_out("val", 2))["inputs"].shape == (2, 256)
    short = tasks.make("mqar", 64, vocab=64, grow=(3, 5))
    assert short.batch(0, 9, 2)["inputs"].shape == (2, 64)
    # from 256 to 512 tokens the pairs published are four times as many
    full = tasks.make("mqar", 512, vocab=256, grow=(1, 2, 3, 4))
    scored = [full.batch(0, step, 1)["weights"][0].sum() for step in range(5)]
    assert scored == [4, 8, 16, 32, 64]


def test_mqar_rows_without_recall():
    rows = made("mqar").oracles()
    assert rows["chance_accuracy"] == 1 / 128
    assert rows["context_accuracy"] == 1 / 4
    # the first gap is the first pair's with probability 1/4, and then it is ever less certain
    assert 0.25 < rows["position_accuracy"] < 0.6


def test_duplicate_says_the_word_again():
    task = made("duplicate")
    batch = task.batch(0, 0, 3000)
    word = batch["inputs"][:, 1:7]
    assert_share(np.bincount(word.ravel())[1:], np.full(127, 1 / 127), word.size)
    np.testing.assert_array_equal(batch["inputs"], np.tile(np.pad(word, [(0, 0), (1, 0)]), (1, 2)))
    np.testing.assert_array_equal(batch["weights"].nonzero()[1].reshape(-1, 6)[0], range(7, 13))
    np.testing.assert_array_equal(batch["targets"][batch["weights"]], word.ravel())
    assert batch["mask"].all()


def test_duplicate_grows_at_as_many_tokens():
    task = tasks.make("duplicate", 512, eval_examples=4, grow=(3, 5, 5))
    shapes = [task.batch(0, step, 2)["inputs"].shape for step in (0, 2, 3, 4, 5, 99)]
    assert shapes == [(16, 64)] * 2 + [(8, 128)] * 2 + [(2, 512)] * 2
    short = tasks.make("duplicate", 128, eval_examples=4)
    for field, array in short.batch(0, 3, 8).items():
        np.testing.assert_array_equal(task.batch(0, 3, 2)[field], array)
    assert next(task.held_out("val", 4))["inputs"].shape == (4, 512)


def test_the_row_by_bigrams_by_hand():
    task, right = made("duplicate", symbols=3), []
    for row in joined(task.held_out("test", 8))["inputs"].tolist():
        right += [row[row.index(row[t]) + 1] == row[t + 1] for t in range(7, 13)]
    rows = task.oracles()
    assert rows["bigram_accuracy"] == pytest.approx(np.mean(right))
    assert rows["chance_accuracy"] == 1 / 3 < rows["bigram_accuracy"] < 1


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("mqar", {"n": 2}, "n must be a whole number from 4 up, got 2"),
        ("mqar", {"n": 65}, "n must be even, got 65"),
        ("mqar", {"vocab": 255}, "vocab must be even, got 255"),
        ("mqar", {"vocab": 2}, "vocab must be a whole number from 4 up, got 2"),
        ("mqar", {"pairs": 17}, "pairs must be at most n/4 = 16, got 17"),
        ("mqar", {"pairs": 0}, "pairs must be a whole number from 1 up, got 0"),
        ("mqar", {"vocab": 8}, "pairs must be at most the 3 keys of vocab=8, got 4"),
        ("mqar", {"power": 1.5}, "power must be within 0..1, 1 for uniform gaps, got 1.5"),
        ("mqar", {"eval_examples": 0}, "eval_examples must be a whole number from 1 up, got 0"),
        ("mqar", {"n": 256, "grow": (9,)}, "to n=256 and pairs=16, got 1 steps, for 128 and 8"),
        ("duplicate", {"n": 256, "grow": (9,)}, "double 64 up to n=256, got 1, to 128"),
        ("mqar", {"grow": (0,)}, "grow must be a whole number from 1 up, got 0"),
        ("duplicate", {"n": 2}, "n must be an even number from 4 up, for 0 w 0 w, got 2"),
        ("duplicate", {"n": 7}, "n must be an even number from 4 up, for 0 w 0 w, got 7"),
        ("duplicate", {"symbols": 0}, "symbols must be a whole number from 1 up, got 0"),
        ("listops", {"n": 4}, "n must be at least 5, .* got 4"),
        ("listops", {"max_length": 61}, "max_length must be at most n=60, got 61"),
        ("listops", {"min_length": 59}, "at least 5 and min_length . 2, .* min_length=59 and"),
        ("listops", {"max_depth": 1}, "max_depth must be a whole number from 2 up, got 1"),
        ("listops", {"train_examples": 0}, "train_examples must be a whole number from 1 up"),
    ],
)
def test_bad_arguments_say_what_would_work(name, args, message):
    with pytest.raises(ValueError, match=message):
        made(name, **args)


def test_tasks_are_found_by_name_and_their_helpers_are_not():
    assert set(TASKS) <= set(tasks.names())
    assert not {"drawn", "trees"} & set(tasks.names())
