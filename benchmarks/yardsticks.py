"""What times are held against, and how near they should come. Imports no jax.

F are the GFLOP of column F in MEASURED.md (prototypes at batch 1, 8 heads of 64, float32, with the
hyperparameters of configs/scaling.py): fixed, so that a kernel that computes more gains nothing.
At another N they grow as the mechanism's leading term. What has no entry there is held against its
own leading term, `ideal_flops`. A Fourier transform is held against the fastest library call.
"""

import dataclasses

from configs import base, scaling

MODES = ("forward", "causal", "train")
CALL = {
    **{"batch": 1, "heads": 8, "head_dim": 64, "value_dim": 64},
    **{"dtype": "float32", "seed": 0},
}
MEASURED, IDEAL, FASTEST = "MEASURED.md", "leading term", "fastest FFT"


@dataclasses.dataclass(frozen=True)
class Entry:
    """GFLOP of a forward call, and where it is known of a causal one, at length `n`."""

    gflop: float
    n: int = 16384
    causal: float | None = None


F = {
    "full": Entry(34.4, 4096),
    "local": Entry(12.9),
    "strided": Entry(4.3),
    "bigbird": Entry(21.5),
    "lsh": Entry(8.8),
    "lsh, 2 rounds": Entry(9.2),
    "routing": Entry(8.6),
    "sinkhorn": Entry(12.9),
    "linformer": Entry(17.2),
    "linear": Entry(2.2, causal=6.5),
    "performer": Entry(17.2),
    "mlp_mixer": Entry(8.6),
    "synthesizer": Entry(34.6, 4096),
}

# time over that of the product, forward; the causal form of recurrences has one of its own
SPEED = {
    "full": 1.15,
    "mlp_mixer": 1.05,
    "linformer": 1.25,
    "compressed": 1.25,
    "nystrom": 1.25,
    "sinkhorn": 1.5,
    "strided": 1.6,
    "local": 1.7,
    "global": 1.7,
    "bigbird": 1.7,
    "linear": 1.8,
    "efficient": 1.8,
    "performer": 1.8,
    "rfa": 1.8,
    "routing": 2.0,
    "lsh": 2.2,
    "lsh, 2 rounds": 2.2,
    "fourier": 1.2,
}
CAUSAL_SPEED = {name: 1.8 for name in ("linear", "efficient", "performer", "rfa")}
# forward and backward over forward: where everything is kept, and where scores are computed again
KEPT, RECOMPUTED = 3.3, 4.0
# compiled temporaries over the bytes of q, k and v; of those quadratic by definition none
MEMORY = {"forward": 1.0, "causal": 1.0, "train": 3.0}
QUADRATIC = {
    *("compressed", "mixed", "query reduction strided"),
    *("spatial_gating", "synthesizer", "synthesizer random"),
}
# quadratic: beyond this length of MEASURED.md they tell no more and take minutes
SHORT = ("full", "mixed", "query reduction strided")
SHORT += ("spatial_gating", "synthesizer", "synthesizer random")
LONGEST = dict.fromkeys(SHORT, 4096)


def variants(n: int) -> dict[str, dict]:
    """{"label", "mechanism", "hparams"} at length n, by label."""
    config = scaling.get_config()
    config.variants.full_chunked.label = "full"
    config.variants.lsh_rounds = {
        "label": "lsh, 2 rounds",
        "mechanism": "lsh",
        "hashes": 2,
        "block": 64,
    }
    found = [base.variant(config, key, n) for key in config.variants if key != "full"]
    return {variant["label"]: variant for variant in found}


def length(label: str, n: int) -> int:
    return min(n, LONGEST.get(label, n))


def speed_target(label: str, mode: str) -> float | None:
    """Of the time over the yardstick's."""
    return {"forward": SPEED, "causal": CAUSAL_SPEED}.get(mode, {}).get(label)


def memory_target(label: str, mode: str) -> float | None:
    return None if label in QUADRATIC else MEMORY[mode]
