"""The README's commands that measure nothing run as they stand."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = [
    line.partition("#")[0].strip()
    for line in (ROOT / "README.md").read_text().splitlines()
    if line.startswith("python -m experiments.")
]
# the others measure, or are of what was measured so
LINES = [line for line in LINES if "out/" not in line]


def test_there_are_such_commands():
    modules = {shlex.split(line)[2] for line in LINES}
    assert modules >= {"experiments.advise", "experiments.cite", "experiments.run"}


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_readme_runs(line):
    _, *words = shlex.split(line)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
