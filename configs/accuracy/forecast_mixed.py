"""Forecasting as Informer, Autoformer and FEDformer set it: a step of all channels is one position.

    python -m experiments.run --config configs/accuracy/forecast_mixed.py:small

Their mechanisms (and Reformer's, full attention, none) with the look-back of 96 steps that they
published for, values not normalised by window, the steps ahead positions that hold zeros, all
channels of each forecast together. What stands between these rows and those of forecast.py is that
setting; what stands between them and the published ones is the rest of each system: a decoder apart
from the encoder, time stamps, widths of 512. Autoformer and FEDformer decompose the series in every
block and start from the mean of the look-back: they are here with that and without, and so are full
attention and none, which sees nothing of the past but through means: the floor, and no measure of
what attention adds.
small: ETTh1, width 32, 3 seeds at horizon 96 and one seed beyond. medium: all series, width 128, 3
seeds, not yet run. full: width 512, 3 seeds.
"""

from configs import accuracy
from configs.accuracy import forecast

MECHANISMS = ("full", "probsparse", "auto_correlation", "fourier_enhanced", "lsh", "none")
DECOMPOSED = {
    f"{key}_decomposed": {
        **{"label": f"{key}, decomposed", "mechanism": key},
        **accuracy.SHORT[key],
    }
    for key in ("full", "auto_correlation", "fourier_enhanced", "none")
}
DECOMPOSE = {"decomposition": 25}


def evened(*sizes: int) -> dict[str, int]:
    found = accuracy.evened(*sizes)
    of = {key: variant["mechanism"] for key, variant in DECOMPOSED.items()}
    return found | {key: found[name] for key, name in of.items() if name in found}


STEPS = {"inputs": "continuous", "positions": "learned"}
SMALL = {
    "model": {**STEPS, "width": 32, "depth": 2, "heads": 4, "ff": 64, "dropout": 0.1},
    "ff": evened(32, 4, 64),
    "series": ("ETTh1",),
    "seeds_beyond": (0,),
    # sixteen modes of a width so small have more weights than all else
    "unequal": ("fourier_enhanced", "fourier_enhanced, decomposed"),
    "steps": 600,
    "evals": 6,
    "batch": 32,
}
MEDIUM = {
    **SMALL,
    "model": {**STEPS, "width": 128, "depth": 2, "heads": 8, "ff": 256, "dropout": 0.1},
    "ff": evened(128, 8, 256),
    "unequal": (),
    "series": forecast.MEDIUM["series"],
    "seeds_beyond": (0, 1, 2),
    "steps": 5000,
    "evals": 10,
}
FULL = {
    **MEDIUM,
    "model": {**STEPS, "width": 512, "depth": 2, "heads": 8, "ff": 2048, "dropout": 0.05},
    "ff": evened(512, 8, 2048),
    "steps": 20_000,
    "time_limit": 86400.0,
}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    common = {
        **{"task": "forecast", "task_args": {"mixed": True}, "patience": 3},
        **{"variants": {**accuracy.SHORT, **DECOMPOSED}, "horizons": forecast.AHEAD},
        **{"mechanisms": (*MECHANISMS, *DECOMPOSED), "own": dict.fromkeys(DECOMPOSED, DECOMPOSE)},
        **{"lengths": (96,), "lr_length": 96, "lrs": (1e-3, 3e-3, 1e-2)},
    }
    return accuracy.settings("forecast-mixed", size, sizes, **common)


def get_sweep(config):
    return forecast.by_horizon(config, "forecast-mixed")
