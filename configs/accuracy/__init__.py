"""Accuracy against N: what these configs share, the mechanisms, the three sizes, the fair sweep.

A size is chosen by `--config=configs/accuracy/mqar.py:small`, or `:medium` or `:full`. Within one
(task, N) every mechanism has the same backbone, optimiser, batch and steps. Its learning rate is
the one of `lrs` that validates best at N = `lr_length` with the first seed, carried over to every
other N: those runs have the role "grid", what is reported has the role "final".
"""

from typing import Any

from ml_collections import ConfigDict

from configs import base

# windows, blocks and states, for N of some hundreds
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
    "probsparse": {},
    "auto_correlation": {},
    "fourier_enhanced": {"modes": 16},
    # the block without its attention, and what came before attention
    "none": {},
    "recurrent": {"cell": "lstm"},
    "convolution": {"layers": 2},
}
# the lectures' networks of before attention; `recurrent` is their LSTM, `convolution` their stack
RECURRENT = {
    "rnn": {"label": "RNN", "mechanism": "recurrent", "cell": "rnn"},
    "bilstm": {"label": "BiLSTM", "mechanism": "recurrent", "bidirectional": True},
    "cnn_lstm": {"label": "CNN + LSTM", "mechanism": "recurrent", "conv": 3},
}
# a token, or a token and the next, by itself through one feed-forward layer, and the mean of all:
# the class is a function of which tokens, or pairs of neighbours, there are and how often
BAGS = {
    "unigrams": {"label": "bag of unigrams", "mechanism": "none"},
    "bigrams": {
        **{"label": "bag of bigrams", "mechanism": "convolution"},
        **{"width": 2, "layers": 1},
    },
}
# a second block would join pairs to longer ones, and positions tell orders apart
BAG = {"depth": 1, "positions": "none"}
# the same for some tens of positions, as patches of series are
SHORT = {
    **VARIANTS,
    "local": {"window": 4},
    "strided": {"stride": 6},
    "global": {"tokens": 2, "window": 4},
    "bigbird": {"block": 4, "window": 1, "global_blocks": 1, "random_blocks": 1},
    "mixed": {"parts": (("local", {"window": 4}), ("linear", {}))},
    "performer": {"features": 32},
    "rfa": {"features": 32},
    "lsh": {"buckets": 8, "block": 8, "hashes": 2},
    "routing": {"clusters": 6, "window": 8, "decay": 0.99},
    "sinkhorn": {"block": 8},
    "linformer": {"slots": 16},
    "nystrom": {"landmarks": 16},
    "query_reduction": {"slots": 16},
    "probsparse": {"factor": 3},
    "auto_correlation": {"factor": 1},
}
# VARIANTS four times as large, for N of thousands
WIDE = {
    **VARIANTS,
    "local": {"window": 64},
    "global": {"tokens": 32, "window": 64},
    "bigbird": {"block": 64, "window": 1, "global_blocks": 1, "random_blocks": 1},
    "mixed": {"parts": (("local", {"window": 64}), ("linear", {}))},
    "performer": {"features": 256},
    "rfa": {"features": 256},
    "lsh": {"buckets": "n/32", "block": 64, "hashes": 2},
    "sinkhorn": {"block": 64},
    "linformer": {"slots": 128},
    "nystrom": {"landmarks": 128},
    "mlp_mixer": {"hidden": 128},
    "query_reduction": {"slots": 128},
}
# of these time and memory grow with N alone
CHEAP = ("local", "global", "bigbird", "linear", "efficient", "performer", "rfa", "nystrom", *BAGS)


