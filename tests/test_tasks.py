import hashlib
import io
import lzma
import math
import pickle
import urllib.error

import numpy as np
import pytest

from experiments import tasks
from experiments.tasks import data, language, ngrams, sources, stdlib

TEXT = bytes(range(97, 123)) * 40 + b"the end"


def tiny(n, eval_tokens=131072, **more):
    return language.language_model(n, "tiny", language.by_position(TEXT), eval_tokens, {}, **more)


def flat(batches, field):
    return np.concatenate([batch[field][batch["mask"]] for batch in batches])


def test_a_batch_is_a_function_of_seed_and_step():
    task = tiny(13)
    first = task.batch(3, 7, 5)
    for field, array in task.batch(3, 7, 5).items():
        assert np.array_equal(array, first[field])
    for other in (task.batch(4, 7, 5), task.batch(3, 8, 5), task.batch(7, 3, 5)):
        assert not np.array_equal(other["inputs"], first["inputs"])


def test_targets_follow_inputs_by_one_byte():
    batch = tiny(13).batch(0, 0, 6)
    assert batch["inputs"].shape == batch["targets"].shape == (6, 13)
    assert np.array_equal(batch["inputs"][:, 1:], batch["targets"][:, :-1])
    assert all(bytes(row.astype(np.uint8)) in TEXT for row in batch["targets"])


def test_windows_grow_at_as_many_bytes():
    task, steps = tiny(512, grow=(3, 5)), (0, 2, 3, 4, 5, 99)
    shapes = [task.batch(0, step, 2)["inputs"].shape for step in steps]
    assert shapes == [(8, 128)] * 2 + [(4, 256)] * 2 + [(2, 512)] * 2
    # short ones are as those of a task of so short ones, long ones as without growth
    for step, alike in ((2, tiny(128).batch(0, 2, 8)), (5, tiny(512).batch(0, 5, 2))):
        for field, array in task.batch(0, step, 2).items():
            assert np.array_equal(array, alike[field])
    assert next(task.held_out("val", 2))["inputs"].shape == (2, 512)
    assert tiny(64, grow=(3, 5)).batch(0, 9, 2)["inputs"].shape == (2, 64)


@pytest.mark.parametrize("n", [1, 7, 64])
@pytest.mark.parametrize("split", ["val", "test"])
def test_every_held_out_byte_is_predicted_once(n, split):
    batches = list(tiny(n).held_out(split, 3))
    assert all(batch["inputs"].shape == (3, n) for batch in batches)
    text = language.by_position(TEXT)[split]
    assert bytes(flat(batches, "targets").astype(np.uint8)) == text
    assert bytes(flat(batches, "inputs").astype(np.uint8)) == b"\n" + text[:-1]
    assert sum(batch["weights"].sum() for batch in batches) == len(text)


@pytest.mark.parametrize("n", [4, 9])
def test_the_held_out_tokens_are_the_same_at_every_length(n):
    held = flat(tiny(n, eval_tokens=29).held_out("val", 2), "targets")
    assert bytes(held.astype(np.uint8)) == language.by_position(TEXT)["val"][:29]


def test_splits_by_position_are_the_text():
    splits = language.by_position(TEXT)
    assert b"".join(splits.values()) == TEXT
    assert len(splits["val"]) == pytest.approx(0.05 * len(TEXT), abs=1)


def test_sums_ignore_what_is_not_scored():
    batch = {"targets": np.array([[1, 2, 3]]), "weights": np.array([[True, True, False]])}
    logits = np.zeros((1, 3, 4), np.float32)
    logits[0, 1, 2] = 100.0
    sums = language.sums(logits, batch)
    assert float(sums["loss"]) == pytest.approx(math.log(4))
    assert (float(sums["count"]), float(sums["correct"])) == (2.0, 1.0)


