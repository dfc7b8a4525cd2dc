"""Decoding: what a generated token costs against length, with a cached decode state and without.

    python -m experiments.run --config configs/decoding.py --config.isolate=mechanism

A decoder of width 128 and two layers, one sequence. About 20 minutes on two CPU cores. Expect a
cached step of full attention to grow with N, of linear attention and windows to stay as it is, and
without a state N times a whole forward pass.
"""

from configs import accuracy, base


def get_config():
    config = base.settings("decoding", time_limit=300.0)
    config.variants = accuracy.VARIANTS
    # what is causal and has a decode state
    config.mechanisms = (
        *("full", "local", "strided", "global", "linear", "performer", "rfa", "mixed"),
        *("compressed", "synthesizer", "recurrent", "convolution"),
    )
    config.lengths = base.powers(64, 1024)
    config.batch = 1
    config.model = {"width": 128, "depth": 2, "heads": 4, "ff": 512, "positions": "sinusoidal"}
    config.dtype = "float32"
    config.repeats = 5
    config.budget = 2.0
    return config


def get_sweep(config):
    return [
        {
            "experiment": "decoding",
            "kind": "decoding",
            **base.variant(config, key, n),
            "n": n,
            "batch": config.batch,
            "model": dict(config.model),
            "dtype": config.dtype,
            "seed": config.seed,
            "repeats": config.repeats,
            "budget": config.budget,
        }
        for key in config.mechanisms
        for n in config.lengths
    ]
