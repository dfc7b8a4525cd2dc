"""What a measured point says is what was run."""

import itertools
import os
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import measure
from experiments.kinds import kernel, reorder
from experiments.measuring import environment

KERNEL = {
    "experiment": "scaling",
    "kind": "kernel",
    "label": "full",
    "mechanism": "full",
    "hparams": {"implementation": "plain"},
    "n": 96,
    "mode": "forward",
    "causal": False,
    "batch": 2,
    "heads": 3,
    "head_dim": 8,
    "value_dim": 5,
    "dtype": "float32",
    "seed": 0,
    "repeats": 4,
}
REORDER = {
    "experiment": "reordering",
    "kind": "reorder",
    "label": "(qk)v",
    "order": "qk_v",
    "feature_map": "identity",
    "n": 48,
    "head_dim": 8,
    "value_dim": 5,
    "heads": 3,
    "batch": 2,
    "dtype": "float32",
    "seed": 0,
    "repeats": 4,
}


def test_forward_metrics_of_a_kernel(tmp_path):
    metrics = kernel.run_point(KERNEL, tmp_path)
    assert metrics["flops_formula"] == metrics["flops_counted"] == 2 * (2 * 3) * 96**2 * (8 + 5)
    assert metrics["flops_xla"] > metrics["flops_counted"]
    assert metrics["bytes_compiled"] > 4 * (2 * 3) * 96**2
    assert metrics["seconds_q1"] <= metrics["seconds"] <= metrics["seconds_q3"]
    assert 4 <= metrics["repeats"] <= measure.MOST_REPEATS
    assert metrics["compile_seconds"] > 0
    assert metrics["trace_seconds"] > 0
    assert metrics["bytes_process"] > metrics["bytes_measured"]
    assert metrics["gemm_seconds"] > 0


def test_training_metrics_of_a_kernel(tmp_path):
    metrics = kernel.run_point({**KERNEL, "mode": "train"}, tmp_path)
    assert metrics["flops_formula"] == metrics["flops_counted"] == 3 * 2 * (2 * 3) * 96**2 * (8 + 5)
    assert metrics["flops_ideal"] is None
    assert metrics["bytes_formula"] == kernel.cost(KERNEL).train_bytes > kernel.cost(KERNEL).bytes


@pytest.mark.parametrize("mechanism", ["full", "fourier", "query_reduction"])
def test_training_returns_a_gradient_of_all_that_is_read(mechanism):
    point = {**KERNEL, "mechanism": mechanism, "hparams": {}, "mode": "train", "value_dim": 8}
    m = kernel.mechanism(point)
    fn, args = kernel.program(m, point)
    value, (params, inputs) = jax.jit(fn)(*args)
    assert value.shape == ()
    assert params.keys() == args[0].keys()
    assert sorted(inputs) == sorted(kernel.READS[m.streams])
    assert all(float(jnp.abs(g).max()) > 0 for g in inputs.values())


def test_lists_in_hyperparameters_are_tuples_again():
    point = {**KERNEL, "mechanism": "local", "hparams": {"window": [3, 2]}}
    assert kernel.mechanism(point).name == "local"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "backward"}, "mode must be one of forward, train, got 'backward'"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"heads": 0}, "heads must be a whole number from 1 up, got 0"),
        ({"mechanism": "fulll"}, "did you mean 'full'"),
        ({"hparams": {"blok": 3}}, "did you mean 'block'"),
        ({"repeats": 0}, "repeats must be a whole number from 1 up, got 0"),
    ],
)
def test_a_bad_kernel_point_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        kernel.check_point({**KERNEL, **change})


@pytest.mark.parametrize("n", [16, 48, 65536])
@pytest.mark.parametrize(("d", "e"), [(64, 64), (64, 32), (64, 128)])
def test_counted_multiply_adds_of_both_orders_are_exact(n, d, e):
    point = {**REORDER, "n": n, "head_dim": d, "value_dim": e}
    for order, expected in (("qk_v", (d + e) * n**2), ("q_kv", 2 * d * e * n)):
        metrics = reorder.trace_point({**point, "order": order})
        assert metrics["multiply_adds"] == metrics["multiply_adds_formula"] == expected
        assert metrics["crossing_n"] * (d + e) == 2 * d * e


@pytest.mark.parametrize("feature_map", ["elu", "relu", "exp"])
def test_counted_multiply_adds_with_a_feature_map_are_exact(feature_map):
    for order in reorder.ORDERS:
        metrics = reorder.trace_point({**REORDER, "order": order, "feature_map": feature_map})
        assert metrics["multiply_adds"] == metrics["multiply_adds_formula"]


@pytest.mark.parametrize("feature_map", list(reorder.FEATURE_MAPS))
def test_both_orders_give_the_same_output(feature_map):
    q, k, v = (jax.random.normal(jax.random.key(i), (2, 17, 3, 8)) for i in range(3))
    first, second = (reorder.product(order, feature_map)(q, k, v) for order in reorder.ORDERS)
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-4)
    if feature_map == "elu":
        ones = reorder.product("qk_v", feature_map)(q, k, jnp.ones_like(v))
        np.testing.assert_allclose(ones, 1.0, rtol=1e-5)


