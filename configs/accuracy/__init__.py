"""Accuracy against N: what these configs share, the mechanisms, the three sizes, the fair sweep.

A size is chosen by `--config=configs/accuracy/mqar.py:small`, or `:medium` or `:full`. Within one
(task, N) every mechanism has the same backbone, optimiser, batch and steps. Its learning rate is
the one of `lrs` that validates best at N = `lr_length` with the first seed, carried over to every
other N, or at each N where `lr_length` is None: those runs have the role "grid", what is reported
has the role "final".

`small` is for two CPU cores with a runner on each, as its records were made: `taskset -c 0 python
-m experiments.run ... --out DIR` beside the same with `-c 1` share its points. `medium` is meant
for one GPU and `full` for days of several: neither has been run. Hours of a GPU are estimates, at
20 TFLOP/s, 5 ms a step and 20 s a compilation.

Every config takes these too, and its points have only what is set:

    --config.pretrain.objective=masked --config.pretrain.steps=2000
    --config.microbatches=4 --config.model.remat=True
    --config.checkpoint_every=100 --config.keep_checkpoints=True

Pretraining (or "causal") is on the task's own inputs and takes lr, warmup and share as well; the
second line is the same training in less memory. There are final_lr (a share of the peak), beta2,
model.dropout and model.scan.
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
# the two attentions of the Sparse Transformer in one layer: alone, no layer of strided attention
# joins a position to the one before, so of a text it learns what follows one symbol and no more
SPARSE = {"label": "strided + local", "mechanism": "strided", "stride": "sqrt", "window": 16}
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
CHEAP = (
    *("local", "global", "bigbird", "linear", "efficient", "performer", "rfa", "nystrom", "none"),
    *BAGS,
)


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


# what a training has unless it is asked for something else: a point has only what differs
UNSAID = {
    "microbatches": 1,
    "checkpoint_every": None,
    "keep_checkpoints": False,
    "final_lr": 0.1,
    "beta2": 0.95,
    "pretrain": None,
}
UNSAID_MODEL = {"remat": False, "scan": False, "dropout": 0.0}
PRETRAIN = dict.fromkeys(("objective", "steps", "lr", "warmup", "share"))
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
    "seeds": (0, 1, 2),
}


def settings(experiment: str, size: str, sizes: dict[str, dict], **fields: Any) -> ConfigDict:
    """The config of a size: `fields`, and of `sizes` what is the size's own.

    `one_seed_from`: the N from which the first seed alone runs. A step takes `tokens` at every N,
    or `batch` sequences; a run `steps`, or as many as `sequences` fill, and `lr_steps` where it is
    for the learning rate; validation comes `evals` times. `by_length`: fields that are others at
    an N. `ff` by mechanism: of what has more or fewer parameters elsewhere than full attention;
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
        "by_length": {},
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
        **UNSAID,
        "pretrain": PRETRAIN,
    }
    common |= fields | sizes[size]
    common.setdefault("mechanisms", tuple(common["variants"]))
    common["model"] = UNSAID_MODEL | common["model"]
    return base.settings(f"accuracy-{experiment}", **common)


def changed(config: ConfigDict, fields: dict) -> ConfigDict:
    """The config with these fields in place of its own."""
    return ConfigDict({**config.to_dict(), **fields})


def at_length(config: ConfigDict, n: int) -> ConfigDict:
    """The config with what it has of its own at this N."""
    found = config.copy_and_resolve_references()
    with found.ignore_type():
        found.update(config.by_length.get(str(n), {}))
    return found


def sweep(config: ConfigDict, grid_config: ConfigDict | None = None) -> list[dict]:
    """A point a mechanism, N and seed; the runner adds those that their learning rate is from,
    which are of `grid_config` where it is given."""
    base.check_seeds(config.seeds)
    if config.evals < 1:
        raise ValueError(f"evals must be from 1 up, got {config.evals}")
    settings_at = {n: at_length(config, n) for n in (*config.lengths, *config.cheap_lengths)}
    lr_lengths = {n: config.lr_length or n for n in settings_at}
    grids_at = {n: at_length(grid_config or config, lr_lengths[n]) for n in settings_at}
    points = []
    for key in config.mechanisms:
        for width in config.widths or (None,):
            for n in config.lengths + (config.cheap_lengths if key in config.cheap else ()):
                grid = _point(grids_at[n], key, lr_lengths[n], config.seeds[0], width, "grid")
                late = config.one_seed_from is not None and n >= config.one_seed_from
                for seed in config.seeds[:1] if late else config.seeds:
                    point = _point(settings_at[n], key, n, seed, width, "final")
                    at = {name: value for name, value in grid.items() if point[name] != value}
                    points.append({**point, "lr": {"grid": config.lrs, "at": at}})
    return points


def _point(config, key, n, seed, width, role):
    batch = config.batch if "batch" in config else _share(config.tokens, n)
    steps = config.steps if "steps" in config else config.sequences // batch
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
        "model": _model(config, key, width),
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
        **_asked(config),
    }


def _asked(config):
    """What differs from UNSAID, here or at another N: a grid's point has the same fields."""
    pretrain = {name: value for name, value in config.pretrain.items() if value is not None}
    said = {name: config[name] for name in UNSAID} | {"pretrain": pretrain or None}
    elsewhere = {name for own in config.by_length.values() for name in own}
    return {
        name: value for name, value in said.items() if name in elsewhere or value != UNSAID[name]
    }


def _model(config, key, width):
    model = {
        name: value
        for name, value in config.model.items()
        if name not in UNSAID_MODEL or value != UNSAID_MODEL[name]
    }
    model |= {"width": width or model["width"], "ff": config.ff.get(key, model["ff"])}
    return {**config.models.get(key, model), **config.own.get(key, {})}


def _share(tokens, n):
    if n > tokens:
        raise ValueError(f"lengths must be at most tokens={tokens} a step, got {n}")
    return tokens // n
