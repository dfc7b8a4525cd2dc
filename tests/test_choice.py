"""A learning rate from the records of a grid's points: what is chosen, and in which order."""

import types

import ml_collections
import pytest

from experiments import records, sweep
from experiments.measuring import environment
from experiments.running import configuration, worker
from experiments.training import choice

ENV = {"device": "stub-device"}
POINT = {
    "experiment": "stub",
    "kind": "tests.stub_points",
    "label": "a",
    "n": 256,
    "does": "work",
    "role": "final",
    "seed": 2,
    "lr": {"grid": [1e-3, 1e-2, 1e-1], "at": {"n": 64, "role": "grid", "seed": 0}},
}


def scored(folder, scores, **fields):
    """The grid's points with these scores, steps and losses, if any, on record; None for one that
    was lost."""
    store, point = records.Store(folder), POINT | fields
    for candidate, found in zip(choice.grid_of(point), scores, strict=True):
        if found is None:
            record = records.make(candidate, "nan", reason="the loss is nan at step 3", env=ENV)
        else:
            names = ("val_accuracy_best", "best_step", "val_loss_best")
            metrics = dict(zip(names, found, strict=False))
            record = records.make(candidate, "ok", metrics=metrics, env=ENV)
        store.write(record)
    return point


def chosen_of(point, folder, *, higher_is_better=True):
    get = records.Store(folder).get
    return choice.choose(point, get, "accuracy", higher_is_better=higher_is_better)


def test_the_grid_differs_in_what_it_says_alone():
    first, *_ = found = choice.grid_of(POINT)
    assert [point["lr"] for point in found] == [1e-3, 1e-2, 1e-1]
    assert first == POINT | {"n": 64, "role": "grid", "seed": 0, "lr": 1e-3}
    assert choice.grid_of(first) == []


@pytest.mark.parametrize(
    ("scores", "better", "target", "best"),
    [
        ([(0.5, 9), (0.7, 9), (0.6, 9)], True, None, 1e-2),
        ([(0.5, 9), (0.7, 9), (0.6, 9)], False, None, 1e-3),
        ([(0.5, 9), None, (0.6, 9)], True, None, 1e-1),
        # both are enough: the earlier
        ([(0.995, 9), (0.999, 8), (0.992, 7)], True, 0.99, 1e-1),
        ([(0.995, 9), (0.999, 8), (0.98, 7)], True, 0.99, 1e-2),
        ([(2.5, 9), (2.1, 8), (2.2, 7)], False, 2.3, 1e-1),
        # of equal scores the lower loss, of equal ones without losses the earlier
        ([(0.8, 7, 0.5), (0.8, 9, 0.4), (0.7, 9, 0.3)], True, None, 1e-2),
        ([(0.8, 9), (0.8, 7), (0.7, 9)], True, None, 1e-2),
        # what is enough is enough
        ([(0.995, 9, 0.1), (0.999, 8, 0.2), (0.992, 7, 0.3)], True, 0.99, 1e-1),
    ],
)
def test_the_best_on_validation_is_chosen(tmp_path, scores, better, target, best):
    point = scored(tmp_path, scores, target=target)
    chosen, told = chosen_of(point, tmp_path, higher_is_better=better)
    assert chosen == told["lr"] == best
    columns = [f"val_accuracy_best@lr={lr:g}" for lr in (1e-3, 1e-2, 1e-1)]
    assert [told[column] for column in columns] == [s and s[0] for s in scores]


def test_a_number_is_what_it_is():
    point = POINT | {"lr": 0.25}
    assert choice.choose(point, {}.get, "x", higher_is_better=True) == (0.25, {"lr": 0.25})


@pytest.mark.parametrize("retry", [True, "2026-11-30T00:00:00+00:00"])
@pytest.mark.parametrize("better", [False, True])
def test_a_rate_that_is_retried_is_chosen_from(tmp_path, retry, better):
    """The greater a stub's rate the better; the greatest of the grid, or the least, timed out."""
    point, store = POINT | {"does": "learn"}, records.Store(tmp_path)
    grid = choice.grid_of(point)
    late = grid[2] if better else grid[0]
    record = records.make(late, "timeout", env=ENV)
    record["env"]["date"] = "2026-11-29T00:00:00+00:00"
    store.write(record)
    settings, points = sweep.Settings(isolate="none"), [*grid, point]

    def run(**asked):
        sweep.run(points, store, settings, ENV, **asked)
        log = (tmp_path / "measured.log").read_text().splitlines()
        return store.get(records.point_id(point))["metrics"]["lr"], len(log)

    assert run() == (1e-2 if better else 1e-1, 3)
    assert run() == (1e-2 if better else 1e-1, 3)
    assert sweep.pending(points, store, retry=retry) == [late, point]
    # the point's own training is done again only where it is another
    assert run(retry=retry) == (1e-1, 5 if better else 4)
    assert run(retry=retry) == (1e-1, 5 if better else 4)
    assert sweep.pending(points, store, retry=retry) == []


