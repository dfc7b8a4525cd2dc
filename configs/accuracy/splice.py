"""DNA around a splice junction, or none: 60 letters, three classes, every bidirectional mechanism.

    python -m experiments.run --config configs/accuracy/splice.py:small

RNN, BiLSTM, CNN + LSTM and bags of unigrams and of bigrams are rows too.
small: width 64, 3 seeds.
medium: width 128, 3 seeds, half an hour of a GPU by estimate, not yet run.
full: as medium, 5,000 steps.
"""

from configs import accuracy

VARIANTS = {
    **accuracy.VARIANTS,
    # 60 / 8 is no even number of buckets
    "lsh": {"buckets": 8, "block": 16, "hashes": 2},
    **accuracy.RECURRENT,
    **accuracy.BAGS,
}
SMALL = {
    **accuracy.SMALL,
    "lengths": (60,),
    "lr_length": 60,
    "batch": 32,
    "steps": 300,
    "evals": 6,
}
MEDIUM = {**SMALL, **accuracy.MEDIUM}
FULL = {**MEDIUM, "steps": 5_000, "evals": 50, "time_limit": 86400.0}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    return accuracy.settings("splice", size, sizes, variants=VARIANTS)


def get_sweep(config):
    return accuracy.sweep(config)
