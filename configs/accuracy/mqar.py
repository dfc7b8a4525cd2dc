"""Recall: accuracy of multi-query associative recall against N, every causal mechanism.

    python -m experiments.run --config configs/accuracy/mqar.py:small

small: width 64, 256 symbols, 3 seeds at (N, pairs) = (64, 4) (128, 8) (256, 16) and one seed at
(512, 64): 195 trainings of about a minute, 3.5 hours of one CPU core. Sequences grow while
training: of long ones from the first nothing is learned in so few steps. Expect 1.00 of full
attention at every N, and less and less of what has a state of constant size.
medium: width 128, 8,192 symbols, one seed, within half an hour on one GPU; not yet run on one.
full: what Zoology published (arXiv:2312.04927, figure 2): widths 64 to 512, 6,400,000 sequences in
batches of 16,384 tokens, rates logspace(-4, -2, 4), no feed-forward layers, learned positions; but
sequences are drawn anew each step.
`mixed` shares heads out, so it is refused where there is one.
"""

from configs import accuracy

MODEL = {"depth": 2, "heads": 1, "positions": "sinusoidal"}
SMALL = {
    "task_args": {"vocab": 256, "eval_examples": 256, "grow": (450, 600, 750, 950)},
    "model": {**MODEL, "width": 64, "ff": 128},
    "one_seed_from": 512,
    "lrs": (1e-3, 3e-3, 1e-2),
    "tokens": 2048,
    "steps": 1000,
    "more_steps": {"256": 1200, "512": 1500},
    # compressed has 49,152 parameters in its convolutions, half of the rest of the model
    "ff": {
        **{"lsh": 160, "spatial_gating": 160, "sinkhorn": 64, "compressed": 32},
        **{"convolution": 64, "recurrent": 0, "rnn": 192, "none": 256},
    },
    "unequal": ("compressed",),
}
MEDIUM = {
    "task_args": {"grow": (450, 600, 750, 950)},
    "model": {**MODEL, "width": 128, "ff": 256},
    "seeds": (0,),
    "lrs": (1e-3, 3e-3, 1e-2),
    "tokens": 8192,
    "steps": 1500,
}
FULL = {
    "model": {**MODEL, "width": 64, "ff": 0, "positions": "learned"},
    "widths": (64, 128, 256, 512),
    "lrs": (1e-4, 4.6e-4, 2.2e-3, 1e-2),
    "tokens": 16384,
    "sequences": 6_400_000,
    # without a feed-forward layer nothing evens out what is more or less than projections
    "unequal": ("compressed", "recurrent", "RNN", "none"),
    "evals": 64,
    "time_limit": 86400.0,
}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    variants = {**accuracy.VARIANTS, "rnn": accuracy.RECURRENT["rnn"]}
    fields = {"lengths": (64, 128, 256, 512), "lr_length": 64, "target": 0.999}
    return accuracy.settings("mqar", size, sizes, variants=variants, **fields)


def get_sweep(config):
    return accuracy.sweep(config)
