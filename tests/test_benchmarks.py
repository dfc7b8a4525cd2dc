"""Benchmarks: the yardsticks are those of MEASURED.md, and tables say what was measured."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import command, operations, peer_cases, peer_table, peers, ratios, table, yardsticks
from experiments import records
from tests import synthetic_records as synthetic


class Clock:
    """A stand-in for pytest-benchmark: every round takes so many seconds, run or not."""

    def __init__(self, seconds):
        self.seconds, self.calls = seconds, []

    def pedantic(self, target, *, setup, rounds):
        for _ in range(rounds):
            setup()
            self.calls.append(target())
        self.stats = SimpleNamespace(stats=SimpleNamespace(data=[self.seconds] * rounds))


def measured(label, mode, n=256, rounds=3, seconds=1.0):
    point = ratios.point(label, mode, n, rounds)
    return records.make(point, "ok", metrics=ratios.run(point, Clock(seconds)), env=synthetic.ENV)


def test_a_yardstick_is_that_of_measured_md_and_grows_as_the_leading_term():
    def work(label, mode, n):
        return ratios.work(ratios.point(label, mode, n, 1))

    assert work("local", "forward", 16384) == (12.9, yardsticks.MEASURED)
    assert work("local", "forward", 8192)[0] == pytest.approx(12.9 / 2)
    assert work("full", "forward", 2048)[0] == pytest.approx(34.4 / 4)
    assert work("linear", "causal", 16384) == (6.5, yardsticks.MEASURED)
    assert work("local", "causal", 16384)[1] == yardsticks.IDEAL
    assert work("nystrom", "forward", 16384)[1] == yardsticks.IDEAL


def test_every_target_and_entry_is_of_a_variant():
    known = set(yardsticks.variants(1024)) | {"lsh, 2 rounds"}
    named = {*yardsticks.F, *yardsticks.SPEED, *yardsticks.LONGEST, *yardsticks.QUADRATIC}
    assert named <= known


def test_rounds_are_taken_in_turns_and_ratios_are_over_the_yardstick():
    clock, order = Clock(2.0), []
    others = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    times = ratios.turns(lambda: order.append("it"), others, clock, 3)
    assert order == ["a", "b", "it"] * 3
    assert times["it"] == [2.0] * 3
    assert [len(times[name]) for name in others] == [3, 3]


def test_a_slow_backward_pass_is_said_to_be(tmp_path):
    found = measured("linear", "train", seconds=10.0)
    metrics = found["metrics"]
    assert metrics["seconds"] == 10.0
    assert metrics["ratio"] > 100
    assert metrics["flops_counted"] > 2 * metrics["flops_forward"]
    assert metrics["bytes_qkv"] == 3 * 4 * 256 * 512
    synthetic.write(tmp_path, [found])
    (row,) = table.rows(records.load(table.write(tmp_path).parent))
    assert row["over_met"] == "no"
    text = (tmp_path / "benchmarks.md").read_text()
    assert row["records"] == found["id"]
    assert "| [linear](benchmarks.csv#L2) | train | 256 | MEASURED.md |" in text
    assert "pinned to cores: 2" in text


@pytest.mark.parametrize(("flops", "target"), [(3, yardsticks.KEPT), (3.5, yardsticks.RECOMPUTED)])
def test_who_computes_scores_again_may_take_longer(flops, target):
    metrics = {"seconds": 1.0, "flops_counted": 100 * flops, "flops_forward": 100}
    metrics |= {"ratio": 2.0, "over_forward": 3.6, "bytes_temporary": 30, "bytes_qkv": 20}
    row = table.row({"label": "local", "mode": "train", "n": 64}, metrics)
    assert row["over_target"] == target
    assert row["over_met"] == ("yes" if flops > 3 else "no")
    assert (row["memory"], row["memory_met"]) == (1.5, "yes")


@pytest.mark.parametrize(
    ("least", "why"), [(1.5, table.PACE), (1.9, table.WHAT)], ids=["slow", "too many"]
)
def test_why_a_target_is_missed_is_said(least, why):
    """linear's is 1.8: it takes 4 yardsticks, 3 of them in copies that need .2."""
    spent = dict.fromkeys(operations.KINDS, 0.0) | {"copies": 6.0, "products": 2.0}
    needs = dict.fromkeys(operations.KINDS, 0.0) | {"copies": 0.4, "products": 2 * least - 0.4}
    made = table.operations_row(
        {
            **{"ratio": 4.0, "ratio_target": 1.8, "ratio_met": "no", "yardstick_seconds": 2.0},
            **{f"seconds_{kind}": took for kind, took in spent.items()},
            **{f"least_{kind}": took for kind, took in needs.items()},
            **{"profiled_seconds": 8.0, "slowest_seconds": 1.0},
        }
    )
    assert made["ratio_least"] == pytest.approx(least)
    assert (made["above"], made["lost_in"], made["lost"]) == (why, "copies", pytest.approx(2.8))
    met = table.operations_row(made | {"ratio_met": "yes", "above": ""})
    assert met["above"] == ""