def test_a_reordered_point_is_measured(tmp_path):
    metrics = reorder.run_point(REORDER, tmp_path)
    assert metrics["flops_counted"] == 2 * 6 * metrics["multiply_adds"]
    assert metrics["seconds"] > 0


def test_an_order_that_holds_too_much_is_refused_with_the_numbers():
    point = {**REORDER, "max_bytes": 10_000}
    assert "max_bytes is 10,000" in reorder.objections(point)[0]
    assert reorder.objections({**point, "order": "q_kv"}) == []


@pytest.mark.parametrize(
    ("seconds", "repeats", "budget", "count"),
    [
        ([1.0], 5, 60.0, 5),
        ([1.0], 1, 60.0, 3),
        ([1.0], 50, 60.0, 50),
        ([1.0], 50, 4.5, 5),
        ([1.0], 50, 0.0, 3),
        # two of the first five took twice as long; with seven that took one second it is settled
        ([2.0, 2.0] + [1.0] * 50, 5, 60.0, 9),
        ([2.0, 2.0] + [1.0] * 50, 5, 6.5, 5),
        ([1.0, 2.0], 5, 60.0, 25),
        ([1.0, 2.0], 5, 11.0, 8),
        ([1.0, 2.0], 5, 0.0, 3),
    ],
)
def test_samples_are_taken_until_they_are_settled_or_time_is_up(
    seconds, repeats, budget, count, monkeypatch
):
    now, calls = [0.0], itertools.cycle(seconds)

    def run():
        now[0] += next(calls)

    monkeypatch.setattr(measure, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    assert len(measure.sample(run, 1.0, repeats=repeats, budget=budget)) == count


def test_samples_of_several_are_taken_by_turns(monkeypatch):
    """What slows the machine from some moment on slows as many samples of each."""
    now, order = [0.0], []

    def program(name, seconds):
        def run():
            order.append(name)
            now[0] += seconds * (10 if len(order) > 6 else 1)

        return run, seconds

    monkeypatch.setattr(measure, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    runs = [program("whole", 3.0), program("rest", 1.0)]
    whole, rest = measure.by_turns(runs, repeats=6, budget=1000.0)
    assert order[:12] == ["whole", "rest"] * 6
    assert [w / r for w, r in zip(whole, rest, strict=True)] == pytest.approx([3] * len(rest))


GROWTH = """
import jax, jax.numpy as jnp
from experiments import measure
x = jnp.ones(2**23)
double = jax.jit(lambda x: 2 * x).lower(x).compile()
double(x).block_until_ready()
out, grown = measure.peak_growth(lambda: double(x))
print(out.nbytes, grown)
"""


def test_growth_covers_the_result():
    """In a process of its own, as points are: one with a long past has freed memory to reuse."""
    variables = {**os.environ, **environment.worker_variables()}
    run = subprocess.run(
        [sys.executable, "-c", GROWTH], env=variables, capture_output=True, text=True, check=True
    )
    held, grown = run.stdout.split()
    if grown == "None":
        pytest.skip("this system does not tell a process its peak")
    assert int(held) * 0.9 < int(grown) < int(held) * 1.5


def test_a_matrix_product_is_timed_anew_and_in_proportion(monkeypatch):
    took = iter([1.0, 2.0])
    monkeypatch.setattr(measure, "sample", lambda *_, **__: [next(took)])
    few, many = measure.gemm_seconds(2**32), measure.gemm_seconds(2**34)
    assert many == 2 * 4 * few
    assert measure.gemm_seconds(1000) is None


def test_short_calls_are_put_together(monkeypatch):
    """Looking at a call's memory takes longer than it, which is not to be timed."""
    seen = {}

    def by_turns(runs, **_):
        ((_, seen["once"]),) = runs
        return [[1.0, 1.0, 1.0]]

    monkeypatch.setattr(measure, "by_turns", by_turns)
    # where other tests run beside, looking takes longer than a second
    monkeypatch.setattr(measure, "LOOK_SECONDS", 60.0)
    growth = measure.peak.growth
    monkeypatch.setattr(measure.peak, "growth", lambda run: (time.sleep(0.05), growth(run))[1])
    measure.measure(lambda x: x + 1, (jnp.ones(3),), repeats=1)
    assert seen["once"] < 0.02


@pytest.mark.parametrize("hparams", [{"slots": 7}, {"kind": "strided", "stride": 3}])
@pytest.mark.parametrize("mode", ["forward", "train"])
def test_bytes_of_inputs_are_those_of_the_program(mode, hparams):
    """Of an output that is shorter too, whose cotangent is one of them."""
    point = {**KERNEL, "mechanism": "query_reduction", "hparams": hparams, "mode": mode}
    point |= {"value_dim": 8}
    _, args = kernel.program(kernel.mechanism(point), point)
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(args))
    assert kernel.input_bytes(point) == held


def test_what_is_not_finite_is_said():
    measure.check_finite({"a": jnp.ones(4), "b": jnp.arange(3)})
    with pytest.raises(FloatingPointError, match=r"25% of \['a'\] is not finite"):
        measure.check_finite({"a": jnp.array([1.0, jnp.nan, 2.0, 3.0])})


def test_an_uncounted_primitive_makes_the_count_null():
    x = jnp.eye(4)
    assert measure.measure(jnp.linalg.cholesky, (x,), repeats=1)["flops_counted"] is None
