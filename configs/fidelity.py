"""Fidelity: how far each approximation is from full softmax attention, against N and its budget.

    python -m experiments.run --config configs/fidelity.py

340 points, half an hour on two CPU cores that other work shared: 1 to 4 seconds each, up to half a
minute where parameters are fitted. The first point with trained inputs trains the model that they
come from, of sequences as long as the longest N: some minutes, kept in OUT/models.

Expect errors above 1 on random inputs, where full attention is close to the mean of all values and
whoever sees few of them is noise; far lower ones on trained inputs. What learns is fitted to full
attention's output first; where `fit_loss` is far from the square of the error, or above that of the
mean of values, the fit was too short to be the mechanism's best. Left out: fourier and mlp_mixer
read no q and k, and spatial_gating is a gate, no average of values.
"""

from configs import base

# a line: the hyperparameter that is the budget, its values and what else is fixed; `share` is one
# that is N / value; `mechanism` where it is not the label; `longest` the last N; `fit` the rates of
# what learns, those that did best on inputs to choose by at N = 256, `passes` over the same inputs
TABLE = {
    "local": {"budget": "window", "values": (16, 32, 64, 128, 256)},
    "strided": {"budget": "stride", "values": (64, 32, 16, 8, 4)},
    "global": {"budget": "tokens", "values": (8, 16, 32, 64, 128), "fixed": {"window": 32}},
    "bigbird": {
        "budget": "random_blocks",
        "values": (0, 1, 2, 4, 8),
        "fixed": {"block": 16, "window": 1},
    },
    "nystrom": {"budget": "landmarks", "values": (16, 32, 64, 128, 256)},
    "performer": {"budget": "features", "values": (16, 64, 256, 1024)},
    "rfa": {"budget": "features", "values": (16, 64, 256, 1024)},
    "lsh": {"budget": "hashes", "values": (1, 2, 4, 8), "fixed": {"buckets": 16, "block": 32}},
    "lsh_buckets": {
        "mechanism": "lsh",
        "budget": "buckets",
        "values": (32, 16, 8, 4),
        "fixed": {"hashes": 2},
        "share": "block",
    },
    "routing": {
        "budget": "window",
        "values": (16, 32, 64, 128),
        "fixed": {"clusters": 16, "decay": 0.5},
    },
    "routing_clusters": {
        "mechanism": "routing",
        "budget": "clusters",
        "values": (32, 16, 8, 4),
        "fixed": {"decay": 0.5},
        "share": "window",
    },
    "linear": {"fixed": {"feature_map": "elu"}},
    "efficient": {},
    "linformer": {
        "budget": "slots",
        "values": (16, 64, 256),
        "fixed": {"start": "means"},
        "fit": (1e-4, 1e-3),
    },
    "compressed": {
        "budget": "stride",
        "values": (32, 16, 4),
        "fixed": {"start": "means"},
        "fit": (3e-3,),
    },
    "sinkhorn": {"budget": "block", "values": (16, 32, 128), "fit": (1e-2,)},
    "sinkhorn_n_top": {
        "mechanism": "sinkhorn",
        "budget": "n_top",
        "values": (1, 4),
        "fixed": {"block": 32},
        "fit": (1e-2,),
    },
    "synthesizer_dense": {
        "mechanism": "synthesizer",
        "fixed": {"kind": "dense"},
        "longest": 512,
        "fit": (1e-2,),
    },
    "synthesizer_random": {
        "mechanism": "synthesizer",
        "fixed": {"kind": "random"},
        "longest": 512,
        "fit": (3e-2,),
    },
}
# their buffers are drawn
RANDOM = ("performer", "rfa", "lsh", "routing")


def get_config():
    config = base.settings("fidelity", isolate="mechanism")
    config.mechanisms = tuple(TABLE)
    config.lengths = (256, 1024)
    config.inputs = ("random", "trained")
    config.causal = (False,)
    config.batch = 1
    config.heads = 4
    config.head_dim = 32
    config.dtype = "float32"
    # of buffers; what draws none has the first alone
    config.seeds = (0, 1)
    # that a fit reads: a window a step
    config.fit_tokens = 102_400
    # n is the longest that is read of it
    config.training = {
        "n": 1024,
        "batch": 4,
        "steps": 200,
        "depth": 2,
        "ff": 256,
        "layer": 1,
        "lr": 3e-3,
        "warmup": 20,
        "seed": 0,
    }
    return config


def target(mechanism, n):
    """What is approximated, where that is not full attention of scaled dot products."""
    special = {
        "rfa": {"mechanism": "full", "hparams": {"score": "cosine"}},
        "lsh": {"mechanism": "lsh", "hparams": {"buckets": 1, "block": n}},
    }
    return {"target": special[mechanism]} if mechanism in special else {}


def hparams(row, n, value):
    chosen = dict(row.get("fixed", {}))
    if "budget" in row:
        chosen[row["budget"]] = value
    if "share" in row:
        chosen[row["share"]] = n // value
    return chosen


def options(config, row, mechanism, inputs, n):
    chosen = target(mechanism, n)
    if inputs == "trained":
        chosen["training"] = config.training.to_dict()
    if mechanism == "routing":
        chosen["refreshes"] = 20
    if "fit" in row:
        passes = row.get("passes", 1)
        steps = passes * max(config.fit_tokens // (config.batch * n), 1)
        chosen["fit"] = {"steps": steps, "passes": passes, "lr": row["fit"]}
    return chosen


def get_sweep(config):
    for label in config.mechanisms:
        if label not in TABLE:
            raise ValueError(f"mechanisms must be of {', '.join(TABLE)}, got {label!r}")
    lines = [(label, row.get("mechanism", label), row) for label, row in TABLE.items()]
    return [
        {
            "experiment": "fidelity",
            "kind": "fidelity",
            "label": label,
            "mechanism": mechanism,
            "hparams": hparams(row, n, value),
            "budget": {"name": row.get("budget", ""), "value": value},
            "n": n,
            "inputs": inputs,
            "causal": causal,
            **options(config, row, mechanism, inputs, n),
            "batch": config.batch,
            "heads": config.heads,
            "head_dim": config.head_dim,
            "value_dim": config.head_dim,
            "dtype": config.dtype,
            "seed": seed,
        }
        for label, mechanism, row in lines
        if label in config.mechanisms
        for inputs in config.inputs
        for causal in config.causal
        for n in config.lengths
        if n <= row.get("longest", n)
        for value in row.get("values", (None,))
        if value is None or value <= n
        for seed in (config.seeds if mechanism in RANDOM else config.seeds[:1])
    ]
