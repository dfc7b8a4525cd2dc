"""A kind of point that costs nothing and misbehaves on request, for tests of the runner."""

import logging
import os
import signal
import time

from experiments import records
from experiments.running import progress
from experiments.training import choice


def check_point(point):
    if point["does"] not in (*DEEDS, "refuse"):
        raise ValueError(f"does must be one of {', '.join(DEEDS)}, got {point['does']!r}")


def objections(point):
    return ["stub: it was asked to refuse"] if point["does"] == "refuse" else []


def requires(point):
    return choice.grid_of(point) if "lr" in point else []


def is_outdated(point, record, get):
    return "lr" in point and _rate(point, get)[0] != record["metrics"]["lr"]


def predict(point):
    return {"flops": 1000 * point["n"], "bytes": 8 * point["n"]}


def run_point(point, out):
    time.sleep(point.get("seconds", 0.0))
    metrics = DEEDS[point["does"]](point, out)
    with open(out / "measured.log", "a") as log:
        log.write(f"{point['n']}\n")
    return metrics


def _work(point, out):
    return {"value": point["n"] ** 2 / 7, "count": point["n"]}


def _learn(point, out):
    rate, told = _rate(point, records.Store(out).get)
    return {**told, "val_accuracy_best": rate, "best_step": 1}


def _rate(point, get):
    return choice.choose(point, get, "accuracy", higher_is_better=True)


def _tell(point, out):
    progress.tell("half way")
    return _work(point, out)


def _warn(point, out):
    logging.getLogger("experiments.stub").warning("a checkpoint of %s is damaged", point["n"])
    return _work(point, out)


def _stay(point, out):
    (out / "pid").write_text(str(os.getpid()))
    time.sleep(120)


def _eat(point, out):
    hoard = []
    while True:
        hoard.append(b"x" * 10_000_000)


def _raise(point, out):
    raise KeyError("a thing\nof two lines")


def _exhaust(point, out):
    # as jax's CPU runtime words it
    raise RuntimeError("INTERNAL: Error dispatching computation: Out of memory allocating 9 bytes")


def _die(point, out):
    os.write(2, b"first words\nlast words\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def _lose(point, out):
    return {"value": float("nan")}


DEEDS = {
    "work": _work,
    "learn": _learn,
    "tell": _tell,
    "warn": _warn,
    "stay": _stay,
    "eat": _eat,
    "exhaust": _exhaust,
    "raise": _raise,
    "die": _die,
    "lose": _lose,
}
