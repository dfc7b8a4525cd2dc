"""CIFAR-10 (JPEG q75) as pixels in a row, a token of 256 each: every bidirectional mechanism.

    python -m experiments.run --config configs/accuracy/cifar10.py:small

Grey at N = 1,024; at N = 3,072, `colours` being True, red, green and blue of a pixel in turn.
small: width 64, grey, one seed, scored on 2,000 of the 10,000 images that test.
medium: width 128, grey, 3 seeds, 3.5 hours of a GPU by estimate, not yet run.
full: 3 seeds of the Long-Range Arena's training (configs/arena.py), 200 passes with 1 layer of
width 32, and the same of colour, which it has not. Published: .42 of full attention, on images that
did not go through JPEG.
"""

from configs import accuracy, arena

SMALL = {
    **accuracy.SMALL,
    "task_args": {"val_examples": 1000, "test_examples": 2000},
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
    "task_args": {},
    "lr_steps": 500,
    "batch": 64,
    "steps": 3000,
    "evals": 10,
}
FULL = {
    **arena.IMAGES,
    "model": {
        **{"width": 32, "depth": 1, "heads": 1, "ff": 64},
        **{"dropout": 0.3, "positions": "learned"},
    },
    "ff": accuracy.evened(32, 1, 64),
    # convolutions, sorting networks, latents and modes are more than the rest of a model so small
    "unequal": ("compressed", "sinkhorn", "query_reduction", "fourier_enhanced"),
    "colours": (False, True),
    "lr_steps": 3500,
    "lrs": (1.5e-4, 5e-4, 1.5e-3),
    "batch": 256,
    "steps": 35_000,
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
        task_args = {**config.task_args, "colour": colour}
        own = {"task_args": task_args, "lengths": (n,), "lr_length": n}
        points += accuracy.sweep(accuracy.changed(config, own))
    return points
