"""Translation: BLEU of captions from English to German, from no attention to efficient attention.

    python -m experiments.run --config configs/accuracy/translation.py:small

Multi30k by sub-words: a recurrent encoder-decoder without attention, with Bahdanau's, with Luong's
(dot, general, concat); the Transformer of 2017 (sinusoidal positions, post-norm), and with three
efficient encoders. It differs from the paper: GELU, but for `full_relu`, embeddings tied neither to
each other nor to the output, no label smoothing, AdamW with a cosine schedule. small: width 128, 2
layers, 2,000 sub-words, 4 epochs, 3 seeds; parameters of the recurrent ones alike by width 176;
about ten minutes of a core a run. medium: width 256, 3 layers, 4,000 sub-words, 30 epochs, 3 seeds,
2 hours of a GPU by estimate, not yet run. full: 3 seeds of the published base model, width 512 and
6 layers.
"""

from configs import accuracy

RECURRENT = {
    "rnn": "none",
    "bahdanau": "additive",
    "luong_dot": "dot",
    "luong_general": "general",
    "luong_concat": "concat",
}
LABELS = {
    "rnn": "RNN without attention",
    "bahdanau": "RNN, Bahdanau",
    "luong_dot": "RNN, Luong dot",
    "luong_general": "RNN, Luong general",
    "luong_concat": "RNN, Luong concat",
}
ENCODERS = {
    "full": {},
    "local": {"window": 4},
    "linear": {"feature_map": "elu"},
    "lsh": {"buckets": 8, "block": 8, "hashes": 2},
    "full_relu": {"label": "full, ReLU", "mechanism": "full"},
}
PUBLISHED = {"norm": "post", "positions": "sinusoidal", "decoder_mechanism": "full"}


def evened(width: int, ff: int) -> dict[str, int]:
    """lsh has no key projection in the encoder; encoder and decoder share its width² out."""
    return {"lsh": ff + width // 4}


def recurrent(width: int, dropout: float) -> dict[str, dict]:
    common = {"architecture": "recurrent", "width": width, "dropout": dropout}
    return {key: {**common, "attention": kind} for key, kind in RECURRENT.items()}


SMALL = {
    "model": {**PUBLISHED, "width": 128, "depth": 2, "heads": 4, "ff": 512, "dropout": 0.1},
    "models": recurrent(176, 0.1),
    "ff": evened(128, 512),
    "task_args": {"vocab": 2000},
    "steps": 1800,
    "lr_steps": 300,
}
MEDIUM = {
    "model": {**PUBLISHED, "width": 256, "depth": 3, "heads": 4, "ff": 1024, "dropout": 0.2},
    "models": recurrent(416, 0.2),
    "ff": evened(256, 1024),
    "steps": 13_500,
}
FULL = {
    "model": {**PUBLISHED, "width": 512, "depth": 6, "heads": 8, "ff": 2048, "dropout": 0.3},
    "models": recurrent(1312, 0.3),
    "ff": evened(512, 2048),
    "steps": 45_000,
    "time_limit": 86400.0,
}


def get_config(size="small"):
    recurrent = {key: {"label": LABELS[key], "mechanism": "recurrent"} for key in RECURRENT}
    variants = ENCODERS | recurrent
    common = {
        "task": "multi30k",
        "variants": variants,
        "own": {"full_relu": {"activation": "relu"}},
        "lengths": (80,),
        "lr_length": 80,
        "lrs": (3e-4, 1e-3, 3e-3),
        "batch": 64,
        "task_args": {"vocab": 4000},
        "time_limit": 7200.0,
        "weight_decay": 0.01,
    }
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    return accuracy.settings("translation", size, sizes, **common)


def get_sweep(config):
    return accuracy.sweep(config)
