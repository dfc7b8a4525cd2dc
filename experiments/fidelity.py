"""Points of kind "fidelity": how far an approximation is from full softmax attention.

error = |out - full|_F / |full|_F on one q, k, v: normal ones ("random"), or those of a layer of a
small language model ("trained"; it was causal, whichever form is asked for here).

`target` is what is approximated where that is not scaled dot-product attention: RFA's features
stand for a softmax of cosines; Reformer's q is its k, and its limit is one bucket of everything.
Mechanisms that learn are refused: linformer, compressed, sinkhorn, the synthesizers and gates are
drawn at random and only training makes them anything's approximation. Those that read the raw
input (fourier, mlp_mixer) approximate no attention. Centroids move to the data for `refreshes`
rounds first.
"""

from pathlib import Path

import jax
import jax.numpy as jnp

import attention_zoo as zoo
from experiments import activations, kernel
from experiments.exact import relative_error

INPUTS = ("random", "trained")
# parameters that change nothing as they start
NEUTRAL = {"sigma"}


def check_point(point: dict) -> None:
    """ValueError names the field that is wrong."""
    if point["inputs"] not in INPUTS:
        raise ValueError(f"inputs must be one of {', '.join(INPUTS)}, got {point['inputs']!r}")
    if point["dtype"] not in kernel.DTYPES:
        known = ", ".join(kernel.DTYPES)
        raise ValueError(f"dtype must be one of {known}, got {point['dtype']!r}")
    dims = kernel.dims(point)
    kernel.mechanism(_target(point))
    if set(point["budget"]) != {"name", "value"}:
        raise ValueError(f"budget must have name and value, got {point['budget']!r}")
    if point["inputs"] == "trained":
        activations.check(point["training"])
        if dims.head_dim != dims.value_dim:
            raise ValueError(f"trained inputs have value_dim = head_dim, got {dims.value_dim}")
    m = kernel.mechanism(point)
    if m.streams not in ("qkv", "qv") or m.projections > 1:
        raise ValueError(f"{m.name} is no attention over q and k: it reads {m.streams!r}")
    shapes = jax.eval_shape(lambda: m.init(jax.random.key(0), dims))
    learned = sorted(set(shapes) - m.frozen - NEUTRAL)
    if learned:
        raise ValueError(f"{m.name} learns {', '.join(learned)}: untrained it approximates nothing")


def objections(point: dict) -> list[str]:
    return kernel.objections(point)


def run_point(point: dict, out: Path) -> dict:
    m, dims, causal = kernel.mechanism(point), kernel.dims(point), point["causal"]
    draw, *rest = jax.random.split(jax.random.key(point["seed"]), 3)
    inputs, facts = _inputs(point, rest[0], out)
    q, k, v = inputs["q"], inputs["k"] if "k" in m.streams else None, inputs["v"]
    params = m.init(draw, dims)
    for round in range(point.get("refreshes", 0)):
        params = m.refresh(jax.random.fold_in(rest[1], round), params, q, k)
    target = kernel.mechanism(_target(point))
    want = jax.jit(lambda q, k, v: target.apply(target.init(draw, dims), q, k, v, causal=causal))
    full = want(q, k, v)
    made = jax.jit(lambda *qkv: m.apply(params, *qkv, causal=causal))(q, k, v)
    flops = m.cost(dims, causal=causal).flops
    flops_full = zoo.make("full").cost(dims, causal=causal).flops
    return {
        "error": relative_error(made, full),
        # of weights that ignore q and k: the mean of what is visible
        "error_mean": relative_error(_mean(v, causal), full),
        "flops_formula": flops,
        "flops_full": flops_full,
        "flops_ratio": flops / flops_full,
        **facts,
    }


def _inputs(point, key, out):
    if point["inputs"] == "random":
        return kernel.draw(zoo.make("full"), point, key), {}
    sizes = (point[name] for name in ("heads", "head_dim", "n", "batch"))
    inputs, facts = activations.qkv(point["training"], *sizes, out)
    return {name: x.astype(point["dtype"]) for name, x in inputs.items()}, facts


def _target(point):
    asked = point.get("target", {"mechanism": "full", "hparams": {}})
    return {**point, **asked}


def _mean(v, causal):
    v = v.astype(jnp.float32)
    if not causal:
        return jnp.broadcast_to(v.mean(1, keepdims=True), v.shape)
    return v.cumsum(1) / jnp.arange(1, v.shape[1] + 1)[:, None, None]
