"""The table of a series over its horizons."""

import numpy as np

from experiments import page, plots, records
from experiments.analysis import fits, frames, published, reading
from experiments.measuring.environment import ROOT
from experiments.reporting import horizons, overviews, quality_tables, tables
from tests import synthetic_records as synthetic
from tests import synthetic_training as training


def sections_of(folder, records):
    synthetic.write(folder, records)
    return overviews.with_overviews(frames.sections(reading.read([folder]).frame))


def test_a_row_is_a_look_back_and_what_was_published_for_it_stands_beside(tmp_path):
    (section,) = [s for s in sections_of(tmp_path, training.forecasts()) if s.kind == "horizons"]
    assert section.name == "forecast-ETTh1"
    (table,) = tables.build(section)
    headers = [column.header for column in table.columns if column.shown]
    assert headers[:7] == ["mean squared error, horizon", "look-back", "96", "published", "192",
                           "published", "published as"]  # fmt: skip
    rows = {tuple(row[:2]): row for row in table.text()}
    assert len(rows) == 3 * 2 + 2
    assert rows["full", "336"][2:7] == ["0.4629 ± 0.0005 (2)", "0.375", "0.5584 (1)", "0.414",
                                        "PatchTST/42"]  # fmt: skip
    # of the look-back it was published for, and by its own name before its mechanism's
    assert rows["full", "96"][3] == rows["probsparse", "336"][3] == ""
    assert rows["DLinear", "336"][5] == "0.405"
    # the geometric mean of the horizons, without 192, whose .5584 does not beat a period before
    assert rows["full", "336"][7] == f"{0.4629 / 0.375:.2f}"
    assert "What is published differs: the published PatchTST has three layers" in table.caption
    # the same at both look-backs: of none
    assert rows["a period before", ""][2] == "0.5000"
    # and so is the published one
    assert rows["last value", ""][2:7] == ["5.0000", "1.295", "5.0000", "1.325", "Repeat"]
    assert next(iter(rows)) == ("full", "96")
    assert plots.draw(section, {}) == page.headlines(section) == []


def test_a_rule_has_no_row_of_look_backs_that_its_horizon_lacks(tmp_path):
    at = {"experiment": "forecast-ETTh1-96", "task_args": {"series": "ETTh1", "horizon": 96}}
    longer = training.train("full", 720, 0, 0.4, task="forecast", **at)
    found = sections_of(tmp_path, [*training.forecasts(), longer])
    (section,) = [s for s in found if s.kind == "horizons"]
    (table,) = tables.build(section)
    rules = [row[:2] for row in table.text() if row[-1] == "no model"]
    assert rules == [["a period before", ""], ["last value", ""]]


def test_the_words_on_what_is_published_have_the_figures_of_the_records():
    mixed, patched = (
        [r for r in records.load(ROOT / "results" / name) if r["config"]["role"] == "final"]
        for name in ("accuracy-forecast-mixed", "accuracy-forecast")
    )
    near = [r for r in mixed if r["config"]["task_args"]["horizon"] == 96]
    names = ("probsparse", "auto_correlation", "fourier_enhanced", "lsh")
    same = [r for r in patched if r["config"]["experiment"] == "forecast-ETTh1-96"]
    same = [r for r in same if r["config"]["n"] == 96 and "intel" in r["env"]["device"]]
    scores = [_mean(same, name) for name in names]
    of = {label: _three(_mean(near, label)) for label in {r["config"]["label"] for r in near}}
    known = published.of("forecast-mixed-ETTh1-96", "mse")
    theirs = dict(zip(known.model, map(_three, known.value), strict=True))
    (early,) = [
        r["metrics"]
        for r in mixed
        if r["config"]["label"] == "fourier_enhanced, decomposed"
        and r["config"]["task_args"]["horizon"] == 336
    ]
    words = known.ours.iloc[0]
    for figures in (
        f"96 {of['fourier_enhanced, decomposed']} with both and {of['fourier_enhanced']} without)",
        f"auto_correlation ({of['auto_correlation, decomposed']} and {of['auto_correlation']})",
        f"full ({of['full, decomposed']} and {of['full']})",
        f"through those means alone ({of['none, decomposed']} and {of['none']})",
        f"probsparse has {of['probsparse']} where it has {theirs['Informer']}",
        f"ahead of Reformer there ({of['lsh']}, published {theirs['Reformer']})",
        f"at horizon 336 at step {early['best_step']} of {early['steps']}",
        f"{_three(min(scores))} to {_three(max(scores))} at horizon 96",
    ):
        assert figures in words
    for label, decides in {
        "fourier_enhanced": True,
        "none": True,
        "auto_correlation": False,
        "full": False,
    }.items():
        pair = [_scores(near, f"{label}, decomposed"), _scores(near, label)]
        errors = [fits.standard_error(scores) for scores in pair]
        gain = np.mean(pair[1]) - np.mean(pair[0])
        assert fits.is_clear(gain, errors, [*map(len, pair)]) == decides


def _scores(found, label):
    return [r["metrics"]["test_mse"] for r in found if r["config"]["label"] == label]


def _mean(found, label):
    return np.mean(_scores(found, label))


def _three(value):
    return f"{value:.3f}".removeprefix("0")


def test_what_is_too_far_off_is_said_and_not_drawn(tmp_path):
    found = sections_of(tmp_path, training.forecasts())
    (section,) = [s for s in found if s.name == "forecast-ETTh1-96"]
    drawing = plots.draw(section, {})[0]
    far = "last value 5.000, NLinear 0.374, Repeat 1.295"
    assert drawing.caption.endswith(f"Too far off to draw: {far}.")
    (ax,) = drawing.figure.axes
    assert ax.get_ylim()[1] < 0.9
    texts = [text.get_text() for text in ax.texts]
    assert any(text.startswith("a period before") for text in texts)


def test_another_size_or_one_horizon_alone_is_not_joined(tmp_path):
    records = training.forecasts(size="small") + training.forecasts((96,), size="full")
    found = sections_of(tmp_path, records)
    (section,) = [s for s in found if s.kind == "horizons"]
    assert set(section.frame["config.size"]) == {"small"}


def test_the_other_error_stands_in_the_table_of_scores(tmp_path):
    found = sections_of(tmp_path, training.forecasts())
    (section,) = [s for s in found if s.name == "forecast-ETTh1-96"]
    (table,) = [t for t in quality_tables.tables(section, "") if t.name.endswith("-scores")]
    rows = {tuple(row[:2]): row for row in table.text()}
    assert rows["full", "96"][3] == "0.5069 ± 0.0005 (2)"
    assert rows["a period before", "96"][2:4] == ["0.5000", "0.4000"]
    assert horizons.sections([section]) == []
