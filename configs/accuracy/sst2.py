"""Bytes of film sentences, liked or not: short-N rows of every bidirectional mechanism.

    python -m experiments.run --config configs/accuracy/sst2.py:small

RNN, BiLSTM, CNN + LSTM and bags of unigrams and of bigrams are rows too.
small: width 64, N = 128 with 3 seeds and N = 272, nearly the longest, with one seed.
medium: width 128, 3 seeds, an hour of a GPU by estimate, not yet run.
full: as medium, 10,000 steps of 64.
"""

from configs import accuracy

SMALL = {
    **accuracy.SMALL,
    "lengths": (128, 272),
    "lr_length": 128,
    "batch": 16,
    "steps": 600,
    "evals": 6,
    "lr_steps": 200,
    "one_seed_from": 272,
}
MEDIUM = {**SMALL, **accuracy.MEDIUM, "one_seed_from": None}
FULL = {
    **MEDIUM,
    "batch": 64,
    "steps": 10_000,
    "lr_steps": 1000,
    "evals": 50,
    "time_limit": 86400.0,
}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    variants = {**accuracy.VARIANTS, **accuracy.RECURRENT, **accuracy.BAGS}
    return accuracy.settings("sst2", size, sizes, variants=variants)


def get_sweep(config):
    return accuracy.sweep(config)
