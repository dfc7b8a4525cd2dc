"""Records in folders -> sections -> tables, on synthetic records of kernels."""

import io
import itertools
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from experiments.analysis import findings, formats, frames, reading
from experiments.figures import canvas, palette
from experiments.reporting import latex, pivots, tables
from tests import synthetic_records as synthetic


def rows(records, tmp_path, **options):
    """(sections, records) read back from a folder of them."""
    found = reading.read([synthetic.write(tmp_path / "in", records, **options)])
    return frames.sections(found.frame), found


def built(section):
    return {table.name: table for table in tables.build(section)}


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("scaling", "Scaling"),
        ("accuracy-mqar", "Accuracy: MQAR"),
        ("ucr-OSULeaf-grid", "UCR: OSULeaf, grid"),
        ("forecast-mixed-ETTh1-96", "Forecast: mixed, ETTh1, 96"),
        ("tpu_compile", "TPU compile"),
    ],
)
def test_names_become_titles(name, title):
    assert frames.heading(name) == title


def test_scaling_table_has_a_row_a_point_and_failures_with_reasons(tmp_path):
    (section,), _ = rows(synthetic.scaling(), tmp_path)
    table = built(section)["scaling"].frame
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
    found = pd.DataFrame(findings.exponents(frames.cells(section)))
    flops = found[found.quantity == "FLOPs counted"].set_index(["label", "mode"])
    assert flops.exponent["full", "forward"] == pytest.approx(2)
    assert flops.exponent["local", "train"] == pytest.approx(1)
    assert flops.exponent["strided", "forward"] == pytest.approx(1.5, abs=0.02)
    assert flops.exponent_per_log["fourier", "forward"] == pytest.approx(1, abs=1e-3)
    assert flops.to_n["full", "train"] == 2048
    assert flops.formula["full", "train"] == pytest.approx(2)
    assert set(flops.as_expected) == {"yes"}
    compiling = found[found.quantity == "compile time"]
    assert set(compiling.as_expected) == {"yes"}
    assert compiling.formula.isna().all()


def test_what_grows_unlike_its_formula_is_said(tmp_path):
    made = [synthetic.kernel("local", n) for n in (256, 512, 1024)]
    for record in made:
        n = record["config"]["n"]
        changed = {"bytes_compiled": n**1.03, "seconds": 1e-6 * n**1.1, "compile_seconds": n**0.2}
        record["metrics"] |= changed
    (section,), _ = rows(made, tmp_path)
    found = findings.exponents(frames.cells(section))
    said = {row["quantity"]: row["as_expected"] for row in found}
    assert said["memory compiled"] == said["compile time"] == "no"
    assert said["time"] == said["FLOPs counted"] == "yes"


def test_reordering_crosses_where_predicted(tmp_path):
    (section,), _ = rows(synthetic.reordering(), tmp_path)
    found = findings.reorder_crossings(findings.reorder_cells(section))
    assert [row["feature_map"] for row in found] == ["identity"] * 3 + ["elu"]
    for row in found[:3]:
        assert row["flops_n"] == pytest.approx(row["predicted_n"])
        assert row["time_from_n"] <= row["time_n"] <= row["time_to_n"]
    assert {row["exact"] for row in found} == {"yes"}


def test_one_label_of_two_configs_is_two_curves(tmp_path):
    found = [
        synthetic.kernel("local", n, hparams={"window": w}) for n in (64, 128) for w in (8, 16)
    ]
    (section,), _ = rows(found, tmp_path)
    assert set(section.frame.label) == {"local window=8", "local window=16"}
    look = palette.styles(frames.cells(section))
    assert look["local window=8"].color == look["local window=16"].color
    assert look["local window=8"] != look["local window=16"]


def test_devices_of_measured_times_are_never_mixed(tmp_path):
    found = synthetic.scaling()
    other = list(map(synthetic.elsewhere, found))
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
    # where there are no lines
    assert len({(look.color, look.marker) for look in looks}) == len(looks)
    # without colour too; the two orders have figures of their own
    names = set(palette.TABLE) - {"qk_v", "q_kv"}
    grey = {(palette.style(name).marker, str(palette.style(name).line)) for name in names}
    assert len(grey) == len(names)
    assert palette.style("unheard_of") == palette.style("unheard_of")


