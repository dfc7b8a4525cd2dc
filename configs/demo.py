"""Demo: a short cut through scaling, reordering and language: a first look at one's own machine.

    make demo

6 to 8 minutes on two CPU cores: 2.5 for the kernels, half of one for the reordering, 2.5 for the
training. Expect exponents in N of 2 for full, 1 for local, global, bigbird and linear, 1.5 for
strided; orders that cross at N = 43, 64 and 85; bits per byte well below what counting bytes gives.
Any value of the three configs can be set: --config.scaling.repeats=10 --config.language.steps=500.
"""

from configs import base, language, reordering, scaling

PARTS = {"scaling": scaling, "reordering": reordering, "language": language}


def get_config():
    config = base.settings("demo", isolate="mechanism", time_limit=180.0)
    config.parts = tuple(PARTS)
    for name, part in PARTS.items():
        config[name] = part.get_config()
    for name in ("scaling", "reordering"):
        config[name].heads = 4
        config[name].repeats = 5
        config[name].budget = 0.8
    config.language.tasks = ("stdlib",)
    config.language.mechanisms = ("full", "local", "linear")
    config.language.seeds = (0,)
    config.language.tokens = 2048
    config.language.steps = 100
    config.language.eval_every = 50
    config.language.eval_tokens = 16384
    config.language.warmup = 15
    config.language.model = {
        "width": 64,
        "depth": 2,
        "heads": 2,
        "ff": 256,
        "positions": "sinusoidal",
    }
    config.scaling.lengths = (256, 1024, 2048, 4096)
    config.scaling.mechanisms = (
        "full",
        "local",
        "strided",
        "global",
        "bigbird",
        "linear",
        "fourier",
    )
    # blocks small against these lengths, so that the band's edges and the global rows hardly count
    config.scaling.variants.bigbird.block = 32
    config.scaling.variants.bigbird.global_blocks = 1
    config.reordering.lengths = (16, 32, 64, 128, 512, 2048)
    config.reordering.feature_maps = ("identity",)
    return config


def get_sweep(config):
    return [point for name in config.parts for point in PARTS[name].get_sweep(config[name])]