def test_where_none_came_to_its_end_the_reasons_are_told(tmp_path):
    point = scored(tmp_path, [None, None, None])
    with pytest.raises(choice.NoneChosenError, match=r"no lr .*0\.001: nan, the loss is"):
        chosen_of(point, tmp_path)


def test_a_missing_record_is_named(tmp_path):
    name = records.point_id(choice.grid_of(POINT)[0])
    with pytest.raises(choice.NoneChosenError, match=f"{name} with lr=0.001 has no record"):
        chosen_of(POINT, tmp_path)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (-1.0, "lr must be a number from 0 up, got -1.0"),
        (True, "lr must be a number from 0 up, got True"),
        ("fast", "lr must be a number from 0 up, got 'fast'"),
        ({"grid": [1e-3]}, 'lr must be a number or {"grid": numbers, "at": fields}, got'),
        ({"grid": [], "at": {}}, "lr's grid must have a number, got none"),
        ({"grid": [float("nan")], "at": {}}, "lr's grid must be a number from 0 up, got nan"),
    ],
)
def test_a_bad_rate_says_what_would_work(rate, message):
    with pytest.raises(ValueError, match=message):
        choice.check(rate)


def swept(*points):
    """The points of a config that lists these."""
    module = types.SimpleNamespace(get_sweep=lambda config: points)
    return configuration.points(module, ml_collections.ConfigDict())


def test_the_runner_adds_what_is_required_once_and_before():
    others = [POINT | {"seed": seed} for seed in (3, 4)]
    found = swept(POINT, *others)
    assert found == [*choice.grid_of(POINT), POINT, *others]


def test_points_wait_for_what_another_runner_measures(tmp_path, monkeypatch):
    points = swept(POINT)
    store = records.Store(tmp_path)
    elsewhere, claim = records.point_id(points[1]), store.claim
    monkeypatch.setattr(store, "claim", lambda id: _not_mine() if id == elsewhere else claim(id))
    settings = sweep.Settings(isolate="none")
    held = sweep.run(points, store, settings, ENV)
    assert held == [points[1], POINT]
    assert len(store.all()) == 2
    store.write(records.make(points[1], "ok", env=ENV))
    assert sweep.run(points, store, settings, ENV) == []
    assert store.get(records.point_id(POINT))["status"] == "ok"
    store.close()


class _not_mine:  # noqa: N801, a context manager
    def __enter__(self):
        return False

    def __exit__(self, *_):
        pass


def test_a_training_point_without_a_grid_is_a_row(tmp_path):
    point = {
        "kind": "train",
        "mechanism": "full",
        "hparams": {},
        "n": 8,
        "task": "duplicate",
        "lr": {"grid": [1e-3], "at": {"seed": 0}},
        "seed": 1,
        "batch": 2,
        "steps": 1,
        "eval_every": 1,
        "model": {"width": 8, "depth": 1, "heads": 1, "ff": 8},
    }
    outcome = worker.perform(point, tmp_path)
    assert outcome["status"] == "error"
    assert "has no record" in outcome["reason"]


@pytest.mark.parametrize("other", ["seed", "n", "width"])
def test_another_training_is_not_the_grids(tmp_path, monkeypatch, other):
    monkeypatch.setattr(environment, "facts", lambda: ENV)
    at = {"role": "grid", "seed": 2, "n": 256}
    point = scored(tmp_path, [(0.5, 9), (0.7, 9), None], lr={**POINT["lr"], "at": at})
    assert choice.same_training(point, 1e-2, tmp_path)["metrics"]["val_accuracy_best"] == 0.7
    at[other] = 1
    point = scored(tmp_path, [(0.5, 9), (0.7, 9), None], lr={**POINT["lr"], "at": at})
    assert choice.same_training(point, 1e-2, tmp_path) is None
    assert choice.same_training(POINT | {"lr": 1e-2}, 1e-2, tmp_path) is None