def test_every_marker_has_a_symbol_on_the_page_and_a_shape():
    assert {palette.style(name).marker for name in palette.TABLE} <= {*palette.SYMBOLS}
    assert len({*palette.SYMBOLS.values()}) == len(palette.SYMBOLS)
    shapes = {palette.outline(marker) for marker in palette.SYMBOLS}
    assert len(shapes) == len(palette.SYMBOLS)
    assert all(re.fullmatch(r"M[-\d.,e]+([LQC][-\d.,e]+)+Z", shape) for shape in shapes)


def test_names_stand_beside_their_points_where_there_is_room():
    figure = Figure()
    ax = figure.subplots()
    spots = [(0.1, 0.1), (0.5, 0.9), *9 * [(0.5, 0.5)]]
    ax.plot(*zip(*spots, strict=True), "o")
    figure.draw_without_rendering()
    points = [(*spot, f"model {i}", palette.INK) for i, spot in enumerate(spots)]
    canvas.name_points(ax, points)
    names = {text.get_text(): text.get_window_extent() for text in ax.texts}
    assert {"model 0", "model 1", "model 2"} <= {*names}
    assert len(names) <= 2 + 4
    for one, other in itertools.combinations(names.values(), 2):
        assert not one.overlaps(other)


def test_labels_keep_apart_and_inside():
    found = canvas.spread([0.5, 0.5, 0.51, 0.98], 0.1, 0.95)
    assert np.diff(found).min() > 0.0999
    assert min(found) >= 0
    assert max(found) <= 0.9501
    assert canvas.spread([0.2, 0.8], 0.1, 1.0) == pytest.approx([0.2, 0.8])


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (2.8437, 0.1234, ("2.8", "0.1")),
        (2182.4, 31.0, ("2,180", "30")),
        (1.23456, 0.00004, ("1.235", "0.00004")),
        (19020.0, None, ("19,020", "")),
        (5.0, 0.0, ("5.000", "0")),
        (0.6, 0.97, ("1", "1")),
    ],
)
def test_a_number_is_rounded_to_its_standard_error(value, error, text):
    assert formats.pair(value, error, formats.Column("x", "x", 4)) == text


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
    assert r"50\% of a\_b \textbar{} c \& d second line" in latex.latex(table)
    line = formats.markdown(table).splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", line)) == len(table.columns) + 1
    long = built(section)["scaling"]
    assert r"\toprule" in latex.latex(long)


def test_a_row_links_to_the_line_that_names_its_records(tmp_path):
    reasons = ("one\ntwo", "short")
    bad = [
        synthetic.kernel("local", 64 * (i + 1), status="error", reason=reason)
        for i, reason in enumerate(reasons)
    ]
    _, found = rows(bad, tmp_path)
    table = tables.failures(found.frame)
    lines = formats.csv(table.frame).splitlines()
    linked = formats.markdown(table, "failures.csv").splitlines()[-2:]
    for text, (sources,) in zip(linked, table.sources(), strict=True):
        start = int(re.search(r"\(failures\.csv#L(\d+)\)", text)[1]) - 1
        row = pd.read_csv(io.StringIO("\n".join([lines[0], *lines[start:]])), nrows=1)
        assert row.records.item() == sources
    assert "](" not in formats.markdown(table)
    for row, (sources,) in zip(
        latex.latex(table).split("newline")[2:], table.sources(), strict=True
    ):
        assert row.startswith(f" % {sources}\n")


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


