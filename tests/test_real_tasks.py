"""Tasks of real files. What needs the files is skipped where their folder is absent: it is sought
in $ATTENTION_ZOO_DATA, then beside the repository."""

import io
import os
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs.accuracy import cifar10 as of_images
from configs.accuracy import imdb as of_reviews
from experiments import tasks
from experiments.tasks import cifar10, data, imdb, mnist, sources, splice, sst2
from tests.test_tasks import serve

FOLDER = Path(
    os.environ.get(data.VARIABLE) or Path(__file__).parents[2] / "shared" / "data"
).absolute()
real = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no data in {FOLDER}: set {data.VARIABLE} to their folder"
)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The real files, and no network and no cache."""
    monkeypatch.setenv(data.VARIABLE, str(FOLDER))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    serve(monkeypatch, urllib.error.URLError("no network"))


def test_archives_are_read_and_never_unpacked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as archive:
        for name, kind in (("../out.jpg", tarfile.REGTYPE), ("/etc/link", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, "/etc/passwd", 0
            if kind == tarfile.REGTYPE:
                member.size = 4
            archive.addfile(member, io.BytesIO(b"jpeg"))
    assert list(data.members(packed.getvalue())) == [("../out.jpg", b"jpeg")]
    assert list(tmp_path.iterdir()) == []


# those whose digest is known
FILES = [
    (name, file) for name, known in sources.DATASETS.items() for file in known.files if file.sha256
]


@pytest.mark.parametrize(("name", "file"), FILES, ids=lambda value: getattr(value, "name", value))
def test_damaged_and_missing_files_are_one_clear_error(name, file, tmp_path, monkeypatch):
    monkeypatch.setenv(data.VARIABLE, str(tmp_path / "given"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    serve(monkeypatch, urllib.error.URLError("no network"))
    expected = [f"${data.VARIABLE}/{name}/{file.name}", file.sha256, str(file.bytes)]
    expected += [file.url] if file.url else []
    with pytest.raises(ValueError, match="is in none of") as missing:
        data.read(name, file.name)
    (tmp_path / "given" / name).mkdir(parents=True)
    (tmp_path / "given" / name / file.name).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is damaged: 7 bytes") as damaged:
        data.read(name, file.name)
    for caught in (missing, damaged):
        assert "\n" not in str(caught.value)
        for part in expected:
            assert part in str(caught.value)
    assert "None" not in str(missing.value) + str(damaged.value)


@real
@pytest.mark.parametrize(("name", "file"), FILES, ids=lambda value: getattr(value, "name", value))
def test_source_notes_state_the_digests(folder, name, file):
    if file.name in (imdb.RELEASE, cifar10.RELEASE):
        assert not data.has(name, file.name)  # shards of them stand there
    elif (FOLDER / name / file.name).exists():
        notes = (FOLDER / name / "SOURCE.md").read_text()
        assert f"`{file.sha256}` {file.bytes} {file.name}" in notes
    else:
        assert (FOLDER / name / f"{file.name}.xz").exists()


@real
@pytest.mark.parametrize(
    ("task", "args"),
    [
        (sst2, {"n": 64}),
        (splice, {"n": 60}),
        (mnist, {"n": 784}),
        (mnist, {"n": 784, "continuous": True}),
    ],
)
def test_real_batches_are_a_function_of_seed_and_step(folder, task, args):
    made = task.make(**args)
    first = made.batch(3, 7, 5)
    assert first["inputs"].shape[:2] == first["mask"].shape == (5, args["n"])
    for field, array in made.batch(3, 7, 5).items():
        assert np.array_equal(array, first[field])
    for other in (made.batch(4, 7, 5), made.batch(3, 8, 5)):
        assert not np.array_equal(other["inputs"], first["inputs"])
    assert {"data", "licence", "data_sha256", "train_examples"} <= set(made.facts)


@real
def test_sst2_is_what_its_source_says(folder):
    splits = sst2.splits()
    assert {split: len(examples) for split, examples in splits.items()} == {
        "train": 6920,
        "val": 872,
        "test": 1821,
    }
    assert contents(splits["val"])[0].decode("utf-16-le") == "one long string of cliches"
    assert max(examples.lengths.max() for examples in splits.values()) <= 273
    task = sst2.make(64)
    assert task.masked
    rows = task.oracles()
    assert rows["majority_accuracy"] == pytest.approx(909 / 1821)
    assert rows["majority_accuracy"] < rows["bytes_accuracy"] < rows["fourgram_accuracy"] < 0.9


@real
def test_splice_is_what_its_source_says(folder):
    splits = splice.splits()
    labels = np.concatenate([examples.labels for examples in splits.values()])
    assert np.bincount(labels).tolist() == [767, 768, 1655]
    assert_disjoint(splits)
    task = splice.make()
    assert not task.masked
    rows = task.oracles()
    assert rows["majority_accuracy"] < 0.6 < 0.9 < rows["position_accuracy"] < 1


@real
def test_mnist_is_what_its_source_says(folder):
    splits = mnist.splits()
    assert sum(map(len, splits.values())) == 10_000
    labels = np.concatenate([examples.labels for examples in splits.values()])
    # of the published test labels
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert_disjoint(splits)
    # most of an image is black, and real
    batch = mnist.make().batch(0, 0, 9)
    assert batch["mask"].all()
    assert (batch["inputs"] == 0).mean() > 0.7


@real
def test_wikitext2_trains_on_its_validation_text(folder):
    task = tasks.make("wikitext2", 64)
    assert task.facts["train_bytes"] + task.facts["val_bytes"] == 1_121_681
    assert task.facts["test_bytes"] == 1_256_449
    assert task.facts["val_bytes"] == pytest.approx(112_168, abs=1)
    rows = tasks.make("wikitext2", 64, eval_tokens=20_000).oracles()
    assert rows["order2_bpb"] < rows["unigram_bpb"] < 8


@real
@pytest.mark.xdist_group("imdb")
def test_imdb_is_what_its_source_says(folder):
    splits = imdb.splits()
    assert_disjoint({split: splits[split] for split in ("train", "val")})
    train = np.concatenate([splits["train"].lengths, splits["val"].lengths])
    labels = np.concatenate([splits["train"].labels, splits["val"].labels])
    assert np.bincount(labels).tolist() == [12_500, 12_500]
    assert np.bincount(splits["test"].labels).tolist() == [12_500, 12_500]
    assert (train > 4096).sum() == 727
    assert (splits["test"].lengths > 4096).sum() == 668
    assert max(train.max(), splits["test"].lengths.max()) == 13_704
    assert np.median(train) == pytest.approx(970, abs=20)
    assert len(splits["val"]) == pytest.approx(2500, abs=150)


@real
@pytest.mark.xdist_group("imdb")
@pytest.mark.parametrize("n", [1024, 4096])
def test_imdb_is_cut_and_masked_by_length(folder, n):
    task = tasks.make("imdb", n)
    assert task.masked
    assert task.model["vocab"] == 257
    batch = next(task.held_out("test", 32))
    test = imdb.splits()["test"]
    assert np.array_equal(batch["mask"].sum(1), np.minimum(test.lengths[:32], n))
    assert np.array_equal(batch["inputs"] == 256, ~batch["mask"])
    for row, real_, text in zip(batch["inputs"], batch["mask"], contents(test)[:32], strict=True):
        assert np.array_equal(row[real_], np.frombuffer(text, np.int16)[:n])


@real
def test_cifar10_images_decode_to_bytes_in_rows(folder, monkeypatch):
    monkeypatch.setattr(cifar10, "SHARDS", {"test": 1})
    packed = data.read("cifar10_jpeg", "test-0.tar.xz")
    first = [pair for pair, _ in zip(data.members(packed), range(20), strict=False)]
    monkeypatch.setattr(data, "members", lambda packed: first)
    for mode, n in (("L", 1024), ("RGB", 3072)):
        examples = cifar10._shards("test", mode)
        assert examples.values.shape == (20 * n,)
        assert examples.values.dtype == np.uint8
        assert examples.labels.tolist() == list(range(10)) * 2


def packed(files):
    """A .tar.gz of {path: contents}."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    return stream.getvalue()


