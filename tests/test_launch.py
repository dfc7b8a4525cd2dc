"""Runners that share a sweep by submitit: here for real, on a cluster as far as sbatch."""

import os
import random
import signal
import stat
import time

import psutil
import pytest

from experiments import records, run
from experiments.measuring import environment
from experiments.running import jobs, launch
from tests.stub_sweep import config, finish, measured, outcomes, start, wait_for

__all__ = ["config"]


def runners(process):
    """The workers of a launcher: processes that submitit starts to run a job, not what these have
    just forked and not yet made another program."""
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "submitit.core._submit" in child.cmdline() and child.ppid() not in found:
                found[child.pid] = child
        except psutil.NoSuchProcess:
            continue
    return list(found.values())


@pytest.mark.parametrize("kills", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_workers_killed_at_random_lose_nothing(config, tmp_path, kills):
    """Each kill costs at most the point in flight."""
    moments, out = random.Random(kills), tmp_path / "out"
    lengths = ",".join(map(str, range(1, 30 + 10 * kills)))
    arguments = ["--launcher", "local", "--workers", "2", "--config.seconds=0.1"]
    process = start(config, out, *arguments, f"--config.lengths={lengths}")
    for _ in range(kills):
        before = len(list(out.glob("points/*.json")))
        wait_for(
            lambda before=before: (
                process.poll() is not None
                or (len(list(out.glob("points/*.json"))) > before + 2 and runners(process))
            )
        )
        time.sleep(moments.uniform(0, 0.2))
        moments.choice(runners(process)).kill()
    code, text = finish(process)
    assert code == 0, text
    found = outcomes(out)
    assert len(found) == 29 + 10 * kills
    assert {status for _, status, _ in found} == {"ok"}
    log = measured(out)
    assert len(log) - len(set(log)) <= kills
    assert sorted(os.listdir(out)) == ["measured.log", "records.jsonl"]


@pytest.mark.slow
def test_a_stopped_launcher_ends_its_workers_and_goes_on(config, tmp_path):
    out = tmp_path / "out"
    arguments = ["--launcher", "local", "--workers", "2", "--config.seconds=0.1"]
    process = start(config, out, *arguments)
    wait_for(lambda: list(out.glob("points/*.json")))
    workers = runners(process)
    process.send_signal(signal.SIGTERM)
    code, text = finish(process)
    assert code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; the same command goes on" in text
    assert not any(worker.is_running() for worker in workers)
    assert finish(start(config, out, *arguments))[0] == 0
    assert len(outcomes(out)) == 24


def test_a_preempted_job_is_queued_again_and_goes_on(config, tmp_path):
    """Slurm's warning is SIGUSR2."""
    out = tmp_path / "out"
    process = start(config, out, "--launcher", "local", "--config.seconds=0.1")
    wait_for(lambda: list(out.glob("points/*.json")))
    (worker,) = runners(process)
    worker.send_signal(signal.SIGUSR2)
    code, text = finish(process)
    assert code == 0, text
    assert not worker.is_running()
    assert len(outcomes(out)) == 24
    assert len(measured(out)) <= 25


@pytest.mark.slow
def test_workers_measure_an_error_again_once(tmp_path, config):
    out = tmp_path / "out"
    arguments = ["--launcher", "local", "--workers", "2", "--config.lengths=1,2,3"]
    assert finish(start(config, out, *arguments, "--config.does=raise"))[0] == 0
    before = records.load(out)
    code, text = finish(start(config, out, *arguments, "--config.does=raise", "--retry"))
    assert code == 0, text
    after = records.load(out)
    assert [r["status"] for r in after] == ["error"] * 3
    assert all(a["env"]["date"] > b["env"]["date"] for a, b in zip(after, before, strict=True))


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A PATH with an sbatch that keeps what it is given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, lines in {
        "srun": "",
        "sbatch": f'cp "$1" {folder}/script\necho Submitted batch job 17',
        "scontrol": "",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_slurm_gets_an_array_of_jobs(config, cluster, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--config", config, "--out", str(out), "--launcher", "slurm", "--workers", "5"]
    arguments += ["--slurm.partition=gpu", "--slurm.gpus_per_node=1", "--slurm.timeout_min=90"]
    assert run.main([*arguments, "--config.lengths=3,5"]) == 0
    told = capsys.readouterr().out
    assert "queued 5 workers on 2 points as array of jobs 17" in told
    script = (cluster / "script").read_text()
    for line in (
        "--array=0-4%5",
        "--partition=gpu",
        "--time=90",
        "--gpus-per-node=1",
        "signal=USR2",
    ):
        assert line in script
    job = jobs.submitit.core.utils.DelayedSubmission.load(
        next((out / "jobs").glob("17_3_submitted.pkl"))
    )
    assert job.function.share == jobs.Share(3, 5)
    assert job.function.argv[-1] == "--config.lengths=3,5"
    assert job.function.argv[3] == str(out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--launcher", "slurm"], "--launcher slurm needs --out FOLDER"),
        (["--launcher", "cloud"], "invalid choice: 'cloud'"),
        (["--workers", "3"], "--workers must be from 1 up, with a --launcher, got 3"),
        (["--launcher", "local", "--workers", "0"], "--workers must be from 1 up"),
        (["--slurm.partition=a"], "--slurm.partition goes with --launcher slurm"),
        (["--launcher", "local", "--distributed"], "--distributed goes with --launcher slurm"),
        (["--coordinator", "a:1"], "all of --distributed --coordinator --processes --process"),
        (
            ["--distributed", "--coordinator", "a:1", "--processes", "2", "--process", "2"],
            "--process must be from 0 to 1, got 2",
        ),
    ],
)
def test_a_mistake_is_one_line_and_code_two(config, capsys, arguments, words):
    assert run.main(["--config", config, *arguments]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert words in told


@pytest.mark.parametrize(
    ("size", "words"),
    [("data=16", "needs 16 devices, there are 8"), ("model=-1", "model=8 must divide heads=1")],
)
def test_no_worker_is_started_on_a_bad_mesh(monkeypatch, capsys, tmp_path, size, words):
    monkeypatch.setattr(environment, "probe", lambda: {"device": "stub", "devices": 8})
    arguments = ["--config", "accuracy/mqar", "--config.lengths=64", "--out", str(tmp_path / "out")]
    arguments += ["--config.mechanisms=full", "--config.mesh.data=1", f"--config.mesh.{size}"]
    assert run.main([*arguments, "--launcher", "local", "--workers", "2"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert words in told
    assert not (tmp_path / "out").exists()


def test_a_wrong_parameter_of_slurm_is_one_line(config, cluster, tmp_path, capsys):
    arguments = ["--config", config, "--out", str(tmp_path / "out"), "--launcher", "slurm"]
    assert run.main([*arguments, "--slurm.partitoin=gpu"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "Unknown argument 'partitoin'" in told


def test_without_slurm_one_line_says_so(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["--config", config, "--out", str(tmp_path / "out"), "--launcher", "slurm"]
    assert run.main(arguments) == 2
    assert 'Could not detect "srun"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("visible", "devices", "workers", "expected"),
    [
        (None, 4, 2, ["0,2", "1,3"]),
        (None, 2, 3, ["0", "1", "0"]),
        ("5,7", 2, 2, ["5", "7"]),
    ],
)
def test_workers_split_the_gpus_of_a_machine(monkeypatch, visible, devices, workers, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    env = {"platform": "gpu", "devices": devices}
    assert launch.visible_devices(env, workers) == expected
    assert launch.visible_devices({"platform": "cpu", "devices": 1}, 2) == [None, None]


def test_workers_start_far_from_each_other():
    points = list(range(10))
    firsts = [jobs.Share(number, 4).order(points)[0] for number in range(4)]
    assert firsts == [0, 2, 5, 7]
    assert all(sorted(jobs.Share(n, 4).order(points)) == points for n in range(4))