def test_uniform_guesses_score_eight_bits():
    task = tiny(5)
    batch = next(task.held_out("test", 2))
    totals = language.sums(np.zeros((2, 5, 256), np.float32), batch)
    assert task.score({key: float(value) for key, value in totals.items()}) == pytest.approx(8.0)


def test_order_0_figure_by_hand():
    train, text = (np.frombuffer(word, np.uint8) for word in (b"aab", b"abc"))
    # three bytes, two kinds: p(a) = (2 + 2/256) / 5, p(b) = (1 + 2/256) / 5, p(c) = (2/256) / 5
    expected = -np.log2([(2 + 2 / 256) / 5, (1 + 2 / 256) / 5, 2 / 256 / 5]).mean()
    assert ngrams.bits_per_byte(train, text, 0) == pytest.approx(expected)


def test_order_2_figure_by_hand():
    train, text = (np.frombuffer(word, np.uint8) for word in (b"abab", b"ab"))
    p0 = (2 + 2 / 256) / 6
    # after "\n": a, once; after "\n\n": a, once
    a = (1 + (1 + p0) / 2) / 2
    # after "a": b, twice; after "\na": b, once
    b = (1 + (2 + p0) / 3) / 2
    assert ngrams.bits_per_byte(train, text, 2) == pytest.approx(-np.log2([a, b]).mean())


def test_an_unseen_context_leaves_the_shorter_ones_answer():
    train, text = (np.frombuffer(word, np.uint8) for word in (b"aaaa", b"zza"))
    seen = [p for p in (ngrams.bits_per_byte(train, text[:k], 2) * k for k in (2, 3))]
    p0 = (4 + 1 / 256) / 5
    assert seen[1] - seen[0] == pytest.approx(-math.log2(p0))


@pytest.fixture
def library(tmp_path):
    for i in range(200):
        (tmp_path / f"module{i}.py").write_text(f"x = {i}\n")
    for name in ("test/a.py", "site-packages/b.py", "config-x/c.py", "_sysconfigdata_d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("left out")
    return tmp_path


def test_every_file_of_the_library_is_in_one_split(library):
    splits = stdlib.splits(library)
    lines = [line for text in splits.values() for line in text.decode().splitlines()]
    assert sorted(lines) == sorted(f"x = {i}" for i in range(200))


def test_a_file_keeps_its_split_when_others_come(library):
    before = stdlib.splits(library)
    (library / "another.py").write_text("y = 1\n")
    stdlib.splits.cache_clear()
    after = stdlib.splits(library)
    assert after != before
    for split, text in before.items():
        assert set(text.splitlines()) <= set(after[split].splitlines())


def test_an_empty_library_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must hold \.py files"):
        stdlib.splits(tmp_path)


def test_the_real_library_beats_uniform_by_counting():
    task = tasks.make("stdlib", 256, eval_tokens=20000)
    rows = task.oracles()
    assert rows["order2_bpb"] < 3 < rows["order1_bpb"] < rows["unigram_bpb"] < 5
    assert rows["uniform_bpb"] == 8
    assert task.facts["data"].split()[1].count(".") == 2
    assert task.facts["train_bytes"] > 4e6


def test_tasks_are_found_by_name():
    assert {"stdlib", "tinyshakespeare"} <= set(tasks.names())
    assert not {"data", "language", "ngrams"} & set(tasks.names())


@pytest.mark.parametrize(
    ("name", "n", "args", "message"),
    [
        ("stdlibs", 8, {}, "unknown task 'stdlibs'; known: .*stdlib"),
        ("stdlib", 0, {}, "n must be a whole number from 1 up, got 0"),
        ("stdlib", 8, {"eval_token": 5}, "no argument 'eval_token'; it takes eval_tokens"),
        ("stdlib", 8, {"eval_tokens": 0}, "eval_tokens must be a whole number from 1 up, got 0"),
        ("stdlib", 10**9, {}, "n must be at most"),
        ("stdlib", 512, {"grow": (9,)}, "grow must double 128 up to n=512, got 1, to 256"),
        ("stdlib", 512, {"grow": (9, 0)}, "grow must be a whole number from 1 up, got 0"),
    ],
)
def test_bad_arguments_say_what_would_work(name, n, args, message):
    with pytest.raises(ValueError, match=message):
        tasks.make(name, n, **args)


@pytest.fixture
def poem(tmp_path, monkeypatch):
    """A data set of one file, an empty user's folder and an empty cache."""
    text = b"o mistress mine\n" * 9
    digest = hashlib.sha256(text).hexdigest()
    file = sources.File("poem.txt", digest, len(text), "https://example.org/poem.txt")
    monkeypatch.setitem(sources.DATASETS, "poem", sources.Dataset((file,), "none", "none"))
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "given"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "given" / "poem").mkdir(parents=True)
    serve(monkeypatch, urllib.error.URLError("no network"))
    return text


