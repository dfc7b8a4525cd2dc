"""Accuracy against N: what these configs share, the mechanisms, the three sizes, the fair sweep.

A size is chosen by `--config=configs/accuracy/mqar.py:small`, or `:medium` or `:full`. Within one
(task, N) every mechanism has the same backbone, optimiser, batch and steps. Its learning rate is
the one of `lrs` that validates best at N = `lr_length` with the first seed, carried over to every
other N: those runs have the role "grid", what is reported has the role "final".
"""

from typing import Any

from ml_collections import ConfigDict

from configs import base

# small windows, blocks and states, for small N
VARIANTS = {
    "full": {},
    "local": {"window": 16},
    "strided": {"stride": "sqrt"},
    "global": {"tokens": 8, "window": 16},
    "bigbird": {"block": 16, "window": 1, "global_blocks": 1, "random_blocks": 1},
    "mixed": {"parts": (("local", {"window": 16}), ("linear", {}))},
    "linear": {"feature_map": "elu"},
    "efficient": {},
    "performer": {"features": 64},
    "rfa": {"features": 64},
    "lsh": {"buckets": "n/8", "block": 16, "hashes": 2},
    "routing": {"clusters": "sqrt", "window": "sqrt", "decay": 0.99},
    "sinkhorn": {"block": 16},
    "compressed": {"stride": 3},
    "synthesizer": {"kind": "dense"},
    "spatial_gating": {},
    "linformer": {"slots": 32},
    "nystrom": {"landmarks": 32},
    "fourier": {},
    "mlp_mixer": {"hidden": 32},
    "query_reduction": {"slots": 32},
}


def settings(task: str, size: str, sizes: dict[str, dict], **fields: Any) -> ConfigDict:
    """The config of a size: `fields`, and of `sizes` what is the size's own.

    `one_seed_from`: the N from which the first seed alone runs. `tokens` a step at every N, or
    `batch` sequences. `ff` by mechanism, where it is not the model's: what evens out parameters.
    """
    if size not in sizes:
        raise ValueError(f"size must be one of {', '.join(sizes)}, got {size!r}")
    common = {
        "isolate": "mechanism",
        "time_limit": 3600.0,
        "task": task,
        "task_args": {},
        "size": size,
        "mechanisms": tuple(VARIANTS),
        "variants": VARIANTS,
        "seeds": (0, 1, 2),
        "one_seed_from": None,
        "ff": {},
        "weight_decay": 0.1,
        "clip": 1.0,
        "dtype": "float32",
        "target": None,
    }
    return base.settings(f"accuracy-{task}", **{**common, **fields, **sizes[size]})


def sweep(config: ConfigDict) -> list[dict]:
    """A point a mechanism, N and seed; the runner adds those that their learning rate is from."""
    points = []
    for key in config.mechanisms:
        grid = _point(config, key, config.lr_length, config.seeds[0], "grid")
        for n in config.lengths:
            late = config.one_seed_from is not None and n >= config.one_seed_from
            for seed in config.seeds[:1] if late else config.seeds:
                point = _point(config, key, n, seed, "final")
                at = {name: value for name, value in grid.items() if point[name] != value}
                points.append({**point, "lr": {"grid": config.lrs, "at": at}})
    return points


def _point(config, key, n, seed, role):
    model = {**config.model, "ff": config.ff.get(key, config.model.ff)}
    return {
        "experiment": config.experiment,
        "kind": "train",
        **base.variant(config, key, n),
        "size": config.size,
        "role": role,
        "n": n,
        "task": config.task,
        "task_args": dict(config.task_args),
        "model": model,
        "batch": _batch(config, n),
        "steps": config.steps,
        "eval_every": config.eval_every,
        "target": config.target,
        "warmup": config.warmup,
        "weight_decay": config.weight_decay,
        "clip": config.clip,
        "dtype": config.dtype,
        "seed": seed,
    }


def _batch(config, n):
    if "batch" in config:
        return config.batch
    if n > config.tokens:
        raise ValueError(f"lengths must be at most tokens={config.tokens} a step, got {n}")
    return config.tokens // n
