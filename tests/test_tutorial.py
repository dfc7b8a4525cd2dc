"""Every block of docs/tutorial.md is run, in its order, in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"(?:<!-- (.*?) -->\n)?```(python|bash)\n(.*?)```", re.DOTALL)
COPIED = ("attention_zoo", "experiments", "configs", "tests", "pyproject.toml")
CASE = '"pooled": Case("pooled", {"block": 5}, block=5),'


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


def run(checkout, *command):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PYTHONPATH": str(checkout), "PATH": path}
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_tutorial_runs(checkout):
    text, script = (ROOT / "docs" / "tutorial.md").read_text(), []
    assert CASE in text
    for note, language, code in BLOCK.findall(text):
        if note.startswith("file: "):
            (checkout / note.removeprefix("file: ")).write_text(code)
            # blocks until here go together, as they would in a notebook
            run(checkout, sys.executable, "-c", "\n".join(script))
            script = []
        elif language == "bash":
            run(checkout, "bash", "-ec", code)
        else:
            script.append(code)
    run(checkout, sys.executable, "-c", "\n".join(script))
    report = checkout / "out" / "tutorial" / "report"
    for name in ("scaling.tex", "scaling.md", "scaling-time-forward.csv", "index.html"):
        assert "pooled" in (report / name).read_text(), name


@pytest.mark.slow
def test_the_mechanism_of_the_tutorial_passes_the_tests(checkout):
    cases = checkout / "tests" / "cases.py"
    first = "CASES = {\n"
    text = cases.read_text()
    cases.write_text(text.replace(first, f"{first}    {CASE}\n", 1))
    blocks = BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text())
    for note, _, code in blocks:
        if note.startswith("file: "):
            (checkout / note.removeprefix("file: ")).write_text(code)
    command = ("-m", "pytest", "-q", "-n", "0", "tests/test_mechanisms.py", "-k", "pooled")
    assert "100%" in run(checkout, sys.executable, *command)
