"""The table of who uses a longer past."""

from experiments import page, plots
from experiments.analysis import frames, reading
from experiments.reporting import overviews, tables
from tests import synthetic_records as synthetic
from tests import synthetic_training as training


def forecast(label, n, seed, test, val, **metrics):
    known = {"test_mse": test, "val_mse_best": val, **metrics}
    lr = {"grid": [1e-3, 1e-2], "at": {"role": "grid"} | ({"n": 336} if n != 336 else {})}
    task = {"task": "forecast", "experiment": "forecast-ETTh1-96", "lr": lr}
    return training.train(label, n, seed, test, metrics=known, **task)


def made(folder, found):
    synthetic.write(folder, found)
    sections = overviews.with_overviews(frames.sections(reading.read([folder]).frame))
    return [section for section in sections if section.kind == "lookback"]


def test_the_look_back_is_chosen_on_validation(tmp_path):
    costs = [
        {"flops_per_step": f, "seconds_per_step": s}
        for f, s in ((1e9, 0.1), (3e9, 0.2), (9e9, 0.4))
    ]
    found = [
        # the test split alone would choose 720, and 96 for local
        forecast("full", 96, 0, 0.40, 0.7, **costs[0]),
        forecast("full", 96, 1, 0.42, 0.7, **costs[0]),
        forecast("full", 336, 0, 0.36, 0.5, **costs[1]),
        forecast("full", 336, 1, 0.38, 0.5, **costs[1]),
        forecast("full", 720, 0, 0.30, 0.6, **costs[2]),
        *(forecast("local", n, 0, 0.3 + n / 1e4, 0.5 + n / 1e4) for n in (96, 336, 720)),
        *(forecast("linear", n, 0, 0.2, 0.5) for n in (96, 336)),
    ]
    (section,) = made(tmp_path, found)
    assert section.name == "forecast-ETTh1-96-lookback"
    assert plots.draw(section, {}) == []
    (table,) = tables.build(section)
    assert [row[:12] for row in table.text()] == [
        ["local", "96", "0.3096 (1)", "96", "0.3096 (1)", "", "1.00", "1.00",
         "720", "0.3720 (1)", "1.00", "1.47"],
        ["full", "96", "0.4100 ± 0.0100 (2)", "336", "0.3700 ± 0.0100 (2)", "0.0400 ± 0.0141",
         "3.00", "2.00", "720", "0.3000 (1)", "9.00", "4.00"],
    ]  # fmt: skip
    assert "the rate that was chosen at 336" in table.caption
    ((line),) = page.headlines(section)
    assert line["figure"] == "1 of 2"
    assert line["words"].endswith("a longer look-back than the shortest: 336")


def test_two_look_backs_make_no_table(tmp_path):
    assert made(tmp_path, [forecast("full", n, 0, 0.4, 0.6) for n in (96, 336)]) == []
    other = [training.train("full", n, 0, 0.9, task="mqar") for n in (64, 128, 256)]
    assert made(tmp_path / "other", other) == []
