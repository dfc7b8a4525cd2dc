"""Processes that train as one, by CPU collectives. See group.py."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments import records, tasks, train
from experiments.measuring import environment
from tests import group
from tests.alphabet import POINT, alphabet

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
ID = records.point_id(POINT | group.FIELDS)


def start(out, strikes, *, devices=1):
    """A process for each of `strikes`; what it writes goes to OUT.NUMBER.log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = [f for f in os.environ["XLA_FLAGS"].split() if "device_count" not in f]
    variables = {"JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": " ".join(flags)}
    found = []
    for number, strike in enumerate(strikes):
        command = [sys.executable, "-W", "ignore", "-m", "tests.group", str(out), str(strike)]
        command += ["--distributed", "--coordinator", address]
        command += ["--processes", str(len(strikes)), "--process", str(number)]
        with open(f"{out}.{number}.log", "wb") as log:
            found.append(
                subprocess.Popen(
                    command,
                    cwd=environment.ROOT,
                    env={**os.environ, **environment.worker_variables(), **variables},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )
    return found


def ends(processes, seconds=240.0):
    """Exit codes, and seconds from the first end to the last."""
    deadline, first = time.monotonic() + seconds, None
    try:
        while any(process.poll() is None for process in processes):
            assert time.monotonic() < deadline, "some go on for ever"
            if first is None and any(process.poll() is not None for process in processes):
                first = time.monotonic()
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
    codes = [process.wait() for process in processes]
    return codes, time.monotonic() - (first or time.monotonic())


def log(out, number):
    with open(f"{out}.{number}.log", errors="replace") as lines:
        return lines.read()


def curve(out):
    lines = [json.loads(line) for line in (out / "curves" / f"{ID}.jsonl").open()]
    return [value for line in lines for value in (line["train_loss"], line["val_bpb"])]


@pytest.fixture
def alone(monkeypatch):
    """Trains in this process; returns the steps whose batches it made."""

    def run(out):
        made = []
        monkeypatch.setattr(tasks, "make", lambda name, n, **args: alphabet(n, made.append))
        train.run_point(POINT | group.FIELDS, out)
        return made

    return run


def test_one_that_is_killed_ends_all_and_one_alone_goes_on(tmp_path, alone):
    out, other = tmp_path / "two", tmp_path / "one"
    codes, seconds = ends(start(out, ["", 7]))
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, -signal.SIGKILL)
    assert seconds < 60
    assert "another" in log(out, 0)
    assert not records.load(out)
    made = alone(out)
    assert made[0] >= 3
    assert alone(other)[0] == 0
    np.testing.assert_allclose(curve(out), curve(other), rtol=1e-4)


def test_two_go_on_from_one(tmp_path, alone):
    out, other = tmp_path / "two", tmp_path / "one"
    alone(other)
    # its last two checkpoints: the older of them is where two processes begin
    newest = max((other / "checkpoints" / ID).iterdir(), key=lambda path: int(path.name))
    (out / "checkpoints").mkdir(parents=True)
    (other / "checkpoints" / ID).rename(out / "checkpoints" / ID)
    shutil.rmtree(out / "checkpoints" / ID / newest.name)
    codes, _ = ends(start(out, ["", ""], devices=2))
    assert codes == [0, 0], log(out, 0)
    (record,) = records.load(out)
    assert record["status"] == "ok", record
    metrics = record["metrics"]
    assert (metrics["mesh"], metrics["processes"]) == ("data=4,sequence=1,model=1", 2)
    assert record["env"]["devices"] == 4
    np.testing.assert_allclose(curve(out), curve(other), rtol=1e-4)


@pytest.mark.slow
def test_four_stop_at_one_step_when_one_is_asked_to_and_two_go_on(tmp_path, alone):
    out, other = tmp_path / "four", tmp_path / "one"
    codes, _ = ends(start(out, ["", "", -5, ""]))
    assert codes == [128 + signal.SIGTERM] * 4
    assert "stopped by SIGTERM; the same command goes on from here" in log(out, 0)
    assert max(int(path.name) for path in (out / "checkpoints" / ID).iterdir()) > 5
    assert not records.load(out)
    assert ends(start(out, ["", ""]))[0] == [0, 0]
    (record,) = records.load(out)
    assert record["status"] == "ok"
    alone(other)
    np.testing.assert_allclose(curve(out), curve(other), rtol=1e-4)


@pytest.mark.slow
def test_the_first_that_is_killed_ends_all(tmp_path):
    out = tmp_path / "two"
    codes, seconds = ends(start(out, [7, ""]))
    assert codes[0] == -signal.SIGKILL
    assert codes[1] not in (0, -signal.SIGKILL)
    assert seconds < 60
    assert ends(start(out, ["", ""]))[0] == [0, 0]
    assert records.load(out)[0]["status"] == "ok"


JOINS = """
from experiments.running import distributed as d
d.join(None, None, None)
print([d.number, d.count, d.agree(lambda: d.number), d.total(d.number + 1)])
"""


def free_job():
    """The number of a job whose port, which jax makes of it, is free."""
    for job in range(os.getpid() % 4096, 8192):
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", 65535 - 4095 + job % 4096))
            return job
    raise RuntimeError("no port is free")


def slurm(job, number):
    names = {"JOB_ID": job, "STEP_NODELIST": "localhost", "NTASKS": 2, "PROCID": number}
    names |= {"LOCALID": number, "STEP_NUM_NODES": 1}
    return {f"SLURM_{name}": str(value) for name, value in names.items()}


def open_mpi(job, number):
    names = {"SIZE": 2, "RANK": number, "LOCAL_RANK": number}
    found = {f"OMPI_COMM_WORLD_{name}": str(value) for name, value in names.items()}
    return found | {"OMPI_MCA_orte_hnp_uri": f"{job << 12}.0;tcp://127.0.0.1:34911"}


@pytest.mark.parametrize("cluster", [slurm, pytest.param(open_mpi, marks=pytest.mark.slow)])
def test_processes_find_each_other_by_what_a_cluster_tells_them(cluster):
    job = free_job()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", JOINS],
            cwd=environment.ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", **cluster(job, number)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    told = [process.communicate(timeout=240)[0].splitlines()[-1] for process in processes]
    assert told == ["[0, 2, 0, 3]", "[1, 2, 0, 3]"]


def test_outside_a_cluster_one_line_says_what_is_missing(tmp_path):
    command = [sys.executable, "-m", "experiments.run", "--config", "accuracy/mqar"]
    done = subprocess.run(
        [*command, "--distributed", "--out", str(tmp_path / "out")],
        cwd=environment.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("experiments.run: --distributed: ")
    assert "--coordinator HOST:PORT --processes N --process I" in done.stderr.splitlines()[-1]
