"""Bytes of tiny shakespeare: bits a byte against N at equal tokens a step, every causal mechanism.

    python -m experiments.run --config configs/accuracy/language.py:small

small: width 64, 2,048 tokens a step.
"""

from configs import accuracy, base


def get_config(size="small"):
    model = {"width": 64, "depth": 2, "heads": 2, "ff": 128, "positions": "sinusoidal"}
    small = {
        "task_args": {"eval_tokens": 32768},
        "model": model,
        "lengths": base.powers(128, 2048),
        "lr_length": 128,
        "one_seed_from": 1024,
        "lrs": (3e-3, 1e-2, 3e-2),
        "tokens": 2048,
        "steps": 800,
        "eval_every": 100,
        "warmup": 80,
    }
    return accuracy.settings(
        "tinyshakespeare",
        size,
        {"small": small, "medium": small, "full": small},
        ff={"lsh": 160, "compressed": 32, "synthesizer": 160, "spatial_gating": 160},
    )


def get_sweep(config):
    return accuracy.sweep(config)
