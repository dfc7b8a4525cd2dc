"""Tables as LaTeX: what siunitx reads, and that it compiles where there is a TeX."""

import shutil
import subprocess

import pytest

from experiments import frames, latex, reading, tables
from experiments.formats import Column, Table
from tests import synthetic_records as synthetic
from tests import synthetic_training as training

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,longtable,siunitx,pdflscape}
\begin{document}
%s
\end{document}
"""


def scores(**changes):
    row = {"label": "a_b", "x": 1234.5, "x_stderr": 0.25, "x_seeds": 3, "x_word": None}
    column = Column("x", "N = 1", digits=5, beside=("x_stderr", "x_seeds", "x_word"))
    lines = [row, row | {"x": None, "x_stderr": None, "x_seeds": None, "x_word": "oom"} | changes]
    return Table.of("t", "Title", "100 % of it.", (Column("label", "m"), column), lines, {(0, "x")})


def test_a_number_is_one_that_siunitx_reads():
    text = latex.latex(scores())
    assert r"a\_b & \bfseries 1234.5 \pm 0.2 & (3) \tabularnewline" in text
    assert r"S[table-format = 4.1 \pm 1.1]@{\,}l" in text
    assert r"a\_b & {oom} &  \tabularnewline" in text
    assert r"100 \% of it" in text


def test_the_first_line_says_what_it_needs():
    assert latex.latex(scores()).startswith("% needs booktabs, siunitx\n")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_tables_compile(tmp_path):
    synthetic.write(tmp_path / "a", [*synthetic.scaling(), *synthetic.reordering()])
    synthetic.write(tmp_path / "b", [*training.language(), *synthetic.fidelities()])
    frame = reading.read([tmp_path]).frame
    found = [table for section in frames.sections(frame) for table in tables.build(section)]
    text = DOCUMENT % "\n".join(latex.latex(table) for table in [*found, tables.failures(frame)])
    (tmp_path / "tables.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert run.returncode == 0, run.stdout.decode(errors="replace")[-2000:]
