"""Handwritten digits as 784 pixels in a row: quick image rows of every bidirectional mechanism.

    python -m experiments.run --config configs/accuracy/mnist.py:small

MNIST's 10,000 test images alone, split: a figure here compares with no published one.
small: width 64, one seed.
medium: width 128, 3 seeds, half an hour of a GPU by estimate, not yet run.
full: as medium, 20,000 steps of 64.
"""

from configs import accuracy

SMALL = {
    **accuracy.SMALL,
    "lengths": (784,),
    "lr_length": 784,
    "batch": 8,
    "steps": 600,
    "evals": 4,
    "lr_steps": 200,
    "seeds": (0,),
}
MEDIUM = {**SMALL, **accuracy.MEDIUM}
FULL = {
    **MEDIUM,
    "batch": 64,
    "steps": 20_000,
    "lr_steps": 2000,
    "evals": 50,
    "time_limit": 86400.0,
}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    return accuracy.settings("mnist", size, sizes, variants=accuracy.WIDE)


def get_sweep(config):
    return accuracy.sweep(config)
