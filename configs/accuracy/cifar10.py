"""CIFAR-10 (JPEG q75) as pixels in a row, a token of 256 each: every bidirectional mechanism.

    python -m experiments.run --config configs/accuracy/cifar10.py:small

Grey at N = 1,024; at N = 3,072, `colours` being True, red, green and blue of a pixel in turn.
small: width 64, grey, one seed; medium: width 128, one seed, within half an hour on one GPU; not
yet run on one.
full: grey and colour, 200 passes; the Long-Range Arena's (arXiv:2011.04006) has 1 layer of width 32
(remembered from its code: check before citing). Published: .42 of full attention, on images that
did not go through JPEG.
"""

from configs import accuracy

SMALL = {
    **accuracy.SMALL,
    "colours": (False,),
    "lr_steps": 100,
    "seeds": (0,),
    "batch": 8,
    "steps": 400,
    "evals": 2,
}
MEDIUM = {
    **SMALL,
    **accuracy.MEDIUM,
    "lr_steps": 500,
    "batch": 64,
    "steps": 3000,
}
FULL = {
    "model": {
        **{"width": 32, "depth": 1, "heads": 1, "ff": 64},
        **{"dropout": 0.3, "positions": "learned"},
    },
    "ff": accuracy.evened(32, 1, 64),
    # convolutions, sorting networks, latents and modes are more than the rest of a model so small
    "unequal": ("compressed", "sinkhorn", "query_reduction", "fourier_enhanced"),
    "colours": (False, True),
    "lr_steps": 3500,
    "lrs": (1e-4, 1e-3, 1e-2),
    "batch": 256,
    "steps": 35_000,
    "evals": 100,
    "time_limit": 86400.0,
}


def get_config(size="small"):
    sizes = {"small": SMALL, "medium": MEDIUM, "full": FULL}
    fields = {"variants": accuracy.WIDE, "lengths": (1024,), "lr_length": 1024}
    return accuracy.settings("cifar10", size, sizes, **fields)


def get_sweep(config):
    points = []
    for colour in config.colours:
        n = 3072 if colour else 1024
        own = {"task_args": {"colour": colour}, "lengths": (n,), "lr_length": n}
        points += accuracy.sweep(accuracy.changed(config, own))
    return points