def test_fourier_is_held_against_a_library_call():
    assert measured("fourier", "forward", n=64)["metrics"]["yardstick"].startswith("fastest FFT")


def pair_record(peer, n, ours, theirs, mode="forward", status="ok", side="theirs"):
    (point,) = (p for p in peers.points([peer], [n], 3, 2) if p["mode"] == mode)
    metrics = {"seconds": ours, "seconds_peer": theirs, "bytes_measured": 10}
    if status != "ok":
        lost = "seconds" if side == "ours" else "seconds_peer"
        return synthetic.record(point, metrics | {lost: None}, status, f"{side}: no room")
    metrics |= {"ratio": ours / theirs, "bytes_measured_peer": 40}
    return synthetic.record(point, metrics)


KINDS = {"table": "ratio", "peer_table": "peers"}


@pytest.mark.parametrize(("name", "of"), [("table", table), ("peer_table", peer_table)])
def test_bad_input_is_one_line(tmp_path, capsys, name, of):
    synthetic.write(tmp_path / "other", synthetic.scaling()[:1])
    (tmp_path / "empty").mkdir()
    of_two = [pair_record("local_lucid", n, 1.0, 2.0)["config"] for n in (2048, 4096)]
    of_two = [synthetic.record(config | {"kind": KINDS[name]}, {}) for config in of_two]
    synthetic.write(tmp_path / "two", [of_two[0], synthetic.elsewhere(of_two[1])])
    kind = KINDS[name]
    for arguments, words in (
        ([], f"usage: python -m benchmarks.{name} FOLDER, got 0"),
        ([str(tmp_path / "none")], "none: no such folder"),
        ([str(tmp_path / "empty")], f"empty: no records of kind {kind} in it"),
        ([str(tmp_path / "other")], f"other: no records of kind {kind} in it"),
        ([str(tmp_path / "two")], "two: records of cpu-synthetic-2c, gpu-x; name the folder of"),
    ):
        assert command.main(name, kind, of.write, arguments) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert words in err
    assert not list(tmp_path.rglob("*.md"))


def test_sides_that_both_failed_are_both_told(tmp_path):
    (point,) = (p for p in peers.points(["local_lucid"], [2048], 3, 2) if p["mode"] == "forward")
    sides = {
        side: SimpleNamespace(
            measure=lambda *_, status=status, reason=reason, **__: {
                "status": status, "reason": reason, "metrics": {}
            }
        )
        for side, status, reason in (("ours", "oom", "no room"), ("theirs", "error", "no module"))
    }  # fmt: skip
    made = peers.compare(point, sides, tmp_path, {}, 1.0)
    assert (made["status"], made["reason"]) == ("oom", "ours: no room; theirs: no module")
    record = synthetic.record(point, made["metrics"], made["status"], made["reason"])
    (row,) = peer_table.summary(peer_table.frame([record]))
    assert (row["failed"], row["failed_peer"]) == (1, 1)


@pytest.mark.parametrize(
    "arguments", [["--rounds", "1"], ["--lengths", "0,1024"], ["--lengths", "a"]]
)
def test_numbers_that_no_pair_can_have_are_named(arguments, capsys):
    with pytest.raises(SystemExit):
        peers.main(arguments)
    assert "want a whole number from" in capsys.readouterr().err


