"""Translation of captions: what a batch holds, what is scored, what is translated back to text."""

import gzip
import importlib.metadata
import types

import numpy as np
import pytest
from flax import nnx

from attention_zoo.recurrent_translator import RecurrentConfig, RecurrentTranslator
from configs.accuracy import translation
from experiments import tasks, train
from experiments.running import configuration
from experiments.tasks import data, multi30k
from tests.test_real_tasks import folder, real

__all__ = ["folder"]
ENGLISH = [f"a {a} {b} in the {c}" for a in ("red", "big", "old") for b in ("dog", "cat", "man")
           for c in ("park", "snow", "house", "street")]  # fmt: skip
WORDS = {"a": "ein", "red": "roter", "big": "großer", "old": "alter", "dog": "Hund"}
WORDS |= {"cat": "Kater", "man": "Mann", "in": "im", "the": "", "snow": "Schnee", "house": "Haus"}
GERMAN = [" ".join(filter(None, (WORDS.get(w, w) for w in line.split()))) for line in ENGLISH]
VOCAB = 60


@pytest.fixture
def captions(monkeypatch):
    """36 captions to train on, and some of them held out."""

    def read(dataset, name):
        lines = ENGLISH if ".en." in name else GERMAN
        part = lines if name.startswith("train") else lines[: {"v": 7, "t": 5}[name[0]]]
        return gzip.compress(("\n".join(part) + "\n").encode())

    caches = (multi30k._texts, multi30k.subwords, multi30k._encoded, multi30k._oracles)
    for cached in caches:
        cached.cache_clear()
    monkeypatch.setattr(data, "read", read)
    yield
    for cached in caches:
        cached.cache_clear()


def text(tokens):
    return multi30k.subwords(VOCAB).decode([int(t) for t in tokens])


def test_a_batch_is_pairs_of_captions(captions):
    task = tasks.make("multi30k", 64, vocab=VOCAB)
    batch = task.batch(0, 3, 4)
    for i in range(4):
        source, target = (
            batch["inputs"][i][batch["mask"][i]],
            batch["targets"][i][batch["weights"][i]],
        )
        assert GERMAN[ENGLISH.index(text(source))] == text(target[:-1])
        assert target[-1] == multi30k.END
        before = batch["target"][i][: len(target)]
        assert before[0] == multi30k.START
        np.testing.assert_array_equal(before[1:], target[:-1])
    again = task.batch(0, 3, 4)
    for name, array in batch.items():
        np.testing.assert_array_equal(array, again[name])
    assert not np.array_equal(batch["inputs"], task.batch(1, 3, 4)["inputs"])


def test_an_epoch_has_each_pair_once_and_held_out_all(captions):
    task = tasks.make("multi30k", 64, vocab=VOCAB)

    def sources(batches):
        rows = [text(x[m]) for b in batches for x, m in zip(b["inputs"], b["mask"], strict=True)]
        return sorted(filter(None, rows))

    assert sources(task.batch(0, step, 6) for step in range(6)) == sorted(ENGLISH)
    assert sources(task.batch(0, step, 6) for step in range(6, 12)) == sorted(ENGLISH)
    assert sources(task.held_out("val", 4)) == sorted(ENGLISH[:7])
    widths = {array.shape[1] for b in task.held_out("val", 4) for array in b.values()}
    assert widths <= {*multi30k.ROOMS, 64}


def test_translations_are_scored_as_text(captions):
    """A network that knows the captions has BLEU 100; one that ends at once has 0."""
    task = tasks.make("multi30k", 64, vocab=VOCAB)
    known = {tuple(x): y for x, y in multi30k._encoded(VOCAB)["test"]}
    config = types.SimpleNamespace(attention="none")

    def search(tokens, *, mask, start, end, steps, beams):
        rows = [
            known.get(tuple(row[m]), [])[: steps - 1] for row, m in zip(tokens, mask, strict=True)
        ]
        return np.array([row + [end] * (steps - len(row)) for row in rows]), None

    found = task.judge(types.SimpleNamespace(search=search, config=config))
    assert found["test_bleu"] == pytest.approx(100)
    assert found["test_bleu@test2017, beams=5"] == pytest.approx(100)
    settings = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:"
    assert found["bleu_signature"] == settings + importlib.metadata.version("sacrebleu")
    known.clear()
    assert task.judge(types.SimpleNamespace(search=search, config=config))["test_bleu"] == 0


