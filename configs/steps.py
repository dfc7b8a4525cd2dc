"""Steps: what a training step of the whole transformer costs, and attention's share of it.

    python -m experiments.run --config configs/steps.py --config.isolate=mechanism

238 points, about an hour and a half on two CPU cores. Every point is measured twice, with its
attention and with an entry-by-entry product in its place: projections, feed-forward, norms and
AdamW stay. Head size and heads are those of configs/scaling.py. Expect attention to be half of the
FLOPs from N = 6 width up for full, and never for what costs less than the 24 width² a token of
projections and feed-forward. In patches of 16 (PatchTST, arXiv:2211.14730) a series of N steps has
N / 16 positions: all costs 1/16 of what it does in tokens, the products of full attention 1/256.
"""

from configs import base, scaling

PATCHED = {
    "full_patches": {
        "label": "full, patches of 16",
        "mechanism": "full",
        "implementation": "plain",
    },
    "linear_patches": {
        "label": "linear, patches of 16",
        "mechanism": "linear",
        "feature_map": "elu",
    },
}


def get_config():
    config = base.settings("steps", time_limit=600.0)
    config.variants = {**scaling.get_config().variants, **PATCHED}
    config.mechanisms = tuple(config.variants)
    config.lengths = base.powers(256, 16384)
    config.batch = 1
    # no learned positions: they would add parameters with length
    config.model = {"width": 512, "depth": 1, "heads": 8, "ff": 2048, "positions": "sinusoidal"}
    # what differs from it; of another architecture all
    config.models = {key: {"inputs": "patches", "patch": 16} for key in PATCHED}
    config.dtype = "float32"
    config.repeats = 5
    config.budget = 2.0
    return config


def get_sweep(config):
    return [
        {
            "experiment": config.experiment,
            "kind": "step",
            **base.variant(config, key, n),
            "n": n,
            "batch": config.batch,
            "model": _model(config, key),
            "dtype": config.dtype,
            "seed": config.seed,
            "repeats": config.repeats,
            "budget": config.budget,
        }
        for key in config.mechanisms
        for n in config.lengths
    ]


def _model(config, key):
    own = config.models.get(key, {})
    return {**own} if "architecture" in own else {**config.model, **own}
