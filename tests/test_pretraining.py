"""Self-pretraining: what is predicted, what goes over to the task, and that it resumes."""

import os
import signal

import jax
import numpy as np
import pytest

import attention_zoo as zoo
from experiments import records, tasks, train
from experiments.training import fields, loop, networks, pretraining, steps
from tests.test_labelled import tiny

LISTOPS = {"train_examples": 60, "val_examples": 20, "test_examples": 20}
POINT = {
    "kind": "train",
    "mechanism": "full",
    "hparams": {},
    "n": 20,
    "task": "listops",
    "task_args": LISTOPS,
    "model": {"width": 16, "depth": 1, "heads": 2, "ff": 8},
    "batch": 6,
    "steps": 4,
    "eval_every": 2,
    "lr": 1e-2,
    "seed": 3,
    "pretrain": {"objective": "masked", "steps": 5},
}
# a write that was interrupted may leave coroutines of orbax behind
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def pretext(objective="masked", **changes):
    point = {
        **fields.OPTIONAL,
        **POINT,
        **changes,
        "pretrain": {"objective": objective, "steps": 5},
    }
    task = tasks.make(point["task"], point["n"], **point["task_args"])
    (_, first), (_, second) = pretraining.stages(point, task)
    return task, first, second


def test_hidden_tokens_are_what_is_asked_for():
    task, first, second = pretext()
    plain, batch = task.batch(0, 1, 60), first.batch(0, 1, 60)
    hidden, real = batch["weights"], plain["mask"]
    assert not (hidden & ~real).any()
    assert abs(hidden.sum() / real.sum() - pretraining.SHARE) < 0.06
    np.testing.assert_array_equal(batch["targets"][hidden], plain["inputs"][hidden])
    np.testing.assert_array_equal(batch["inputs"][~hidden], plain["inputs"][~hidden])
    assert (batch["inputs"][hidden] == task.model["vocab"]).all()
    assert first.model["vocab"] == second.model["vocab"] == task.model["vocab"] + 1
    np.testing.assert_array_equal(first.batch(0, 1, 60)["inputs"], batch["inputs"])
    assert (first.batch(0, 2, 60)["weights"] != hidden).any()


def test_the_next_token_is_what_is_asked_for():
    task, first, second = pretext("causal")
    plain, batch = task.batch(0, 1, 9), first.batch(0, 1, 9)
    np.testing.assert_array_equal(batch["targets"][:, :-1], plain["inputs"][:, 1:])
    np.testing.assert_array_equal(batch["weights"][:, :-1], plain["mask"][:, 1:])
    assert not batch["weights"][:, -1].any()
    assert first.model["kind"] == "decoder"
    assert second.model == task.model


def test_all_but_the_head_goes_over():
    _, first, second = pretext()
    states = [
        steps.start(zoo.Transformer(networks.config_of(POINT | {"dtype": "float32"}, t),
                                    rngs=train.nnx.Rngs(seed)), {**fields.OPTIONAL, **POINT})[2]
        for seed, t in ((0, first), (1, second))
    ]  # fmt: skip
    found = pretraining.transfer(*states)
    for path, leaf in jax.tree.leaves_with_path(found["params"]):
        source = states[path[0].key == "head"]["params"]
        expected = dict(jax.tree.leaves_with_path(source))[path]
        np.testing.assert_array_equal(leaf, expected)
    assert found["optimiser"] is states[1]["optimiser"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train.run_point(POINT, tmp_path_factory.mktemp("undisturbed"))


def timeless(metrics):
    return {key: value for key, value in metrics.items() if "seconds" not in key}


def test_both_stages_are_on_record(tmp_path, undisturbed):
    assert undisturbed["pretrain_steps"] == 5
    assert 0 < undisturbed["pretrain_nats"] < 5
    assert undisturbed["steps"] == 4
    plain = train.run_point({**POINT, "pretrain": None}, tmp_path)
    assert "pretrain_steps" not in plain
    assert plain["loss"] != undisturbed["loss"]
    assert undisturbed["params"] == plain["params"] + 16


@pytest.mark.parametrize("stop", [2, 10])
def test_it_goes_on_to_the_bit(tmp_path, monkeypatch, undisturbed, stop):
    calls, land = [], loop.Run.land

    def interrupted(run, progress, *, flying):
        calls.append(progress.step)
        if len(calls) == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        land(run, progress, flying=flying)

    monkeypatch.setattr(loop.Run, "land", interrupted)
    with pytest.raises(SystemExit):
        train.run_point(POINT, tmp_path)
    monkeypatch.undo()
    name = records.point_id(POINT)
    assert (tmp_path / "checkpoints" / f"{name}-pretraining").is_dir()
    assert (tmp_path / "checkpoints" / name).is_dir() == (stop == 10)
    assert timeless(train.run_point(POINT, tmp_path)) == timeless(undisturbed)
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("objective", ["masked", "causal"])
def test_a_labelled_task_is_pretrained_without_its_own_scores(tmp_path, monkeypatch, objective):
    monkeypatch.setattr(tasks, "make", lambda name, n, **args: tiny(n))
    pretrain = {"objective": objective, "steps": 2}
    found = train.run_point(POINT | {"n": 5, "steps": 2, "pretrain": pretrain}, tmp_path)
    assert found["pretrain_nats"] > 0
    assert np.sum(found["test_confusion"]) == 11


def test_a_kill_in_the_second_stage_costs_nothing_of_the_first(tmp_path, monkeypatch):
    steps_of, step = [], loop.Run.step

    def killed(run, progress, state):
        steps_of.append(run.task.name)
        if not run.task.name.endswith("pretraining"):
            raise KeyboardInterrupt
        return step(run, progress, state)

    monkeypatch.setattr(loop.Run, "step", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train.run_point(POINT | {"checkpoint_every": 3}, tmp_path)
    assert steps_of == ["listops, pretraining"] * 5 + ["listops"] * 2


def test_a_mechanism_that_cannot_is_objected_to():
    causal = POINT | {"pretrain": {"objective": "causal", "steps": 5}}
    assert train.objections(causal) == []
    (reason,) = train.objections(causal | {"mechanism": "fourier"})
    assert "causal=True" in reason
    assert train.objections(POINT | {"mechanism": "fourier"}) == []


@pytest.mark.parametrize(
    ("pretrain", "message"),
    [
        ({"objective": "masked"}, "pretrain has objective and steps, and may have lr"),
        ({"objective": "masked", "steps": 2, "stpes": 2}, "pretrain has objective and steps"),
        (
            {"objective": "rows", "steps": 2},
            "objective must be one of masked, causal, text, got 'rows'",
        ),
        ({"objective": "masked", "steps": 0}, "steps must be a whole number from 1 up, got 0"),
        ({"objective": "masked", "steps": 2, "share": 1.0}, "share must be above 0 and below 1"),
        (
            {"objective": "masked", "steps": 2, "lr": -1},
            "pretrain.lr must be a number from 0 up, got -1",
        ),
        ({"objective": "masked", "steps": 2, "warmup": 3}, r"warmup must be within 0\.\.steps=2"),
    ],
)
def test_bad_pretraining_says_what_would_work(pretrain, message):
    with pytest.raises(ValueError, match=message):
        train.check_point(POINT | {"pretrain": pretrain})


def test_what_cannot_be_pretrained_is_refused():
    with pytest.raises(ValueError, match="takes an encoder, but duplicate has a"):
        pretext(task="duplicate", task_args={})
    with pytest.raises(ValueError, match="pretrain takes tokens, but pathfinder has continuous"):
        pretext(task="pathfinder", n=1024, task_args={"continuous": True})
