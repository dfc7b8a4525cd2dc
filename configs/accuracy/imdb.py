"""Bytes of film reviews, liked or not, against how many are read: every bidirectional mechanism.

    python -m experiments.run --config configs/accuracy/imdb.py:small

RNN, BiLSTM, CNN + LSTM and bags of unigrams and of bigrams are rows too.
small: width 64, N = 256 to 1,024, and 2,048 and 4,096 of what is cheapest there; one seed, scored
on 2,000 of the 25,000 reviews that test. In 400 steps of 8 reviews expect .5 to .6: take no order
from it.
medium: width 128, N = 1,024, 3 seeds, 2.5 hours of a GPU by estimate, not yet run. Expect
.64 or more of full attention.
full: 3 seeds of the Long-Range Arena's training (configs/arena.py), 4 layers of width 256, 20,000
steps of 32; N = 1,000 to 4,000 there, here 1,024 to 4,096. Published at 4,000: .64 of full
attention.
"""

from configs import accuracy, arena

SMALL = {
    **accuracy.SMALL,
    "task_args": {"val_examples": 1000, "test_examples": 2000},
    "lengths": (256, 512, 1024),
    "cheap": ("local", "linear", "none", *accuracy.BAGS),
    "cheap_lengths": (2048, 4096),
    "lr_length": 256,
    "seeds": (0,),
    "batch": 8,
    "steps": 400,
    "evals": 4,
}
MEDIUM = {
    **accuracy.MEDIUM,
    "lengths": (1024,),
    "lr_length": 1024,
    "lr_steps": 500,
    "batch": 32,
    "steps": 3000,
}
FULL = {
    **arena.ADAM,
    "model": {
        **{"width": 256, "depth": 4, "heads": 4, "ff": 1024},
        **{"dropout": 0.1, "positions": "sinusoidal"},
    },
    "ff": accuracy.evened(256, 4, 1024, depth=4),
    "lengths": (1024, 2048, 4096),
    "lr_length": 1024,
    # the arena's 0.05 / sqrt(8,000)
    "lrs": (1.9e-4, 5.6e-4, 1.7e-3),
    "batch": 32,
    "steps": 20_000,
    "warmup": 0.4,
    "schedule": "rsqrt",
    "time_limit": 86400.0,
}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    variants = {**accuracy.WIDE, **accuracy.RECURRENT, **accuracy.BAGS}
    return accuracy.settings("imdb", size, sizes, variants=variants)


def get_sweep(config):
    return accuracy.sweep(config)
