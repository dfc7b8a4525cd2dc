"""The report's sections of kinds fidelity and numbers, on synthetic records."""

import numpy as np
import pandas as pd
import pytest

from experiments import plots, report
from experiments.analysis import frames, reading
from experiments.figures import frontier
from experiments.reporting import equal_flops, errors, tables
from tests import synthetic_records as synthetic


def sections(records, tmp_path):
    found = reading.read([synthetic.write(tmp_path / "in", records)])
    assert not found.notes
    return frames.sections(found.frame)


def test_fidelity_has_a_row_a_budget_and_the_range_over_seeds(tmp_path):
    (section,) = sections(synthetic.fidelities(), tmp_path)
    rows = errors.fidelity(section)
    assert len(rows) == 2 * 2 * 7
    row = rows[(rows.label == "rfa") & (rows.inputs == "random") & (rows.n == 256)].iloc[0]
    assert (row.budget, row.value, row.seeds, row.target) == ("features", 16, 3, "full, cosine")
    assert [row.error_min, row.error, row.error_max] == pytest.approx([0.5, 5 / 9, 11 / 18])
    failed = rows[rows.status != "ok"]
    assert set(failed.label) == {"local"}
    assert failed.error.isna().all()


def test_fidelity_headlines_are_the_best_of_the_cheap(tmp_path):
    (section,) = sections(synthetic.fidelities(), tmp_path)
    lines = {words: figure for figure, words, _ in errors.fidelity_lines(section)}
    assert [*lines.values()] == ["0.14", "0.049"]
    assert next(iter(lines)).endswith("random inputs, N = 1,024: rfa, features 256")


def test_a_figure_of_both_kinds_for_each_inputs_and_n(tmp_path):
    (section,) = sections(synthetic.fidelities(), tmp_path)
    names = [drawing.name for drawing in plots.draw(section, {})]
    assert names == [
        f"fidelity-{what}-{inputs}{at}"
        for inputs in ("random", "trained")
        for what, at in (
            ("frontier", "-n256"),
            ("budget", "-n256"),
            ("frontier", "-n1024"),
            ("budget", "-n1024"),
            ("length", ""),
        )
    ]


def test_the_figure_over_n_has_one_budget_that_all_lengths_have(tmp_path):
    (section,) = sections(synthetic.fidelities(), tmp_path)
    rows = frontier.middle(errors.fidelity(section))
    found = {label: set(curve.value.dropna()) for label, curve in rows.groupby("label")}
    assert found == {"local": {64}, "rfa": {64}, "linear": set()}
    assert rows.groupby(["label", "inputs"]).n.nunique().eq(2).all()


def test_error_at_equal_flops_is_exact_on_powers():
    rows = pd.DataFrame(
        {
            "label": "power",
            "target": "full",
            "inputs": "random",
            "n": 256,
            "budget": "window",
            "value": [8, 16, 32, 64],
            "flops_ratio": [0.02, 0.04, 0.16, 0.3],
            "records": ["a", "b", "c", "d"],
        }
    )
    rows["error"] = 3 * rows.flops_ratio**-0.7
    flat = rows[:1].assign(label="flat", budget="", value=np.nan, flops_ratio=0.125, error=2.0)
    found = equal_flops.table(pd.concat([rows, flat], ignore_index=True))
    assert [row["ratio"] for row in found[::2]] == [1 / 16, 1 / 8, 1 / 4, 1 / 2]
    power = [row for row in found if row["label"] == "power"]
    for row in power[:3]:
        assert row["error"] == pytest.approx(3 * row["ratio"] ** -0.7, rel=1e-12)
    brackets = [(row["from_value"], row["to_value"]) for row in power[:3]]
    assert brackets == [(16, 32), (16, 32), (32, 64)]
    assert (power[3]["error"], power[3]["verdict"]) == (None, "out of range: measured 0.02 to 0.3")
    assert [row["label"] for row in found[2:4]] == ["flat", "power"]
    assert found[2]["error"] == pytest.approx(2)
    assert power[0]["records"] == "b c"
    assert [row["verdict"] for row in found[2:4]] == ["measured", "interpolated"]


def test_of_budgets_of_the_same_flops_the_better_one_counts():
    rows = {"label": "local", "target": "full", "budget": "window", "records": list("abc")}
    rows |= {"value": [8, 16, 32], "flops_ratio": [0.1, 0.1, 0.4], "error": [4.0, 2.0, 1.0]}
    row = equal_flops.at(pd.DataFrame(rows), 0.2)
    assert (row["from_value"], row["to_value"]) == (16, 32)
    assert row["error"] == pytest.approx(2**0.5)


def test_numbers_have_a_row_a_mechanism_form_and_dtype(tmp_path):
    (section,) = sections(synthetic.numbers(), tmp_path)
    (table,) = tables.build(section)
    cells = [row[:5] for row in table.text()]
    assert cells[0] == ["fourier", "1,024", "bidirectional", "float32", "1.5e-07"]
    assert [row[3] for row in cells] == ["float32", "bfloat16"] * 4
    assert cells[2][4] == ""
    assert table.text()[2][-1] == "refused: fourier: it has no causal form"
    worst = {words: figure for figure, words, _ in errors.numbers_lines(section)}
    assert list(worst.values()) == ["1.5e-07", "0.0021"]


@pytest.mark.parametrize("kind", ["fidelity", "numbers"])
def test_only_failures_still_report(kind, tmp_path):
    record = {"fidelity": synthetic.fidelities, "numbers": synthetic.numbers}[kind]()[0]
    bad = {**record, "metrics": {}, "status": "error", "reason": "ValueError: no"}
    folder = synthetic.write(tmp_path / "in", [bad])
    assert report.main([str(folder), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "failures.md").read_text()
    assert {"fidelity": "local window 16, random", "numbers": "full bidirectional, float32"}[
        kind
    ] in text


def test_both_are_on_the_page(tmp_path):
    records = synthetic.fidelities() + synthetic.numbers()
    folder = synthetic.write(tmp_path / "in", records)
    out = tmp_path / "out"
    assert report.main([str(folder), "--out", str(out)]) == 0
    page = (out / "index.html").read_text()
    assert "largest relative error of an output in bfloat16: fourier, bidirectional" in page
    assert {"fidelity.csv", "fidelity.tex", "fidelity-equal-flops.tex", "numbers.md"} <= {
        path.name for path in out.iterdir()
    }
