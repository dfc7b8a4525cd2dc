"""Decoding: what a generated token costs against length, with a cached decode state and without.

    python -m experiments.run --config configs/decoding.py --config.isolate=mechanism

A decoder of width 128 and two layers, one sequence. About 20 minutes on two CPU cores. Expect a
cached step of full attention to grow with N, of linear attention and windows to stay as it is, and
without a state N times a whole forward pass.
"""

from configs import accuracy, base, steps


def get_config():
    config = steps.get_config()
    config.update(base.settings("decoding", time_limit=300.0))
    config.variants = accuracy.VARIANTS
    # what is causal and has a decode state
    config.mechanisms = (
        *("full", "local", "strided", "global", "linear", "performer", "rfa", "mixed"),
        *("compressed", "synthesizer", "recurrent", "convolution"),
    )
    config.lengths = base.powers(64, 1024)
    config.model.width, config.model.depth = 128, 2
    config.model.heads, config.model.ff = 4, 512
    return config


def get_sweep(config):
    return [{**point, "kind": "decoding"} for point in steps.get_sweep(config)]
