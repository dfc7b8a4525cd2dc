"""TPU compile: what each mechanism would hold in the memory of a TPU v5e, as its compiler says.

    make tpu-check
    JAX_PLATFORMS=cpu .venv-tpu/bin/python -m experiments.run --config configs/tpu_compile.py

Nothing runs and nothing is timed: the compiler of the PyPI package libtpu needs no TPU. 696 points,
each a compilation of 1 to 120 seconds, four of 8 to 15 minutes (--config.time_limit=3000): three
hours on two cores with --launcher local --workers 2. On several chips positions are split over
them, by the mechanism's own form. A point that does not fit in 16 GB is a row `oom`. Expect plain
full attention to stop at 16,384 on one chip for its [N, N] weights, and most of what is linear in N
to fit a million forward and 262,144 in a training step.
"""

from configs import accuracy, base, scaling


def get_config():
    config = scaling.get_config()
    config.update(base.settings("tpu_compile", isolate="mechanism", time_limit=300.0))
    # an LSTM stands for the other recurrent ones
    config.mechanisms = tuple(k for k in config.mechanisms if k not in accuracy.RECURRENT)
    config.lengths = (2**10, 2**14, 2**18, 2**20)
    # nothing runs, so what is quadratic costs no more
    config.longest = {}
    config.topologies = ("v5e:1x1", "v5e:2x2", "v5e:4x4")
    config.dtype = "bfloat16"
    return config


def get_sweep(config):
    timing = ("repeats", "budget")
    return [
        {
            **{name: value for name, value in point.items() if name not in timing},
            "experiment": "tpu_compile",
            "kind": "compiled",
            "topology": topology,
        }
        for point in scaling.get_sweep(config)
        for topology in config.topologies
    ]
