"""Numbers: rounding errors of every mechanism in float32 and bfloat16 against float64.

    python -m experiments.run --config configs/numbers.py

108 points, a mechanism with its defaults, a dtype and a form each: a quarter of an hour on two CPU
cores that other work shared. The dense definition of routing holds 19 GB in float64: shorter by
--config.lengths=256. Expect near 5e-7 in float32 and, as the output is rounded to bfloat16, 2e-3
there, gradients alike; forms that a mechanism does not have are refused.
"""

from pathlib import Path

from configs import base

FOLDER = Path(__file__).parents[1] / "attention_zoo" / "mechanisms"


def get_config():
    config = base.settings("numbers", isolate="mechanism")
    config.mechanisms = everything()
    config.variants = {}
    config.lengths = (1024,)
    config.causal = (False, True)
    config.dtypes = ("float32", "bfloat16")
    config.batch = 1
    config.heads = 4
    config.head_dim = 64
    config.value_dim = 64
    return config


def everything():
    """Every mechanism: the files of the folder."""
    stems = (path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    return tuple(sorted(stem.rstrip("_") for stem in stems))


def get_sweep(config):
    return [
        {
            "experiment": "numbers",
            "kind": "numbers",
            **base.variant(config, key, n),
            "n": n,
            "causal": causal,
            "batch": config.batch,
            "heads": config.heads,
            "head_dim": config.head_dim,
            "value_dim": config.value_dim,
            "dtype": dtype,
            "seed": config.seed,
        }
        for key in config.mechanisms
        for n in config.lengths
        for causal in config.causal
        for dtype in config.dtypes
    ]
