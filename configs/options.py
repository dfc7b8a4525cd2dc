"""Options: what a mechanism's own choice between speed and memory buys, value by value.

    python -m experiments.run --config configs/options.py

None of them changes what is computed, only in which pieces: tiles of full and of local attention,
rows of the Synthesizer, positions between two states of a causal sum of features (causal alone).
Time and compiled memory of each beside those of the default, in one process; what asks for the
default's own sizes, as blocks of 128 of local, tells how far times of one program are apart. Ten
minutes on two CPU cores, with nothing beside it. Others: --config.mechanisms=linear,linear_96
--config.variants.linear_96.mechanism=linear --config.variants.linear_96.chunk=96.
"""

from configs import base, scaling

# sums of features: their chunks are those of the causal form
SUMS = ("linear", "efficient", "performer", "rfa")
# what costs N² pairs
QUADRATIC = ("full", "synthesizer")
CHOICES = {
    "full": {
        "plain": {"implementation": "plain"},
        **{
            str(tile): {"implementation": "chunked", "block": tile, "key_block": 2 * tile}
            for tile in (128, 256, 512, 1024)
        },
    },
    "local": {str(block): {"block": block} for block in (64, 128, 256, 512)},
    "synthesizer": {str(chunk): {"chunk": chunk} for chunk in (32, 512, 2048)},
    **{mechanism: {str(chunk): {"chunk": chunk} for chunk in (32, 128, 256)} for mechanism in SUMS},
}


def get_config():
    config = scaling.get_config()
    config.experiment = "options"
    config.isolate = "mechanism"
    config.variants = {}
    for mechanism, choices in CHOICES.items():
        config.variants[mechanism] = {}
        for name, hparams in choices.items():
            config.variants[f"{mechanism}_{name}"] = {"mechanism": mechanism, **hparams}
    config.mechanisms = tuple(config.variants)
    config.lengths, config.longest = (4096, 16384), {}
    return config


def get_sweep(config):
    """What is quadratic at the shortest N, others at the longest."""
    points = []
    for key in config.mechanisms if config.lengths else ():
        mechanism = base.variant(config, key, 0)["mechanism"]
        of_key = config.copy_and_resolve_references()
        of_key.mechanisms = (key,)
        of_key.causal = (mechanism in SUMS,)
        of_key.lengths = ((min if mechanism in QUADRATIC else max)(config.lengths),)
        for point in scaling.get_sweep(of_key):
            option = ", ".join(f"{name} {value}" for name, value in point["hparams"].items())
            fields = {"experiment": "options", "kind": "option", "label": mechanism}
            points.append({**point, **fields, "option": option or "default"})
    return points
