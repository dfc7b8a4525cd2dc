"""The report on synthetic records: what it finds, what it says of bad input, what it never does."""

import json
import random
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from experiments import (
    analysis,
    canvas,
    fits,
    formats,
    frames,
    palette,
    plots,
    reading,
    report,
    tables,
)
from tests import synthetic_records as synthetic


def rows(records, tmp_path, **options):
    """(sections, records) read back from a folder of them."""
    found = reading.read([synthetic.write(tmp_path / "in", records, **options)])
    return frames.sections(found.frame), found


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The report of everything: (out, records folder)."""
    folder = tmp_path_factory.mktemp("records")
    for name in ("scaling", "reordering", "language"):
        synthetic.write(folder / name, getattr(synthetic, name)(), points=4)
    out = tmp_path_factory.mktemp("report")
    assert report.main([str(folder), "--out", str(out), "--figures", "svg,png"]) == 0
    return out, folder


def test_report_imports_no_jax():
    code = "import sys, experiments.report; sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
def test_exponent_of_a_power(exponent):
    n = np.array([64, 128, 256, 512, 1024, 2048])
    fit = fits.exponent(n, 3e-7 * n**exponent)
    assert fit.exponent == pytest.approx(exponent)
    assert (fit.low, fit.high, fit.points) == (256, 2048, 4)
    assert fit.stderr == pytest.approx(0, abs=1e-9)


def test_exponent_uses_only_its_range_and_what_was_had():
    n = np.array([16, 32, 64, 128, 256])
    y = np.array([1e9, 1e9, 64.0**2, np.nan, 256.0**2])
    fit = fits.exponent(n, y, start=64)
    assert fit.exponent == pytest.approx(2)
    assert (fit.low, fit.high, fit.points, fit.stderr) == (64, 256, 2, None)
    assert fits.exponent(n, y, start=256) is None
    assert fits.exponent(n, [0] * 5) is None


def test_exponent_per_log_of_n_log_n():
    n = 2 ** np.arange(8, 13)
    assert fits.exponent(n, n * np.log2(n)).exponent == pytest.approx(1.139, abs=1e-3)
    assert fits.exponent(n, n * np.log2(n), per_log=True).exponent == pytest.approx(1)


def test_crossing_of_powers_is_exact_with_its_bracket():
    n = np.array([16, 32, 64, 128])
    met = fits.crossing(n, 4096.0 * n, 96.0 * n**2)
    assert met.at == pytest.approx(128 / 3)
    assert (met.low, met.high) == (32, 64)
    assert met.text == "43, between 32 and 64"


@pytest.mark.parametrize(
    ("candidate", "at", "text"),
    [
        ([5, 5, 5], None, "never up to 64"),
        ([1, 1, 1], None, "cheaper from 16, the smallest measured"),
        ([2, 2, 2], None, "equal from 16 to 64"),
        ([3, 2, 1], 32, "32, measured equal there"),
        ([1, 3, 1], None, "between 32 and 64"),
        ([np.nan] * 3, None, "no N measured for both"),
    ],
)
def test_crossing_in_words(candidate, at, text):
    met = fits.crossing([16, 32, 64], candidate, [2, 2, 2])
    assert text in met.text
    assert at is None or met.at == at


def test_standard_error_needs_two():
    assert fits.standard_error([1.0, 2.0, 4.0]) == pytest.approx(np.std([1, 2, 4], ddof=1) / 3**0.5)
    assert fits.standard_error([1.0]) is None


def test_scaling_table_has_a_row_a_point_and_failures_with_reasons(tmp_path):
    (section,), _ = rows(synthetic.scaling(), tmp_path)
    table = tables.build(section)[0].frame
    assert len(table) == 7 * 2 * 5
    oom = table[(table.label == "full") & (table["mode"] == "train") & (table.n == 4096)].iloc[0]
    assert oom.status == "oom: RESOURCE_EXHAUSTED: 8 GB"
    assert np.isnan(oom.time_ms)
    local = table[(table.label == "local") & (table["mode"] == "forward") & (table.n == 1024)].iloc[
        0
    ]
    seconds = 257 * 1024 * 2048 / 50e9 + 2e-4
    assert local.time_ms == pytest.approx(1e3 * seconds)
    assert local.gemm_ratio == pytest.approx(seconds / (257 * 1024 * 2048 / 80e9))
    assert local.waste == 1


def test_exponents_of_the_section(tmp_path):
    (section,), _ = rows(synthetic.scaling(), tmp_path)
    found = pd.DataFrame(analysis.exponents(frames.cells(section)))
    flops = found[found.quantity == "FLOPs counted"].set_index(["label", "mode"])
    assert flops.exponent["full", "forward"] == pytest.approx(2)
    assert flops.exponent["local", "train"] == pytest.approx(1)
    assert flops.exponent["strided", "forward"] == pytest.approx(1.5, abs=0.02)
    assert flops.exponent_per_log["fourier", "forward"] == pytest.approx(1, abs=1e-3)
    assert flops.to_n["full", "train"] == 2048
    assert flops.formula["full", "train"] == pytest.approx(2)


def test_crossings_with_full(tmp_path):
    (section,), _ = rows(synthetic.scaling(), tmp_path)
    found = pd.DataFrame(analysis.crossings(frames.cells(section)))
    of_flops = found[(found.quantity == "FLOPs counted") & (found["mode"] == "forward")]
    verdicts = of_flops.set_index("label").verdict
    assert verdicts["global"] == "320, between 256 and 512"
    assert verdicts["linear"] == "cheaper from 256, the smallest measured"
    assert "full" not in verdicts


def test_reordering_crosses_where_predicted(tmp_path):
    (section,), _ = rows(synthetic.reordering(), tmp_path)
    found = analysis.reorder_crossings(analysis.reorder_cells(section))
    assert [row["feature_map"] for row in found] == ["identity"] * 3 + ["elu"]
    for row in found[:3]:
        assert row["flops_n"] == pytest.approx(row["predicted_n"])
        assert row["time_from_n"] <= row["time_n"] <= row["time_to_n"]
    assert {row["exact"] for row in found} == {"yes"}


def test_language_means_errors_and_failed_runs(tmp_path):
    (section,), _ = rows(synthetic.language(), tmp_path)
    found = {(row["label"], row["n"]): row for row in analysis.language(section)}
    full = found["full", 256]
    seeds = [2.4 - 256 / 5000 + seed / 50 for seed in range(3)]
    assert full["bpb"] == pytest.approx(np.mean(seeds))
    assert full["stderr"] == pytest.approx(np.std(seeds, ddof=1) / 3**0.5)
    assert found["linear", 512]["seeds"] == 2
    assert found["linear", 512]["status"] == "nan: loss is nan at step 120 (1 of 3)"
    assert found["global", 1024]["status"].startswith("failed run")
    assert found["global", 1024]["stderr"] is None
    assert found["uniform", None]["bpb"] == 8
    assert found["unigram (order-0)", None]["bpb"] == pytest.approx(4.6)


def test_one_label_of_two_configs_is_two_curves(tmp_path):
    found = [
        synthetic.kernel("local", n, hparams={"window": w}) for n in (64, 128) for w in (8, 16)
    ]
    (section,), _ = rows(found, tmp_path)
    assert set(section.frame.label) == {"local window=8", "local window=16"}
    look = palette.styles(frames.cells(section))
    assert look["local window=8"].color == look["local window=16"].color
    assert look["local window=8"] != look["local window=16"]


def test_devices_are_never_mixed(tmp_path):
    found = synthetic.scaling()
    other = [record | {"env": record["env"] | {"device": "gpu-x"}} for record in found]
    synthetic.write(tmp_path / "a", found)
    synthetic.write(tmp_path / "b", other)
    sections = frames.sections(reading.read([tmp_path]).frame)
    assert [section.name for section in sections] == ["scaling-cpu-synthetic-2c", "scaling-gpu-x"]
    assert {section.frame["env.device"].nunique() for section in sections} == {1}


def test_the_later_record_of_a_point_counts(tmp_path):
    old = synthetic.kernel("local", 64, status="oom", reason="old")
    new = synthetic.kernel("local", 64)
    new["env"] = new["env"] | {"date": "2027-01-01T00:00:00+00:00"}
    synthetic.write(tmp_path / "a", [new])
    synthetic.write(tmp_path / "b", [old])
    found = reading.read([tmp_path])
    assert list(found.frame.status) == ["ok"]
    assert any("1 records left out" in note for note in found.notes)


def test_a_mechanism_has_one_look_and_no_two_the_same():
    looks = [palette.style(name) for name in palette.TABLE]
    assert len(set(map(str, looks))) == len(looks)
    # without colour too, among the spine's seven
    grey = {(palette.style(name).marker, str(palette.style(name).line)) for name in synthetic.PAIRS}
    assert len(grey) == len(synthetic.PAIRS)
    assert palette.style("unheard_of") == palette.style("unheard_of")


def test_labels_keep_apart_and_inside():
    found = canvas.spread([0.5, 0.5, 0.51, 0.98], 0.1, 0.95)
    assert np.diff(found).min() > 0.0999
    assert min(found) >= 0
    assert max(found) <= 0.9501
    assert canvas.spread([0.2, 0.8], 0.1, 1.0) == pytest.approx([0.2, 0.8])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.01235"),
        (1234567, "1,235,000"),
        (0, "0"),
        (34.3597, "34.36"),
        (9.9999, "10.00"),
    ],
)
def test_four_significant_digits(value, text):
    assert formats.cell(value, formats.Column("x", "x", 4)) == text


def test_latex_is_escaped_and_markdown_keeps_its_columns(tmp_path):
    bad = synthetic.kernel("local", 64, status="error", reason="50% of a_b | c & d\nsecond line")
    (section,), found = rows([bad], tmp_path)
    table = tables.failures(found.frame)
    assert r"50\% of a\_b \textbar{} c \& d second line" in formats.latex(table)
    line = formats.markdown(table).splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", line)) == len(table.columns) + 1
    long = tables.build(section)[0]
    assert r"\toprule" in formats.latex(long)


def test_caption_names_where_the_numbers_come_from(tmp_path):
    (section,), _ = rows([synthetic.kernel("local", 64, repeats=10)], tmp_path)
    section.frame.loc[:, "env.dirty"] = True
    text = tables.caption(section)
    for part in (
        "cpu-synthetic-2c",
        "float32",
        "batch 1",
        "heads 8",
        "head size 64",
        "seeds 0",
        "commit 0123456789 (dirty)",
        "jax 0.10.2",
        "date 2026-11-21",
        "median of 10",
    ):
        assert part in text


def test_every_file_is_there(published):
    out, _ = published
    names = ["scaling", "scaling-exponents", "scaling-crossings", "reordering", "language"]
    for name in [*names, "failures"]:
        for suffix in ("csv", "md", "tex"):
            assert (out / f"{name}.{suffix}").stat().st_size > 0
    for name in (
        "scaling-overview",
        "scaling-flops-counted-forward",
        "scaling-seconds-train",
        "reordering-identity-d64-e32",
        "language-bits",
        "language-curves-n512",
    ):
        for suffix in ("svg", "png"):
            assert (out / f"{name}.{suffix}").stat().st_size > 1000
    assert len(pd.read_csv(out / "records.csv")) == len(
        synthetic.scaling() + synthetic.reordering() + synthetic.language()
    )


def test_page_needs_no_network_and_names_every_failure(published):
    out, _ = published
    text = (out / "index.html").read_text()
    outside = re.findall(r'(?:src|href)="(?!#|data:)[^"]*"|url\((?!#)[^)]*\)|@import', text)
    assert [found for found in outside if "w3.org" not in found] == []
    for reason in ("RESOURCE_EXHAUSTED: 8 GB", "over 60 s", "loss is nan at step 120"):
        assert reason in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    figures = [found for found in ids if "DejaVu" not in found]
    assert len(set(figures)) == len(figures)


def test_same_records_give_the_same_bytes(tmp_path):
    found = [synthetic.kernel(label, n) for label in ("full", "fourier") for n in (64, 128, 256)]
    found += [r for r in synthetic.language() if r["config"]["n"] == 512]
    outs = []
    for order in range(2):
        random.Random(order).shuffle(found)
        folder = synthetic.write(tmp_path / f"in{order}", found, points=3 * order)
        outs.append(tmp_path / f"out{order}")
        assert report.main([str(folder), "--out", str(outs[-1]), "--figures", "svg,pdf"]) == 0
    names = sorted(path.name for path in outs[0].iterdir())
    assert names == sorted(path.name for path in outs[1].iterdir())
    for name in names:
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes(), name


def test_one_seed_one_point_and_nulls_everywhere_still_report(tmp_path):
    found = [
        synthetic.record(synthetic.kernel("newcomer", 64)["config"], {"seconds": None}),
        synthetic.record(synthetic.reorder("qk_v", 32, 8, 8)["config"], {"seconds": 0.1}),
        synthetic.record(synthetic.train("full", 64, 0, 2.0)["config"], {"val_bpb_best": 2.0}),
        synthetic.kernel("full", 64, status="refused", reason="no"),
        synthetic.record({"experiment": "other", "kind": "unheard of"}),
    ]
    folder = synthetic.write(tmp_path / "in", found)
    assert report.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert len(pd.read_csv(tmp_path / "out" / "records.csv")) == 5


def test_only_failures_still_report(tmp_path):
    found = [synthetic.kernel("full", n, status="oom", reason="no room") for n in (64, 128)]
    found.append(synthetic.train("full", 64, 0, 2.0, "timeout", "over 9 s"))
    folder = synthetic.write(tmp_path / "in", found)
    assert report.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "no room" in (tmp_path / "out" / "failures.md").read_text()


BAD = {
    "damaged": ('{"schema": 1, "id": "ab', "damaged, not JSON"),
    "list": ("[1, 2]", "expected an object, got list"),
    "schema": ('{"schema": 2, "id": "x"}', "schema 2; this report reads schema 1"),
    "status": (
        json.dumps(synthetic.kernel("full", 64) | {"status": "fine"}),
        "status 'fine'; known: ok",
    ),
    "config": (
        json.dumps(synthetic.kernel("full", 64) | {"config": None}),
        "'config' should be dict",
    ),
    "n": (json.dumps(synthetic.kernel("full", 0)), "whole number from 1 up, got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_lines_are_said_and_the_rest_is_reported(case, tmp_path, capsys):
    line, complaint = BAD[case]
    folder = synthetic.write(tmp_path / "in", [synthetic.record({"experiment": "x", "kind": "y"})])
    with open(folder / "records.jsonl", "a") as file:
        file.write(line + "\n")
    assert report.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert complaint in said.err
    assert "records.jsonl:2" in said.err
    assert said.out.splitlines()[-1].endswith("index.html")


def test_nothing_to_report_is_exit_code_2(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    arguments = [str(tmp_path / "empty"), str(tmp_path / "missing"), "--out", str(tmp_path / "out")]
    assert report.main(arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert "no records.jsonl" in said[0]
    assert "no such folder" in said[1]
    assert "no records to report" in said[2]
    assert not (tmp_path / "out").exists()


def test_out_that_cannot_be_written_is_one_line(tmp_path, capsys):
    folder = synthetic.write(tmp_path / "in", [synthetic.kernel("local", 64)])
    (tmp_path / "file").write_text("")
    assert report.main([str(folder), "--out", str(tmp_path / "file")]) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_drawings_are_named_apart(tmp_path):
    (section,), found = rows(synthetic.language(), tmp_path)
    names = [drawing.name for drawing in plots.draw(section, found.curves)]
    assert names == ["language-bits", *(f"language-curves-n{n}" for n in (256, 512, 1024))]


@pytest.mark.parametrize("argument", [["--figures", "gif"], ["--octaves", "0"], ["--octaves", "x"]])
def test_bad_arguments_are_exit_code_2(argument, capsys):
    with pytest.raises(SystemExit) as stopped:
        report.main(["x", "--out", "y", *argument])
    assert stopped.value.code == 2
    assert argument[0] in capsys.readouterr().err
