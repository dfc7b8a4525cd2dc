import dataclasses
import functools
import gc
import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments import checkpoint, records, run, tasks, train
from experiments.measuring import environment
from experiments.running import progress, worker
from experiments.training import fields, loop, prediction
from tests.alphabet import POINT, alphabet

# a write that was interrupted may leave coroutines of orbax behind
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _collected():
    yield
    gc.collect()


@pytest.fixture(autouse=True, scope="module")
def _compiled_once(tmp_path_factory):
    """Most tests run one program: compile it once."""
    folder = str(tmp_path_factory.mktemp("compiled"))
    settings = {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(autouse=True)
def at(monkeypatch):
    """Hooks by step."""
    hooks = {}

    def make(name, n, **args):
        return alphabet(n, lambda step: hooks.get(step, lambda: None)())

    monkeypatch.setattr(tasks, "make", make)
    return hooks


def curve(out, point):
    path = out / "curves" / f"{records.point_id(point)}.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def arrays(out, point, step=12):
    folder = out / "checkpoints" / records.point_id(point) / str(step)
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder / "arrays")


def timeless(metrics):
    return {key: value for key, value in metrics.items() if "seconds" not in key}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "make", lambda name, n, **args: alphabet(n))
        metrics = train.run_point(POINT, out)
    return metrics, curve(out, POINT), arrays(out, POINT)


def assert_same_run(out, metrics, undisturbed):
    assert timeless(metrics) == timeless(undisturbed[0])
    assert curve(out, POINT) == undisturbed[1]
    found = arrays(out, POINT)
    assert found.keys() == undisturbed[2].keys()
    for name, array in undisturbed[2].items():
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(array), err_msg=name)


def test_a_run_reports_what_it_did(undisturbed):
    metrics, lines, _ = undisturbed
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert metrics["val_bpb_last"] == lines[-1]["val_bpb"]
    assert metrics["val_bpb_best"] == min(line["val_bpb"] for line in lines)
    assert (metrics["steps"], metrics["tokens_per_step"], metrics["uniform_bpb"]) == (12, 78, 8.0)
    assert metrics["loss"] == lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert metrics["data"] == "alphabet"
    assert metrics["lr"] == POINT["lr"]
    # keys and values of 13 tokens and of one sequence
    assert metrics["decode_state_bytes"] >= 4 * 2 * 13 * 16
    assert metrics["params_length_sized"] == 13 * 16 < metrics["params"]
    for name in ("test_bpb", "flops_per_step", "seconds_per_step", "params", "bytes_compiled"):
        assert metrics[name] > 0
    json.dumps(metrics, allow_nan=False)


def test_the_kept_checkpoint_has_the_best_model(undisturbed):
    metrics, _, found = undisturbed
    assert metrics["best_step"] == 12
    for name in (name for name in found if name.startswith("best.")):
        last = found[name.replace("best.", "state.", 1)]
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(last), err_msg=name)


@pytest.mark.parametrize(
    ("stop", "patience", "steps"), [(None, None, 12), (7, None, 12), (7, 1, 8)]
)
def test_an_earlier_best_model_is_kept_and_scored(tmp_path, at, monkeypatch, stop, patience, steps):
    """Validation gets worse from the second one on, before which the run is stopped."""
    seen, evaluate = {"val": [], "test": []}, train.steps.evaluate

    def worse(sums, task, split, rows, variables, *rest):
        scores = evaluate(sums, task, split, rows, variables, *rest)
        best = {"best": {name: variables[name] for name in ("params", "buffers")}}
        named = checkpoint._named(best)
        seen[split].append({name: np.array(leaf) for name, leaf in named.items()})
        late = split == "val" and len(seen["val"]) > 1
        return scores | {"bpb": scores["bpb"] + 9 * late}

    monkeypatch.setattr(train.steps, "evaluate", worse)
    point = POINT | {"patience": patience}
    if stop is not None:
        at[stop] = lambda: os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit):
            train.run_point(point, tmp_path)
        at.clear()
    metrics = train.run_point(point, tmp_path)
    assert (metrics["best_step"], metrics["steps"]) == (4, steps)
    assert metrics["val_bpb_best"] < metrics["val_bpb_last"]
    kept, (scored,), (best, *_, last) = arrays(tmp_path, point, steps), seen["test"], seen["val"]
    for name, array in best.items():
        np.testing.assert_array_equal(scored[name], array, err_msg=name)
        if array.size:
            np.testing.assert_array_equal(np.asarray(kept[name]), array, err_msg=name)
    assert any((array != last[name]).any() for name, array in best.items())


