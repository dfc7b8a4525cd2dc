"""Sharding: one call split over devices along its positions: what they send, measured and planned.

    python -m experiments.run --config configs/sharding.py --config.isolate=mechanism

Strong scaling (one N on 1 to 8 devices) and weak scaling (so many positions a device), bytes
counted in the compiled programs beside the formulas; on a CPU 8 virtual devices share the cores, so
the time is that of all their work and no speed-up. Then, on paper, N = 2^20 to 2^30 over 8, 256 and
4,096 accelerators in bfloat16. Expect counted bytes equal to the formulas, and: nothing that grows
with N for linear, performer, linformer, nystrom and mlp_mixer; a window's halo for local; all of
k and v for full, compressed by its stride.
"""

from configs import accuracy, base, scaling


def get_config():
    config = base.settings("sharding", isolate="mechanism", time_limit=300.0)
    config.variants = scaling.get_config().variants
    # what is recurrent cannot be split, whatever its cell
    for key in ("full_chunked", *accuracy.RECURRENT):
        del config.variants[key]
    config.mechanisms = (*config.variants, "none")
    config.devices = (1, 2, 4, 8)
    config.strong_n = 2048
    config.weak_n = 512
    config.batch = 1
    config.heads = 8
    config.head_dim = 64
    config.value_dim = 64
    config.dtype = "float32"
    config.repeats = 5
    config.budget = 1.0
    config.plan = {"lengths": (2**20, 2**23, 2**27, 2**30), "dtype": "bfloat16"}
    config.plan.causal = (False,)
    # what a device sends a second, one way, and its memory: NVIDIA's data sheets of the H100 SXM
    # (NVLink 4: 900 GB/s both ways; 80 GB) and of NDR InfiniBand (400 Gb/s, one port a GPU)
    nvlink = {"name": "NVLink 4, 450 GB/s", "bytes_per_second": 450e9, "memory_bytes": 80e9}
    infiniband = {"name": "NDR, 50 GB/s", "bytes_per_second": 50e9, "memory_bytes": 80e9}
    config.plan.links = {"8": nvlink, "256": infiniband, "4096": infiniband}
    return config


def get_sweep(config):
    most = max(config.devices)
    measured = [
        *(("strong", P, config.strong_n, False) for P in config.devices),
        *(("weak", P, config.weak_n * P, False) for P in config.devices),
        ("strong", most, config.strong_n, True),
    ]
    planned = [
        (int(P), link, n, causal)
        for P, link in config.plan.links.items()
        for n in config.plan.lengths
        for causal in config.plan.causal
    ]
    return [
        *(
            _point(config, key, n, P, causal)
            | {"kind": "sharding", "scaling": scaling, "dtype": config.dtype}
            | {"repeats": config.repeats, "budget": config.budget}
            for key in config.mechanisms
            for scaling, P, n, causal in measured
        ),
        *(
            _point(config, key, n, P, causal)
            | {"kind": "plan", "dtype": config.plan.dtype, "link": dict(link)}
            for key in config.mechanisms
            for P, link, n, causal in planned
        ),
    ]


def _point(config, key, n, devices, causal):
    return {
        "experiment": "sharding",
        **base.variant(config, key, n),
        "n": n,
        "devices": devices,
        "causal": causal,
        "batch": config.batch,
        "heads": config.heads,
        "head_dim": config.head_dim,
        "value_dim": config.value_dim,
        "seed": config.seed,
    }
