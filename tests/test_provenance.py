"""Every committed table and every figure of the README, again from the committed records."""

import fnmatch
import re
import shutil
import urllib.parse
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import peer_table
from benchmarks import table as ratio_table
from experiments import page, report
from experiments.analysis import formats, published
from experiments.records import load
from tests.committed import FOLDERS, ROOT, over_folders, read, tables_of

FIGURES = sorted(set(re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text())))
AGAIN = "run make results, look at what differs, and commit it"


def test_every_record_is_in_one_report():
    for file in (ROOT / "results").rglob("records.jsonl"):
        assert len({*file.parents} & {*FOLDERS}) == 1, file


@over_folders("folder")
def test_committed_tables_are_those_of_their_records(folder, tmp_path):
    records, made = read(folder)[0], tables_of(folder)
    assert records.notes == []
    (tmp_path / "records.csv").write_text(formats.csv(records.frame))
    for table in made:
        report._save_table(tmp_path, table)
    committed = {file.name for file in (folder / "report").iterdir()}
    committed = {name for name in committed if Path(name).suffix in (".csv", ".md", ".tex")}
    assert committed == {file.name for file in tmp_path.iterdir()}, AGAIN
    for name in sorted(committed):
        assert same(folder / "report" / name, tmp_path / name), f"{name}: {AGAIN}"


@over_folders("folder")
def test_every_number_of_a_committed_table_names_its_records(folder):
    made, known = tables_of(folder), set(read(folder)[0].frame.id)
    others = tuple(f"({source})" for source in published.figures().source.unique())
    for table in made:
        for line, sources in zip(table.text(), table.records(), strict=True):
            if line[0].endswith(others):
                continue
            for column, text, ids in zip(table.columns, line, sources, strict=True):
                assert ids or not (text and table.numeric(column)), (table.name, line)
                assert set(ids.split()) <= known


# beside their records stands what other commands make of them
BESIDE = {"benchmarks": ratio_table.write, "peers": peer_table.write}
OF_BENCHMARKS = [folder for folder in FOLDERS if folder.parent.name in BESIDE]


@pytest.mark.parametrize("folder", OF_BENCHMARKS, ids=lambda path: "-".join(path.parts[-2:]))
def test_committed_benchmarks_are_those_of_their_records(folder, tmp_path):
    shutil.copy(folder / "records.jsonl", tmp_path)
    BESIDE[folder.parent.name](tmp_path)
    committed = {file.name for file in folder.iterdir() if file.is_file()}
    assert committed == {file.name for file in tmp_path.iterdir()}
    for name in sorted(committed):
        assert same(folder / name, tmp_path / name), f"{name}: make it again, and look"
    known = {record["id"] for record in load(folder)}
    for file in folder.glob("*.csv"):
        for ids in pd.read_csv(file, dtype=str).records:
            assert set(ids.split()) <= known


@over_folders("folder")
def test_what_stands_first_on_the_page_links_to_its_records(folder):
    for section in read(folder)[1]:
        for line in page.headlines(section):
            ids, device = line["target"].removeprefix("records=").split("@")
            assert urllib.parse.unquote(device) == section.device
            known = section.frame
            assert set(ids.split(",")) <= set(known.id), line


def same(committed, made):
    """Texts to the letter; exact numbers but for the last digits, which processors differ in."""
    if committed.suffix != ".csv":
        return committed.read_text() == made.read_text()
    pair = [pd.read_csv(file, keep_default_na=False, na_values=[""]) for file in (committed, made)]
    try:
        pd.testing.assert_frame_equal(*pair, rtol=1e-9, atol=1e-12)
    except AssertionError:
        return False
    return True


def test_a_table_that_differs_is_seen(tmp_path):
    one, other = tmp_path / "a.csv", tmp_path / "b.csv"
    one.write_text("label,n\nlocal,1.000000001\n")
    for text, equal in (
        ("local,1.0000000010000001", True),
        ("local,1.001", False),
        ("full,1", False),
    ):
        other.write_text(f"label,n\n{text}\n")
        assert same(one, other) == equal


def test_every_figure_of_the_readme_is_of_the_gallery():
    """test_gallery.py derives those."""
    assert FIGURES
    for figure in FIGURES:
        assert figure.startswith("docs/gallery/")


def test_the_answer_of_the_lectures_lab_is_that_of_its_table():
    readme = (ROOT / "README.md").read_text()
    (row,) = [line for line in readme.split("\n") if "The lectures' lab" in line]
    (file,) = (name for name in re.findall(r"\]\((results/\S+)\)", row) if name.endswith(".md"))
    table = pd.read_csv((ROOT / file).with_suffix(".csv"))
    for line in table[table.verdict.str.startswith("yes")].itertuples():
        figures = f"{100 * line.gain:+.1f} ± {100 * line.gain_stderr:.1f}"
        assert re.search(rf"{re.escape(figures)}( points)? on {line.label.split()[-1]}", row)
    assert row.count("±") == (table.verdict != "no").sum()
    assert (table.verdict == "no").sum() == 5
    assert "on five sets nothing that three seeds make clear" in row


def test_every_field_of_the_records_is_explained():
    """By results/README.md, in a name or a pattern of names."""
    words = re.findall(r"`([^`\s]+)`", (ROOT / "results" / "README.md").read_text())
    words = {word.split("@")[0] for word in words} - {"*"}
    named = {
        name.split("@")[0]
        for record in load(ROOT / "results")
        for part in ("config", "metrics", "env")
        for name in record[part] or {}
    }
    unsaid = [
        name
        for name in sorted(named)
        if not any(fnmatch.fnmatch(name, word) or word.startswith(f"{name}.") for word in words)
    ]
    assert len(named) > 100
    assert not unsaid
