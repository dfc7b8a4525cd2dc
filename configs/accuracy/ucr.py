"""Time series with a class each, of the UCR and UEA archives: every bidirectional mechanism.

    python -m experiments.run --config configs/accuracy/ucr.py:small

The lectures' lab is --config.sets=FordA with --config.mechanisms=full,none,recurrent: a transformer
classifier, the same without its attention, and an LSTM; add rnn,bilstm,cnn_lstm for the others of
before attention. Its files are downloaded, or given. The lab's question, asked of the six sets, is
the report's table attention-adds-accuracy.
small: six sets, width 64, 3 seeds, patches of 8 steps where series are long. medium: width 128, 3
seeds, 2,000 steps, 4.5 hours of a GPU by estimate, not yet run. full: as medium, FordA too, 10,000
steps.
"""

from configs import accuracy

# set: (length, steps a patch)
SETS = {
    "OSULeaf": (427, 8),
    "ACSF1": (1460, 16),
    "GunPoint": (150, 4),
    "ItalyPowerDemand": (24, 1),
    "PLAID": (1344, 16),
    "JapaneseVowels": (29, 1),
    "FordA": (500, 8),
}
SMALL = {
    **accuracy.SMALL,
    "sets": tuple(name for name in SETS if name != "FordA"),
    "batch": 32,
    "steps": 400,
    "evals": 8,
}
MEDIUM = {**SMALL, **accuracy.MEDIUM, "steps": 2000}
FULL = {
    **MEDIUM,
    "sets": tuple(SETS),
    "steps": 10_000,
    "evals": 50,
    "time_limit": 86400.0,
}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    variants = {**accuracy.SHORT, **accuracy.RECURRENT}
    fields = {"variants": variants, "lengths": (427,), "lr_length": 427}
    return accuracy.settings("ucr", size, sizes, **fields)


def get_sweep(config):
    points = []
    for name in config.sets:
        if name not in SETS:
            raise ValueError(f"sets must be of {', '.join(SETS)}, got {name!r}")
        length, patch = SETS[name]
        inputs = {"inputs": "patches", "patch": patch} if patch > 1 else {"inputs": "continuous"}
        of_set = {
            "experiment": f"ucr-{name}",
            "task_args": {"dataset": name},
            "lengths": (length,),
            "lr_length": length,
            "model": {**config.model, **inputs},
        }
        points += accuracy.sweep(accuracy.changed(config, of_set))
    return points
