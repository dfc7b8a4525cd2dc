"""The API reference: `make docs` writes a page of every module."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_module_has_a_page(tmp_path):
    pytest.importorskip("pdoc")
    command = [sys.executable, "docs/api.py", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=590)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.strip() == str(tmp_path.resolve() / "index.html")
    pages = {file.stem for file in tmp_path.glob("attention_zoo/mechanisms/*.html")}
    sources = (ROOT / "attention_zoo" / "mechanisms").glob("[a-z]*.py")
    assert {file.stem for file in sources} <= pages
    assert "arXiv:2004.05150" in (tmp_path / "attention_zoo/mechanisms/local.html").read_text()
    assert "attention_zoo/mechanisms.html" in (tmp_path / "attention_zoo.html").read_text()
