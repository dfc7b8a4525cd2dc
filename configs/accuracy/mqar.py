"""Recall: accuracy of multi-query associative recall against N, every causal mechanism.

    python -m experiments.run --config configs/accuracy/mqar.py:small

small: width 64, 256 symbols, N = 64 to 512 with 4 to 64 pairs; about 4 hours of one CPU core; one
seed at N = 512. medium: the same and N = 1,024, within 30 minutes on one GPU. full: what Zoology
published (arXiv:2312.04927): 8,192 symbols, 100,000 sequences 64 times, learning rates
logspace(-4, -2, 4), no feed-forward; but sequences are new in every step.
"""

from configs import accuracy

WIDTHS = (64, 128, 256, 512)


def get_config(size="small"):
    model = {"width": 64, "depth": 2, "heads": 2, "ff": 128, "positions": "sinusoidal"}
    small = {
        "task_args": {"vocab": 256, "eval_examples": 500},
        "model": model,
        "lengths": (64, 128, 256, 512),
        "lr_length": 64,
        "one_seed_from": 512,
        "lrs": (1e-3, 3e-3, 1e-2),
        "tokens": 4096,
        "steps": 600,
        "eval_every": 50,
        "warmup": 60,
    }
    return accuracy.settings(
        "mqar",
        size,
        {"small": small, "medium": small, "full": small},
        target=0.999,
        ff={"lsh": 160, "compressed": 32, "synthesizer": 160, "spatial_gating": 160},
    )


def get_sweep(config):
    return accuracy.sweep(config)
