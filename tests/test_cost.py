"""What a call costs: the formula against a count of the traced program, and growth with N."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attention_zoo as zoo
from experiments import measure
from experiments.kinds import kernel
from experiments.measuring import flops
from tests.cases import CASES, MODES, SIZES, dims, runs

# hyperparameters small against N, of every mechanism that never builds an [N, N] array
SMALL = {
    "auto_correlation": {},
    "bigbird": {"block": 32},
    "compressed": {},
    "convolution": {},
    "efficient": {},
    "fourier": {},
    "fourier_enhanced": {"modes": 32},
    "global": {"tokens": 16, "window": 64},
    "linear": {},
    "linformer": {"slots": 32},
    "local": {"window": 64},
    "lsh": {"block": 32},
    "mlp_mixer": {"hidden": 32},
    "nystrom": {"landmarks": 32},
    "performer": {"features": 32},
    "probsparse": {},
    "query_reduction": {"slots": 32},
    "recurrent": {},
    "rfa": {"features": 32},
    "routing": {"clusters": 16, "window": 32},
    "sinkhorn": {"block": 64},
    "strided": {"stride": 45},
}
# by definition they do: all pairs of positions, or parameters for them
MATRIX = {"full", "mixed", "spatial_gating", "synthesizer"}
# their pairs grow faster than N with fixed hyperparameters, if by a constant less than N²
FASTER = {"compressed", "sinkhorn", "strided"}
# N log N
LOGARITHMIC = {"auto_correlation", "fourier", "probsparse"}
# hyperparameters that grow as the root of N, as their papers choose them
ROOT = {"sinkhorn": ("block",), "strided": ("stride",)}
# what sorts by content also pads buckets; probsparse keeps the weights of log N queries
EXPONENTS = {"lsh": 1.1, "routing": 1.1, "probsparse": 1.15}


def shaped(m: zoo.Mechanism, T: int, S: int | None = None):
    """ShapeDtypeStructs of (params, q, k, v)."""
    S = T if S is None else S
    B, H, D, E = SIZES.values()
    params = jax.eval_shape(lambda: m.init(jax.random.key(0), dims(T, S)))
    H *= m.projections
    return params, *(
        jax.ShapeDtypeStruct(shape, jnp.float32)
        for shape in ((B, T, H, D), (B, S, H, D), (B, S, H, E))
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("name", "mode"), runs())
def test_formula_equals_the_count_of_the_traced_program(name, mode, masked):
    m = CASES[name].m
    if masked and not m.mask:
        pytest.skip(zoo.objections(m, dims(23), masked=True)[0])
    for T in (1, 23, 64, 150):
        params, q, k, v = shaped(m, T)
        mask = jax.ShapeDtypeStruct((SIZES["batch"], T), bool) if masked else None

        def call(params, q, k, v, mask):
            return m.apply(params, q, k, v, mask=mask, causal=MODES[mode])

        counted = flops.count(call, params, q, k, v, mask)
        assert m.cost(dims(T), causal=MODES[mode]).flops == counted.flops
        assert not counted.unknown_loops
        assert not counted.uncounted


@pytest.mark.parametrize(("name", "mode"), runs())
def test_formula_of_a_training_step_equals_the_count(name, mode):
    m = CASES[name].m
    params, *arrays = shaped(m, 150)
    reads = dict(zip("qkv", arrays, strict=True))
    reads = {letter: reads[letter] for letter in kernel.READS[m.streams]}
    trained = {name: x for name, x in params.items() if name not in m.frozen}
    frozen = {name: params[name] for name in m.frozen}
    mask = jax.ShapeDtypeStruct((SIZES["batch"], 150), bool) if m.mask else None

    def loss(trained, reads, frozen, mask):
        qkv = (reads.get(letter) for letter in "qkv")
        return m.apply(trained | frozen, *qkv, mask=mask, causal=MODES[mode]).sum()

    counted = flops.count(jax.value_and_grad(loss, (0, 1)), trained, reads, frozen, mask)
    assert m.cost(dims(150), causal=MODES[mode]).train_flops == counted.flops


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.m.cross])
def test_formula_holds_for_cross_lengths(name):
    m = CASES[name].m
    for T, S in ((23, 64), (70, 9)):
        assert m.cost(dims(T, S)).flops == flops.count(m.apply, *shaped(m, T, S)).flops


def test_every_mechanism_is_sorted_by_growth():
    assert set(SMALL) | MATRIX | {"none"} == set(zoo.names())
    assert not set(SMALL) & MATRIX


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SMALL)
def test_no_array_of_queries_by_keys(name, mode):
    """Neither forward nor backward: the largest array grows with N, and none has two axes of N."""
    m = zoo.make(name, **SMALL[name])
    if MODES[mode] and not m.causal:
        pytest.skip(zoo.objections(m, dims(2), causal=True)[0])
    N = 2003  # a prime well above every window and width here

    def train(params, q, k, v):
        def loss(params, q, k, v):
            return m.apply(params, q, k, v, causal=MODES[mode]).sum()

        return jax.grad(loss, argnums=(0, 1, 2, 3), allow_int=True)(params, q, k, v)

    for shape in flops.shapes(train, *shaped(m, N)):
        assert sum(size >= N for size in shape) <= 1, shape


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SMALL)
def test_flops_and_compiled_memory_grow_linearly(name, mode):
    if MODES[mode] and not zoo.make(name).causal:
        pytest.skip(zoo.objections(zoo.make(name), dims(2), causal=True)[0])
    lengths = (2048, 8192, 16384)
    held, work = {"forward": [], "train": []}, {"forward": [], "train": []}
    for N in lengths:
        roots = {hparam: math.isqrt(N) for hparam in ROOT.get(name, ())}
        m = zoo.make(name, **SMALL[name] | roots)

        def forward(*args, m=m):
            return m.apply(*args, causal=MODES[mode])

        def train(*args, forward=forward):
            return jax.grad(lambda *x: forward(*x).sum(), (0, 1, 2, 3), allow_int=True)(*args)

        for pass_, fn in (("forward", forward), ("train", train)):
            traced = jax.jit(fn).trace(*shaped(m, N))
            stats = measure.memory_of(traced.lower())
            held[pass_].append(stats.temp_size_in_bytes + stats.output_size_in_bytes)
            count = flops.count_jaxpr(traced.jaxpr).flops
            work[pass_].append(count / (math.log2(N) if name in LOGARITHMIC else 1))
    # what grows faster has its FLOPs by definition, and memory like the others
    for y in (*held.values(), *(work.values() if name not in FASTER else ())):
        assert np.polyfit(np.log(lengths), np.log(y), 1)[0] <= EXPONENTS.get(name, 1.05)


def test_reordering_is_cheaper_above_the_crossing():
    """(D + E)N² against 2DEN multiply-adds a head: equal at N* = 2DE/(D + E)."""
    full, linear = zoo.make("full"), zoo.make("linear", feature_map="identity")
    for D, E in ((64, 64), (64, 32), (32, 96)):
        crossing = 2 * D * E // (D + E)
        size = zoo.Dims(1, crossing, crossing, 1, D, E)
        assert full.cost(size).flops == 2 * (D + E) * crossing**2
        assert linear.cost(size).flops == 2 * 2 * D * E * crossing
    assert full.cost(size).flops == linear.cost(size).flops
