"""A stub sweep as a config file, and runners of it as processes. See stub_points.py."""

import json
import subprocess
import sys
import time

import pytest

from experiments import records
from experiments.measuring import environment

CONFIG = '''"""A stub sweep."""

from configs import base


def get_config():
    config = base.settings("stub", isolate="point", time_limit=60.0)
    config.lengths = tuple(range(1, 25))
    config.does = "work"
    config.seconds = 0.02
    config.width, config.heads = 12, 3
    config.mechanisms = ("full",)
    config.variants = {"full": {"implementation": "plain"}}
    return config


def get_sweep(config):
    return [
        {
            "experiment": "stub",
            "kind": "tests.stub_points",
            **base.variant(config, key, n),
            "n": n,
            "does": config.does,
            "seconds": config.seconds,
            "model": {"width": config.width, "heads": config.heads},
        }
        for key in config.mechanisms
        for n in config.lengths
    ]
'''


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "stub.py"
    path.write_text(CONFIG)
    return str(path)


def measured(folder):
    """n of every measurement that came to its end, in order."""
    return [int(line) for line in (folder / "measured.log").read_text().split()]


def start(config, out, *arguments):
    command = [
        sys.executable,
        "-m",
        "experiments.run",
        "--config",
        config,
        "--out",
        str(out),
        *arguments,
    ]
    return subprocess.Popen(
        command,
        cwd=environment.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process):
    text, _ = process.communicate(timeout=120)
    return process.returncode, text


def outcomes(folder):
    complaints = []
    found = records.load(folder, complain=complaints.append)
    assert complaints == []
    return [(r["id"], r["status"], json.dumps(r["metrics"], sort_keys=True)) for r in found]


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