def test_a_model_that_learns_beats_counting(tmp_path):
    point = POINT | {"steps": 80, "eval_every": 40, "lr": 2e-2, "keep_checkpoints": False}
    metrics = train.run_point(point, tmp_path)
    assert metrics["test_bpb"] < 0.7 * metrics["unigram_bpb"]
    assert not list((tmp_path / "checkpoints").iterdir())


@pytest.mark.parametrize("step", [1, 7])
def test_a_terminated_run_goes_on_to_the_bit(tmp_path, at, undisturbed, step):
    at[step] = lambda: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        train.run_point(POINT, tmp_path)
    assert caught.value.code == 143
    at.clear()
    reached = []
    at[step] = at[step + 1] = lambda: reached.append(step)
    metrics = train.run_point(POINT, tmp_path)
    # the step that was under way is in the checkpoint
    assert len(reached) == 1
    assert_same_run(tmp_path, metrics, undisturbed)


KILLED = """
import os, sys
from tests import test_train as t
kill = lambda step: step == 7 and os.kill(os.getpid(), 9)
t.tasks.make = lambda name, n, **args: t.alphabet(n, kill)
t.train.run_point(t.POINT, t.train.Path(sys.argv[1]))
"""


def test_a_killed_run_goes_on_to_the_bit(tmp_path, at, undisturbed):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert [line["step"] for line in curve(tmp_path, POINT)] == [4]
    folder = tmp_path / "checkpoints" / records.point_id(POINT)
    newest = max(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    # the last was still being written, or not any more
    assert newest in (3, 6)
    reached = []
    at.update({step: functools.partial(reached.append, step) for step in range(12)})
    metrics = train.run_point(POINT, tmp_path)
    assert reached == list(range(newest, 12))
    assert_same_run(tmp_path, metrics, undisturbed)


def test_a_damaged_checkpoint_costs_only_its_steps(tmp_path, at, undisturbed, caplog):
    def interrupt():
        raise KeyboardInterrupt

    at[10] = interrupt
    with pytest.raises(KeyboardInterrupt):
        train.run_point(POINT, tmp_path)
    folder = tmp_path / "checkpoints" / records.point_id(POINT)
    assert sorted(path.name for path in folder.iterdir()) == ["6", "9"]
    for path in (folder / "9").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:50])
    at.clear()
    at[5] = pytest.fail
    metrics = train.run_point(POINT, tmp_path)
    assert "9 is damaged" in caplog.text
    assert_same_run(tmp_path, metrics, undisturbed)


def test_another_seed_is_another_run(tmp_path, undisturbed):
    metrics = train.run_point(POINT | {"seed": 6}, tmp_path)
    assert metrics["val_bpb_last"] != undisturbed[0]["val_bpb_last"]


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    point = POINT | {"lr": 1e38, "warmup": 0, "steps": 60, "checkpoint_every": 60}
    with pytest.raises(loop.NotFiniteError, match=r"the loss is (nan|inf) at step \d+"):
        train.run_point(point, tmp_path)
    assert loop.NotFiniteError.status == "nan"
    outcome = worker.perform(point, tmp_path)
    assert outcome["status"] == "nan"
    assert "at step" in outcome["reason"]


def test_a_validation_that_is_not_finite_ends_the_run(tmp_path, monkeypatch):
    made = iter([{"bpb": 3.0, "loss": 0.9}, {"bpb": float("nan"), "loss": float("nan")}])
    monkeypatch.setattr(train.steps, "evaluate", lambda *_: next(made))
    outcome = worker.perform(POINT, tmp_path)
    assert outcome["status"] == "nan"
    assert outcome["reason"] == "validation's bpb is nan, its loss nan, after step 8"
    assert [line["step"] for line in curve(tmp_path, POINT)] == [4]


