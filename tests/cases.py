"""One line a mechanism and variant: everything in test_mechanisms.py runs over all of them."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import attention_zoo as zoo


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    hparams: dict[str, Any] = dataclasses.field(default_factory=dict)
    block: int = 8
    """Lengths around this one are tried: the size in which the kernel cuts the sequence."""
    sorts: bool = False
    """A sort by content may reorder sums: later tokens may move earlier outputs by rounding."""
    floor: float = 1e-3
    """Gradients smaller than this share of the largest of the call are held to its scale."""

    @functools.cached_property
    def m(self) -> zoo.Mechanism:
        return zoo.make(self.name, **self.hparams)


CASES = {
    "full": Case("full"),
    "full-chunked": Case("full", {"implementation": "chunked", "block": 8, "key_block": 16}),
    "full-dot": Case("full", {"score": "dot"}),
    "full-cosine": Case("full", {"score": "cosine", "implementation": "chunked", "block": 8}),
    "full-general": Case("full", {"score": "general"}),
    "full-additive": Case("full", {"score": "additive", "hidden": 9}),
    "full-location": Case("full", {"score": "location", "length": 160}),
    "local": Case("local", {"window": (5, 3), "block": 8}),
    # a softmax of one key: in exact arithmetic the gradients in q and k are 0
    "local-0": Case("local", {"window": 0}, block=32, floor=2e-2),
    "strided": Case("strided", {"stride": 6}, block=6),
    "strided-window": Case("strided", {"stride": 5, "window": 7}, block=5),
    "global": Case("global", {"tokens": 3}),
    "global-window": Case("global", {"tokens": 3, "window": 6}),
    "global-separate": Case("global", {"tokens": 3, "window": (6, 2), "separate": True}),
    "global-positions": Case("global", {"tokens": (1, 7, 30), "window": 6}),
    "global-learned": Case("global", {"tokens": 0, "learned": 3, "window": 6}),
    "global-both": Case("global", {"tokens": 2, "learned": 3}),
    "bigbird": Case("bigbird", {"block": 4, "random_blocks": 2}, block=4),
    "bigbird-table": Case(
        "bigbird",
        {"block": 8, "table": [[[u % 3, 19 - u] for u in range(20)] for _ in range(4)]},
    ),
    "bigbird-leading": Case("bigbird", {"block": 7, "window": 0, "global_blocks": 2}, block=7),
    "linear": Case("linear", {"chunk": 8}),
    "linear-relu": Case("linear", {"feature_map": "relu", "chunk": 8}),
    "linear-relu2": Case("linear", {"feature_map": "relu2", "chunk": 8}),
    "linear-exp": Case("linear", {"feature_map": "exp", "chunk": 8}),
    "linear-identity": Case("linear", {"feature_map": "identity", "chunk": 8}),
    "efficient": Case("efficient", {"chunk": 8}),
    "efficient-row": Case("efficient", {"normaliser": "row", "scaled": True, "chunk": 8}),
    "performer": Case("performer", {"features": 20, "chunk": 8}),
    "performer-relu": Case("performer", {"features": 20, "kernel": "relu", "chunk": 8}),
    "performer-hyperbolic": Case(
        "performer", {"features": 14, "kernel": "hyperbolic", "orthogonal": False, "chunk": 8}
    ),
    "performer-paper": Case("performer", {"features": 20, "feature_eps": 1e-4, "sum_eps": 1e-6}),
    "performer-unnormalised": Case("performer", {"features": 20, "normalise": False, "chunk": 8}),
    "rfa": Case("rfa", {"features": 128, "chunk": 8}),
    "rfa-gate": Case("rfa", {"features": 128, "gate": True, "sigma": 0.8, "chunk": 8}),
    "rfa-raw": Case("rfa", {"features": 128, "unit": False, "sigma": 2.5, "chunk": 8}),
    "spatial_gating": Case("spatial_gating", {"length": 160}),
    "spatial_gating-heads": Case("spatial_gating", {"per_head": True, "norm": False}),
    "mlp_mixer": Case("mlp_mixer", {"hidden": 9, "length": 160}),
    "mlp_mixer-block": Case("mlp_mixer", {"hidden": 9, "norm": True, "residual": True}),
    "synthesizer": Case("synthesizer", {"hidden": 9, "length": 160, "chunk": 8}),
    "synthesizer-random": Case("synthesizer", {"kind": "random", "chunk": 8}),
    "synthesizer-factorised": Case(
        "synthesizer", {"kind": "factorised_dense", "hidden": 9, "length": 160, "chunk": 8}
    ),
    "synthesizer-fixed": Case(
        "synthesizer", {"kind": "factorised_random", "rank": 3, "trained": False, "chunk": 8}
    ),
    "synthesizer-mixture": Case(
        "synthesizer", {"kind": ("dot", "dense", "random"), "trained": False, "chunk": 8}
    ),
    "lsh": Case("lsh", {"buckets": 6, "block": 5}, block=5, sorts=True),
    "lsh-rounds": Case("lsh", {"buckets": (4, 2), "hashes": 3, "block": 4}, block=4, sorts=True),
    "lsh-duplicates": Case(
        "lsh", {"buckets": 4, "hashes": 2, "block": 8, "duplicates": True, "scale": 1.0}, sorts=True
    ),
    "lsh-paper": Case("lsh", {"buckets": 6, "hashes": 2, "block": 5, "chunking": "paper"}, block=5),
    "lsh-across": Case("lsh", {"buckets": 6, "hashes": 2, "block": 5, "across": True}, block=5),
    "lsh-circular": Case(
        "lsh",
        {"buckets": 6, "hashes": 2, "block": 8, "chunking": "paper", "across": True}
        | {"circular": True, "duplicates": True},
    ),
    "routing": Case("routing", {"clusters": 5, "window": 4}, block=4, sorts=True),
    "routing-shared": Case(
        "routing", {"clusters": 3, "window": 7, "shared": True}, block=7, sorts=True
    ),
    "routing-paper": Case("routing", {"clusters": 5, "window": 8, "membership": "paper"}),
    "routing-memory": Case(
        "routing", {"clusters": 4, "window": 9, "shared": True, "memory": 2, "membership": "paper"}
    ),
    "sinkhorn": Case("sinkhorn", {"block": 8}),
    # log of a score has gradient 1 / score, and with blocks of 5 these inputs have one of 0.0015,
    # whose rounding moves both forms' gradients 1e-5 from float64's; with blocks of 9 the least
    # positive score is 0.006
    "sinkhorn-mean": Case("sinkhorn", {"block": 9, "sort": "mean"}, block=9),
    "sinkhorn-top": Case("sinkhorn", {"block": 8, "sort": "mean", "n_top": 2, "learned": True}),
    "sinkhorn-sortcut": Case("sinkhorn", {"block": 7, "sortcut": 2, "gumbel": True}, block=7),
    "fourier": Case("fourier"),
    "fourier-fft": Case("fourier", {"implementation": "fft"}),
    "linformer": Case("linformer", {"slots": 9, "length": 160}),
    "linformer-none": Case("linformer", {"slots": 9, "sharing": "none"}),
    "linformer-kv": Case("linformer", {"slots": 50, "sharing": "kv"}),
    "nystrom": Case("nystrom", {"landmarks": 7}),
    "nystrom-conv": Case("nystrom", {"landmarks": 50, "conv": 5}),
    "compressed": Case("compressed", {"stride": 4}, block=4),
    "compressed-window": Case("compressed", {"stride": 3, "window": 5, "bias": True, "learned": 2}),
    "compressed-alone": Case("compressed", {"stride": 1, "window": None}, block=5),
    "query_reduction": Case("query_reduction", {"slots": 9}),
    "query_reduction-strided": Case("query_reduction", {"kind": "strided", "stride": 4}, block=4),
    "none": Case("none"),
    "recurrent": Case("recurrent"),
    "recurrent-rnn": Case("recurrent", {"cell": "rnn", "conv": 3}),
    "recurrent-both": Case("recurrent", {"bidirectional": True, "conv": 4}),
    "convolution": Case("convolution"),
    "convolution-even": Case("convolution", {"width": 2, "layers": 3}),
    "probsparse": Case("probsparse", {"factor": 2}),
    "probsparse-paper": Case("probsparse", {"factor": 2, "ranking": "paper"}),
    "auto_correlation": Case("auto_correlation"),
    "fourier_enhanced": Case("fourier_enhanced", {"modes": 5}),
    "fourier_enhanced-low": Case(
        "fourier_enhanced", {"modes": 64, "select": "low", "placing": "lowest"}
    ),
    # of few modes: scores grow with N, and a softmax of more of them turns rounding into 1e-4
    "fourier_enhanced-cross": Case(
        "fourier_enhanced", {"modes": 2, "kind": "cross", "activation": "softmax"}
    ),
    "mixed": Case(
        "mixed",
        {
            "parts": (
                ("full", {}),
                ("local", {"window": 5}),
                ("linear", {"chunk": 8}),
                ("global", {"tokens": 2, "window": 3}),
            )
        },
    ),
}

# variants that share nearly all of another case's path: tried in full by `make test-all`
EXTRA = {
    "full-additive",
    "full-location",
    "strided-window",
    "global-separate",
    "global-positions",
    "linear-exp",
    "linear-identity",
    "performer-paper",
    "synthesizer-mixture",
    "lsh-paper",
    "routing-paper",
    "sinkhorn-top",
    "sinkhorn-sortcut",
    "linformer-kv",
    "full-dot",
    "full-cosine",
    "global-both",
    "bigbird-table",
    "bigbird-leading",
    "linear-relu",
    "linear-relu2",
    "efficient-row",
    "performer-relu",
    "performer-hyperbolic",
    "performer-unnormalised",
    "rfa-raw",
    "spatial_gating-heads",
    "mlp_mixer-block",
    "synthesizer-factorised",
    "synthesizer-fixed",
    "lsh-rounds",
    "lsh-duplicates",
    "lsh-across",
    "lsh-circular",
    "routing-shared",
    "routing-memory",
    "linformer-none",
    "nystrom-conv",
    "compressed-alone",
    "sinkhorn-mean",
    "fourier_enhanced-low",
    "recurrent-rnn",
    "recurrent-both",
    "convolution-even",
}

# no two sizes are equal
SIZES = {"batch": 2, "heads": 4, "head_dim": 12, "value_dim": 10}
LENGTH = 37
MODES = {"bidirectional": False, "causal": True}


def dims(T: int, S: int | None = None) -> zoo.Dims:
    return zoo.Dims(q_len=T, kv_len=T if S is None else S, **SIZES)


def able(case: Case, causal: bool, T: int = LENGTH, S: int | None = None) -> bool:
    return not zoo.objections(case.m, dims(T, S), causal=causal, masked=case.m.mask)


def runs(*, causal=(False, True), where=lambda case: True):
    """(case name, mode) of every call that the mechanism does not refuse."""
    return [
        (name, mode)
        for name, case in CASES.items()
        for mode, flag in MODES.items()
        if flag in causal and able(case, flag) and where(case)
    ]


def inputs(case: Case, T: int, S: int | None = None, dtype=jnp.float32):
    """Random (params, q, k, v, cotangent)."""
    S = T if S is None else S
    B, H, D, E = SIZES.values()
    P = case.m.projections
    keys = jax.random.split(jax.random.key(0), 5)
    q = jax.random.normal(keys[0], (B, T, H * P, D), dtype)
    k = jax.random.normal(keys[1], (B, S, H * P, D), dtype)
    v = jax.random.normal(keys[2], (B, S, H * P, E), dtype)
    out_len = jax.eval_shape(case.m.apply, case.m.init(keys[4], dims(T, S)), q, k, v).shape[1]
    cotangent = jax.random.normal(keys[3], (B, out_len, H, E), dtype)
    return case.m.init(keys[4], dims(T, S)), q, k, v, cotangent


def padding(S: int) -> jnp.ndarray:
    """[2, S]: the first sequence hides its first key, the second its last third."""
    at = jnp.arange(S)
    return jnp.stack([at > 0 if S > 1 else at >= 0, at < max(S - S // 3, 1)])


@functools.lru_cache(8)
def compiled(name: str, mode: str, form: str = "apply"):
    """Jitted (params, q, k, v, mask, cotangent) -> (out, gradients in params, q, k, v): one compile
    a mechanism and mode, shared by all tests of one length."""
    case = CASES[name]

    @jax.jit
    def run(params, q, k, v, mask, cotangent):
        def call(params, q, k, v):
            hidden = mask if case.m.mask else None
            return getattr(case.m, form)(params, q, k, v, mask=hidden, causal=MODES[mode])

        out, pull = jax.vjp(call, params, q, k, v)
        return out, pull(cotangent.astype(out.dtype))

    return run


def assert_close(actual, expected, tolerance=2e-5, floor=1e-3):
    """Every leaf within tolerance of the expected leaf, relative to its largest entry, or to
    `floor` times the largest of all leaves where that is more."""
    leaves = [np.asarray(x, np.float64) for x in jax.tree.leaves(expected)]
    least = floor * max((np.abs(x).max(initial=0) for x in leaves), default=0)
    for got, want in zip(jax.tree.leaves(actual), leaves, strict=True):
        got = np.asarray(got, np.float64)
        assert got.shape == want.shape
        assert np.isfinite(got).all()
        worst = np.abs(got - want).max(initial=0)
        assert worst <= tolerance * max(np.abs(want).max(initial=0), least), worst


def both(case: Case, mode: str, params, q, k, v, mask):
    """(efficient form, dense definition) of one call, in one compiled program."""
    hidden = mask if case.m.mask else None

    @jax.jit
    def run(*args):
        forms = (case.m.apply, case.m.reference)
        return tuple(form(*args, mask=hidden, causal=MODES[mode]) for form in forms)

    return run(params, q, k, v)
