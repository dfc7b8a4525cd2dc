"""Language: bits a byte of byte language models against context length, one row a mechanism.

The short form, which the demo takes: five mechanisms at one rate. All of them, each at the rate
that validates best, are in configs/accuracy/language.py.

    python -m experiments.run --config configs/language.py

90 points of 1 to 2 minutes on two CPU cores. Expect every model well below
the order-0 figure of its text (a model above it is a failed run). Longer contexts:
--config.lengths=256,1024,4096. Tiny shakespeare is downloaded where it is missing.
"""

from configs import base


def get_config():
    config = base.settings("language", time_limit=3600.0)
    config.tasks = ("stdlib", "tinyshakespeare")
    config.mechanisms = ("full", "local", "strided", "bigbird", "linear")
    config.variants = {
        "full": {},
        "local": {"window": 64},
        "strided": {"stride": "sqrt"},
        "bigbird": {"block": 32, "window": 1, "global_blocks": 1, "random_blocks": 1},
        "linear": {"feature_map": "elu"},
    }
    config.lengths = base.powers(256, 1024)
    config.seeds = (0, 1, 2)
    # a step, at every length
    config.tokens = 4096
    config.steps = 400
    config.eval_every = 100
    config.eval_tokens = 65536
    # peaks; a mechanism not named here takes "default"
    config.lr = {"default": 1e-2}
    config.warmup = 40
    config.weight_decay = 0.1
    config.clip = 1.0
    config.dtype = "float32"
    # positions that no mechanism refuses, and that add no parameters with length
    config.model = {"width": 64, "depth": 2, "heads": 4, "ff": 256, "positions": "sinusoidal"}
    return config


def get_sweep(config):
    base.check_seeds(config.seeds)
    for n in config.lengths:
        if n > config.tokens:
            raise ValueError(f"lengths must be at most tokens={config.tokens} a step, got {n}")
    return [
        {
            "experiment": "language",
            "kind": "train",
            **base.variant(config, key, n),
            "n": n,
            "task": task,
            "task_args": {"eval_tokens": config.eval_tokens},
            "model": dict(config.model),
            "batch": config.tokens // n,
            "steps": config.steps,
            "eval_every": config.eval_every,
            "lr": config.lr.get(key, config.lr.default),
            "warmup": config.warmup,
            "weight_decay": config.weight_decay,
            "clip": config.clip,
            "dtype": config.dtype,
            "seed": seed,
        }
        for task in config.tasks
        for key in config.mechanisms
        for n in config.lengths
        for seed in config.seeds
    ]
