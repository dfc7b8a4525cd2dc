"""Forecasting: windows, splits, the window's own scale, and the rows to beat."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import records, run, train
from experiments.analysis import published
from experiments.measuring.environment import ROOT
from experiments.tasks import forecast, series, sources
from experiments.training import prediction, steps
from tests.test_real_tasks import folder, real

__all__ = ["folder"]
N, HORIZON = 12, 5


@pytest.fixture
def waves(monkeypatch):
    """A made series of two channels: a period of 8 rows and noise of fixed numbers."""
    rows = np.arange(400)
    noise = np.random.default_rng(0).normal(size=(400, 2))
    values = np.stack([np.sin(2 * np.pi * rows / 8), 3 + 2 * np.cos(2 * np.pi * rows / 8)], 1)
    splits = series.borders("exchange_rate", 400)
    monkeypatch.setattr(series, "read", lambda name: (values + 0.05 * noise, splits))
    monkeypatch.setitem(series.PERIODS, "exchange_rate", 8)
    forecast._least_squares.cache_clear()
    yield values + 0.05 * noise
    forecast._least_squares.cache_clear()


def made(**args):
    return forecast.make(N, **{"series": "exchange_rate", "horizon": HORIZON, **args})


def test_every_window_of_the_test_rows_is_scored_once(waves):
    task = made()
    held = list(task.held_out("test", 7))
    real = np.concatenate([batch["weights"] for batch in held])
    targets = np.concatenate([batch["targets"] for batch in held])[real]
    # 80 test rows; the look-back of the first window lies before them
    assert len(targets) == 2 * (80 - HORIZON + 1) == 2 * task.facts["test_windows"]
    assert len(targets) == prediction.examples(task, "test")
    np.testing.assert_allclose(targets[0], waves[320 : 320 + HORIZON, 0], rtol=1e-6)
    np.testing.assert_allclose(targets[-1], waves[400 - HORIZON :, 1], rtol=1e-6)


def test_training_windows_never_reach_the_other_splits(waves):
    task = made()
    seen = task.batch(0, 0, 400)
    back = seen["inputs"][..., 0] * seen["deviation"][:, None] + seen["mean"][:, None]
    rows = np.concatenate([back, seen["targets"]], 1)
    distance = np.abs(rows.reshape(-1, 1) - waves[:280].reshape(1, -1)).min(1)
    assert distance.max() < 1e-5
    np.testing.assert_array_equal(seen["inputs"], task.batch(0, 0, 400)["inputs"])
    np.testing.assert_allclose(seen["inputs"].mean(1), 0, atol=1e-5)


def test_mixed_channels_are_the_same_windows_together(waves):
    task, alone = made(mixed=True), made()
    assert prediction.examples(alone, "val") == 2 * prediction.examples(task, "val") > 0
    together = list(task.held_out("test", 7))
    real = np.concatenate([batch["weights"] for batch in together])
    targets = np.concatenate([batch["targets"] for batch in together])[real]
    inputs = np.concatenate([batch["inputs"] for batch in together])[real]
    assert inputs.shape == (task.facts["test_windows"], N, 2)
    asked = {name: task.model[name] for name in ("features", "classes", "outputs", "ahead")}
    assert asked == {"features": 2, "classes": 2, "outputs": "ahead", "ahead": HORIZON}
    np.testing.assert_allclose(inputs[3], waves[311 : 311 + N], rtol=1e-6)
    np.testing.assert_allclose(targets[3], waves[323 : 323 + HORIZON].reshape(-1), rtol=1e-6)
    # nothing is given back, and as many numbers are scored
    sums = [
        sum(
            float(forecast.sums(0 * batch["targets"].reshape(-1, HORIZON, 2), batch)[key])
            for batch in together
        )
        for key in ("loss", "count")
    ]
    np.testing.assert_allclose(sums, [(targets**2).sum(), targets.size], rtol=1e-5)
    assert targets.size == 2 * HORIZON * alone.facts["test_windows"]
    seen = task.batch(0, 0, 400)["targets"].reshape(-1, 2)
    assert np.abs(seen.reshape(-1, 1, 2) - waves[None, :280]).max(-1).min(1).max() < 1e-5


def test_errors_are_of_the_values_themselves(waves):
    """A forecast of 0 in the window's scale is its mean."""
    batch = next(made().held_out("test", 16))
    found = forecast.sums(jnp.zeros((16, HORIZON)), batch)
    errors = batch["targets"] - batch["mean"][:, None]
    np.testing.assert_allclose(found["loss"], (errors**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(found["absolute"], np.abs(errors).sum(), rtol=1e-5)
    assert found["count"] == 16 * HORIZON


def test_rules_of_a_periodic_series(waves):
    rules = made().oracles()
    assert rules["seasonal_mse"] < 0.1 * rules["last_value_mse"]
    # the best linear map knows the period, and averages the noise away
    assert rules["linear_mse"] < rules["seasonal_mse"]
    assert rules["nlinear_mse"] == pytest.approx(rules["linear_mse"], rel=0.1)
    assert set(rules) == {
        f"{rule}_{metric}"
        for rule in ("last_value", "seasonal", "linear", "nlinear")
        for metric in ("mse", "mae")
    }


def test_a_model_learns_the_period(waves, tmp_path):
    point = {
        **{"kind": "train", "task": "forecast", "n": N, "seed": 0, "batch": 32},
        "task_args": {"series": "exchange_rate", "horizon": HORIZON},
        "model": {
            **{"inputs": "patches", "patch": 4, "patch_stride": 2},
            **{"width": 16, "depth": 1, "heads": 2, "ff": 16},
        },
        **{"mechanism": "full", "hparams": {}, "steps": 150, "eval_every": 75, "lr": 1e-2},
    }
    train.check_point(point)
    assert train.objections(point) == []
    metrics = train.run_point(point, tmp_path)
    assert metrics["test_mse"] < 0.5 * metrics["last_value_mse"]
    assert 0 < metrics["test_mae"] < 1
    # 5 patches of the flat head
    assert metrics["params_length_sized"] == 5 * 16 + 5 * 16 * HORIZON


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"mixed": 1}, "mixed must be True or False, got 1"),
        ({"horizon": 0}, "horizon must be a whole number from 1 up"),
        ({"horizon": 300}, r"n \+ horizon must fit the 280 rows that exchange_rate has to train"),
    ],
)
def test_impossible_forecasts_are_refused(waves, args, words):
    with pytest.raises(ValueError, match=words):
        made(**args)


