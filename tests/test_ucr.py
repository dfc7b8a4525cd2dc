"""Series with a class each, and what a classifier confuses."""

import urllib.error

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import records, run, sweep, tasks
from experiments.analysis import quality
from experiments.running import configuration
from experiments.tasks import confusion, data, labelled, ucr
from experiments.training import fields, mesh, networks
from tests.test_real_tasks import folder, real
from tests.test_tasks import serve

__all__ = ["folder"]
MATRIX = np.array([[5.0, 1, 0], [2, 3, 1], [0, 0, 4]])


def test_scores_of_a_matrix_by_hand():
    found = confusion.of_matrix(MATRIX)
    precision, recall = np.array([5 / 7, 3 / 4, 4 / 5]), np.array([5 / 6, 3 / 6, 1])
    assert found["precision"] == pytest.approx(precision.mean())
    assert found["recall"] == pytest.approx(recall.mean())
    assert found["specificity"] == pytest.approx(np.mean([8 / 10, 9 / 10, 11 / 12]))
    assert found["f1"] == pytest.approx((2 * precision * recall / (precision + recall)).mean())
    assert found["f2"] == pytest.approx((5 * precision * recall / (4 * precision + recall)).mean())


def test_sums_add_up_to_the_scores_of_all():
    generator = np.random.default_rng(0)
    logits, targets = generator.normal(size=(60, 3)), generator.integers(3, size=60)
    logits[np.arange(60), targets] += 1
    real = np.arange(60) < 53
    totals = {}
    for begin in range(0, 60, 20):
        rows = slice(begin, begin + 20)
        batch = {"targets": jnp.asarray(targets[rows]), "weights": jnp.asarray(real[rows])}
        for name, value in confusion.sums(jnp.asarray(logits[rows]), batch).items():
            totals[name] = totals.get(name, 0) + np.asarray(value, np.float64)
    found = confusion.scores(totals)
    logits, targets = logits[:53], targets[:53]
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (targets, logits.argmax(1)), 1)
    assert found["confusion"] == expected.tolist()
    assert totals["correct"] == np.trace(expected)
    # the area is how often one of the class is given more than one of the others
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    areas = []
    for c in range(3):
        own, others = chances[targets == c, c], chances[targets != c, c]
        areas.append((own[:, None] > others).mean())
    assert found["auc"] == pytest.approx(np.mean(areas), abs=2e-3)


