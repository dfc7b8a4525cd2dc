"""The runner: what it refuses, what it survives, what it resumes. See stub_points.py."""

import errno
import os
import subprocess
import sys

import pytest

from experiments import records, run, sweep
from experiments.measuring import environment
from experiments.running import configuration
from tests.stub_sweep import config, measured

__all__ = ["config"]

ENV = {"device": "stub-device"}


@pytest.fixture(autouse=True)
def known_environment(monkeypatch):
    monkeypatch.setattr(environment, "probe", lambda: ENV)
    monkeypatch.setattr(environment, "facts", lambda: ENV)


def point(n, does="work", **fields):
    return {
        "experiment": "stub",
        "kind": "tests.stub_points",
        "label": "a",
        "n": n,
        "does": does,
        **fields,
    }


def swept(folder, points, **settings):
    """Statuses by n after running the points."""
    store = records.Store(folder)
    sweep.run(points, store, sweep.Settings(**{"time_limit": 60.0, **settings}), ENV)
    store.merge()
    store.close()
    return {record["config"]["n"]: record for record in records.load(folder)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config.lenghts=3"], "no config key 'lenghts'; there are"),
        (["--config.lenghts=3"], "did you mean 'lengths'?"),
        (["--config.lengths.x=3"], "no config key 'lengths.x'"),
        (["--config.lengths=long"], "config.lengths takes ints such as 1,2"),
        (["--config.seconds=fast"], "config.seconds must be float such as 0.02, got 'fast'"),
        (["--config.variants=3"], "config.variants is a group"),
        (["--config.lengths=0"], "n must be a whole number from 1 up, got 0"),
        (["--config.lengths=-4,8"], "n must be a whole number from 1 up, got -4"),
        (["--config.mechanisms=ful"], "unknown mechanism 'ful'; known: "),
        (["--config.mechanisms=ful"], "did you mean 'full'?"),
        (["--config.mechanisms=ful"], "; variants of this config: "),
        (["--config.variants.full.blok=8"], "full has no hyperparameter 'blok'"),
        (["--config.mechanisms=local", "--config.variants.local.window=-1"], "window"),
        (["--config.heads=5"], "heads=5 must divide width=12"),
        (["--config.does=dance"], "does must be one of work"),
        (["--config.isolate=room"], "isolate must be one of point, mechanism, none, got 'room'"),
        (["--config.time_limit=-1"], "time_limit must be positive seconds, got -1"),
        (["--config.lengths="], "the config makes no points"),
        (["--cnfig.lengths=3"], "unknown argument '--cnfig.lengths'"),
        (["--dryrun"], "unknown argument '--dryrun'"),
        (["--config", "configs/scaling.py:small"], "scaling.py takes no choice, got 'small'"),
        (["--config", "configs/accuracy/mqar.py:huge"], "one of small, long, medium, full, got"),
    ],
)
def test_a_mistake_is_one_line_and_code_two(config, capsys, tmp_path, arguments, words):
    out = tmp_path / "out"
    assert run.main(["--config", config, "--out", str(out), *arguments]) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1
    assert words in told.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no config file"),
        ("def get_config(:", "does not load: SyntaxError"),
        ("import nowhere_to_be_found", "does not load: ModuleNotFoundError"),
        ("def get_config():\n    pass\n", "has no get_sweep()"),
    ],
)
def test_a_bad_config_file_is_one_line_and_code_two(tmp_path, capsys, text, words):
    path = tmp_path / "bad.py"
    if text is not None:
        path.write_text(text)
    assert run.main(["--config", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert words in told


def test_without_a_config_the_known_ones_are_named(capsys):
    assert run.main([]) == 2
    assert "configs/scaling.py" in capsys.readouterr().err


def test_the_command_itself_exits_with_two_and_one_line(config):
    command = [sys.executable, "-m", "experiments.run", "--config", config, "--config.x=1"]
    done = subprocess.run(command, cwd=environment.ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_list_prints_configs_or_points(config, capsys):
    assert run.main(["--list"]) == 0
    assert "configs/scaling.py" in capsys.readouterr().out
    assert run.main(["--list", "--config", config, "--config.lengths=3,5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["n=3", "n=5"]


def test_a_config_with_the_sweep_of_another_is_listed_too():
    assert {"configs/steps.py", "configs/steps_digits.py"} <= configuration.available().keys()
    assert "configs/arena.py" not in configuration.available()


def test_configs_in_folders_are_listed(capsys):
    assert run.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert "configs/accuracy/mqar.py " in listed
    assert "__init__" not in listed


def test_a_dry_run_predicts_and_measures_nothing(config, capsys, tmp_path):
    out = tmp_path / "out"
    assert run.main(["--config", config, "--dry_run", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "1.20e+04" in text
    assert "24 points, about" in text
    assert text.endswith("GFLOP/s of a matrix product on numpy\n")
    assert not out.exists()


def test_a_dry_run_on_an_accelerator_goes_by_its_own_rate(config, capsys, monkeypatch):
    monkeypatch.setattr(run.jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(run.measure, "gemm_seconds", lambda work: work / 5e13)
    assert run.main(["--config", config, "--dry_run"]) == 0
    kind = run.jax.devices()[0].device_kind
    assert f"at the 50000 GFLOP/s of a matrix product on {kind}\n" in capsys.readouterr().out


def test_a_refused_point_is_predicted_to_cost_nothing(config, capsys):
    assert run.main(["--config", config, "--dry_run", "--config.does=refuse"]) == 0
    assert "about 0.0 min" in capsys.readouterr().out


def test_a_mechanism_may_be_called_none():
    module, config = configuration.load("accuracy/mqar")
    one = [(text, (text.removesuffix(","),)) for text in ("none", "none,", "linear", "linear,")]
    for text, names in (("full,none", ("full", "none")), *one):
        configuration.override(config, [("mechanisms", text)])
        assert config.mechanisms == names
        points = configuration.points(module, config)
        assert {point["mechanism"] for point in points if point["role"] == "final"} == set(names)


def test_overrides_reach_points_and_records_go_to_the_device(config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["--config.lengths=7", "--config.variants.full.block=8", "--config.isolate=none"]
    assert run.main(["--config", config, *arguments]) == 0
    (record,) = records.load(tmp_path / "results" / "stub" / "stub-device")
    assert record["config"]["hparams"] == {"implementation": "plain", "block": 8}
    assert record["metrics"] == {"value": 7.0, "count": 7}
    assert record["env"]["device"] == "stub-device"
    assert "1 of 1 points: 1 ok" in capsys.readouterr().out


@pytest.mark.parametrize("isolate", sweep.ISOLATION)
def test_every_isolation_measures_everything_once(tmp_path, isolate):
    found = swept(tmp_path, [point(n, seconds=0.02) for n in range(1, 6)], isolate=isolate)
    assert [r["status"] for r in found.values()] == ["ok"] * 5
    assert all(0.02 <= r["env"]["elapsed"] < 60 for r in found.values())
    again = swept(tmp_path, [point(n, seconds=0.02) for n in range(1, 8)], isolate=isolate)
    assert len(again) == 7
    assert sorted(measured(tmp_path)) == list(range(1, 8))


@pytest.mark.parametrize("isolate", ["mechanism", "none"])
def test_a_point_that_runs_says_how_far_it_is(tmp_path, isolate):
    store, heard = records.Store(tmp_path), []
    points = [point(n, "tell") for n in (1, 2)]
    told = lambda at, text: heard.append((at["n"], text))  # noqa: E731
    sweep.run(points, store, sweep.Settings(isolate=isolate), ENV, told=told)
    assert heard == [(1, "half way"), (2, "half way")]
    assert [record["status"] for record in store.all().values()] == ["ok", "ok"]
    store.close()


def test_what_a_worker_warns_of_is_said(tmp_path, caplog):
    found = swept(tmp_path, [point(1, "warn"), point(2)], isolate="mechanism")
    assert [r["status"] for r in found.values()] == ["ok"] * 2
    assert [r.getMessage() for r in caplog.records] == ["a checkpoint of 1 is damaged"]


@pytest.mark.parametrize("isolate", ["point", "mechanism"])
def test_failures_are_rows_and_the_sweep_goes_on(tmp_path, isolate):
    deeds = ["work", "stay", "work", "eat", "work", "die", "raise", "lose", "refuse", "exhaust"]
    points = [point(n, does) for n, does in enumerate(deeds, 1)]
    found = swept(tmp_path, points, isolate=isolate, time_limit=3.0, memory_limit_gb=0.15)
    expected = ["ok", "timeout", "ok", "oom", "ok", "error", "error", "nan", "refused", "oom"]
    assert [found[n]["status"] for n in sorted(found)] == expected
    reasons = {n: found[n]["reason"] for n in found}
    assert "not done after 3 s" in reasons[2]
    assert "the limit is 150,000,000" in reasons[4]
    assert "SIGSEGV" in reasons[6]
    assert "last words" in reasons[6]
    assert reasons[7].startswith("KeyError")
    assert "\n" not in reasons[7]
    assert found[8]["metrics"] == {"value": None}
    assert "value is not a number" in reasons[8]
    assert reasons[9] == "stub: it was asked to refuse"


def test_errors_and_timeouts_are_retried_and_only_when_asked(tmp_path):
    store = records.Store(tmp_path)
    for n, status in enumerate(records.STATUSES, 1):
        store.write(records.make(point(n), status, env=ENV))
    points = [point(n) for n in range(1, len(records.STATUSES) + 1)]
    # the files of what was absent may have come since
    assert [records.STATUSES[p["n"] - 1] for p in sweep.pending(points, store)] == ["absent"]
    retried = sweep.pending(points, store, retry=True)
    assert [records.STATUSES[p["n"] - 1] for p in retried] == ["absent", "timeout", "error"]
    sweep.run(points, store, sweep.Settings(isolate="none"), ENV, retry=True)
    assert {store.get(records.point_id(p))["status"] for p in retried} == {"ok"}
    assert len(measured(tmp_path)) == 3
    store.close()


def test_a_full_disk_ends_the_run_clearly_and_keeps_what_there_is(
    config, capsys, tmp_path, monkeypatch
):
    out, sync, left = tmp_path / "out", os.fsync, iter(range(6))

    def full(descriptor):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    arguments = ["--config", config, "--out", str(out), "--config.isolate=none"]
    assert run.main(arguments) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device" in told
    monkeypatch.undo()
    assert len(records.load(out)) == 3
    monkeypatch.setattr(environment, "facts", lambda: ENV)
    assert run.main(arguments) == 0
    assert len(records.load(out)) == 24