def test_a_paper_s_table_has_a_column_an_n_and_only_a_clear_best_bold(tmp_path):
    found = [synthetic.kernel(label, n) for label in ("full", "local") for n in (256, 512, 1024)]
    for record in found:
        if record["config"]["label"] == "local" and record["config"]["n"] == 1024:
            record["metrics"] |= {"seconds_q1": 1e-6, "seconds_q3": 1.0}
    found.append(synthetic.kernel("full", 2048, status="oom", reason="8 GB"))
    found.append(synthetic.kernel("local", 2048))
    (section,), _ = rows(found, tmp_path)
    table = built(section)["scaling-time-forward"]
    assert list(table.frame.label) == ["full", "local"]
    # at 256 they are as good as equal, at 1024 the quartiles are too far apart
    assert table.bold == {(1, "n512")}
    assert table.text()[0][-1] == "oom"
    seconds = synthetic.kernel("full", 256)["metrics"]["seconds"]
    error = 0.93 * (1 + 1.5 / 10) * (1.08 - 0.97) * seconds / 10**0.5
    assert table.frame.n256_stderr[0] == pytest.approx(error)
    assert "jitter within one run" in table.caption


def test_a_best_whose_quartiles_reach_another_s_is_not_bold(tmp_path):
    found = [synthetic.kernel(label, 512) for label in ("full", "local", "strided")]
    seconds = {"local": (1.0, 0.9, 1.3), "strided": (1.2, 1.1, 1.4), "full": (9.0, 8.0, 10.0)}
    for record in found:
        median, q1, q3 = seconds[record["config"]["label"]]
        # a thousand calls: the medians are many standard errors apart
        times = {"seconds": median, "seconds_q1": q1, "seconds_q3": q3, "repeats": 1000}
        record["metrics"] |= times
    (section,), _ = rows(found, tmp_path / "a")
    assert not built(section)["scaling-time-forward"].bold
    for record in found:
        if record["config"]["label"] == "local":
            record["metrics"]["seconds_q3"] = 1.05
    (section,), _ = rows(found, tmp_path / "b")
    assert built(section)["scaling-time-forward"].bold == {(1, "n512")}


@pytest.mark.parametrize("repeats", [3, 5, 7])
def test_the_error_of_a_median_of_few_is_about_that_of_normal_samples(repeats):
    samples = np.random.default_rng(0).normal(size=(20_000, repeats))
    q1, median, q3 = np.quantile(samples, [0.25, 0.5, 0.75], axis=1)
    error = pivots.RATIO * (1 + pivots.OF_FEW / repeats) * (q3 - q1) / repeats**0.5
    assert error.mean() == pytest.approx(median.std(), rel=0.05)


def test_failures_say_where_they_come_from(tmp_path):
    failed = synthetic.kernel("local", 64, status="oom", reason="8 GB")
    found = [synthetic.kernel("full", 64), failed]
    _, read = rows(found, tmp_path)
    assert tables.failures(read.frame).caption == (
        "1 of 2 points (1 oom); dtype float32; commit 0123456789; jax 0.10.2; date 2026-11-21."
    )


def test_every_number_of_a_table_names_its_records(tmp_path):
    _, found = rows(synthetic.scaling() + synthetic.reordering(), tmp_path)
    known = set(found.frame.id)
    for section in frames.sections(found.frame):
        for table in tables.build(section):
            for line, sources in zip(table.text(), table.records(), strict=True):
                for text, ids in zip(line, sources, strict=True):
                    assert ids or not any(map(str.isdigit, text)), (table.name, text)
                    assert set(ids.split()) <= known


def test_memory_is_the_growth_or_as_compiled_where_that_is_more(tmp_path):
    found = [synthetic.kernel("local", n) for n in (256, 512, 1024)]
    held = [record["metrics"]["bytes_compiled"] for record in found]
    found[0]["metrics"]["bytes_measured"] = held[0] // 2
    found[1]["metrics"]["bytes_measured"] = 2 * held[1]
    (section,), _ = rows(found, tmp_path / "a")
    frame = built(section)["scaling-memory-forward"].frame
    assert [frame.n256[0], frame.n512[0]] == [held[0], 2 * held[1]]
    # an accelerator does not tell it of every call: what is known of more of them
    found[0]["metrics"]["bytes_measured"] = None
    (section,), _ = rows(found, tmp_path / "b")
    assert list(built(section)["scaling-memory-forward"].frame.n512) == [held[1]]
