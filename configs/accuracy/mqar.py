"""Recall: accuracy of multi-query associative recall against N, every causal mechanism.

    python -m experiments.run --config configs/accuracy/mqar.py:small

small: width 64, 256 symbols, 3 seeds at (N, pairs) = (64, 4) (128, 8) (256, 16) and one seed at
(512, 64): 260 trainings of 20 mechanisms, about 6 core-hours. Sequences grow while training: of
long ones from the first nothing is learned in so few steps. Expect 1.00 of full attention at every
N, and less and less of what has a state of constant size. `strided` alone joins no token to the one
before, in any number of layers, so it cannot tell which value follows which key; with a band beside
it, as the Sparse Transformer has it, a first layer can join value to key, and a second sees the
values near a query and in its own class: none there where the stride is even, for queries stand at
even positions and values at odd ones.
long: small for 4,000 steps with one seed, N = 64 to 256. 1,000 steps end before some mechanisms
learn to recall: linear attention at N = 64 guesses one of the context's values until step 1,200 and
has .95 at step 1,600, at a rate that small's short runs do not choose. So what small does not learn
in its steps may still be able to. At 128 and 256 it guesses to the end.
medium: width 128, 8,192 symbols, 3 seeds, 2 hours of a GPU by estimate, not yet run.
full: 3 seeds of figure 2 of Zoology (arXiv:2312.04927), after its code: widths 64 to 512, 6,400,000
sequences in batches of 512, 512, 256 and 128, between pairs and queries zeros, rates
logspace(-4, -2, 4) at every N and width, no warm-up, a cosine to 0, no clipping, no feed-forward
layers, enough at .99. `mixed` shares heads out, so it is refused where there is one.

Differs: sequences are drawn anew each step (there 100,000 in 64 passes); validation is apart from
the test; every mechanism has learned positions and 2 layers (there attention alone has positions,
and in one version of its code the rest 4 layers); no dropout (there 0.1 of embeddings and of
attention's weights); the embedding is not the output too; norms and biases do not decay.
"""

from configs import accuracy, arena

MODEL = {"depth": 2, "heads": 1, "positions": "sinusoidal"}
SMALL = {
    "task_args": {"vocab": 256, "eval_examples": 256, "grow": (450, 600, 750, 950)},
    "model": {**MODEL, "width": 64, "ff": 128},
    "one_seed_from": 512,
    "lrs": (1e-3, 3e-3, 1e-2),
    "tokens": 2048,
    "steps": 1000,
    "by_length": {"256": {"steps": 1200}, "512": {"steps": 1500}},
    # compressed has 49,152 parameters in its convolutions, half of the rest of the model
    "ff": {
        **{"lsh": 160, "spatial_gating": 160, "sinkhorn": 64, "compressed": 32},
        **{"convolution": 64, "recurrent": 0, "rnn": 192, "none": 256},
    },
    "unequal": ("compressed",),
}
LONG = {
    **SMALL,
    "lengths": (64, 128, 256),
    "seeds": (0,),
    "one_seed_from": None,
    "by_length": {},
    "steps": 4000,
}
MEDIUM = {
    "task_args": {"grow": (450, 600, 750, 950)},
    "model": {**MODEL, "width": 128, "ff": 256},
    "lrs": (1e-3, 3e-3, 1e-2),
    "tokens": 8192,
    "steps": 1500,
}
FULL = {
    "task_args": {"random_fillers": False},
    "model": {**MODEL, "width": 64, "ff": 0, "positions": "learned"},
    "widths": (64, 128, 256, 512),
    "lr_length": None,
    "lrs": (1e-4, 4.64e-4, 2.15e-3, 1e-2),
    "batch": 512,
    "by_length": {"256": {"batch": 256}, "512": {"batch": 128}},
    "sequences": 6_400_000,
    # without a feed-forward layer nothing evens out what is more or less than projections
    "unequal": ("compressed", "recurrent", "RNN", "none"),
    "evals": 64,
    "target": 0.99,
    "warmup": 0.0,
    "final_lr": 0.0,
    "beta2": 0.999,
    "clip": arena.NO_CLIP,
    "time_limit": 86400.0,
}


def get_config(size="small"):
    sizes = {"small": SMALL, "long": LONG, "medium": MEDIUM, "full": FULL}
    variants = {**accuracy.VARIANTS, "sparse": accuracy.SPARSE, "rnn": accuracy.RECURRENT["rnn"]}
    fields = {"lengths": (64, 128, 256, 512), "lr_length": 64, "target": 0.999}
    return accuracy.settings("mqar", size, sizes, variants=variants, **fields)


def get_sweep(config):
    return accuracy.sweep(config)
