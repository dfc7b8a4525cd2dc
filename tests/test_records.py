"""Records survive kills, damage, sharing and full disks."""

import errno
import json
import os
import subprocess
import sys

import pytest

from experiments import records
from experiments.analysis import reading


def point(n):
    return {
        "experiment": "stub",
        "kind": "stub",
        "label": "a",
        "n": n,
        "hparams": {"window": [1, 2]},
    }


def record(n, **fields):
    env, status = {"device": "stub"}, fields.pop("status", "ok")
    return records.make(point(n), status, metrics={"value": n}, env=env, **fields)


def filled(folder, *ns):
    store = records.Store(folder)
    for n in ns:
        store.write(record(n))
    return store


def values(loaded):
    return [r["metrics"]["value"] for r in loaded]


def test_an_id_depends_on_values_not_on_order_or_tuples():
    a = {"n": 3, "hparams": {"window": (1, 2)}}
    b = {"hparams": {"window": [1, 2]}, "n": 3}
    assert records.point_id(a) == records.point_id(b)
    assert len(records.point_id(a)) == 10
    assert records.point_id(a) != records.point_id({**a, "n": 4})


def test_what_is_not_finite_becomes_null():
    made = records.make(point(1), "nan", metrics={"a": float("nan"), "b": [float("inf"), 2]})
    assert made["metrics"] == {"a": None, "b": [None, 2]}


def test_an_unknown_status_is_refused():
    with pytest.raises(ValueError, match="status must be one of ok, refused"):
        records.make(point(1), "fine")


def test_merging_leaves_one_sorted_file(tmp_path):
    store = filled(tmp_path, 30, 4, 200)
    store.merge()
    store.close()
    assert os.listdir(tmp_path) == ["records.jsonl"]
    assert values(records.load(tmp_path)) == [4, 30, 200]
    text = (tmp_path / "records.jsonl").read_text()
    again = filled(tmp_path)
    again.write(json.loads(text.splitlines()[1]))
    again.merge()
    assert (tmp_path / "records.jsonl").read_text() == text


def test_point_files_are_read_and_win_over_merged_ones(tmp_path):
    store = filled(tmp_path, 4, 5)
    store.merge()
    store.write(record(4, status="error", reason="newer"))
    id = records.point_id(point(4))
    assert store.get(id)["status"] == "error"
    assert store.all()[id]["status"] == "error"
    assert [r["status"] for r in records.load(tmp_path)] == ["error", "ok"]


def test_load_reads_a_tree_of_folders(tmp_path):
    filled(tmp_path / "scaling" / "cpu", 1).merge()
    filled(tmp_path / "scaling" / "gpu", 1)
    assert len(records.load(tmp_path)) == 2


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda line: line[: len(line) // 2], "records.jsonl:2: not JSON"),
        (lambda line: "[1, 2]", "expected an object, got list"),
        (lambda line: line.replace('"n": 5', '"n": NaN'), "config has a number that is not finite"),
        (lambda line: line.replace('"n": 5', '"n": 6'), "is not that of its config"),
        (
            lambda line: line.replace('"schema": 1', '"schema": 99'),
            "of schema 99, and this code reads 1",
        ),
        (lambda line: line.replace('"ok"', '"fine"'), "status 'fine'"),
        (lambda line: "\x00" * 40, "records.jsonl:2: not JSON"),
    ],
)
def test_a_damaged_line_is_one_complaint_and_no_more(tmp_path, damage, words):
    filled(tmp_path, 4, 5, 6).merge()
    path = tmp_path / "records.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = damage(lines[1])
    path.write_text("\n".join(lines) + "\n")
    complaints = []
    assert values(records.load(tmp_path, complain=complaints.append)) == [4, 6]
    assert len(complaints) == 1
    assert words in complaints[0]
    assert complaints[0].startswith("1 record is left out: ")


def test_of_many_damaged_ones_each_kind_is_counted_in_one_line(tmp_path):
    """And the line is the one that a report says."""
    filled(tmp_path, 4)
    for i in range(3):
        (tmp_path / "points" / f"012345678{i}.json").write_text("{")
    for i, schema in enumerate((2, 2, 3)):
        (tmp_path / "points" / f"012345679{i}.json").write_text(f'{{"schema": {schema}}}')
    for i in range(2):
        (tmp_path / "points" / f"01234567a{i}.json").write_text(f"[{i}]")
    complaints = []
    assert values(records.load(tmp_path, complain=complaints.append)) == [4]
    (line,) = complaints
    assert line.startswith("8 records are left out: 3 as ")
    assert f"3 as {tmp_path / 'points' / '0123456780.json'}: not JSON (expecting property" in line
    assert f"2 as {tmp_path / 'points' / '0123456790.json'}: of schema 2, and this code" in line
    assert f"1 as {tmp_path / 'points' / '0123456792.json'}: of schema 3, and this code" in line
    assert line.endswith("01234567a0.json: expected an object, got list")
    assert complaints == reading.read([tmp_path]).notes


def test_an_empty_point_file_is_a_complaint(tmp_path):
    store = filled(tmp_path, 4)
    (tmp_path / "points" / "0123456789.json").write_text("")
    complaints = []
    assert values(records.load(tmp_path, complain=complaints.append)) == [4]
    assert len(complaints) == 1
    store.merge()


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk_is_one_clear_error_and_loses_nothing(tmp_path, monkeypatch, broken):
    store = filled(tmp_path, 4, 5)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(records.StorageError, match=r"cannot write .*No space left on device"):
        store.write(record(6))
    with pytest.raises(records.StorageError, match="earlier records are safe"):
        store.merge()
    monkeypatch.undo()
    assert values(records.load(tmp_path)) == [4, 5]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(records.StorageError, match="Not a directory"):
        records.Store(tmp_path / "file" / "out")


HOLD = """
import sys
from experiments import records
store = records.Store(sys.argv[1])
with store.claim(sys.argv[2]) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def other_process(folder, id):
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_claim_excludes_others_and_dies_with_its_process(tmp_path):
    store = records.Store(tmp_path)
    id, another = "00000000aa", "ffffffffff"
    with other_process(tmp_path, id) as other:
        assert other.stdout.readline() == "True\n"
        with store.claim(id) as mine:
            assert not mine
        with store.claim(another) as mine:
            assert mine
        other.kill()
    with store.claim(id) as mine:
        assert mine


def test_closing_leaves_the_folder_to_a_runner_still_at_work(tmp_path):
    id = "00000000aa"
    with other_process(tmp_path, id) as other:
        assert other.stdout.readline() == "True\n"
        store = records.Store(tmp_path)
        with store.claim("ffffffffff") as mine:
            assert mine
        store.close()
        assert (tmp_path / ".lock").exists()
        other.stdin.close()
    late = records.Store(tmp_path)
    late.merge()
    late.close()
    assert os.listdir(tmp_path) == []
    # the lock file that this one holds is gone: a claim must not rest on it
    with late.claim(id) as mine, other_process(tmp_path, id) as other:
        assert mine
        assert other.stdout.readline() == "False\n"
        other.stdin.close()


def test_a_file_system_without_locks_is_one_clear_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(records.fcntl, "lockf", refuse)
    store = records.Store(tmp_path)
    with pytest.raises(records.StorageError, match=r"cannot lock .*POSIX locks, such as NFSv4"):
        store.claim("0" * 10).__enter__()
