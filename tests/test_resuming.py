"""Training that is stopped, wherever that is, goes on to the bit, whatever it trains."""

import dataclasses
import gc
import os
import signal
import time

import numpy as np
import pytest

from experiments import records, tasks, train
from experiments.running import isolate, stopping
from tests import slow_training
from tests.alphabet import POINT, alphabet
from tests.stub_sweep import finish, start, wait_for
from tests.test_train import arrays, assert_same_run, curve, timeless, undisturbed

__all__ = ["undisturbed"]
# a write that was interrupted may leave coroutines of orbax behind
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
MADE = tasks.make


@pytest.fixture(autouse=True)
def _collected():
    yield
    gc.collect()


class Strikes:
    """Asks this process to end before a training batch, or after so many evaluated ones."""

    before = after = None

    def __init__(self):
        self.trained, self.evaluated = [], []

    def make(self, name, n, **args):
        task = alphabet(n) if name == POINT["task"] else MADE(name, n, **args)

        def batch(seed, step, size):
            self.trained.append(step)
            if step == self.before:
                os.kill(os.getpid(), signal.SIGTERM)
            return task.batch(seed, step, size)

        def held_out(split, size):
            for batch in task.held_out(split, size):
                self.evaluated.append(split)
                yield batch
                if len(self.evaluated) == self.after:
                    os.kill(os.getpid(), signal.SIGTERM)

        return dataclasses.replace(task, batch=batch, held_out=held_out)


@pytest.fixture
def strikes(monkeypatch):
    found = Strikes()
    monkeypatch.setattr(tasks, "make", found.make)
    return found


RECALL = {
    **{"task": "mqar", "n": 128, "batch": 2},
    "task_args": {"vocab": 64, "eval_examples": 5, "grow": [5]},
}
ROUTING = {"mechanism": "routing", "hparams": {"clusters": 3, "window": 5, "decay": 0.5}}
# all in one bucket need no rotations: a buffer without entries
SHARED = {"mechanism": "lsh", "hparams": {"buckets": 1, "block": POINT["n"]}}
PERFORMER = {"mechanism": "performer", "hparams": {"features": 8}}
# whose buffers change in training
MOVING = ("routing", "performer")
# what is trained, and the step before which the end is asked for
VARIANTS = {
    "centroids moved by microbatches": (ROUTING | {"microbatches": 2}, 7),
    "features drawn anew in bfloat16": (PERFORMER | {"dtype": "bfloat16"}, 7),
    "growing sequences": (RECALL, 4),
    "a buffer without entries": (SHARED, 7),
}


@pytest.mark.parametrize(("changes", "before"), VARIANTS.values(), ids=VARIANTS)
def test_it_goes_on_to_the_bit_whatever_it_trains(tmp_path, strikes, changes, before):
    point, (calm, rough) = POINT | changes, (tmp_path / "calm", tmp_path / "rough")
    metrics = train.run_point(point, calm)
    strikes.before = before
    with pytest.raises(SystemExit):
        train.run_point(point, rough)
    strikes.before, strikes.trained = None, []
    again = train.run_point(point, rough)
    assert strikes.trained[0] == before + 1
    assert timeless(again) == timeless(metrics)
    assert curve(rough, point) == curve(calm, point)
    expected, found = arrays(calm, point), arrays(rough, point)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(array), err_msg=name)
    if point["mechanism"] in MOVING:
        earlier = arrays(calm, point, step=9)
        buffers = [name for name in expected if name.startswith("state.buffers")]
        assert any((np.asarray(earlier[b]) != np.asarray(expected[b])).any() for b in buffers)