def test_a_roc_curve_by_hand():
    said = np.zeros((2, 1, confusion.BINS))
    # one of the class above all others, one between, one below: 4 others
    said[1, 0, [900, 500, 100]] = 1
    said[0, 0, [800, 700, 300, 200]] = 1
    found = confusion.curve(said)
    at = np.linspace(0, 1, confusion.RATES + 1)
    assert found[0] == pytest.approx(1 / 3, abs=1e-4)
    expected = np.interp(at, [0, 0.25, 0.5, 0.75, 1], [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert confusion.area(said) == pytest.approx(np.mean([4, 2, 0]) / 4)
    # two classes: the mean of their curves; without one of both sides there is none
    sure = np.zeros((2, 1, confusion.BINS))
    sure[1, 0, 900], sure[0, 0, 100] = 2, 5
    both = confusion.curve(np.concatenate([said, sure], 1))
    np.testing.assert_allclose(both, (expected + 1) / 2, atol=1e-4)
    assert confusion.curve(said * 0) is None


def test_always_the_majority_has_no_specificity_of_its_class():
    """The lectures' lesson: 90 % right, and nothing learned."""
    labels = np.array([0] * 90 + [1] * 10)
    found = confusion.of_majority(labels, labels, 2)
    assert found["majority_recall"] == pytest.approx(0.5)
    assert found["majority_specificity"] == pytest.approx(0.5)
    assert found["majority_precision"] == pytest.approx(0.45)


def test_of_its_own_class_the_majority_finds_all_and_clears_none():
    """As the matrix of that class against the rest has it."""
    matrix = confusion.of_matrix(np.array([[16.0, 0], [84, 0]]))
    found = quality.of_one_class(0.16)
    assert (found["recall"], found["specificity"], found["precision"]) == (1.0, 0.0, 0.16)
    # the other class has recall, precision and F of 0, and specificity of 1
    for name in ("recall", "precision", "f1", "f2"):
        assert found[name] / 2 == pytest.approx(matrix[name])
    assert (found["specificity"] + 1) / 2 == pytest.approx(matrix["specificity"])


def test_lines_of_both_formats():
    text = b"\xef\xbb\xbf# words\n@data\n1,2,3:4,5,6:b\n7,8:9,10:a\n"
    (first, label), (second, other) = ucr.series(text)
    np.testing.assert_array_equal(first, [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(second, [[7, 9], [8, 10]])
    assert (label, other) == ("b", "a")
    ((steps, label),) = ucr.table(b"-1\t.5\t.25\n")
    np.testing.assert_array_equal(steps, [[0.5], [0.25]])
    assert label == "-1"


def test_ford_has_a_row_that_says_so_until_its_files_are_given(monkeypatch, tmp_path):
    ucr.read.cache_clear()
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = serve(monkeypatch, urllib.error.URLError("no network"))
    module, config = configuration.load("accuracy/ucr")
    config.update(sets=("FordA",), mechanisms=("none",), lrs=(1e-3,), seeds=(0,), steps=2)
    points = configuration.points(module, config)
    assert run.predicted(points[0], 1e9) == ({}, 0.0)
    store, days = records.Store(tmp_path / "out"), iter("123")

    def swept():
        env = {"date": f"2026-01-0{next(days)}", "device": "cpu", "commit": "none"}
        sweep.run(points, store, sweep.Settings(isolate="none"), env)
        return store.all().values()

    for record in swept():
        assert record["status"] == "absent"
        assert record["reason"].startswith("ucr/FordA_TRAIN.tsv is not at hand, and https://")
        assert str(tmp_path) not in record["reason"]
    assert len(asked) == 1
    kept = {record["id"]: record for record in store.all().values()}
    later = {record["id"]: record for record in swept()}
    assert later == kept, "what is still absent keeps its row"
    mesh.check_points(points, {"model": 2})
    misspelt = {**points[0], "model": {**points[0]["model"], "widht": 8}}
    with pytest.raises(ValueError, match="model has no field 'widht'"):
        configuration.check(misspelt)
    _give_ford(tmp_path)
    final = next(point for point in points if point["role"] == "final")
    assert sweep._waits(final, store), "for a grid whose files have come"
    assert {record["status"] for record in swept()} == {"ok"}
    assert sweep.pending(points, store) == []
    ucr.read.cache_clear()


def _give_ford(folder):
    (folder / "ucr").mkdir()
    rows = np.random.default_rng(0).normal(size=(40, 500))
    for split in ("TRAIN", "TEST"):
        lines = ("\t".join([str(i % 2 * 2 - 1), *map(str, row)]) for i, row in enumerate(rows))
        (folder / "ucr" / f"FordA_{split}.tsv").write_text("\n".join(lines))


def test_ford_is_read_from_its_files(monkeypatch, tmp_path):
    ucr.read.cache_clear()
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    _give_ford(tmp_path)
    task = tasks.make("ucr", 20, dataset="FordA")
    batch = task.batch(0, 0, 4)
    assert batch["inputs"].shape == (4, 20, 1)
    assert task.facts["classes"] == ["-1", "1"]
    assert task.oracles()["majority_accuracy"] == 0.5
    ucr.read.cache_clear()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"dataset": "GunPoints"}, "dataset must be one of OSULeaf, .*got 'GunPoints'"),
    ],
)
def test_unknown_sets_are_named(args, words):
    with pytest.raises(ValueError, match=words):
        ucr.make(10, **args)