def test_drawing_the_data_is_no_training(tmp_path, at):
    at[0] = lambda: time.sleep(4)
    assert train.run_point(POINT, tmp_path)["train_seconds"] < 4


def test_patience_ends_a_run_early(tmp_path):
    point = POINT | {"lr": 0.0, "warmup": 0, "patience": 2, "eval_every": 2, "steps": 40}
    metrics = train.run_point(point, tmp_path)
    assert (metrics["best_step"], metrics["steps"]) == (2, 6)


@pytest.mark.parametrize("losses", [[0.9, 0.7, 0.8, 0.6], [0.9, 0.8, 0.7, 0.6], [0.9] * 4])
def test_of_equal_scores_the_lower_loss_is_best(tmp_path, monkeypatch, losses):
    made = iter([{"bpb": b, "loss": x} for b, x in zip([3.0, 2.0, 2.0, 2.5], losses, strict=True)])
    test = {"bpb": 2.0, "loss": 0.7}
    monkeypatch.setattr(train.steps, "evaluate", lambda *_: next(made, test))
    metrics = train.run_point(POINT | {"eval_every": 3, "steps": 12}, tmp_path)
    best = losses.index(min(losses[1:3]), 1)
    assert (metrics["best_step"], metrics["val_loss_best"]) == (3 * (best + 1), losses[best])


def test_seeds_and_rates_share_a_program(tmp_path, undisturbed):
    train._programs.cache_clear()
    found = [
        train.run_point(POINT | changes, tmp_path)
        for changes in ({}, {"seed": 6}, {"lr": 1e-3}, {"steps": 8})
    ]
    seconds = [metrics["compile_seconds"] for metrics in found]
    assert seconds[0] == seconds[1] == seconds[2] != seconds[3]
    assert len({metrics["val_bpb_last"] for metrics in found}) == 4
    assert found[0]["val_bpb_last"] == undisturbed[0]["val_bpb_last"]


