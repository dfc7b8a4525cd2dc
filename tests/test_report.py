"""The report of synthetic records: its files, its page, what it says of bad input."""

import base64
import gzip
import json
import math
import random
import re
import subprocess
import sys

import pandas as pd
import pytest

from experiments import plots, report
from experiments.analysis import frames, reading
from tests import synthetic_records as synthetic
from tests import synthetic_training as training

# one report of everything, for all
pytestmark = pytest.mark.xdist_group("report")
LANGUAGE = training.language()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The report of everything: (out, records folder)."""
    folder = tmp_path_factory.mktemp("records")
    for make in (synthetic.scaling, synthetic.reordering):
        synthetic.write(folder / make.__name__, make(), points=4)
    training.curves(synthetic.write(folder / "language", LANGUAGE, points=4), LANGUAGE)
    out = tmp_path_factory.mktemp("report")
    assert report.main([str(folder), "--out", str(out), "--figures", "svg,png"]) == 0
    return out, folder


def test_report_imports_no_jax():
    code = "import sys, experiments.report; sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_file_is_there(published):
    out, _ = published
    names = ["scaling", "scaling-exponents", "scaling-crossovers", "reordering", "language"]
    for name in [*names, "failures"]:
        for suffix in ("csv", "md", "tex"):
            assert (out / f"{name}.{suffix}").stat().st_size > 0
    for name in (
        "scaling-overview",
        "scaling-flops-counted-forward",
        "scaling-seconds-train",
        "reordering-identity-d64-e32",
        "language-by-n",
        "language-speed",
        "language-curves",
    ):
        for suffix in ("svg", "png"):
            assert (out / f"{name}.{suffix}").stat().st_size > 1000
    written = synthetic.scaling() + synthetic.reordering() + LANGUAGE
    assert len(pd.read_csv(out / "records.csv")) == len(written)


def test_page_needs_nothing_beside_it(published):
    out, _ = published
    text = (out / "index.html").read_text()
    loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="([^"]*)"', text)
    assert all(found.startswith("data:") for found in loaded)
    assert not re.findall(r"url\(|@import", text)
    ids = re.findall(r'\bid="([^"$]+)"', text)
    assert len(set(ids)) == len(ids)
    links = {*re.findall(r'href="#([^"$]+)"', text)}
    # the figures that stand first lead to records; their ids are tested with the committed ones
    of_records = {link for link in links if link.startswith("records=")}
    assert of_records
    assert links - of_records <= {*ids}


def test_the_page_offers_every_figure_beside_it(published):
    out, _ = published
    text = (out / "index.html").read_text()
    offered = set(re.findall(r'href="([^"#:]+\.(?:svg|png))"', text))
    assert offered == {path.name for path in out.iterdir() if path.suffix in (".svg", ".png")}


def test_fonts_are_embedded_as_truetype(tmp_path):
    found = reading.read([synthetic.write(tmp_path, synthetic.scaling())])
    (section,) = frames.sections(found.frame)
    # the overview has plain text, the one after it formulas too
    for drawing in plots.draw(section, {})[:2]:
        content = drawing.save("pdf")
        assert content.count(b"/FontFile2 ") == content.count(b"/Type /FontDescriptor") > 0
        assert b"/Type3" not in content


FITS = {
    "usual": ([], 512),
    "octaves": (["--octaves", "2"], 1024),
    "from": (["--fit-from", "256"], 256),
}


@pytest.mark.parametrize("case", FITS)
def test_the_page_and_the_tables_state_the_same_exponents(case, tmp_path):
    arguments, first = FITS[case]
    folder, out = synthetic.write(tmp_path / "in", synthetic.scaling()), tmp_path / "out"
    assert report.main([str(folder), "--out", str(out), "--figures=", *arguments]) == 0
    table = pd.read_csv(out / "scaling-exponents.csv")
    fitted = table[(table["mode"] == "forward") & (table.quantity == "FLOPs counted")]
    assert set(fitted.from_n) == {first}
    text = (out / "index.html").read_text()
    assert f"FLOPs of full, N = {first:,} to 4,096" in text
    packed = re.search(r'id="data">([^<]+)<', text)[1]
    charts = json.loads(gzip.decompress(base64.b64decode(packed)))["charts"]
    (notes,) = (chart["notes"] for chart in charts if chart["name"] == "scaling")
    notes = [n for n in notes if (n["mode"], n["y"]) == ("forward", "flops_counted")]
    assert {n["label"]: n["text"] for n in notes} == {
        row.label: f"N^{row.exponent:.2f}" for row in fitted.itertuples()
    }
    assert {n["range"] for n in notes} == {f"N = {first:,} to 4,096"}


def test_same_records_give_the_same_bytes(tmp_path):
    found = [synthetic.kernel(label, n) for label in ("full", "fourier") for n in (64, 128, 256)]
    found += [r for r in LANGUAGE if r["config"]["n"] == 512]
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
        synthetic.record(training.train("full", 64, 0, 2.0)["config"], {"val_bpb_best": 2.0}),
        synthetic.kernel("full", 64, status="refused", reason="no"),
        synthetic.record({"experiment": "other", "kind": "unheard of"}),
    ]
    folder = synthetic.write(tmp_path / "in", found)
    assert report.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert len(pd.read_csv(tmp_path / "out" / "records.csv")) == 5


def test_only_failures_still_report(tmp_path):
    found = [synthetic.kernel("full", n, status="oom", reason="no room") for n in (64, 128)]
    found.append(training.train("full", 64, 0, 2.0, "timeout", "over 9 s"))
    folder = synthetic.write(tmp_path / "in", found)
    assert report.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "no room" in (tmp_path / "out" / "failures.md").read_text()


BAD = {
    "damaged": ('{"schema": 1, "id": "ab', "not JSON"),
    "list": ("[1, 2]", "expected an object, got list"),
    "schema": ('{"schema": 2, "id": "x"}', "of schema 2, and this code reads 1"),
    "status": (
        json.dumps(synthetic.kernel("full", 64) | {"status": "fine"}),
        "status 'fine'; known: ok",
    ),
    "config": (
        json.dumps(synthetic.kernel("full", 64) | {"config": None}),
        "'config' should be dict",
    ),
    "n": (json.dumps(synthetic.kernel("full", 0)), "whole number from 1 up, got 0"),
    "id": (json.dumps(synthetic.kernel("full", 64) | {"id": "0"}), "the id is not that of its"),
    "device": (
        json.dumps(synthetic.record({"kind": "y"}, device=None)),
        "env.device should be a name, got None",
    ),
    "score": (
        json.dumps(training.train("full", 64, 0, 0.5, task="mqar", metrics={"test_accuracy": "x"})),
        "metrics.test_accuracy should be a number or null, got 'x'",
    ),
    "time": (
        json.dumps(training.train("full", 64, 0, 0.5, metrics={"seconds_per_step": 0})),
        "metrics.seconds_per_step should be a number above 0, got 0",
    ),
    "kind": (
        json.dumps(synthetic.record({"experiment": "x", "kind": ["y"]})),
        "config.kind should be a name, got ['y']",
    ),
    "depth": ("[" * 100_000, "not JSON (maximum recursion depth"),
    "repeats": (
        json.dumps(synthetic.record(synthetic.kernel("full", 64)["config"], {"repeats": "ten"})),
        "metrics.repeats should be a number or null, got 'ten'",
    ),
    "load": (
        json.dumps(synthetic.record(synthetic.kernel("full", 64)["config"], load="high")),
        "env.load should be a number or null, got 'high'",
    ),
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


def test_a_curve_that_left_the_finite_still_reports(tmp_path):
    found = training.language()
    folder = synthetic.write(tmp_path / "in", found)
    training.curves(folder, found)
    file = sorted((folder / "curves").iterdir())[0]
    first, *rest = file.read_text().splitlines()
    bad = json.dumps(json.loads(first) | {"val_loss": math.inf, "train_loss": math.nan})
    file.write_text("\n".join([bad, *rest]) + "\n")
    out = tmp_path / "out"
    assert report.main([str(folder), "--out", str(out), "--figures=", "--octaves=2000"]) == 0
    assert (out / "index.html").is_file()


def test_metrics_that_are_words_or_lists_stay_so(tmp_path):
    said = {"data": "x", "data_sha256": "ab", "test_confusion": [[1, 0], [0, 1]]}
    said |= {"bleu_signature": "13a", "same_training": "0123456789"}
    found = [training.train("full", 64, 0, 0.5, metrics=said)]
    assert reading.read([synthetic.write(tmp_path, found)]).notes == []


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


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (["--figures", "gif"], "--figures: 'gif' is not one of svg, png, pdf"),
        (["--octaves", "0"], "--octaves: must be a number above 0, got '0'"),
        (["--octaves", "x"], "--octaves: must be a number above 0, got 'x'"),
        (["--fit-from=-5"], "--fit-from: must be a whole number from 1 up, got '-5'"),
    ],
)
def test_bad_arguments_are_one_line(argument, words, capsys):
    assert report.main(["x", "--out", "y", *argument]) == 2
    said = capsys.readouterr().err
    assert said.startswith("experiments.report: argument ")
    assert words in said
    assert said.count("\n") == 1
