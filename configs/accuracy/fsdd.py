"""Spoken digits: accuracy on raw audio of up to 10,504 samples, every mechanism cheap at length.

    python -m experiments.run --config configs/accuracy/fsdd.py:small

small: width 32, 2 layers, the first 1,024 and 4,096 samples and all 10,504, one seed on two cores:
the table says so. medium: width 128, 4 layers, 3 seeds, not yet run. full: as medium, for longer.
Full attention runs in chunks where N is short enough.
"""

from configs import accuracy

# windows of some hundredths of a second
LONG = {
    **accuracy.VARIANTS,
    "full": {"implementation": "chunked"},
    "local": {"window": 64},
    "strided": {"stride": 64},
    "global": {"tokens": 32, "window": 64},
    "bigbird": {"block": 64, "window": 1, "global_blocks": 1, "random_blocks": 1},
    "lsh": {"buckets": "n/64", "block": 64, "hashes": 2},
    "sinkhorn": {"block": 64},
    "convolution": {"layers": 2},
}
QUADRATIC = ("full",)
CHEAP = (
    *("local", "global", "bigbird", "linear", "efficient", "performer", "rfa", "nystrom"),
    *("linformer", "fourier", "none", "convolution"),
)
SMALL = {
    "model": {"width": 32, "depth": 2, "heads": 2, "ff": 128, "positions": "sinusoidal"},
    "ff": accuracy.evened(32, 2, 128),
    "mechanisms": (*QUADRATIC, *CHEAP),
    "lengths": (1024,),
    "cheap_lengths": (4096, 10_504),
    "seeds": (0,),
    "lrs": (3e-4, 1e-3, 3e-3),
    "batch": 16,
    "steps": 400,
}
MEDIUM = {
    **SMALL,
    **accuracy.MEDIUM,
    "batch": 32,
    "steps": 4000,
}
FULL = {**MEDIUM, "steps": 20_000, "time_limit": 86400.0}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    common = {"variants": LONG, "cheap": CHEAP, "lr_length": 1024, "patience": 5}
    return accuracy.settings("fsdd", size, sizes, **common)


def get_sweep(config):
    return accuracy.sweep(config)
