"""A tiny training: a point, and the alphabet over and over as its task."""

from experiments import train
from experiments.tasks import language

POINT = {
    "experiment": "language",
    "kind": "train",
    "label": "full",
    "mechanism": "full",
    "hparams": {},
    "n": 13,
    "task": "alphabet",
    "task_args": {},
    "model": {"width": 16, "depth": 1, "heads": 2, "ff": 24, "dropout": 0.1},
    "batch": 6,
    "steps": 12,
    "lr": 1e-2,
    "warmup": 2,
    "weight_decay": 0.1,
    "clip": 1.0,
    "seed": 5,
    "eval_every": 4,
    "checkpoint_every": 3,
    "keep_checkpoints": True,
}


def alphabet(n, at=None):
    """The alphabet over and over; `at(step)` is called before each training batch."""
    splits = language.by_position(bytes(range(97, 123)) * 200)
    task = language.language_model(n, "alphabet", splits, 500, {"data": "alphabet"})
    if at is None:
        return task
    batch = task.batch

    def watched(seed, step, size):
        at(step)
        return batch(seed, step, size)

    return train.dataclasses.replace(task, batch=watched)
