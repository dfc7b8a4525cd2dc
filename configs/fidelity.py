"""Fidelity: how far each approximation is from full softmax attention, against N and its budget.

    python -m experiments.run --config configs/fidelity.py

About 300 points of a few seconds on two CPU cores; the first point with trained inputs trains the
model they come from (minutes), kept in OUT/models. Expect errors above 1 on random inputs, where
full attention is close to the mean of all values and whoever sees few of them is noise; far lower
ones on trained inputs. A mechanism is a line in the table.
"""

from configs import base

# the hyperparameter that is the budget, its values, and what else is fixed
TABLE = {
    "local": ("window", (16, 32, 64, 128, 256), {}),
    "strided": ("stride", (64, 32, 16, 8, 4), {}),
    "global": ("tokens", (8, 16, 32, 64, 128), {"window": 32}),
    "bigbird": ("random_blocks", (0, 1, 2, 4, 8), {"block": 16, "window": 1}),
    "nystrom": ("landmarks", (16, 32, 64, 128, 256), {}),
    "performer": ("features", (16, 64, 256, 1024), {}),
    "rfa": ("features", (16, 64, 256, 1024), {}),
    "lsh": ("hashes", (1, 2, 4, 8), {"buckets": 16, "block": 32}),
    "routing": ("window", (16, 32, 64, 128), {"clusters": 16}),
    "linear": ("", (None,), {"feature_map": "elu"}),
    "efficient": ("", (None,), {}),
}
RANDOM = ("performer", "rfa", "lsh", "routing")


def get_config():
    config = base.settings("fidelity", isolate="mechanism")
    config.mechanisms = tuple(TABLE)
    config.lengths = (256, 1024)
    config.inputs = ("random", "trained")
    config.causal = (False,)
    config.batch = 1
    config.heads = 4
    config.head_dim = 32
    config.dtype = "float32"
    # where buffers are drawn
    config.seeds = (0, 1, 2)
    config.training = {
        "n": 1024,
        "batch": 4,
        "steps": 200,
        "depth": 2,
        "ff": 256,
        "layer": 1,
        "lr": 3e-3,
        "warmup": 20,
        "seed": 0,
    }
    return config


def target(mechanism, n):
    """What is approximated, where that is not full attention of scaled dot products."""
    special = {
        "rfa": {"mechanism": "full", "hparams": {"score": "cosine"}},
        "lsh": {"mechanism": "lsh", "hparams": {"buckets": 1, "block": n}},
    }
    return {"target": special[mechanism]} if mechanism in special else {}


def options(config, mechanism, inputs, n):
    chosen = target(mechanism, n)
    if inputs == "trained":
        chosen["training"] = config.training.to_dict()
    if mechanism == "routing":
        chosen["refreshes"] = 20
    return chosen


def get_sweep(config):
    for name in config.mechanisms:
        if name not in TABLE:
            raise ValueError(f"mechanisms must be of {', '.join(TABLE)}, got {name!r}")
    return [
        {
            "experiment": "fidelity",
            "kind": "fidelity",
            "label": name,
            "mechanism": name,
            "hparams": fixed | ({budget: value} if budget else {}),
            "budget": {"name": budget, "value": value},
            "n": n,
            "inputs": inputs,
            "causal": causal,
            **options(config, name, inputs, n),
            "batch": config.batch,
            "heads": config.heads,
            "head_dim": config.head_dim,
            "value_dim": config.head_dim,
            "dtype": config.dtype,
            "seed": seed,
        }
        for name, (budget, values, fixed) in TABLE.items()
        if name in config.mechanisms
        for inputs in config.inputs
        for causal in config.causal
        for n in config.lengths
        for value in values
        if value is None or value <= n
        for seed in (config.seeds if name in RANDOM else config.seeds[:1])
    ]
