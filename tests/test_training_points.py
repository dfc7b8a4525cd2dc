"""Points of trainings: what is refused and why, and a sweep of which all are taken."""

import pytest

from configs import language as language_config
from experiments import records, tasks, train
from tests.alphabet import POINT, alphabet


@pytest.fixture(autouse=True)
def _no_data(monkeypatch):
    monkeypatch.setattr(tasks, "make", lambda name, n, **args: alphabet(n))


def test_a_mechanism_that_cannot_is_objected_to():
    assert train.objections(POINT) == []
    found = train.objections(POINT | {"mechanism": "fourier"})
    assert len(found) == 1
    assert "causal=True" in found[0]


def test_the_language_sweep_is_sound():
    config = language_config.get_config()
    points = language_config.get_sweep(config)
    assert len({records.point_id(point) for point in points}) == len(points) == 90
    assert {point["batch"] * point["n"] for point in points} == {config.tokens}
    for point in points[:: len(config.seeds)]:
        train.check_point(point)
        assert train.objections(point) == []


def test_a_length_past_the_tokens_of_a_step_is_refused():
    config = language_config.get_config()
    config.lengths = (256, 8192)
    with pytest.raises(ValueError, match="lengths must be at most tokens=4096 a step, got 8192"):
        language_config.get_sweep(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be a whole number from 1 up, got 0"),
        ({"batch": 2.5}, "batch must be a whole number from 1 up, got 2.5"),
        ({"eval_hparams": {"a": {"windw": 3}}}, "full has no hyperparameter 'windw'"),
        ({"schedule": "linear"}, "schedule must be one of cosine, rsqrt, got 'linear'"),
        ({"lr": -1.0}, "lr must be a number from 0 up, got -1.0"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295, got -1"),
        ({"patience": 0}, "patience must be a whole number from 1 up, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be a whole number from 1 up, got 0"),
        ({"target": float("nan")}, "target must be a number that is finite, or None, got nan"),
        ({"target": "all"}, "target must be a number that is finite, or None, got 'all'"),
        ({"clip": -1.0}, r"clip must be a number above 0, got -1\.0"),
        ({"clip": float("nan")}, "clip must be a number above 0, got nan"),
        ({"weight_decay": -0.1}, r"weight_decay must be a number from 0 up, got -0\.1"),
        ({"final_lr": 2}, "final_lr must be a number from 0 to 1, got 2"),
        ({"beta2": 1.0}, r"beta2 must be a number from 0 up and below 1, got 1\.0"),
        ({"warmup": 13}, r"warmup must be within 0\.\.steps=12, got 13"),
        ({"microbatches": 4}, "microbatches=4 must divide batch=6"),
        ({"mechanism": "fulll"}, "unknown mechanism 'fulll'.*did you mean 'full'"),
        ({"hparams": {"windw": 3}}, "full has no hyperparameter 'windw'"),
        ({"model": {"widht": 16}}, "model has no field 'widht'; it has .*width"),
        ({"model": {"width": 15, "heads": 2}}, "heads=2 must divide width=15"),
        ({"dtype": "float8"}, "dtype must be one of float32, bfloat16, got 'float8'"),
    ],
)
def test_bad_points_say_what_would_work(changes, message):
    train.check_point(POINT)
    with pytest.raises(ValueError, match=message):
        train.check_point(POINT | changes)
