"""Tables as LaTeX: what siunitx reads, and that it compiles where there is a TeX."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from experiments.analysis import frames, reading
from experiments.analysis.formats import Column, Table
from experiments.reporting import latex, tables
from tests import synthetic_records as synthetic
from tests import synthetic_training as training

RESULTS = Path(__file__).parents[1] / "results"
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


def test_what_latex_has_no_sign_for_is_spelled_out():
    assert latex.escape("é · 2") == "é · 2"
    assert latex.escape("N ≤ 4\x07 ∞") == "N [less-than or equal to] 4[a sign] [infinity]"


def test_the_first_line_says_what_it_needs():
    assert latex.latex(scores()).startswith("% needs booktabs, siunitx\n")


def wide(columns, text="", numbers=(1.5,), rows=1):
    """A table of so many columns of numbers and one of text, and its preamble."""
    keys = [f"x{i}" for i in range(columns)]
    of = [Column("words", "words"), *(Column(key, "x", digits=3) for key in keys)]
    lines = [{"words": text} | dict.fromkeys(keys, n) for n in numbers] * rows
    return latex.latex(Table.of("t", "Title", "Caption.", of, lines))


@pytest.mark.parametrize(
    ("columns", "numbers", "size", "sideways"),
    [
        (5, [1.5], r"\scriptsize", False),
        (13, [1.5], r"\scriptsize", False),
        (11, [123456.5], r"\tiny", False),
        (14, [123456.5], r"\scriptsize", True),
        (18, [123456.5], r"\tiny", True),
    ],
)
def test_size_and_direction_are_by_width_and_not_by_columns(columns, numbers, size, sideways):
    text = wide(columns, numbers=numbers)
    assert f"\n{size}\n" in text
    assert (r"\begin{landscape}" in text) == sideways


def test_text_is_broken_where_it_is_long_and_more_where_room_is_short():
    text = "refused for it has no causal form of its own"
    assert r"\begin{tabular}{>{\raggedright}p{104pt}S" in wide(3, text)
    (width,) = re.findall(r"p{(\d+)pt}", wide(19, text, [123456.5]))
    assert int(width) < 26 * 3.4


def test_lines_that_fill_a_page_are_a_longtable():
    text = "a reason that is told in two lines"
    assert "longtable" not in wide(3, text, rows=20)
    assert "longtable" in wide(3, text, rows=21)


def test_columns_without_room_follow_in_panels_that_name_their_rows():
    text = wide(40, "here", numbers=[123456.5])
    panels = text.split(r"\begin{longtable}")[1:]
    assert len(panels) == 2
    assert [panel.count("here & ") for panel in panels] == [1, 1]
    assert sum(panel.count("& 123000") for panel in panels) == 40
    assert text.count(r"\label{tab:t}") == 1
    assert text.count(r"\caption*{Title, continued.}") == 1
    assert r"\caption*" not in wide(18, numbers=[123456.5])


def test_numbers_of_many_magnitudes_are_not_set_at_the_point():
    assert "S[table-format = 3.3]" in wide(1, numbers=[123.0, 0.25])
    text = wide(1, numbers=[1234567890.0, 0.00012345])
    assert "{lr}" in text
    assert r" & \num{0.000123} \tabularnewline" in text


def no_latex():
    """Why no table can be compiled here; "" where it can: siunitx comes apart from pdflatex."""
    if shutil.which("pdflatex") is None:
        return "no pdflatex here"
    found = subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True)
    return "" if found.stdout.strip() else "pdflatex has no siunitx here: texlive-science"


needs_tex = pytest.mark.skipif(bool(no_latex()), reason=no_latex() or "LaTeX is here")


def compiled(tables, folder):
    """What LaTeX says of a document of these tables."""
    (folder / "tables.tex").write_text(DOCUMENT % "\n".join(tables))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    # a longtable knows the widths of its columns from the second run on
    for _ in range(2):
        run = subprocess.run(command, cwd=folder, capture_output=True, timeout=590)
        said = run.stdout.decode(errors="replace")
        assert run.returncode == 0, said[-2000:]
    return said


@needs_tex
def test_tables_compile(tmp_path):
    synthetic.write(tmp_path / "a", [*synthetic.scaling(), *synthetic.reordering()])
    synthetic.write(tmp_path / "b", [*training.language(), *synthetic.fidelities()])
    frame = reading.read([tmp_path]).frame
    found = [table for section in frames.sections(frame) for table in tables.build(section)]
    compiled(map(latex.latex, [*found, tables.failures(frame)]), tmp_path)


@needs_tex
@pytest.mark.slow
def test_committed_tables_fit_their_pages(tmp_path):
    files = sorted(RESULTS.glob("**/report/*.tex"))
    said = compiled(
        [rf"\message{{^^J{i}:^^J}}\input{{{file}}}\clearpage" for i, file in enumerate(files)],
        tmp_path,
    )
    parts = re.split(r"\n(\d+):", said)[1:]
    for i, text in zip(parts[::2], parts[1::2], strict=True):
        too_large = re.findall(
            r"Overfull \\[hv]box \(([\d.]+)pt|Float too large.* ([\d.]+)pt", text
        )
        assert all(float(wide or tall) < 10 for wide, tall in too_large), files[int(i)]
