"""Reordering: (q kᵀ) v against q (kᵀ v) in multiply-adds and time, with and without feature maps.

    python -m experiments.run --config configs/reordering.py

156 points, about 5 minutes on two CPU cores. Expect (d + d') N² against 2 d d' N multiply-adds a
head, equal to the count to the last one, and lines that cross at N* = 2 d d' / (d + d'): 43, 64 and
85 for d' = 32, 64 and 128. Times cross near there. What would hold more than max_bytes is refused.
"""

from configs import base

ORDERS = {"qk_v": "(qk)v", "q_kv": "q(kv)"}


def get_config():
    config = base.settings("reordering", isolate="mechanism")
    config.orders = ("qk_v", "q_kv")
    config.feature_maps = ("identity", "elu")
    config.lengths = base.powers(16, 65536)
    config.head_dim = 64
    config.value_dims = (64, 32, 128)
    config.heads = 8
    config.batch = 1
    config.max_bytes = 3 * 2**30
    config.dtype = "float32"
    config.repeats = 5
    config.budget = 1.0
    return config


def get_sweep(config):
    return [
        {
            "experiment": "reordering",
            "kind": "reorder",
            "label": ORDERS.get(order, order),
            "order": order,
            "feature_map": feature_map,
            "n": n,
            "head_dim": config.head_dim,
            "value_dim": value_dim,
            "heads": config.heads,
            "batch": config.batch,
            "max_bytes": config.max_bytes,
            "dtype": config.dtype,
            "seed": config.seed,
            "repeats": config.repeats,
            "budget": config.budget,
        }
        for order in config.orders
        for feature_map in config.feature_maps
        for value_dim in config.value_dims
        for n in config.lengths
    ]
