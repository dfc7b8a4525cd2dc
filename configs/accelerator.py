"""Accelerator: the scaling sweep to N = 1M in bfloat16, exact attention by cuDNN as the baseline.

    make accelerator OUT=DIR
    python -m experiments.run --config configs/accelerator.py

Not yet run on an accelerator as a whole. A point that does not fit is a row `oom`; one that takes
longer than `time_limit` a row `timeout`. What is quadratic ends at the N of `longest`. By length,
forward before training, so that the device's peak, which cannot be reset, tells of most points.
Expect the exponents of configs/scaling.py at the long end, where a call is longer than its
launches. XLA spends most of compiling on trying out Triton's products: with
XLA_FLAGS=--xla_gpu_enable_triton_gemm=false it takes cuBLAS's instead.
"""

from ml_collections import ConfigDict

from configs import base, scaling


def get_config():
    config = scaling.get_config()
    config.update(base.settings("scaling", isolate="mechanism", time_limit=90.0))
    config.variants.full_cudnn = {
        "label": "full cuDNN",
        "mechanism": "full",
        "implementation": "cudnn",
    }
    config.mechanisms = (*config.mechanisms, "full_cudnn")
    config.lengths = tuple(4**e for e in range(5, 11))
    config.longest = ConfigDict(
        dict.fromkeys(scaling.QUADRATIC, 4**8)
        | dict.fromkeys(("compressed", "query_reduction_strided"), 4**9)
    )
    config.dtype = "bfloat16"
    config.budget = 0.5
    return config


def get_sweep(config):
    points = []
    for key in config.mechanisms:
        of_key = {**config.to_dict(), "mechanisms": (key,)}
        # forward stands before train
        points += sorted(scaling.get_sweep(ConfigDict(of_key)), key=lambda point: point["n"])
    return points
