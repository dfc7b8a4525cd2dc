"""Which call of ours does what a case of ../shared/peers/bench_peers.py does. Imports no jax.

The same pairs, blocks, features and clusters; where the maths differ, `note` says how.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Case:
    """`hparams` may depend on N: a function of it."""

    mechanism: str
    hparams: Mapping[str, Any] | Callable[[int], Mapping[str, Any]] = dataclasses.field(
        default_factory=dict
    )
    causal: bool = False
    backward: bool = True
    """Whether the peer has gradients."""
    note: str = ""

    def at(self, n: int) -> dict[str, Any]:
        return dict(self.hparams(n) if callable(self.hparams) else self.hparams)


def lsh_buckets(n: int) -> tuple[int, ...]:
    """n / 64 in all, in two rotations above 128 as transformers has it."""
    power = int(math.log2(n // 64))
    return (2**power,) if power <= 7 else (2 ** (power // 2), 2 ** (power - power // 2))


def lsh(n: int) -> dict:
    reformer = {"chunking": "paper", "across": True, "circular": True, "duplicates": True}
    return {"buckets": lsh_buckets(n), "hashes": 4, "block": 64} | reformer


def routing(clusters: int, n: int) -> dict:
    return {"clusters": clusters, "window": n // clusters, "membership": "paper"}


def routing_sqrt(n: int) -> dict:
    return routing(2 ** round(math.log2(math.sqrt(n))), n)


BAND = {"window": 128}
STRIDED = Case("strided", {"stride": 128, "window": 127}, causal=True)
BIGBIRD = {"block": 64, "window": 1, "global_blocks": (1, 1), "random_blocks": 3}
SINKHORN = {"block": 128, "sort": "mean"}
LINEAR, EFFICIENT = {"feature_map": "elu"}, {"scaled": True}
FAVOR = {"features": 256, "kernel": "hyperbolic"}
RFA = {"features": 256, "unit": False}
INFORMER, AUTOFORMER = {"factor": 5}, {"factor": 3}
FEDFORMER = {"modes": 64, "placing": "lowest"}

CASES = {
    "full_sdpa": Case("full"),
    "full_sdpa_causal": Case("full", causal=True),
    "full_eager": Case("full"),
    "local_lucid": Case("local", BAND),
    "local_lucid_causal": Case("local", BAND, causal=True),
    "local_lucid_block256": Case(
        "bigbird",
        {"block": 256, "window": 1, "global_blocks": 0, "random_blocks": 0},
        causal=True,
        note="a block and the one before: bigbird's window alone",
    ),
    "local_longformer": Case("local", BAND),
    "local_longt5": Case("local", {"window": 127}),
    "local_sdpa_mask": Case("local", BAND),
    "local_flex": Case("local", BAND, backward=False),
    "strided_sdpa_mask": STRIDED,
    "strided_flex": dataclasses.replace(STRIDED, backward=False),
    "bigbird_hf": Case("bigbird", BIGBIRD),
    "bigbird_sdpa_mask": Case("bigbird", BIGBIRD),
    "bigbird_flex": Case("bigbird", BIGBIRD, backward=False),
    "lsh_lucid": Case("lsh", lsh, note="one rotation there; as many buckets in two above 128 here"),
    "lsh_hf": Case("lsh", lsh),
    "routing_lucid": Case("routing", lambda n: routing(n // 128, n)),
    "routing_lucid_sqrt": Case("routing", routing_sqrt),
    "sinkhorn_lucid": Case("sinkhorn", SINKHORN | {"n_top": 1}),
    "sinkhorn_lucid_gumbel": Case(
        "sinkhorn", SINKHORN | {"gumbel": True}, note="noise is drawn in the call there"
    ),
    "sinkhorn_lucid_causal": Case(
        "sinkhorn", SINKHORN | {"n_top": 2, "learned": True, "temperature": 1.0}, causal=True
    ),
    "linformer_lucid": Case("linformer", {"slots": 256}),
    "nystrom_lucid": Case("nystrom", {"landmarks": 256, "conv": 33, "batch_wide": True}),
    "mca_lucid": Case("compressed", {"stride": 3, "window": None, "learned": 1, "bias": True}),
    "linear_elu_ft": Case("linear", LINEAR),
    "linear_elu_ft_causal": Case("linear", LINEAR, causal=True),
    "efficient_lucid": Case("efficient", EFFICIENT),
    "efficient_lucid_causal": Case("efficient", EFFICIENT | {"normaliser": "row"}, causal=True),
    "efficient_lucid_causal64": Case(
        "efficient",
        EFFICIENT | {"normaliser": "row", "chunk": 64},
        causal=True,
        note="queries skip their own bucket there",
    ),
    "performer_lucid": Case("performer", {"features": 256}),
    "performer_lucid_causal": Case("performer", {"features": 256}, causal=True),
    "performer_ft": Case("performer", FAVOR),
    "performer_ft_causal": Case("performer", FAVOR, causal=True),
    "rfa_ft": Case("rfa", RFA),
    "rfa_ft_causal": Case("rfa", RFA, causal=True),
    "linear_fla_naive": Case("linear", LINEAR | {"normalise": False}, causal=True),
    "synth_random": Case("synthesizer", {"kind": "random"}),
    "synth_dense": Case(
        "synthesizer", {"kind": "dense"}, note="a head reads all of x there, its own part here"
    ),
    "fnet_hf": Case("fourier"),
    "gmlp_lucid": Case("spatial_gating"),
    "gmlp_lucid_causal": Case("spatial_gating", causal=True),
    "mixer_lucid": Case("mlp_mixer", {"hidden": 2048, "norm": True, "residual": True}),
    "informer_hf": Case("probsparse", INFORMER, note="samples a key a query there, N in all"),
    "informer_nf": Case("probsparse", INFORMER),
    "informer_nf_causal": Case(
        "probsparse", INFORMER | {"ranking": "paper", "rest": "sum"}, causal=True
    ),
    "autoformer_nf": Case("auto_correlation", AUTOFORMER | {"batch_wide": True}),
    "autoformer_nf_eval": Case("auto_correlation", AUTOFORMER),
    "autoformer_hf": Case("auto_correlation", AUTOFORMER | {"batch_wide": True}),
    "fedformer_nf": Case("fourier_enhanced", FEDFORMER),
    "fedformer_nf_cross": Case(
        "fourier_enhanced",
        FEDFORMER | {"kind": "cross", "activation": "softmax"},
        note="keys are the values there",
    ),
}
