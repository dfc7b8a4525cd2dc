"""Runners that are killed, or share a folder: nothing is lost and nothing done twice."""

import os
import random
import signal
import time

import pytest

from tests.stub_sweep import config, finish, measured, outcomes, start, wait_for

__all__ = ["config"]


def strike(process, folder, delay):
    """SIGKILL some time after the first new record: before that there are only imports."""
    before = set(folder.glob("points/*.json"))
    wait_for(lambda: set(folder.glob("points/*.json")) - before or process.poll() is not None)
    time.sleep(delay)
    process.kill()
    return finish(process)[0]


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_a_sweep_ends_as_if_undisturbed(config, tmp_path, kills):
    """Nothing is measured twice but the point in flight, at most one a kill."""
    moments = random.Random(kills)
    lengths = ",".join(map(str, range(1, 10 + 8 * kills)))
    arguments = ["--config.seconds=0.01", f"--config.lengths={lengths}"]
    assert finish(start(config, tmp_path / "calm", *arguments))[0] == 0
    rough = tmp_path / "rough"
    for _ in range(kills):
        code = strike(start(config, rough, *arguments), rough, moments.uniform(0, 0.15))
        assert code == -signal.SIGKILL
    code, text = finish(start(config, rough, *arguments))
    assert code == 0, text
    assert outcomes(rough) == outcomes(tmp_path / "calm")
    assert sorted(os.listdir(rough)) == ["measured.log", "records.jsonl"]
    log = measured(rough)
    assert len(log) - len(set(log)) <= kills


def test_two_runners_share_the_work(config, tmp_path):
    out = tmp_path / "out"
    runners = [start(config, out, "--config.seconds=0.1") for _ in range(2)]
    texts = [finish(runner) for runner in runners]
    assert [code for code, _ in texts] == [0, 0], texts
    assert len(outcomes(out)) == 24
    assert sorted(measured(out)) == list(range(1, 25))
    assert sorted(os.listdir(out)) == ["measured.log", "records.jsonl"]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_runner_takes_its_worker_with_it(config, tmp_path, blow):
    out = tmp_path / "out"
    process = start(config, out, "--config.does=stay")
    wait_for(lambda: (out / "pid").exists() and (out / "pid").read_text())
    worker = int((out / "pid").read_text())
    process.send_signal(blow)
    code, text = finish(process)
    wait_for(lambda: not alive(worker), seconds=10)
    if blow == signal.SIGKILL:
        assert code == -blow
    else:
        assert code == 128 + blow
        assert f"stopped by {blow.name}" in text
        assert "24 not measured yet" in text