def test_unknown_series_are_named():
    with pytest.raises(ValueError, match=r"series must be one of ETTh1, .*got 'ETTh3'"):
        forecast.make(96, series="ETTh3")


def test_an_evaluation_gives_every_metric(waves):
    task = made()
    found = steps.evaluate(
        lambda params, buffers, batch: forecast.sums(jnp.zeros((9, HORIZON)), batch),
        task,
        "test",
        9,
        {"params": None, "buffers": None},
    )
    assert set(found) == {"loss", "mse", "mae"}
    assert found["loss"] == pytest.approx(found["mse"])


@real
@pytest.mark.parametrize(
    ("name", "shape"),
    [("ETTh1", (17420, 7)), ("weather", (52696, 21)), ("illness", (966, 7))],
)
def test_files_have_the_published_shape(folder, name, shape):
    series.read.cache_clear()
    values, splits = series.read(name)
    assert values.shape == shape
    train_rows = values[slice(*splits["train"])]
    np.testing.assert_allclose(train_rows.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(train_rows.std(0), 1)
    assert sources.DATASETS[series.FILES[name][0]].citation


@real
def test_the_published_linear_figure_comes_out(folder):
    """DLinear's .375 at look-back 336, horizon 96; its repeated last value 1.295."""
    series.read.cache_clear()
    rules = forecast.make(336, series="ETTh1", horizon=96).oracles()
    assert rules["linear_mse"] == pytest.approx(0.375, abs=0.02)
    assert rules["last_value_mse"] == pytest.approx(1.295, abs=0.01)


@real
@pytest.mark.parametrize("name", ["ETTh1", "ETTh2", "ETTm1", "weather", "exchange_rate", "illness"])
def test_the_repeated_last_value_has_the_published_errors(folder, name):
    """To the last digit in all 24 cells, of the windows that the published loader leaves: it drops
    the last batch of 32, which of illness are up to a fifth of them and a sixth of the error."""
    series.read.cache_clear()
    values, splits = series.read(name)
    figures = published.figures()
    figures = figures[
        (figures.model == "Repeat") & figures.task.str.startswith(f"forecast-{name}-")
    ]
    assert len(figures) == 4
    for row in figures.itertuples():
        horizon = int(row.task.split("-")[-1])
        ends = forecast._starts(splits["test"], 96, horizon) + 95
        some = ends[: len(ends) // 32 * 32]
        errors = [((values[some + k] - values[some]) ** 2).mean() for k in range(1, horizon + 1)]
        assert np.mean(errors) == pytest.approx(row.value, abs=5e-4)
        if horizon == 24:
            whole = [((values[ends + k] - values[ends]) ** 2).mean() for k in range(1, horizon + 1)]
            task = forecast.make(96, name, horizon)
            assert np.mean(whole) == pytest.approx(task.oracles()["last_value_mse"], rel=1e-6)


@real
def test_committed_forecasts_took_about_as_long_as_predicted(folder):
    """From their start to their record: much of that they evaluate."""
    series.read.cache_clear()
    # a core of those machines multiplies matrices at 118 GFLOP/s
    ratios = []
    for found in records.load(ROOT / "results" / "accuracy-forecast"):
        point, took = found["config"], found["metrics"]
        whole = took.get("steps") == point["steps"] and "same_training" not in took
        if whole and "elapsed" in found["env"]:
            ratios.append(run.predicted(point, 118e9)[1] / found["env"]["elapsed"])
    assert len(ratios) > 20
    assert 0.75 < np.median(ratios) < 1.5
