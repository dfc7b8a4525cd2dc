"""Points of kinds fidelity and numbers: errors that are known, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attention_zoo as zoo
from experiments import tasks
from experiments.kinds import activations, fidelity, fitting, numbers
from experiments.measuring import exact
from experiments.running import configuration

SIZES = {"n": 40, "batch": 2, "heads": 3, "head_dim": 8, "value_dim": 8, "dtype": "float32"}
POINT = {
    "experiment": "fidelity",
    "kind": "fidelity",
    "label": "local",
    "mechanism": "local",
    "hparams": {"window": 8},
    "budget": {"name": "window", "value": 8},
    "inputs": "random",
    "causal": False,
    "seed": 0,
} | SIZES
TRAINING = {
    "n": 48,
    "batch": 2,
    "steps": 3,
    "depth": 1,
    "ff": 16,
    "layer": 0,
    "lr": 1e-3,
    "warmup": 1,
    "seed": 0,
}
FIT = {"steps": 20, "passes": 2, "lr": [1e-3, 1e-2]}
LINFORMER = {"mechanism": "linformer", "hparams": {"slots": 8}, "fit": FIT}
LSH = {
    "mechanism": "lsh",
    "hparams": {"buckets": 1, "block": 40},
    "target": {"mechanism": "lsh", "hparams": {"buckets": 1, "block": 64}},
}
NUMBERS = {"kind": "numbers", "label": "full", "mechanism": "full", "hparams": {}} | SIZES


def error(tmp_path, **changes):
    return fidelity.run_point({**POINT, **changes}, tmp_path)["error"]


@pytest.mark.parametrize("causal", [False, True])
def test_a_window_of_everything_has_no_error(causal, tmp_path):
    assert error(tmp_path, hparams={"window": 40}, causal=causal) < 1e-6


def test_error_is_that_of_the_definition(tmp_path):
    metrics = fidelity.run_point({**POINT, "mechanism": "linear", "hparams": {}}, tmp_path)
    key = jax.random.split(jax.random.key(0), 3)[1]
    q, k, v = (
        np.asarray(jax.random.normal(key, (2, 40, 3, 8)), np.float64)
        for key in jax.random.split(key, 3)
    )

    def attention(weights):
        return np.einsum("bhts,bshe->bthe", weights / weights.sum(-1, keepdims=True), v)

    full = attention(np.exp(np.einsum("bthd,bshd->bhts", q, k) * 8**-0.5))
    phi_q, phi_k = (np.where(x > 0, x + 1, np.exp(x)) for x in (q, k))
    made = attention(np.einsum("bthd,bshd->bhts", phi_q, phi_k))
    expected = np.linalg.norm(made - full) / np.linalg.norm(full)
    np.testing.assert_allclose(metrics["error"], expected, rtol=1e-5)
    of_mean = np.linalg.norm(v.mean(1, keepdims=True) - full) / np.linalg.norm(full)
    np.testing.assert_allclose(metrics["error_mean"], of_mean, rtol=1e-5)
    flops_full = zoo.make("full").cost(zoo.Dims(2, 40, 40, 3, 8, 8)).flops
    assert metrics["flops_ratio"] == metrics["flops_formula"] / flops_full


def test_more_features_err_less_against_what_they_stand_for(tmp_path):
    cosine = {"target": {"mechanism": "full", "hparams": {"score": "cosine"}}}
    few, many = (
        error(tmp_path, mechanism="rfa", hparams={"features": m}, **cosine) for m in (32, 2048)
    )
    assert many < few / 4


def test_shared_queries_and_keys_are_compared_with_one_bucket(tmp_path):
    assert error(tmp_path, **LSH) < 1e-6


def test_centroids_move_before_they_are_measured(tmp_path):
    moved = {"mechanism": "performer", "hparams": {"features": 16}}
    assert error(tmp_path, **moved, refreshes=1) != error(tmp_path, **moved)


def test_trained_inputs_are_a_layers_and_the_same_from_the_file(tmp_path):
    point = {**POINT, "inputs": "trained", "training": TRAINING}
    first = fidelity.run_point(point, tmp_path)
    assert first["steps"] == 3
    assert 3 < first["loss"] < 7
    assert first["error"] != error(tmp_path)
    fidelity.activations._trained.cache_clear()
    assert len(list(tmp_path.glob("models/*.npz"))) == 1
    assert fidelity.run_point(point, tmp_path) == first


@pytest.mark.parametrize(
    ("mechanism", "hparams"), [("linformer", {"slots": 8}), ("synthesizer", {"kind": "random"})]
)
def test_a_longer_fit_errs_less(mechanism, hparams, tmp_path):
    changes = {"mechanism": mechanism, "hparams": hparams}
    found = []
    for steps in (1, 100):
        point = {**POINT, **changes, "fit": {"steps": steps, "passes": 1, "lr": 1e-2}}
        found.append(fidelity.run_point(point, tmp_path))
        assert (found[-1]["fit_steps"], found[-1]["fit_lr"]) == (steps, 1e-2)
    for key in ("error", "fit_loss"):
        assert found[1][key] < 0.9 * found[0][key]
    cost = zoo.make(mechanism, **hparams).cost(zoo.Dims(2, 40, 40, 3, 8, 8))
    assert [row["flops_formula"] for row in found] == [cost.flops] * 2


def test_a_fit_finds_what_is_within_reach():
    target = jax.random.normal(jax.random.key(1), (3, 4))
    inputs = jax.random.normal(jax.random.key(2), (500 + fitting.CHOICE, 5, 3))
    params = {"matrix": jnp.zeros((3, 4)), "held": jnp.ones(())}
    found, metrics = fitting.fitted(
        lambda params, x: params["held"] * x @ params["matrix"],
        params,
        {"held"},
        inputs,
        inputs @ target,
        {"steps": 500, "passes": 1, "lr": [1e-6, 3e-2, 1e4]},
    )
    np.testing.assert_allclose(found["matrix"], target, atol=1e-4)
    assert found["held"] == 1
    assert metrics["fit_lr"] == 3e-2
    assert metrics["fit_loss"] < 1e-6


@pytest.mark.parametrize("inputs", ["random", "trained"])
def test_measured_inputs_are_none_of_the_fits(inputs, tmp_path, monkeypatch):
    seen = {}
    fit, draw = fitting.fitted, fidelity._inputs

    def fitted(apply, params, frozen, inputs, *rest):
        seen["fit"] = inputs
        return fit(apply, params, frozen, inputs, *rest)

    def measured(point, key, out):
        seen["measured"] = draw(point, key, out)
        return seen["measured"]

    monkeypatch.setattr(fitting, "fitted", fitted)
    monkeypatch.setattr(fidelity, "_inputs", measured)
    training = {"training": TRAINING} if inputs == "trained" else {}
    fidelity.run_point({**POINT, **LINFORMER, **training, "inputs": inputs}, tmp_path)
    count = 10 + fitting.CHOICE
    for name in "qkv":
        held, used = np.asarray(seen["measured"][0][name]), np.asarray(seen["fit"][name])
        assert used.shape == (count, *held.shape)
        windows = used.reshape(-1, *held.shape[1:])
        # all different from each other, and from all that is measured
        assert len(np.unique(windows.reshape(len(windows), -1), axis=0)) == len(windows)
        assert all((windows != window).any((1, 2, 3)).all() for window in held)


def test_windows_of_a_fit_are_not_in_the_held_out_text():
    held = next(tasks.make("stdlib", 48, eval_tokens=96).held_out("val", 2))["inputs"]
    used = activations.fitting_windows(TRAINING, 48, 2, 30).reshape(-1, 48)
    assert not {bytes(x) for x in np.uint8(held)} & {bytes(x) for x in np.uint8(used)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": "noise"}, "inputs must be one of random, trained, got 'noise'"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"mechanism": "linformer", "hparams": {}}, "linformer learns .*approximates nothing"),
        ({**LINFORMER, "fit": {"steps": 5}}, "fit has steps, passes, lr, got"),
        ({**LINFORMER, "fit": FIT | {"steps": 0}}, "fit.steps must be a whole number .* got 0"),
        ({**LINFORMER, "fit": FIT | {"lr": [1e-3, 0.0]}}, "fit.lr must be .*above 0"),
        ({**LINFORMER, "fit": FIT | {"passes": 3}}, "fit.steps must be a multiple of fit.passes"),
        ({**LINFORMER, "fit": FIT | {"lr": []}}, "fit.lr must be .*above 0"),
        ({"fit": FIT}, "local learns nothing: leave fit out"),
        ({"inputs": "trained", "training": TRAINING | {"n": 32}}, "training.n=32, got 40"),
        ({"mechanism": "fourier", "hparams": {}}, "fourier is no attention over q and k"),
        ({"budget": {"name": "window"}}, "budget must have name and value"),
        ({"inputs": "trained", "training": TRAINING | {"layer": 1}}, "within 0..0, got 1"),
        ({"inputs": "trained", "training": TRAINING | {"steps": 0}}, "steps must be 1 or more"),
        (
            {"inputs": "trained", "training": TRAINING, "value_dim": 4},
            "value_dim = head_dim, got 4",
        ),
    ],
)
def test_a_bad_point_is_named(changes, words):
    with pytest.raises(ValueError, match=words):
        fidelity.check_point({**POINT, **changes})


@pytest.mark.parametrize("name", ["fidelity", "numbers"])
def test_config_makes_sound_points(name):
    points = configuration.points(*configuration.load(name))
    assert {point["kind"] for point in points} == {name}
    if name == "numbers":
        assert {point["mechanism"] for point in points} == set(zoo.names())


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("float32", 1e-8, 1e-6), ("bfloat16", 1e-3, 1e-2)]
)
def test_rounding_errors_are_of_the_size_of_the_dtype(dtype, low, high, tmp_path):
    point = NUMBERS | {"dtype": dtype, "causal": True, "seed": 0}
    metrics = numbers.run_point(point, tmp_path)
    assert metrics.pop("error_grad_params") is None
    assert metrics["error_rounding"] < metrics["error"] or dtype == "bfloat16"
    assert all(low < value < high for value in metrics.values())


@pytest.mark.parametrize("mechanism", ["linformer", "query_reduction"])
def test_gradients_in_parameters_have_errors_too(mechanism, tmp_path):
    point = NUMBERS | {"mechanism": mechanism, "causal": False, "seed": 0}
    assert 1e-8 < numbers.run_point(point, tmp_path)["error_grad_params"] < 1e-5


def test_what_is_not_causal_is_refused():
    assert numbers.objections(NUMBERS | {"mechanism": "nystrom", "causal": True})


def program(x):
    """A cast, a loop, a branch, a while and a Fourier transform."""

    def step(total, row):
        return total + jnp.exp(row.astype(jnp.float32)).sum(), jnp.tanh(row) * total

    total, rows = jax.lax.scan(step, jnp.float32(0), x)
    rows = jax.lax.cond(total > 0, jnp.cos, jnp.sin, rows)
    rows, _ = jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] / 3, c[1] + 1), (rows, 0))
    return jnp.fft.fft(rows).real


def test_float64_reaches_into_loops_and_branches():
    x = jax.random.normal(jax.random.key(0), (4, 5))
    wide = exact.float64(program)(x)
    total, rows = 0.0, []
    for row in np.asarray(x, np.float64):
        rows.append(np.tanh(row) * total)
        total += np.exp(row).sum()
    assert wide.dtype == np.float64
    expected = np.fft.fft(np.cos(rows) / 27).real
    np.testing.assert_allclose(wide, expected, rtol=1e-12)


def test_float64_gradients_scatter_in_float64():
    table, rows = jax.random.normal(jax.random.key(0), (4, 5)), jnp.array([2, 0, 2])
    gradient = jax.grad(lambda table: jnp.exp(table[rows].astype(jnp.float32)).sum())
    wide = exact.float64(gradient)(table)
    expected = np.exp(np.asarray(table, np.float64)) * np.array([1, 0, 2, 0])[:, None]
    np.testing.assert_allclose(wide, expected, rtol=1e-13)
