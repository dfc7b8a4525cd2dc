"""Pathfinder: are two discs at the ends of one dashed snake? Every bidirectional mechanism.

    python -m experiments.run --config configs/accuracy/pathfinder.py:small

small: 32 x 32 "hard", width 64, one seed: nothing is learned in so few steps, expect .5; medium:
width 128, one seed, within half an hour on one GPU; not yet run on one.
full: 32, 64 and 128 (Path-X) "hard", 4 layers of width 128, 62,400 steps of 512 as the Long-Range
Arena has it (arXiv:2011.04006; remembered from its code: check before citing). Images are drawn by
the CPU, those of 64 and 128 at 20 a second and core. Published at 32: .71 of full attention.
"""

from configs import accuracy

SMALL = {
    **accuracy.SMALL,
    "task_args": {"eval_examples": 500},
    "lengths": (1024,),
    "lr_length": 1024,
    "lr_steps": 100,
    "seeds": (0,),
    "batch": 8,
    "steps": 400,
    "evals": 4,
}
MEDIUM = {
    **SMALL,
    **accuracy.MEDIUM,
    "task_args": {"eval_examples": 2000},
    "lr_steps": 500,
    "batch": 64,
    "steps": 3000,
}
FULL = {
    "model": {"width": 128, "depth": 4, "heads": 8, "ff": 128, "positions": "learned"},
    "ff": accuracy.evened(128, 8, 128),
    # an LSTM alone is more than attention and a feed-forward layer so narrow
    "unequal": ("recurrent",),
    "lengths": (1024, 4096, 16384),
    "lr_length": 1024,
    "lr_steps": 6000,
    "lrs": (1e-4, 3e-4, 1e-3),
    "batch": 512,
    "steps": 62_400,
    "evals": 100,
    "time_limit": 604800.0,
}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    return accuracy.settings("pathfinder", size, sizes, variants=accuracy.WIDE)


def get_sweep(config):
    return accuracy.sweep(config)
