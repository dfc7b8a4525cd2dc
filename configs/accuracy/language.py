"""Bytes of a text: bits a byte against N at equal tokens a step, every causal mechanism.

    python -m experiments.run --config configs/accuracy/language.py:small

The text is tiny shakespeare; --config.task=stdlib takes Python's own library, wikitext2 what there
is of that. configs/language.py is the short form of this: five mechanisms at one rate.
small: width 64, 2,048 tokens a step; N = 128 and 256 with 3 seeds, 512 to 2,048 with one seed.
Windows grow from 128 while training: of long ones from the first, full attention learns little more
than which byte follows which in so few steps, which is the bigram rule. A minute a run on a core,
5.5 core-hours in all. Expect 2.7 bits of full attention at N = 128, less of convolutions and of
recurrent networks, and of linear attention more and more the longer N is.
medium: width 256, 16,384 tokens a step, 3 seeds, 4 hours of a GPU by estimate, not yet run.
full: 3 seeds, 6 layers of width 384, 5,000 steps of 16,384 tokens, as nanoGPT's character model,
whose 2.12 bits (1.47 nats) a character at N = 256 are of another split.
"""

from configs import accuracy, base

GROW = (240, 360, 480, 600)
SMALL = {
    "model": {"width": 64, "depth": 2, "heads": 4, "ff": 256, "positions": "sinusoidal"},
    "ff": {"recurrent": 128, "rnn": 320, "cnn_lstm": 32, "convolution": 192, "none": 384},
    "lengths": base.powers(128, 2048),
    "lr_length": 128,
    "one_seed_from": 512,
    "by_length": {n: {"task_args": {"grow": GROW}} for n in ("256", "512", "1024", "2048")},
    "lrs": (3e-3, 1e-2, 3e-2),
    "tokens": 2048,
    "steps": 800,
    "evals": 5,
}
MEDIUM = {
    "model": {"width": 256, "depth": 4, "heads": 4, "ff": 1024, "positions": "sinusoidal"},
    "ff": {
        "compressed": 832,
        "recurrent": 512,
        "rnn": 1280,
        "cnn_lstm": 128,
        "convolution": 768,
        "none": 1536,
    },
    "lengths": (128, 512, 2048),
    "lr_length": 128,
    "lr_steps": 500,
    "lrs": (3e-4, 1e-3, 3e-3),
    "tokens": 16384,
    "steps": 1500,
}
FULL = {
    "model": {
        **{"width": 384, "depth": 6, "heads": 6, "ff": 1536},
        **{"dropout": 0.2, "positions": "sinusoidal"},
    },
    "ff": {"recurrent": 768, "rnn": 1920, "cnn_lstm": 192, "convolution": 1152, "none": 2304},
    "lengths": base.powers(128, 2048),
    "lr_length": 128,
    "lrs": (3e-4, 1e-3, 3e-3),
    "tokens": 16384,
    "steps": 5000,
    "evals": 20,
    "time_limit": 86400.0,
}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    causal = {key: accuracy.RECURRENT[key] for key in ("rnn", "cnn_lstm")}
    causal["sparse"] = accuracy.SPARSE
    fields = {"task": "tinyshakespeare", "variants": {**accuracy.VARIANTS, **causal}}
    return accuracy.settings("language", size, sizes, **fields)


def get_sweep(config):
    return accuracy.sweep(config)