def test_unknown_sets_of_the_config_are_named():
    module, config = configuration.load("accuracy/ucr")
    config.sets = ("OSULeef",)
    with pytest.raises(ValueError, match=r"sets must be of OSULeaf, .*got 'OSULeef'"):
        module.get_sweep(config)


@real
@pytest.mark.parametrize(
    ("name", "sizes", "longest", "features", "classes"),
    [
        ("OSULeaf", (200, 242), 427, 1, 6),
        ("GunPoint", (50, 150), 150, 1, 2),
        ("JapaneseVowels", (270, 370), 29, 12, 9),
        ("PLAID", (537, 537), 1344, 1, 11),
    ],
)
def test_the_archive_is_what_its_source_says(folder, name, sizes, longest, features, classes):
    splits, found = ucr.read(name)
    assert (len(splits["train"]) + len(splits["val"]), len(splits["test"])) == sizes
    assert max(int(e.lengths.max()) for e in splits.values()) == longest
    assert (splits["test"].values.shape[1], len(found)) == (features, classes)
    task = ucr.make(longest, dataset=name)
    assert task.masked == (name in ("JapaneseVowels", "PLAID"))
    held = list(task.held_out("test", 64))
    assert sum(batch["weights"].sum() for batch in held) == sizes[1]
    with pytest.raises(ValueError, match=f"n must be at most {longest}, the longest series"):
        ucr.make(longest + 1, dataset=name)


def test_features_are_standardised_by_the_training_steps():
    generator = np.random.default_rng(0)
    values = generator.normal([3, -1, 7], [2, 0.1, 0], size=(60, 3)).astype(np.float32)
    train = labelled.Examples(values, np.array([13, 47]), np.array([0, 1]))
    test = labelled.from_rows(np.array([[[5.0, -1, 8]]]), np.array([0]))
    found = ucr.standardised({"train": train, "test": test})
    np.testing.assert_allclose(found["train"].values.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found["train"].values.std(0), [1, 1, 0], atol=1e-5)
    spread = values.std(0) + np.array([0, 0, 1])
    expected = (np.array([[5.0, -1, 8]]) - values.mean(0)) / spread
    np.testing.assert_allclose(found["test"].values, expected, rtol=1e-4)


@real
def test_several_features_have_a_mean_and_a_deviation_each(folder):
    task = ucr.make(29, dataset="JapaneseVowels")
    raw = ucr.read("JapaneseVowels")[0]
    # one epoch: every training example once
    batch = task.batch(0, 0, len(raw["train"]))
    inputs, mask = batch["inputs"], batch["mask"]
    assert np.array_equal(np.sort(mask.sum(1)), np.sort(raw["train"].lengths))
    np.testing.assert_allclose(inputs[mask].mean(0), np.zeros(12), atol=1e-5)
    np.testing.assert_allclose(inputs[mask].std(0), np.ones(12), atol=1e-5)
    assert (inputs[~mask] == 0).all()
    assert task.facts["data_sha256"] == raw["test"].digest


@real
def test_one_feature_is_divided_by_its_deviation(folder):
    raw = ucr.read("PLAID")[0]
    (batch, *_) = ucr.make(1344, dataset="PLAID").held_out("test", 8)
    values = raw["test"].values[: raw["test"].lengths[0]]
    found = batch["inputs"][0][batch["mask"][0]]
    np.testing.assert_allclose(found, values / raw["train"].values.std(), rtol=1e-6)


@real
def test_long_series_are_cut_into_patches(folder):
    module, config = configuration.load("accuracy/ucr")
    config.sets, config.mechanisms = ("OSULeaf", "JapaneseVowels"), ("full",)
    found = {}
    for point in module.get_sweep(config):
        task = tasks.make("ucr", point["n"], **point["task_args"])
        made = networks.config_of({**fields.OPTIONAL, **point}, task)
        found[point["task_args"]["dataset"]] = made.inputs, made.max_len
    assert found == {"OSULeaf": ("patches", 54), "JapaneseVowels": ("continuous", 29)}
