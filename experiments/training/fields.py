"""The fields of a training point: which it may leave out, and what the others' values may be."""

import math
from collections.abc import Mapping
from typing import Any

from experiments.tasks import drawn
from experiments.training import choice, pretraining, steps

OPTIONAL = {
    "task_args": {},
    "model": {},
    "dtype": "float32",
    "schedule": "cosine",
    "warmup": 0,
    "weight_decay": 0.0,
    "clip": 1.0,
    "final_lr": 0.1,
    "beta2": 0.95,
    "microbatches": 1,
    "patience": None,
    "target": None,
    "pretrain": None,
    "eval_hparams": {},
    "checkpoint_every": None,
    "keep_checkpoints": False,
}
"""With what they are then. `final_lr`: of the peak; `patience`: evaluations without a better one
before an early stop; `target`: the validation metric that is enough, where it stops too;
`pretrain`: see pretraining.py; `eval_hparams`: other hyperparameters to test the trained model
with, by the words that tell the metric apart; `checkpoint_every`: steps, None for at each
evaluation."""
NUMBERS = {
    "weight_decay": ("from 0 up", lambda x: 0 <= x < math.inf),
    "clip": ("above 0", lambda x: x > 0),
    "final_lr": ("from 0 to 1", lambda x: 0 <= x <= 1),
    "beta2": ("from 0 up and below 1", lambda x: 0 <= x < 1),
    "target": ("that is finite, or None", math.isfinite),
}
# a key of jax has no more
SEEDS = 2**32


def rows(c: Mapping[str, Any]) -> int:
    """Sequences that are held at once: those of a microbatch."""
    return c["batch"] // c["microbatches"]


def check(c: Mapping[str, Any]) -> None:
    """ValueError names the field that is wrong, of a point with all of them."""
    sizes = ("n", "batch", "steps", "eval_every", "microbatches")
    # None is for never, or for the usual
    sizes += tuple(name for name in ("patience", "checkpoint_every") if c[name] is not None)
    drawn.check_whole(**{name: c[name] for name in sizes})
    seed = c["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEEDS:
        raise ValueError(f"seed must be a whole number from 0 to {SEEDS - 1}, got {seed!r}")
    choice.check(c["lr"])
    for name, (words, holds) in NUMBERS.items():
        value = c[name]
        if name == "target" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
            raise ValueError(f"{name} must be a number {words}, got {value!r}")
    if c["schedule"] not in steps.SCHEDULES:
        known = ", ".join(steps.SCHEDULES)
        raise ValueError(f"schedule must be one of {known}, got {c['schedule']!r}")
    if c["batch"] % c["microbatches"]:
        raise ValueError(f"microbatches={c['microbatches']} must divide batch={c['batch']}")
    if c["pretrain"] is not None:
        pretraining.check(c["pretrain"])