@pytest.mark.parametrize("length", [3, 63, 64])
def test_a_translation_without_an_end_has_a_map_too(captions, length):
    def search(tokens, *, mask, start, end, steps, beams):
        return np.array([[7] * length + [end] * (steps - length)] * len(tokens)), None

    def weights(inputs, target, mask):
        return np.ones((1, target.shape[1], inputs.shape[1]))

    config = types.SimpleNamespace(attention="dot")
    found = multi30k._map(
        types.SimpleNamespace(search=search, weights=weights, config=config), 64, VOCAB
    )
    rows = length + 1 if length < 64 else 63
    assert len(found["attention_weights"]) == len(found["attention_target"]) == rows
    assert (found["attention_target"][-1] == "</s>") == (length < 64)


def test_rules_translate_without_a_model(captions):
    found = tasks.make("multi30k", 64, vocab=VOCAB).oracles()
    # the test captions are among those of training
    assert found["nearest_bleu"] == pytest.approx(100)
    assert found["copy_bleu"] < 20


@pytest.mark.parametrize(
    ("n", "changes", "words"),
    [
        (4, {}, "n must be at least"),
        (64, {"vocab": 0}, "vocab must be a whole number from 1 up"),
        (64, {"vocab": 9}, "vocab=9 makes no sub-words of Multi30k"),
        (64, {"vocab": 10**6}, "vocab=1000000 makes no sub-words of Multi30k"),
        (64, {"words": 3}, "multi30k has no argument 'words'"),
    ],
)
def test_what_cannot_be_is_named(captions, n, changes, words):
    with pytest.raises(ValueError, match=words):
        tasks.make("multi30k", n, **{"vocab": VOCAB, **changes})


POINT = {
    **{"experiment": "translation", "kind": "train", "label": "RNN", "mechanism": "recurrent"},
    **{"hparams": {}, "task": "multi30k", "task_args": {"vocab": VOCAB}, "n": 64, "seed": 0},
    **{"batch": 9, "steps": 60, "eval_every": 30, "lr": 1e-2},
    "model": {"architecture": "recurrent", "attention": "dot", "width": 32},
}


def test_a_point_learns_and_is_judged(captions, tmp_path):
    train.check_point(POINT)
    assert train.objections(POINT) == []
    found = train.run_point(POINT, tmp_path)
    assert found["val_nats_best"] < 1.0
    assert found["test_bleu"] > 30
    assert found["test_nats@test2017"] == pytest.approx(found["test_nats"])
    assert found["params"] > 0
    # the mean of steps of all lengths
    assert found["flops_per_step"] > 0
    assert "test_bleu" not in train.run_point(POINT | {"role": "grid"}, tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "rnn"}, "model.architecture must be one of transformer, recurrent"),
        ({"architecture": "recurrent", "heads": 2}, "model has no field 'heads'"),
    ],
)
def test_a_bad_architecture_is_named(captions, changes, words):
    with pytest.raises(ValueError, match=words):
        train.check_point(POINT | {"model": changes})


def test_one_variant_has_the_published_activation_and_no_other_names_one():
    config = translation.get_config("small")
    model = {point["label"]: point["model"] for point in translation.get_sweep(config)}
    assert model.pop("full, ReLU") == {**model["full"], "activation": "relu"}
    assert all("activation" not in of for of in model.values())


@real
@pytest.mark.parametrize("size", ["small", "medium"])
def test_the_config_has_room_for_every_pair(folder, size):
    point = translation.get_sweep(translation.get_config(size))[0]
    train.check_point(configuration._plain(point))


@real
def test_the_real_captions_are_read(folder):
    task = tasks.make("multi30k", 64)
    assert task.facts["train_pairs"] + task.facts["train_pairs_too_long"] == 29_000
    assert (task.facts["val_pairs"], task.facts["test_pairs"]) == (1014, 1000)
    coder = multi30k.subwords(4000)
    for line in multi30k._texts("test")[1][:200]:
        assert coder.decode(coder.encode(line)) == " ".join(line.split())
    config = RecurrentConfig(vocab=4000, target_vocab=4000, width=8, max_len=64)
    network = RecurrentTranslator(config, rngs=nnx.Rngs(0))
    sources = [x for x, _ in multi30k._encoded(4000)["test"][:3]]
    assert len(multi30k.translate(network, sources, 64, 2)) == 3
