"""Scores of several devices share a table, a point of several counts once, and no time is mixed."""

import pandas as pd
import pytest

from experiments import plots
from experiments.analysis import frames, quality, reading
from experiments.page import charts
from experiments.reporting import tables
from tests import synthetic_records as synthetic
from tests import synthetic_training as training
from tests.synthetic_records import elsewhere
from tests.synthetic_training import by, table


def worse(record):
    """The same point on another device, with another score."""
    return elsewhere(record) | {"metrics": record["metrics"] | {"test_accuracy": 0.1}}


def of_both(tmp_path, here, there):
    synthetic.write(tmp_path / "a", here)
    synthetic.write(tmp_path / "b", there)
    (section,) = frames.sections(reading.read([tmp_path]).frame)
    return section


@pytest.fixture
def of_two_devices(tmp_path):
    """full and linear on the first, local on both, performer on the second; and local's records."""
    names = ("full", "linear", "performer")
    full, linear, performer = (training.train(k, 64, 0, 0.9, task="mqar") for k in names)
    local = [training.train("local", 64, seed, 0.5 + seed / 10, task="mqar") for seed in range(3)]
    again = worse(local[0])
    here, there = [full, linear, *local[:2]], [again, elsewhere(local[2]), elsewhere(performer)]
    return of_both(tmp_path, here, there), local


def test_devices_share_a_table_of_scores_and_a_point_of_both_counts_once(of_two_devices):
    section, local = of_two_devices
    assert (section.name, section.device) == ("mqar", "cpu-synthetic-2c and gpu-x")
    row = by(quality.variants(section, quality.metric_of(section)))["local", 64]
    assert (row["score"], row["seeds"]) == (pytest.approx(0.6), 3)
    assert row["records"] == frames.sources(record["id"] for record in local)
    for name in ("mqar", "mqar-by-n"):
        found = table(section, name)
        shown = [c.header for c in found.columns if c.shown]
        places = {line[0]: line[shown.index("device")] for line in found.text()}
        assert places["local"] == "cpu-synthetic-2c, gpu-x"
        assert places["performer"] == "gpu-x"


@pytest.mark.parametrize(("more", "score"), [(0, 0.5), (2, 0.1)])
def test_of_two_records_of_a_point_that_of_the_device_with_most_counts(tmp_path, more, score):
    one, *others = (training.train("local", 64, seed, 0.5, task="mqar") for seed in range(3))
    # of as many the first by name
    section = of_both(tmp_path, [one], [worse(one), *map(elsewhere, others[:more])])
    frame = section.frame[section.frame.id == one["id"]]
    assert frame["metrics.test_accuracy"].tolist() == [score]


def test_each_device_has_its_own_search_of_a_rate(tmp_path):
    found = [r for r in training.recall() if r["config"].get("role") == "grid"]
    synthetic.write(tmp_path / "a", found)
    synthetic.write(tmp_path / "b", list(map(elsewhere, found)))
    assert [s.name for s in frames.sections(reading.read([tmp_path]).frame)] == [
        "mqar-grid-cpu-synthetic-2c",
        "mqar-grid-gpu-x",
    ]


def test_rates_that_devices_chose_apart_are_named_and_not_averaged(tmp_path):
    one, other = (
        training.train("local", 64, seed, 0.5, task="mqar", metrics={"lr": lr})
        for seed, lr in enumerate((0.001, 0.003))
    )
    section = of_both(tmp_path, [one], [elsewhere(other)])
    (row,) = quality.variants(section, quality.metric_of(section))
    assert row["lr"] == "0.001, 0.003"


def test_a_point_that_failed_on_one_device_counts_where_it_came_through(tmp_path):
    came = training.train("local", 64, 0, 0.5, task="mqar")
    failed = training.train("local", 64, 0, 0.5, "oom", "no room", task="mqar")
    section = of_both(tmp_path, [failed], [elsewhere(came)])
    (row,) = quality.variants(section, quality.metric_of(section))
    assert (row["status"], row["device"]) == ("ok", "gpu-x")
    assert tables.failures(reading.read([tmp_path]).frame).frame.empty


def test_a_seed_that_failed_elsewhere_gives_no_device(tmp_path):
    came = training.train("local", 64, 0, 0.5, task="mqar")
    failed = training.train("local", 64, 1, 0.5, "oom", "no room", task="mqar")
    section = of_both(tmp_path, [came], [elsewhere(failed)])
    (row,) = quality.variants(section, quality.metric_of(section))
    assert row["device"] == "cpu-synthetic-2c"
    assert row["seconds_per_step"] is not None


def test_a_line_over_n_has_the_time_of_its_longest_or_none(tmp_path):
    """Here that of N = 128 is of two devices."""
    short, *long = (
        training.train("full", n, seed, 0.9, task="mqar")
        for n, seed in ((64, 0), (128, 0), (128, 1))
    )
    section = of_both(tmp_path, [short, long[0]], [elsewhere(long[1])])
    row = table(section, "mqar-by-n").frame.iloc[0]
    assert pd.isna(row.seconds_per_step)
    assert row.device == "cpu-synthetic-2c, gpu-x"
    # one N is of one device, the longest of another
    section = of_both(tmp_path, long, [elsewhere(short)])
    assert pd.isna(table(section, "mqar-by-n").frame.iloc[0].seconds_per_step)
    section = of_both(tmp_path, [short, *long], [])
    row = table(section, "mqar-by-n").frame.iloc[0]
    assert row.seconds_per_step == long[0]["metrics"]["seconds_per_step"]


def test_times_of_several_devices_are_never_mixed(of_two_devices):
    section, _ = of_two_devices
    models = quality.variants(section, quality.metric_of(section))
    assert by(models)["local", 64]["seconds_per_step"] is None
    timed, words = quality.of_one_device(models)
    assert {row["label"] for row in timed} == {"full", "linear"}
    assert words == ["times: cpu-synthetic-2c", "of other devices, or several: local, performer"]
    (drawing,) = (d for d in plots.draw(section, {}) if d.name == "mqar-speed")
    texts = " ".join(text.get_text() for text in drawing.figure.axes[0].texts)
    assert "; ".join(words) in " ".join(texts.split())
    (chart,) = (c for c in charts.build([section], {}) if c["name"] == "accuracy")
    speeds = {row["label"] for row in chart["rows"] if "speed" in row}
    assert speeds == {"full", "linear"}
    assert {row["device"] for row in chart["rows"]} == {section.device}
