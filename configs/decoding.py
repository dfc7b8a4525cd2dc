"""Decoding: what a generated token costs against length, with a cached decode state and without.

    python -m experiments.run --config configs/decoding.py --config.isolate=mechanism

Decoders of width 128 and two layers, and the small models of configs/accuracy/translation.py, which
read a source of N tokens first: the Transformer of 2017, with efficient encoders too, and recurrent
ones without attention, with Bahdanau's and with Luong's. One sequence; 84 points, about 40 minutes
on two CPU cores. Expect a cached step of full attention to grow with N, of linear attention and
windows to stay as it is, and without a state N times a whole forward pass.
"""

from configs import accuracy, base, steps
from configs.accuracy import translation


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
    config.models = {}
    small = translation.get_config("small")
    # in place of these, where there is a source
    config.translation = {
        "experiment": "decoding-translation",
        "variants": small.variants,
        "mechanisms": ("full", "local", "linear", "rnn", "bahdanau", "luong_general"),
        "lengths": base.powers(64, 512),
        "model": {**translation.SMALL["model"], "kind": "encoder_decoder"},
        "models": small.models,
    }
    return config


def get_sweep(config):
    parts = (config, accuracy.changed(config, config.translation))
    return [{**point, "kind": "decoding"} for part in parts for point in steps.get_sweep(part)]
