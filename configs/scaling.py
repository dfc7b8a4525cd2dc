"""Scaling: FLOPs, memory and time of every mechanism against length, forward and training.

    python -m experiments.run --config configs/scaling.py

With --config.isolate=mechanism 70 minutes on two CPU cores, more without; at once and with nothing
beside it, or the times of neighbouring N are of different machines. The other forms:
--config.causal=True, --config.dtype=bfloat16. Expect exponents in N of 2 for full, compressed,
synthesizer, spatial_gating, mixed and strided query reduction, 1.5 for strided, routing and
sinkhorn, N log N for fourier, probsparse and auto_correlation, 1 for the others. What is quadratic
ends at the N of `longest`; plain full attention does not fit or end in time there. Chunked,
forward, goes on: --config.mechanisms=full_chunked --config.modes=forward
--config.longest.full_chunked=65536 --config.time_limit=600. Other lengths and hyperparameters:
--config.lengths=256,1000 --config.mechanisms=local,linear --config.variants.local.window=64.
"""

from ml_collections import ConfigDict

from configs import accuracy, base

QUADRATIC = (
    "full",
    "full_chunked",
    "compressed",
    "query_reduction_strided",
    "synthesizer",
    "synthesizer_random",
    "spatial_gating",
    "mixed",
)


def get_config():
    config = base.settings("scaling", time_limit=120.0)
    config.variants = {
        "full": {"implementation": "plain"},
        "full_chunked": {"label": "full chunked", "mechanism": "full", "implementation": "chunked"},
        "local": {"window": 128},
        "strided": {"stride": "sqrt"},
        "global": {"tokens": 16, "window": 128},
        "bigbird": {"block": 64, "window": 1, "global_blocks": 2, "random_blocks": 3},
        "linear": {"feature_map": "elu"},
        "fourier": {},
        "lsh": {"hashes": 1, "block": 128},
        "routing": {"clusters": "sqrt", "window": "sqrt"},
        "sinkhorn": {"block": "sqrt"},
        "linformer": {"slots": 256},
        "compressed": {"stride": 3},
        "nystrom": {"landmarks": 256},
        "query_reduction": {"slots": 256},
        "query_reduction_strided": {
            "label": "query reduction strided",
            "mechanism": "query_reduction",
            "kind": "strided",
            "stride": 4,
        },
        "efficient": {},
        "performer": {"features": 256},
        "rfa": {"features": 256},
        "synthesizer": {"kind": "dense"},
        "synthesizer_random": {
            "label": "synthesizer random",
            "mechanism": "synthesizer",
            "kind": "random",
        },
        "spatial_gating": {},
        "mlp_mixer": {"hidden": 256},
        "mixed": {},
        "probsparse": {},
        "auto_correlation": {},
        "fourier_enhanced": {},
        "recurrent": {},
        "convolution": {},
        **accuracy.RECURRENT,
    }
    config.mechanisms = tuple(config.variants)
    config.lengths = base.powers(256, 65536)
    config.longest = ConfigDict(dict.fromkeys(QUADRATIC, 16384))
    config.modes = ("forward", "train")
    config.causal = (False,)
    config.batch = 1
    config.heads = 8
    config.head_dim = 64
    config.value_dim = 64
    config.dtype = "float32"
    config.repeats = 7
    config.budget = 2.0
    return config


def get_sweep(config):
    return [
        {
            "experiment": "scaling",
            "kind": "kernel",
            **base.variant(config, key, n),
            "n": n,
            "mode": mode,
            "causal": causal,
            "batch": config.batch,
            "heads": config.heads,
            "head_dim": config.head_dim,
            "value_dim": config.value_dim,
            "dtype": config.dtype,
            "seed": config.seed,
            "repeats": config.repeats,
            "budget": config.budget,
        }
        for key in config.mechanisms
        for causal in config.causal
        for mode in config.modes
        for n in config.lengths
        if n <= config.longest.get(key, n)
    ]
