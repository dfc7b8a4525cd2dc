"""Forecasting: mean squared error of the next rows of a series, every bidirectional mechanism.

    python -m experiments.run --config configs/accuracy/forecast.py:small

PatchTST's model (arXiv:2211.14730) with each mechanism in its encoder: a channel by itself, patches
of 16 steps every 8, a flat head. Beside it DLinear and NLinear, and Time-LLM, whose frozen text
model is trained on tiny shakespeare first. --config.series=weather,illness takes other series;
--config.lengths=96,336,720,1440,2880 with --config.horizons=96 asks which mechanisms use a longer
past, one seed from 720 on, in four hours on two cores. A rate is chosen at look-back 336 and the
first horizon. small: ETTh1, look-backs 96 and 336, horizons 96 to 720, width 32, 3 seeds at horizon
96 and one seed beyond. medium: all series, 3 seeds, two days of a GPU at most by estimate,
not yet run. full: as medium, of the paper's size and patience.
"""

from configs import accuracy

# what has no sequence of patches
LINEAR = {
    "dlinear": {"label": "DLinear", "mechanism": "none"},
    "nlinear": {"label": "NLinear", "mechanism": "none"},
}
TEXT_MODEL = {"label": "Time-LLM", "mechanism": "none"}
VARIANTS = {**accuracy.SHORT, **LINEAR, "time_llm": TEXT_MODEL}
TEXT = {"width": 64, "depth": 2, "heads": 4, "ff": 256, "max_len": 512, "positions": "sinusoidal"}

PATCHES = {"inputs": "patches", "patch": 16, "patch_stride": 8, "positions": "learned"}
SMALL = {
    "model": {**PATCHES, "width": 32, "depth": 2, "heads": 4, "ff": 64, "dropout": 0.2},
    "ff": accuracy.evened(32, 4, 64),
    "series": ("ETTh1",),
    "lengths": (96, 336),
    "one_seed_from": 720,
    # sixteen modes of a width so small have more weights than all else
    "unequal": ("fourier_enhanced", "DLinear", "NLinear", "Time-LLM"),
    "seeds_beyond": (0,),
    "steps": 600,
    "evals": 6,
    "batch": 64,
}
MEDIUM = {
    **SMALL,
    "series": ("ETTh1", "ETTh2", "ETTm1", "weather", "exchange_rate", "illness"),
    "seeds_beyond": (0, 1, 2),
    "one_seed_from": None,
    "steps": 5000,
    "evals": 10,
    "batch": 256,
}
FULL = {
    **MEDIUM,
    "model": {**PATCHES, "width": 128, "depth": 3, "heads": 16, "ff": 256, "dropout": 0.2},
    "ff": accuracy.evened(128, 16, 256),
    "unequal": ("DLinear", "NLinear", "Time-LLM"),
    "steps": 50_000,
    "patience": 10,
    "evals": 100,
    "time_limit": 86400.0,
}
AHEAD = (96, 192, 336, 720)
HORIZONS = {"illness": (24, 36, 48, 60)}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    common = {
        **{"variants": VARIANTS, "horizons": AHEAD},
        "models": {
            **{key: {"architecture": "linear", "form": key} for key in LINEAR},
            "time_llm": {"architecture": "reprogrammed", "text": TEXT, "dropout": 0.2},
        },
        "text_pretrain": {"objective": "text", "steps": 800, "lr": 1e-2, "warmup": 80},
        **{"lr_length": 336, "lrs": (1e-3, 3e-3, 1e-2), "patience": 4},
    }
    return accuracy.settings("forecast", size, sizes, **common)


def get_sweep(config):
    return [_with_text(point, config) for point in by_horizon(config, "forecast")]


def by_horizon(config, name):
    """The fair sweep of every series and horizon; a rate is chosen at the first horizon."""
    points = []
    for series in config.series:
        horizons = HORIZONS.get(series, config.horizons)
        of = [_of(config, f"{name}-{series}-{h}", series, h, h == horizons[0]) for h in horizons]
        points += [point for each in of for point in accuracy.sweep(each, of[0])]
    return points


def _of(config, experiment, series, horizon, first):
    return accuracy.changed(
        config,
        {
            "experiment": experiment,
            "task_args": {**config.task_args, "series": series, "horizon": horizon},
            "seeds": config.seeds if first else config.seeds_beyond,
        },
    )


def _with_text(point, config):
    if point["label"] != TEXT_MODEL["label"]:
        return point
    return {**point, "pretrain": config.text_pretrain.to_dict()}