def test_a_folder_of_records_gets_its_tables(tmp_path, capsys):
    folder = synthetic.write(tmp_path, [pair_record("local_lucid", 2048, 1.0, 2.0)])
    assert command.main("peer_table", "peers", peer_table.write, [str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}/peers.md\n"


def test_pairs_are_summed_up_from_n_2048_on(tmp_path):
    found = [pair_record("local_lucid", n, n * 1e-4, 3e-1) for n in (1024, 2048, 4096)]
    found.append(pair_record("full_eager", 16384, 1.0, None, status="oom"))
    found.append(pair_record("local_lucid", 8192, 1.0, 2.0, status="oom", side="ours"))
    synthetic.write(tmp_path, found)
    peer_table.write(tmp_path)
    rows = peer_table.summary(peer_table.frame(records.load(tmp_path)))
    full, row = rows
    assert (full["mechanism"], full["pairs"]) == ("full", 0)
    assert (full["failed"], full["failed_peer"]) == (0, 1)
    assert (row["mechanism"], row["pairs"], row["lost"]) == ("local", 2, 1)
    assert (row["failed"], row["failed_peer"]) == (1, 0)
    assert row["median"] == pytest.approx((0.2048 + 0.4096) / 0.6)
    assert (row["worst_peer"], row["worst_n"], row["memory"]) == ("local_lucid", 4096, 0.25)
    assert row["worst_records"] == found[2]["id"]
    assert set(row["records"].split()) == {found[1]["id"], found[2]["id"], found[4]["id"]}
    assert "oom: theirs: no room" in (tmp_path / "peers.md").read_text()
    summary = (tmp_path / "peers-summary.md").read_text()
    assert "Of 2 pairs ours is slower in 1" in summary
    assert "Of 2 others ours did not run in 1, theirs not in 1." in summary


FAKE = """
import torch
def build(n):
    return (lambda: torch.ones(n)), []
MECH = {"local_lucid": dict(build=build)}
def lazy_torch():
    pass
"""
# enough of torch for a peer that does nothing
TORCH = """
import contextlib
no_grad = contextlib.nullcontext
__version__ = "0.0"
def ones(n): return [1.0] * n
def set_num_threads(n): pass
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A folder of peers whose torch does nothing."""
    (tmp_path / "bench_peers.py").write_text(FAKE)
    (tmp_path / "torch.py").write_text(TORCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(peers.environment, "probe", lambda: dict(synthetic.ENV))
    return tmp_path


def test_ours_and_theirs_are_called_in_turns_and_resumed(fake, capsys):
    out = fake / "out"
    arguments = ["--peers", str(fake), "--python", sys.executable, "--out", str(out)]
    arguments += ["--cases", "local_lucid", "--lengths", "64", "--rounds", "3", "--budget", "0"]
    assert peers.main(arguments) == 0
    forward, train = records.load(out)
    assert forward["status"] == "ok"
    assert forward["metrics"]["rounds"] == 3
    assert forward["metrics"]["ratio"] > 1
    assert forward["env"]["torch"] == "0.0"
    assert train["status"] == "error"
    assert train["reason"].startswith("theirs: AttributeError")
    assert train["metrics"]["seconds"] > 0
    stamp = (out / "records.jsonl").stat().st_mtime_ns
    assert peers.main(arguments) == 0
    assert (out / "records.jsonl").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--peers": "nowhere"}, "no bench_peers.py in nowhere; name its folder by PEERS"),
        ({"--python": "nowhere/python"}, "no environment with the peers at nowhere/python"),
    ],
)
def test_peers_that_are_not_there_are_one_line(fake, capsys, change, words):
    given = {"--peers": str(fake), "--python": sys.executable, "--out": str(fake / "out"), **change}
    assert peers.main([word for pair in given.items() for word in pair]) == 2
    assert words in capsys.readouterr().err


def test_every_case_of_the_peers_is_mapped():
    bench = Path(__file__).parents[2] / "shared" / "peers" / "bench_peers.py"
    if not bench.is_file():
        pytest.skip(f"no {bench}")
    listed = subprocess.run(
        [sys.executable, str(bench), "--list"], capture_output=True, text=True, check=True
    )
    names = {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}
    assert names == set(peer_cases.CASES)


@pytest.mark.parametrize("name", peer_cases.CASES)
def test_a_case_is_a_call_that_ours_can_do(name):
    from experiments.kinds import kernel

    for point in peers.points([name], [1024, 16384], 3, 2):
        assert kernel.objections(point) == []
