"""Accelerator: the scaling sweep to N = 1M in bfloat16, exact attention by cuDNN as the baseline.

    make accelerator OUT=DIR
    python -m experiments.run --config configs/accelerator.py

Not yet run on an accelerator by this project. A point that does not fit is a row `oom`; one that
takes over a minute a row `timeout`. Expect the exponents of configs/scaling.py at the long end,
where a call is longer than its launches.
"""

from configs import base, scaling


def get_config():
    config = scaling.get_config()
    config.update(base.settings("scaling", isolate="mechanism", time_limit=60.0))
    config.mechanisms = ("full_cudnn", *config.mechanisms)
    config.variants.full_cudnn = {
        "label": "full cuDNN",
        "mechanism": "full",
        "implementation": "cudnn",
    }
    config.lengths = tuple(4**e for e in range(5, 11))
    config.dtype = "bfloat16"
    config.budget = 2.0
    return config


def get_sweep(config):
    return scaling.get_sweep(config)
