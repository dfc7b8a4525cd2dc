"""ListOps: the value of a nested expression against its length, every bidirectional mechanism.

    python -m experiments.run --config configs/accuracy/listops.py:small

RNN, BiLSTM, CNN + LSTM and bags of unigrams and of bigrams are rows too.
The table's rows to beat: the commonest label; the root operator alone; exact to depth 1, depth 2.
small: width 64, lengths from N/4 to N for N = 64, 3 seeds, and for N = 128, one seed; 3.5
core-hours. Expect .43 of full attention at N = 64, past the root operator, and little more than
that rule at 128.
medium: width 128, N = 512, 3 seeds, 1.5 hours of a GPU by estimate, not yet run.
full: 3 seeds of the Long-Range Arena's training (configs/arena.py), 500 < length < 2,000, 6 layers
of width 512, 5,000 steps of 32. Published: .36 to .37 and .16 to .18.
"""

from configs import accuracy, arena

EARLIER = {**accuracy.RECURRENT, **accuracy.BAGS}
SMALL = {
    **accuracy.SMALL,
    "task_args": {"train_examples": 50_000, "val_examples": 1000, "test_examples": 2000},
    "lengths": (64, 128),
    "lr_length": 64,
    "lr_steps": 300,
    "one_seed_from": 128,
    "tokens": 2048,
    "steps": 1000,
}
MEDIUM = {
    **accuracy.MEDIUM,
    "task_args": {"train_examples": 96_000},
    "lengths": (512,),
    "lr_length": 512,
    "lr_steps": 500,
    "batch": 32,
    "steps": 3000,
}
FULL = {
    **arena.ADAM,
    "variants": {**accuracy.WIDE, **EARLIER},
    "model": {
        **{"width": 512, "depth": 6, "heads": 8, "ff": 2048},
        **{"dropout": 0.1, "positions": "sinusoidal"},
    },
    "ff": accuracy.evened(512, 8, 2048, depth=6),
    "lengths": (2000,),
    "lr_length": 2000,
    # the arena's 0.05 / sqrt(1,000)
    "lrs": (5e-4, 1.6e-3, 5e-3),
    "batch": 32,
    "steps": 5000,
    "warmup": 0.2,
    "schedule": "rsqrt",
    "time_limit": 86400.0,
}


def get_config(size="small"):
    sizes, variants = {"small": SMALL, "medium": MEDIUM, "full": FULL}, accuracy.VARIANTS
    return accuracy.settings("listops", size, sizes, variants={**variants, **EARLIER})


def get_sweep(config):
    return accuracy.sweep(config)