# a validation has 4 batches: at step 4, where no checkpoint is due, and at the last one, in the
# middle and when all is evaluated
@pytest.mark.parametrize("after", [2, 10, 12])
def test_a_stop_while_validating_is_heeded_at_once(tmp_path, strikes, undisturbed, after):
    strikes.after = after
    with pytest.raises(SystemExit) as caught:
        train.run_point(POINT, tmp_path)
    assert caught.value.code == 128 + signal.SIGTERM
    assert strikes.evaluated == ["val"] * min(after + 1, 12)
    last = strikes.trained[-1]
    assert last == (3 if after == 2 else 11)
    strikes.after, strikes.trained = None, []
    metrics = train.run_point(POINT, tmp_path)
    # where none is left the last one's batch tells the program what to expect
    assert strikes.trained == list(range(min(last + 1, 11), 12))
    assert_same_run(tmp_path, metrics, undisturbed)


def test_a_kill_in_the_last_validation_costs_no_step(tmp_path, strikes, monkeypatch):
    def kill(*_):
        raise KeyboardInterrupt

    point, strikes.after = POINT | {"checkpoint_every": 5}, 10
    monkeypatch.setattr(os, "kill", kill)
    with pytest.raises(KeyboardInterrupt):
        train.run_point(point, tmp_path)
    strikes.after, strikes.trained = None, []
    train.run_point(point, tmp_path)
    assert strikes.trained == [11]


def test_a_stop_while_testing_costs_no_step(tmp_path, strikes, undisturbed):
    strikes.after = 14
    with pytest.raises(stopping.Stopped), stopping.heeded(signal.SIGTERM):
        train.run_point(POINT, tmp_path)
    assert strikes.evaluated.count("test") == 2
    strikes.after, strikes.trained = None, []
    metrics = train.run_point(POINT, tmp_path)
    assert strikes.trained == [11]
    assert_same_run(tmp_path, metrics, undisturbed)
    assert 0 < metrics["seconds_per_step"] < metrics["train_seconds"]


def test_costs_of_a_step_are_those_at_its_own_length(tmp_path, strikes):
    point = POINT | RECALL | {"keep_checkpoints": False, "checkpoint_every": None}
    whole = train.run_point(point, tmp_path)
    assert whole["seconds_per_step"] > 0
    # what is enough is reached at step 4, where sequences are still short
    early = train.run_point(point | {"target": 0.0}, tmp_path)
    assert (early["steps"], early["seconds_per_step"]) == (4, None)
    args = {**RECALL["task_args"], "grow": []}
    never = train.run_point(point | {"task_args": args, "steps": 1, "warmup": 0}, tmp_path)
    costs = [found["flops_per_step"] for found in (whole, early, never)]
    assert costs[0] == costs[1] == costs[2]
    assert whole["tokens_per_step"] == early["tokens_per_step"] == 256


CONFIG = '''"""A training whose validation is slow."""

from configs import base
from tests.slow_training import SLOW


def get_config():
    return base.settings("slow", isolate="point", time_limit=120.0)


def get_sweep(config):
    return [SLOW]
'''


def test_a_runner_that_is_stopped_while_its_worker_validates_goes_on(tmp_path, monkeypatch):
    config, out = tmp_path / "slow.py", tmp_path / "out"
    config.write_text(CONFIG)
    out.mkdir()
    (out / "slow").touch()
    process = start(str(config), out)
    wait_for((out / "validating").exists)
    process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    code, text = finish(process)
    assert time.monotonic() - begin < isolate.GRACE_SECONDS / 2
    assert code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in text
    assert not records.load(out)
    id = records.point_id(slow_training.SLOW)
    # the step that was evaluated, though no checkpoint was due
    assert max(int(path.name) for path in (out / "checkpoints" / id).iterdir()) == 4
    (out / "slow").unlink()
    assert finish(start(str(config), out))[0] == 0
    (record,) = records.load(out)
    assert record["status"] == "ok", record
    # it is set there
    monkeypatch.setattr(tasks, "make", MADE)
    calm = slow_training.run_point(slow_training.SLOW, tmp_path / "calm")
    assert timeless(record["metrics"]) == timeless(calm)
