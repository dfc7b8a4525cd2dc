"""Points of kind "kernel": a mechanism's `apply` on random input, forward or with gradients."""

from pathlib import Path

import jax
import jax.numpy as jnp

import attention_zoo as zoo
from attention_zoo.types import Cost, Dims, Mechanism
from experiments.measure import measure

MODES = ("forward", "train")
DTYPES = ("float32", "bfloat16", "float16")
READS = {"qkv": "qkv", "qv": "qv", "kv": "kv", "v": "v", "x": "v"}


def check_point(point: dict) -> None:
    """ValueError names the field that is wrong."""
    if point["mode"] not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {point['mode']!r}")
    if point["dtype"] not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {point['dtype']!r}")
    if not isinstance(point["causal"], bool):
        raise ValueError(f"causal must be True or False, got {point['causal']!r}")
    if not isinstance(point["repeats"], int) or point["repeats"] < 1:
        raise ValueError(f"repeats must be a whole number from 1 up, got {point['repeats']!r}")
    mechanism(point)
    dims(point)


def objections(point: dict) -> list[str]:
    return zoo.objections(mechanism(point), dims(point), causal=point["causal"])


def predict(point: dict) -> dict:
    """{"flops", "bytes"} by the formulas."""
    formula = cost(point)
    if point["mode"] == "forward":
        return {"flops": formula.flops, "bytes": formula.bytes}
    return {"flops": formula.train_flops, "bytes": formula.train_bytes}


def run_point(point: dict, out: Path) -> dict:
    m, formula = mechanism(point), cost(point)
    fn, args = program(m, point)
    forward = point["mode"] == "forward"
    return {
        "flops_formula": formula.flops if forward else formula.train_flops,
        "flops_ideal": formula.ideal_flops if forward else None,
        "bytes_formula": formula.bytes if forward else formula.train_bytes,
        "state_bytes": formula.state_bytes if m.decode is not None else None,
        **measure(fn, args, repeats=point["repeats"], budget=point.get("budget", 10.0)),
    }


def mechanism(point: dict) -> Mechanism:
    hparams = {name: _hashable(value) for name, value in point["hparams"].items()}
    return zoo.make(point["mechanism"], **hparams)


def dims(point: dict) -> Dims:
    return Dims(
        batch=point["batch"],
        q_len=point["n"],
        kv_len=point["n"],
        heads=point["heads"],
        head_dim=point["head_dim"],
        value_dim=point["value_dim"],
        itemsize=jnp.dtype(point["dtype"]).itemsize,
    )


def cost(point: dict) -> Cost:
    """Of a call, by the formulas."""
    return mechanism(point).cost(dims(point), causal=point["causal"])


def program(m: Mechanism, point: dict) -> tuple:
    """(fn, args) of the measured call: the output, or for mode "train" the value and gradients."""
    params_key, data_key, cotangent_key = jax.random.split(jax.random.key(point["seed"]), 3)
    params = m.init(params_key, dims(point))
    inputs = draw(m, point, data_key)

    def apply(params, inputs):
        arrays = (inputs.get(name) for name in "qkv")
        return m.apply(params, *arrays, causal=point["causal"])

    if point["mode"] == "forward":
        return apply, (params, inputs)
    frozen = {name: params[name] for name in m.frozen}
    trained = {name: params[name] for name in params if name not in m.frozen}
    shape = jax.eval_shape(apply, params, inputs).shape
    cotangent = jax.random.normal(cotangent_key, shape, jnp.float32)

    def loss(trained, inputs, frozen, cotangent):
        return (apply(trained | frozen, inputs).astype(jnp.float32) * cotangent).sum()

    return jax.value_and_grad(loss, (0, 1)), (trained, inputs, frozen, cotangent)


def input_bytes(point: dict) -> int:
    """Of what the measured call reads: parameters, q, k and v, and in training a cotangent."""
    m, forward = mechanism(point), {**point, "mode": "forward"}
    args = jax.eval_shape(lambda: program(m, forward)[1])
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(args))
    length = point["n"] if m.shorter is None else m.shorter.length(point["n"])
    out = point["batch"] * length * point["heads"] * point["value_dim"]
    return held + (4 * out if point["mode"] == "train" else 0)


def trace(point: dict):
    """The measured call as `jax.jit(fn).trace(*args)` gives it; no array is made."""
    made = {}

    def build():
        made["fn"], args = program(mechanism(point), point)
        return args

    args = jax.eval_shape(build)
    return jax.jit(made["fn"]).trace(*args)


def draw(m: Mechanism, point: dict, key: jax.Array) -> dict[str, jax.Array]:
    """Normal q, k and v, as many of them as are read."""
    B, N, H = point["batch"], point["n"], point["heads"] * m.projections
    widths = {"q": point["head_dim"], "k": point["head_dim"], "v": point["value_dim"]}
    keys = dict(zip("qkv", jax.random.split(key, 3), strict=True))
    return {
        name: jax.random.normal(keys[name], (B, N, H, widths[name]), point["dtype"])
        for name in READS[m.streams]
    }


def _hashable(value):
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