def test_a_run_says_how_far_and_how_fast_it_is(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(progress, "listener", heard.append)
    monkeypatch.setattr(loop, "TELL_SECONDS", 0.0)
    train.run_point(POINT | {"keep_checkpoints": False}, tmp_path)
    assert len(heard) == POINT["steps"]
    assert re.fullmatch(r"step 5/12, [\d.e+]+ steps/s, \d+ s left", heard[4])
    assert heard[-1].endswith(" 0 s left")


def test_a_trained_model_is_tested_with_other_hyperparameters(tmp_path):
    lsh = {"buckets": 4, "block": 4}
    point = POINT | {
        "mechanism": "lsh",
        "hparams": lsh | {"hashes": 2},
        "eval_hparams": {
            "hashes=2": lsh | {"hashes": 2},
            "hashes=3": lsh | {"hashes": 3},
            "exact": {"buckets": 1, "block": 13},
        },
    }
    train.check_point(point)
    metrics = train.run_point(point, tmp_path)
    scores = [metrics[f"test_bpb@{words}"] for words in point["eval_hparams"]]
    assert scores[0] == metrics["test_bpb"]
    assert len(set(scores)) == 3
    assert max(scores) < 8


@pytest.mark.parametrize("target", [7.9, 1.0])
def test_a_target_ends_a_run_early(tmp_path, target):
    metrics = train.run_point(POINT | {"target": target, "lr": 1e-2}, tmp_path)
    assert metrics["steps"] == (4 if metrics["val_bpb_best"] <= target else 12)
    assert (metrics["val_bpb_best"] <= target) == (target == 7.9)


def test_the_rate_of_the_best_grid_point_trains(tmp_path, undisturbed):
    rates = {"grid": [1e-6, 1e-2], "at": {"clip": 2.0, "role": "grid"}}
    point = POINT | {"role": "final", "lr": rates}
    store = records.Store(tmp_path)
    for candidate in train.requires(point):
        metrics = train.run_point(candidate, tmp_path)
        store.write(records.make(candidate, "ok", metrics=metrics))
    metrics = train.run_point(point, tmp_path)
    assert metrics["lr"] == 1e-2
    assert metrics["val_bpb_best@lr=0.01"] < metrics["val_bpb_best@lr=1e-06"]
    assert metrics["val_bpb_best"] == undisturbed[0]["val_bpb_best"]


@pytest.mark.parametrize("elsewhere", [{}, {"commit": "another"}, {"dirty": True}])
def test_a_training_that_its_grid_had_is_not_done_again(tmp_path, at, monkeypatch, elsewhere):
    monkeypatch.setattr(environment, "facts", lambda: {"device": "stub", "commit": "this"})
    point = POINT | {"role": "final", "lr": {"grid": [1e-2], "at": {"role": "grid"}}}
    [candidate] = train.requires(point)
    metrics = train.run_point(candidate, tmp_path)
    env = {**environment.facts(), "date": "today", **elsewhere}
    records.Store(tmp_path).write(records.make(candidate, "ok", metrics=metrics, env=env))
    steps = []
    at[5] = lambda: steps.append(5)
    again = train.run_point(point, tmp_path)
    assert steps == ([5] if elsewhere else [])
    assert curve(tmp_path, point) == curve(tmp_path, candidate)
    columns = {"val_bpb_best@lr=0.01": metrics["val_bpb_best"]}
    if not elsewhere:
        assert again == {**metrics, **columns, "same_training": records.point_id(candidate)}
    # what it would have been
    assert timeless(again).items() >= timeless(metrics).items() | columns.items()


def test_bfloat16_trains(tmp_path):
    metrics = train.run_point(POINT | {"dtype": "bfloat16"}, tmp_path)
    assert metrics["val_bpb_last"] < 8


def test_the_prediction_is_near_the_count(undisturbed):
    predicted = train.predict(POINT)
    # three validations and a test, each of 260 bytes in batches of 78, go forward only
    whole = POINT["steps"] + 4 * 4 / 3
    assert predicted["flops"] == pytest.approx(undisturbed[0]["flops_per_step"] * whole, rel=0.1)
    assert predicted["bytes"] > 0
    # as much work, and less of it at once
    pieces = train.predict(POINT | {"microbatches": 3})
    assert pieces["flops"] == pytest.approx(predicted["flops"], rel=0.1)
    assert pieces["bytes"] < predicted["bytes"]


@pytest.mark.parametrize(("steps", "evaluated"), [(4, [4]), (5, [5]), (12, [5, 12])])
@pytest.mark.parametrize("microbatches", [1, 3])
def test_as_many_batches_are_evaluated_as_predicted(
    tmp_path, monkeypatch, microbatches, steps, evaluated
):
    point, seen = POINT | {"eval_every": 5, "steps": steps, "microbatches": microbatches}, []

    def make(name, n, **args):
        task = alphabet(n)

        def held_out(split, size):
            for batch in task.held_out(split, size):
                # no more at once than a step holds
                assert len(batch["inputs"]) <= point["batch"] / microbatches
                seen.append(split)
                yield batch

        return dataclasses.replace(task, held_out=held_out)

    monkeypatch.setattr(tasks, "make", make)
    train.run_point(point, tmp_path)
    found = prediction.evaluated({**fields.OPTIONAL, **point}, alphabet(POINT["n"]), tests=True)
    assert found == len(seen)
    # none is closer to the last than they are apart
    assert [line["step"] for line in curve(tmp_path, point)] == (
        [5, 12] if steps == 12 else [steps]
    )


def test_committed_trainings_took_about_as_long_as_predicted(monkeypatch):
    # these records tell the seconds of training and compiling alone
    monkeypatch.setattr(prediction, "evaluated", lambda *_, tests: 0)
    # a core of that machine multiplies matrices at 118 GFLOP/s
    folder = environment.ROOT / "results" / "accuracy-mqar" / "cpu-intel-xeon-1c"
    ratios = []
    for found in records.load(folder):
        point, took = found["config"], found["metrics"]
        if took.get("steps") == point["steps"] and "same_training" not in took:
            seconds = took["train_seconds"] + took["compile_seconds"]
            ratios.append(run.predicted(point, 118e9)[1] / seconds)
    assert len(ratios) > 10
    assert 0.5 < np.median(ratios) < 2
    assert 0.25 < min(ratios) < max(ratios) < 4
