"""Sizes: kernels of another batch, other heads and both forms, to hold the cost model to them.

    python -m experiments.run --config configs/sizes.py

All records of configs/scaling.py are of one batch, number of heads and head size: what the cost
model that is calibrated on them predicts of these, tests/test_held_out.py compares. 15 minutes on
two CPU cores, with nothing beside it.
"""

from ml_collections import ConfigDict

from configs import scaling


def get_config():
    config = scaling.get_config()
    config.experiment = "sizes"
    config.isolate = "mechanism"
    config.lengths = (2048, 8192)
    config.longest = ConfigDict(dict.fromkeys(scaling.QUADRATIC, 2048))
    config.causal = (False, True)
    config.sizes = {
        "batch": {"batch": 4},
        "heads": {"heads": 4, "head_dim": 128, "value_dim": 128},
    }
    return config


def get_sweep(config):
    points = []
    for sizes in config.sizes.values():
        of_sizes = config.copy_and_resolve_references()
        of_sizes.update(sizes)
        points += [{**point, "experiment": "sizes"} for point in scaling.get_sweep(of_sizes)]
    return points
