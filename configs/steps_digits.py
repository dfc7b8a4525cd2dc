"""Steps on raw audio: what a training step of spoken digits costs, with attention and without.

    python -m experiments.run --config configs/steps_digits.py --config.isolate=mechanism

39 points, about a quarter of an hour on two CPU cores. Model, batch, hyperparameters and lengths
are those of configs/accuracy/fsdd.py:small, whose full attention trains at 1,024 samples alone: its
steps at 4,096 and 10,504 are timed here beside the others'. Samples are random, none is padding.
Expect full attention's time to grow as N², the others' as N.
"""

from configs import base, steps
from configs.accuracy import fsdd

get_sweep = steps.get_sweep


def get_config():
    of, config = fsdd.get_config("small"), base.settings("steps-digits", time_limit=600.0)
    config.variants = of.variants
    config.mechanisms = of.mechanisms
    config.lengths = (*of.lengths, *of.cheap_lengths)
    config.batch = of.batch
    config.model = {**of.model.to_dict(), "inputs": "continuous"}
    config.models = {key: {"ff": of.ff[key]} for key in of.mechanisms if key in of.ff}
    config.dtype = "float32"
    config.repeats = 5
    config.budget = 2.0
    return config
