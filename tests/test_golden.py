"""Ours against independent implementations: values and gradients of the files in ../shared/golden.

One line a file in MATCHED, or in CORRECTED where the other implementation has a fault or a
convention of its own: there the reason stands, and ours is held to the corrected statement.
GOLDEN.md beside the files says what is in them. $ATTENTION_ZOO_GOLDEN names another folder.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from attention_zoo.mechanisms.routing import commitment
from tests import golden_calls as calls
from tests import golden_formulas as formulas
from tests.golden import (
    FOLDER,
    Corrected,
    File,
    Golden,
    assert_matches,
    run,
    swap,
)

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason=f"no golden files at {FOLDER}; name a folder by ATTENTION_ZOO_GOLDEN",
)


BLOCKS = {"window": 1, "global_blocks": 0, "random_blocks": 0}
SPARSE_TRANSFORMER = Golden("strided", lambda s: {"stride": s["stride"], "window": s["stride"] - 1})
BAND = Golden("local", lambda s: {"window": s["window"]})
# a block and its neighbours: BigBird's window without the rest
BLOCK_BAND = Golden("bigbird", lambda s: BLOCKS | {"block": s["window"]})
BIGBIRD = Golden("bigbird", calls.bigbird_hparams)
FNET = Golden("fourier", qkv=calls.x_as_values, out=lambda out, s: out[:, :, 0])
LINFORMER = Golden(
    "linformer",
    lambda s: {"slots": s["k"], "length": s["seq_len"]},
    lambda a, s: {"keys": a["p_proj_k"].T, "values": a["p_proj_v"].T},
)
# its starting point of the inverse is one for the whole batch
NYSTROM = Golden(
    "nystrom",
    lambda s: {
        "landmarks": s["num_landmarks"],
        "iterations": s["pinv_iterations"],
        "conv": 33 if s["residual"] else None,
        "batch_wide": True,
    },
    lambda a, s: {"conv": a["p_conv_w"]} if s["residual"] else {},
)

PERFORMER = Golden(
    "performer",
    lambda s: {
        "features": s["nb_features"],
        "kernel": "relu" if s["generalized"] else "softmax",
        "feature_eps": s["feature_eps"],
        "sum_eps": s["denom_eps"],
    },
    lambda a, s: {"projection": calls.per_head(a, a["x_projection"])},
)
FAVOR = Golden(
    "performer",
    lambda s: {"features": s["n_dims"], "kernel": "hyperbolic"},
    lambda a, s: {"projection": calls.per_head(a, a["x_omega"].T)},
)
RFA = Golden(
    "rfa",
    lambda s: {"features": s["n_dims"], "unit": False, "eps": s["eps"]},
    lambda a, s: {
        "projection": calls.per_head(a, a["x_omega"].T),
        "sigma": jnp.ones((a["q"].shape[1], a["q"].shape[-1])),
    },
)
AUTOFORMER = Golden(
    "auto_correlation", lambda s: {"factor": s["factor"], "batch_wide": s["training"]}
)
FEDFORMER = Golden(
    "fourier_enhanced",
    lambda s: {"modes": s["modes"], "select": (s["i_index"], ()), "placing": "lowest"},
    lambda a, s: {"real": a["p_w_re"], "imag": a["p_w_im"]},
    qkv=lambda a: [None, None, swap(a["q"])],
)
# its values are the keys
FEDFORMER_CROSS = Golden(
    "fourier_enhanced",
    lambda s: {
        "kind": "cross",
        "modes": s["modes"],
        "select": (s["i_index_q"], s["i_index_kv"]),
        "activation": s["activation"],
    },
    lambda a, s: {"real": a["p_w_re"], "imag": a["p_w_im"]},
    qkv=lambda a: [swap(a[name]) for name in "qkk"],
)
MIXER = Golden(
    "mlp_mixer",
    lambda s: {"hidden": s["hidden"], "norm": True, "residual": s["residual"]},
    lambda a, s: {
        "expand": a["p_w1"],
        "expand_bias": a["p_b1"],
        "contract": a["p_w2"],
        "contract_bias": a["p_b2"],
        "gain": a["p_ln_g"][None],
        "shift": a["p_ln_b"][None],
    },
    qkv=calls.x_as_values,
    out=lambda out, s: out[:, :, 0],
)
SYNTHESIZER = Golden(
    "synthesizer",
    lambda s: {"kind": "dense" if s["causal"] else "random"},
    lambda a, s: (
        {f"dense_{name}": a[f"p_{name}"] for name in ("w1", "b1", "w2", "b2")}
        if s["causal"]
        else {"random": a["p_R"]}
    ),
    # every head reads all of x
    qkv=lambda a: (swap(calls.per_head(a, a["x"], 1)) if "x" in a else None, None, swap(a["v"])),
)
LSH = Golden(
    "lsh",
    lambda s: {
        "buckets": 2 * s["x_rotations"].shape[-1],
        "hashes": s["n_hashes"],
        "block": s.get("bucket_size") or s["chunk_length"],
        "chunking": "paper",
        "across": s.get("attend_across_buckets", True),
        "circular": s.get("attend_across_buckets", True),
        "duplicates": s.get("allow_duplicate_attention", True),
        "scale": s["scale"],
    },
    lambda a, s: {
        "rotations": calls.per_head(a, a["x_rotations"])
        if a["x_rotations"].ndim == 3
        else a["x_rotations"]
    },
    qkv=lambda a: (swap(a["qk"]), None, swap(a["v"])),
)
ROUTING = Golden(
    "routing",
    lambda s: {
        "clusters": s["num_clusters"],
        "window": s["window"],
        "membership": "paper",
        "shared": s["shared_qk"],
        "memory": s["num_mem_kv"],
    },
    lambda a, s: (
        {"centroids": a["x_means"]}
        | {f"memory_{name}s": a[f"p_mem_{name}"] for name in ("key", "value") if s["num_mem_kv"]}
    ),
)
SINKHORN = Golden(
    "sinkhorn",
    lambda s: (
        calls.sinkhorn_hparams(s)
        | ({"sortcut": s["n_sortcut"], "n_top": 1} if s["n_sortcut"] else {"n_top": s["n_top"]})
    ),
)


def without_suffix(file: File):
    """The file of the same inputs from the package with its bug corrected."""
    corrected = File.read(file.name.removesuffix("_asreleased"))
    for name, x in file.learned.items():
        np.testing.assert_array_equal(x, corrected.learned[name])
    return corrected.expected()


MATCHED = {
    "full_bidir": Golden("full"),
    "full_causal": Golden("full"),
    "full_keymask": Golden("full", mask="i_keymask"),
    "local_exact_bidir": BAND,
    "local_exact_causal": BAND,
    "local_block_bidir": BLOCK_BAND,
    "local_block_causal": BLOCK_BAND,
    "local_longformer": Golden("local", lambda s: {"window": s["one_sided_window"]}),
    "local_longformer_global": calls.longformer,
    "local_longt5": Golden("local", lambda s: {"window": s["radius"]}, qkv=calls.unscaled),
    "strided_bidir": SPARSE_TRANSFORMER,
    "strided_causal": SPARSE_TRANSFORMER,
    "bigbird_train": BIGBIRD,
    "bigbird_train2": BIGBIRD,
    "linear_elu_bidir": Golden("linear"),
    "linear_elu_causal": Golden("linear"),
    "fnet": FNET,
    "fnet_oddlen": FNET,
    "informer_bidir": calls.informer,
    "informer_causal": calls.informer,
    "autoformer_eval": AUTOFORMER,
    "autoformer_train": AUTOFORMER,
    "fedformer_block_low": FEDFORMER,
    "fedformer_block_random": FEDFORMER,
    "fedformer_cross_softmax": FEDFORMER_CROSS,
    "fedformer_cross_tanh": FEDFORMER_CROSS,
    "linformer_full": LINFORMER,
    "linformer_short": LINFORMER,
    "nystrom_plain": NYSTROM,
    "nystrom_conv": NYSTROM,
    "mca_bidir": calls.compressed,
    "mca_causal": calls.compressed,
    "mca_causal_cf4": calls.compressed,
    "efficient_bidir": Golden("efficient", lambda s: {"scaled": True}),
    "efficient_performer_bidir": Golden("efficient"),
    "performer_bidir": PERFORMER,
    "performer_causal": PERFORMER,
    "performer_relu_bidir": PERFORMER,
    "performer_relu_causal": PERFORMER,
    "favor_ft_bidir": FAVOR,
    "lsh_bidir": LSH,
    "lsh_causal": LSH,
    "lsh_hf_bidir": LSH,
    "lsh_hf_causal": LSH,
    "lsh_nodup": LSH,
    "lsh_within_bucket": LSH,
    "routing_bidir": ROUTING,
    "routing_causal": ROUTING,
    "routing_shared_causal": ROUTING,
    "rfa_bidir": RFA,
    "rfa_causal": RFA,
    "gmlp_bidir": calls.gated,
    "gmlp_causal_heads2": calls.gated,
    "mixer_token": MIXER,
    "synth_random": SYNTHESIZER,
    "synth_dense_causal": SYNTHESIZER,
    "efficient_causal": Golden("efficient", lambda s: {"normaliser": "row"}),
    "sinkhorn_topk": SINKHORN,
    "sinkhorn_sortcut": SINKHORN,
    "sinkhorn_gumbel": calls.sinkhorn_gumbel,
    "sinkhorn_causal": calls.sinkhorn_causal,
    "sinkhorn_causal_top2": calls.sinkhorn_causal,
}

SORTED_KEYS = "the package's sorted values are its sorted keys; ours are the values"
CORRECTED = {
    "bigbird_eval": Corrected(
        "transformers draws block 0 alone in eval mode and counts it again; ours counts a key once",
        BIGBIRD,
        statement=formulas.bigbird(repeats=False),
        peer=formulas.bigbird(repeats=True),
    ),
    "favor_ft_causal": Corrected(
        "the peer divides features by a maximum over all positions, so later tokens change what "
        "its eps does to earlier rows; ours takes maxima of the past and needs no eps",
        FAVOR,
        statement=formulas.favor_causal(stabilised=False),
        peer=formulas.favor_causal(stabilised=True),
    ),
    "efficient_causal_blindspot": Corrected(
        "the peer's queries do not see their own bucket, the first nothing; ours see all the past",
        Golden("efficient", lambda s: {"normaliser": "row"}),
        statement=formulas.efficient_causal(blind=False),
        peer=formulas.efficient_causal(blind=True),
    ),
    "sinkhorn_topk_asreleased": Corrected(SORTED_KEYS, SINKHORN, without_suffix),
    "sinkhorn_gumbel_asreleased": Corrected(SORTED_KEYS, calls.sinkhorn_gumbel, without_suffix),
}


def test_every_file_is_covered():
    files = {path.stem for path in FOLDER.glob("*.npz")}
    assert files, f"no .npz in {FOLDER}"
    assert not files - set(MATCHED) - set(CORRECTED)
    assert not set(MATCHED) & set(CORRECTED)


@pytest.mark.parametrize("name", MATCHED)
def test_equals_the_other_implementation(name):
    file = File.read(name)
    assert_matches(run(MATCHED[name], file), file.expected(), loose=file.fixed.get("i_self_only"))


@pytest.mark.parametrize("name", CORRECTED)
def test_equals_the_corrected_statement(name):
    file, correction = File.read(name), CORRECTED[name]
    assert_matches(run(correction.golden, file), correction.statement(file))
    if correction.peer is not None:
        assert_matches(correction.peer(file), file.expected())


@pytest.mark.parametrize("name", [name for name in MATCHED if MATCHED[name] is ROUTING])
def test_commitment_loss(name):
    file = File.read(name)
    q, k = (swap(file.learned[n]) for n in "qk")
    keys = None if file.settings["shared_qk"] else k
    loss = commitment(file.fixed["x_means"], q, keys, file.settings["commitment"])
    np.testing.assert_allclose(loss, file.fixed["x_aux_loss"], rtol=1e-5)