def test_an_absent_file_is_said_in_another_process_too():
    error = pickle.loads(pickle.dumps(data.AbsentError("sought here", "not at hand")))
    assert (str(error), error.brief) == ("sought here", "not at hand")


def serve(monkeypatch, answer):
    """The network gives these bytes, or this error; what was asked of it, as it is asked."""
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        if isinstance(answer, OSError):
            raise answer
        return io.BytesIO(answer)

    monkeypatch.setattr(data.urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(data, "_unreachable", {})
    return asked


def test_a_given_file_is_read(poem, tmp_path):
    (tmp_path / "given/poem/poem.txt").write_bytes(poem)
    assert data.read("poem", "poem.txt") == poem


def test_a_given_file_may_be_under_xz(poem, tmp_path):
    (tmp_path / "given/poem/poem.txt.xz").write_bytes(lzma.compress(poem))
    assert data.read("poem", "poem.txt") == poem


def test_a_download_is_kept(poem, tmp_path, monkeypatch):
    serve(monkeypatch, poem)
    assert data.read("poem", "poem.txt") == poem
    serve(monkeypatch, urllib.error.URLError("no network"))
    assert data.read("poem", "poem.txt") == poem
    kept = [path.name for path in (tmp_path / "cache/attention_zoo/poem").iterdir()]
    assert kept == ["poem.txt"]


def test_a_missing_file_names_where_it_belongs(poem, tmp_path):
    with pytest.raises(ValueError, match="no network") as caught:
        data.read("poem", "poem.txt")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "$ATTENTION_ZOO_DATA/poem/poem.txt",
        "https://example.org/poem.txt",
        hashlib.sha256(poem).hexdigest(),
        str(tmp_path / "given"),
    ):
        assert part in message


@pytest.mark.parametrize("name", ["poem.txt", "poem.txt.xz"])
@pytest.mark.parametrize("damage", [lambda text: text[:-1], lambda text: b"O" + text[1:]])
def test_a_damaged_file_is_refused(poem, tmp_path, name, damage):
    contents = poem if name == "poem.txt" else lzma.compress(poem)
    (tmp_path / "given/poem" / name).write_bytes(damage(contents))
    with pytest.raises(ValueError, match="is damaged") as caught:
        data.read("poem", "poem.txt")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "$ATTENTION_ZOO_DATA/poem/poem.txt",
        "https://example.org/poem.txt",
        hashlib.sha256(poem).hexdigest(),
        name,
    ):
        assert part in message


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_a_damaged_download_is_not_kept(poem, tmp_path, monkeypatch, extra):
    serve(monkeypatch, poem[:-3] + extra)
    with pytest.raises(ValueError, match="is damaged"):
        data.read("poem", "poem.txt")
    assert not (tmp_path / "cache").exists()


def test_unknown_files_are_named(poem):
    with pytest.raises(ValueError, match=r"unknown data set .poems.; known: .*poem"):
        data.read("poems", "poem.txt")
    with pytest.raises(ValueError, match=r"poem has no file 'ode\.txt'; it has poem\.txt"):
        data.read("poem", "ode.txt")