def evened(width: int, heads: int, ff: int, depth: int = 1) -> dict[str, int]:
    """The `ff` that gives a mechanism as many parameters as full attention has with this one.

    No key projection is width² less, and dense synthesizers have width² / heads of their own; no
    projections at all are 4 width² less; a convolution of stride 3 for keys and one for values are
    6 width² / heads more; an RNN is 2 width², an LSTM 8, one of two directions 6, one behind a
    convolution of 3 11, two layers of such a convolution 6, 16 modes are 32 / heads and their
    projections 2, where attention is 4. An ff of F is 2 F width. A bag's one block has as many
    parameters as `depth` of full attention, 2 width² of them in pairs.
    """
    fewer = {"lsh": width // 2, "spatial_gating": width // 2, "fourier": 2 * width}
    fewer |= {"synthesizer": (width - width // heads) // 2}
    fewer |= {"mlp_mixer": 2 * width, "compressed": -3 * width // heads}
    fewer |= {"none": 2 * width, "recurrent": -2 * width, "convolution": -width}
    fewer |= {"rnn": width, "bilstm": -width, "cnn_lstm": -7 * width // 2}
    fewer |= {"fourier_enhanced": width - 16 * width // heads}
    whole = depth * (2 * width + ff)
    fewer |= {"unigrams": whole - ff, "bigrams": whole - width - ff}
    return {name: max(ff + more, 1) for name, more in fewer.items()}


# the model of most tasks, and the rates it is tried with
SMALL = {
    "model": {"width": 64, "depth": 2, "heads": 4, "ff": 256, "positions": "sinusoidal"},
    "ff": evened(64, 4, 256, depth=2),
    "lrs": (1e-3, 3e-3, 1e-2),
}
MEDIUM = {
    "model": {"width": 128, "depth": 4, "heads": 4, "ff": 512, "positions": "sinusoidal"},
    "ff": evened(128, 4, 512, depth=4),
    "lrs": (3e-4, 1e-3, 3e-3),
    "seeds": (0,),
}


def settings(experiment: str, size: str, sizes: dict[str, dict], **fields: Any) -> ConfigDict:
    """The config of a size: `fields`, and of `sizes` what is the size's own.

    `one_seed_from`: the N from which the first seed alone runs. A step takes `tokens` at every N,
    or `batch` sequences; a run `steps`, or those that `more_steps` has by N, or as many as
    `sequences` fill, and `lr_steps` where it is for the learning rate; validation comes `evals`
    times. `ff` by mechanism: of what has more or fewer parameters elsewhere than full attention;
    `unequal` are those that no ff evens out. `own`: the model's other fields of what has some of
    its own, `models` of what has another one altogether. Mechanisms are all the variants.
    """
    if size not in sizes:
        raise ValueError(f"size must be one of {', '.join(sizes)}, got {size!r}")
    common = {
        "isolate": "mechanism",
        "time_limit": 3600.0,
        "size": size,
        "task": experiment,
        "task_args": {},
        "variants": VARIANTS,
        # in place of the model's
        "widths": (),
        "seeds": (0, 1, 2),
        "one_seed_from": None,
        # of these mechanisms alone
        "cheap": CHEAP,
        "cheap_lengths": (),
        "more_steps": {},
        "lr_steps": None,
        "schedule": "cosine",
        # of all steps
        "warmup": 0.1,
        "evals": 10,
        "ff": {},
        "unequal": (),
        "own": dict.fromkeys(BAGS, BAG),
        "models": {},
        "weight_decay": 0.1,
        "clip": 1.0,
        "dtype": "float32",
        "target": None,
        "patience": None,
    }
    common |= fields | sizes[size]
    common.setdefault("mechanisms", tuple(common["variants"]))
    return base.settings(f"accuracy-{experiment}", **common)


def changed(config: ConfigDict, fields: dict) -> ConfigDict:
    """The config with these fields in place of its own."""
    return ConfigDict({**config.to_dict(), **fields})


def sweep(config: ConfigDict, grid_config: ConfigDict | None = None) -> list[dict]:
    """A point a mechanism, N and seed; the runner adds those that their learning rate is from,
    which are of `grid_config` where it is given."""
    grid_config = grid_config or config
    points = []
    for key in config.mechanisms:
        for width in config.widths or (config.model.width,):
            model = {**config.model, "width": width, "ff": config.ff.get(key, config.model.ff)}
            model = {**config.models.get(key, model), **config.own.get(key, {})}
            grid = _point(grid_config, key, config.lr_length, config.seeds[0], model, "grid")
            for n in config.lengths + (config.cheap_lengths if key in config.cheap else ()):
                late = config.one_seed_from is not None and n >= config.one_seed_from
                for seed in config.seeds[:1] if late else config.seeds:
                    point = _point(config, key, n, seed, model, "final")
                    at = {name: value for name, value in grid.items() if point[name] != value}
                    points.append({**point, "lr": {"grid": config.lrs, "at": at}})
    return points


def _point(config, key, n, seed, model, role):
    batch = config.batch if "batch" in config else _share(config.tokens, n)
    steps = config.steps if "steps" in config else config.sequences // batch
    steps = config.more_steps.get(str(n), steps)
    if role == "grid" and config.lr_steps is not None:
        steps = config.lr_steps
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
        "batch": batch,
        "steps": steps,
        "eval_every": max(1, steps // config.evals),
        "target": config.target,
        "patience": config.patience,
        "schedule": config.schedule,
        "warmup": round(steps * config.warmup),
        "weight_decay": config.weight_decay,
        "clip": config.clip,
        "dtype": config.dtype,
        "seed": seed,
    }


def _share(tokens, n):
    if n > tokens:
        raise ValueError(f"lengths must be at most tokens={tokens} a step, got {n}")
    return tokens // n