def test_the_release_of_reviews_reads_as_the_shards_of_it():
    """Whatever the archive's order: by number, disliked first, a line each, nothing else."""
    files = {
        "aclImdb/train/pos/10_7.txt": b"ten,\r\nup",
        "aclImdb/train/neg/10_2.txt": b"ten\tdown",
        "aclImdb/train/pos/9_8.txt": b"nine up",
        "aclImdb/train/unsup/1_0.txt": b"nobody knows",
        "aclImdb/train/labeledBow.feat": b"9 0:1",
        "aclImdb/test/neg/0_1.txt": b"test down",
        "aclImdb/test/pos/0_9.txt": "t\u00e9st up".encode(),
    }
    train, test = imdb.released(packed(files))
    assert texts(train) == [b"nine up", b"ten down", b"ten,  up"]
    assert train.labels.tolist() == [1, 0, 1]
    assert texts(test) == [b"test down", "t\u00e9st up".encode()]
    assert test.labels.tolist() == [0, 1]


def test_the_release_of_images_is_read_by_planes():
    rng = np.random.default_rng(0)
    records = rng.integers(256, size=(12, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(12) % 10
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    files = {
        f"cifar-10-batches-bin/{name}.bin": records[2 * i : 2 * i + 2].tobytes()
        for i, name in enumerate(names)
    }
    files["cifar-10-batches-bin/readme.html"] = b"about"
    pixels = records[:, 1:].reshape(12, 3, 1024).transpose(0, 2, 1)
    images = [Image.fromarray(x.reshape(32, 32, 3)).convert("L") for x in pixels]
    for colour, expected in ((True, pixels.reshape(12, -1)), (False, np.stack(images))):
        train, test = cifar10.released(packed(files), colour)
        found = np.concatenate([train.values, test.values])
        np.testing.assert_array_equal(found, expected.reshape(-1))
        assert train.labels.tolist() + test.labels.tolist() == [*range(10), 0, 1]
        assert len(test) == 2


def test_what_is_read_of_two_forms_is_said(tmp_path, monkeypatch):
    """Shards where they are at hand alone; else the release, and an address where it is absent."""
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    serve(monkeypatch, urllib.error.URLError("no network"))
    for task, args, name, shard in (
        (imdb, {"n": 64}, "imdb", "imdb/train-0.tsv.bz2"),
        (cifar10, {"n": 1024}, "cifar10", "cifar10_jpeg/train-0.tar.xz"),
    ):
        task.splits.cache_clear()
        with pytest.raises(ValueError, match=f"{name}/{task.RELEASE} is in none.*https://"):
            task.make(**args)
        for path in (shard, f"{name}/{task.RELEASE}"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(b"damaged")
            with pytest.raises(ValueError, match=f"{path} is damaged"):
                task.make(**args)


@real
@pytest.mark.slow
@pytest.mark.xdist_group("cifar10")
@pytest.mark.parametrize(("n", "colour"), [(1024, False), (3072, True)])
def test_cifar10_is_what_its_source_says(folder, n, colour):
    task = tasks.make("cifar10", n, colour=colour)
    splits = cifar10.splits(colour)
    labels = np.concatenate([splits["train"].labels, splits["val"].labels])
    assert np.bincount(labels).tolist() == [5000] * 10
    assert np.bincount(splits["test"].labels).tolist() == [1000] * 10
    assert_disjoint({split: splits[split] for split in ("train", "val")})
    assert "JPEG q75" in task.facts["note"]
    assert task.batch(0, 0, 3)["inputs"].shape == (3, n)
    assert not task.masked


@real
@pytest.mark.parametrize("config", [of_reviews, of_images], ids=["imdb", "cifar10"])
def test_a_few_held_out_are_of_all_classes(folder, config):
    small = config.get_config("small")
    task = tasks.make(small.task, small.lengths[0], **small.task_args)
    for split in ("val", "test"):
        batches = task.held_out(split, 100)
        labels = np.concatenate([batch["targets"][batch["weights"]] for batch in batches])
        counts = np.bincount(labels, minlength=task.model["classes"])
        assert counts.sum() == small.task_args[f"{split}_examples"]
        assert counts.min() > 0.75 * counts.mean()


@pytest.mark.parametrize(
    ("name", "n", "args", "message"),
    [
        ("splice", 61, {}, "n must be 60, the length of every sequence, got 61"),
        ("mnist", 1024, {}, "n must be 784, 28 x 28 pixels, got 1024"),
        ("cifar10", 1024, {"colour": True}, "n must be 3072"),
        ("cifar10", 3072, {}, "n must be 1024, 32 x 32 pixels with colour=False, got 3072"),
        ("imdb", 0, {}, "n must be a whole number from 1 up, got 0"),
    ],
)
def test_bad_lengths_say_what_would_work(name, n, args, message):
    with pytest.raises(ValueError, match=message):
        tasks.make(name, n, **args)


def test_helpers_are_no_tasks():
    found = set(tasks.names())
    assert {"imdb", "cifar10", "mnist", "sst2", "splice", "wikitext2", "pathfinder"} <= found
    assert not {"labelled", "shallow", "dashes", "snakes"} & found


def contents(examples):
    return [row.tobytes() for row in examples.rows()]


def texts(examples):
    return [row.astype(np.uint8).tobytes() for row in examples.rows()]


def assert_disjoint(splits):
    found = [set(contents(examples)) for examples in splits.values()]
    assert len(set().union(*found)) == sum(map(len, found))
