"""Pathfinder: are two discs at the ends of one dashed snake? Every bidirectional mechanism.

    python -m experiments.run --config configs/accuracy/pathfinder.py:small

small: 32 x 32 "hard", width 64, one seed. In so few steps nothing is learned: expect .5, and take
no order from it; the rates are chosen among such runs.
medium: width 128, 3 seeds, 3.5 hours of a GPU by estimate, not yet run.
full: 3 seeds of the Long-Range Arena's training (configs/arena.py) at 32, 64 and 128 (Path-X)
"hard": 160,000 images 200 times, each size with its own model, batch and rates. By estimate full
attention takes 1, 6 and 46 hours of a GPU a run; an LSTM, step by step, goes past the limit of two
weeks at 128. A worker draws images of 64 and 128 for 3 hours of a CPU core each. Not yet run.
Published: .71 of full attention at 32, chance at 128.

Differs: queries, keys and values are as wide as the model, where the arena's are half as wide (but
at 64); images are drawn by experiments/tasks/pathfinder.py.
"""

from configs import accuracy, arena

SMALL = {
    **accuracy.SMALL,
    "task_args": {"eval_examples": 500},
    "lengths": (1024,),
    "lr_length": 1024,
    "lr_steps": 30,
    "seeds": (0,),
    "batch": 8,
    "steps": 120,
    "evals": 2,
}
MEDIUM = {
    **SMALL,
    **accuracy.MEDIUM,
    "task_args": {"eval_examples": 2000},
    "lr_steps": 500,
    "batch": 64,
    "steps": 3000,
    "evals": 10,
}
NARROW = ("query_reduction", "fourier_enhanced", "recurrent")
FULL = {
    **arena.IMAGES,
    "task_args": {"train_examples": 160_000, "eval_examples": 20_000},
    "lengths": (1024, 4096, 16384),
    "lr_length": None,
    "lrs": (3e-4, 1e-3, 3e-3),
    "model": {
        **{"width": 128, "depth": 1, "heads": 4, "ff": 128},
        **{"dropout": 0.2, "positions": "sinusoidal"},
    },
    "ff": accuracy.evened(128, 4, 128),
    # an LSTM, modes and latents are more than attention and a feed-forward layer so narrow
    "unequal": ("fourier_enhanced", "recurrent"),
    "batch": 512,
    "steps": 62_400,
    "lr_steps": 6000,
    "by_length": {
        "4096": {
            "model": {
                **{"width": 32, "depth": 2, "heads": 4, "ff": 32},
                **{"dropout": 0.1, "positions": "learned"},
            },
            "ff": accuracy.evened(32, 4, 32),
            "unequal": NARROW,
            "batch": 256,
            "microbatches": 2,
            "steps": 125_000,
            "lr_steps": 12_500,
        },
        "16384": {
            "model": {
                **{"width": 32, "depth": 1, "heads": 2, "ff": 32},
                **{"dropout": 0.1, "positions": "learned"},
            },
            "ff": accuracy.evened(32, 2, 32),
            "unequal": NARROW,
            "batch": 64,
            "microbatches": 4,
            "steps": 500_000,
            "lr_steps": 50_000,
            "clip": 1.0,
        },
    },
    "time_limit": 1_209_600.0,
}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    return accuracy.settings("pathfinder", size, sizes, variants=accuracy.WIDE)


def get_sweep(config):
    return accuracy.sweep(config)
