"""Points of kind "fidelity": how far an approximation is from full softmax attention.

error = |out - full|_F / |full|_F on one q, k, v: normal ones ("random"), or those of a layer of a
small language model ("trained"; it was causal, whichever form is asked for here).

`target` is what is approximated where that is not scaled dot-product attention: RFA's features
stand for a softmax of cosines; Reformer's q is its k, and its limit is one bucket of everything.
Drawn at random, what learns (linformer, compressed, sinkhorn, the synthesizers) approximates
nothing: it needs a `fit` on other inputs of the same kind, normal ones or windows of the text that
the model was trained on, and is refused without. What reads the raw input (fourier, mlp_mixer)
approximates no attention. Centroids move to the data for `refreshes` rounds first.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp

import attention_zoo as zoo
from experiments.kinds import activations, fitting, kernel
from experiments.measuring.exact import relative_error

INPUTS = ("random", "trained")
# parameters that change nothing as they start
NEUTRAL = {"sigma"}
# fields that the inputs of a fit do not depend on
OWN = {"label", "mechanism", "hparams", "budget", "refreshes", "fit"}


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
        if dims.q_len > point["training"]["n"]:
            longest = point["training"]["n"]
            raise ValueError(f"trained inputs have n up to training.n={longest}, got {dims.q_len}")
    m = kernel.mechanism(point)
    if m.streams not in ("qkv", "qv", "v") or m.projections > 1:
        raise ValueError(f"{m.name} is no attention over q and k: it reads {m.streams!r}")
    shapes = jax.eval_shape(lambda: m.init(jax.random.key(0), dims))
    learned = sorted(set(shapes) - m.frozen - NEUTRAL)
    if "fit" in point:
        fitting.check(point["fit"])
        if not learned:
            raise ValueError(f"{m.name} learns nothing: leave fit out")
    elif learned:
        names = ", ".join(learned)
        raise ValueError(f"{m.name} learns {names}: without a fit it approximates nothing")


def objections(point: dict) -> list[str]:
    return kernel.objections(point)


def run_point(point: dict, out: Path) -> dict:
    m, dims, causal = kernel.mechanism(point), kernel.dims(point), point["causal"]
    draw, data, *rest = jax.random.split(jax.random.key(point["seed"]), 3)
    inputs, facts = _inputs(point, data, out)
    params = m.init(draw, dims)
    refresh = jax.jit(m.refresh) if m.refresh else None
    for round in range(point.get("refreshes", 0)):
        key = jax.random.fold_in(rest[0], round)
        params = refresh(key, params, inputs["q"], _read(m, inputs)["k"])
    apply = _program(point["mechanism"], _text(point["hparams"]), causal)
    if "fit" in point:
        others, targets = _others(_text(point, without=OWN), fitting.length(point["fit"]), out)
        params, fit = fitting.fitted(
            apply, params, m.frozen, _read(m, others), targets, point["fit"]
        )
        facts |= fit
    full = _full(point, inputs)
    made = apply(params, _read(m, inputs))
    flops = m.cost(dims, causal=causal).flops
    flops_full = zoo.make("full").cost(dims, causal=causal).flops
    return {
        "error": relative_error(made, full),
        # of weights that ignore q and k: the mean of what is visible
        "error_mean": relative_error(_mean(inputs["v"], causal), full),
        "flops_formula": flops,
        "flops_full": flops_full,
        "flops_ratio": flops / flops_full,
        **facts,
    }


def _inputs(point, key, out):
    if point["inputs"] == "random":
        return kernel.draw(zoo.make("full"), point, key), {}
    arrays, facts = activations.qkv(point["training"], *_sizes(point), out)
    return _cast(arrays, point), facts


@functools.lru_cache(maxsize=1)
def _others(text, count, out):
    """`count` inputs to fit on and their targets; one for all budgets of a mechanism."""
    point = json.loads(text)
    if point["inputs"] == "random":
        # a child of the key that draws the measured ones
        data = jax.random.split(jax.random.key(point["seed"]), 3)[1]
        keys = jax.vmap(lambda number: jax.random.fold_in(data, number))(jnp.arange(count))
        inputs = jax.lax.map(lambda key: kernel.draw(zoo.make("full"), point, key), keys)
    else:
        found = activations.series(point["training"], *_sizes(point), out, count=count)
        inputs = _cast(found, point)
    return inputs, jax.lax.map(lambda given: _full(point, given), inputs)


def _full(point, inputs):
    """What is to be approximated."""
    asked = _target(point)
    params = kernel.mechanism(asked).init(jax.random.key(point["seed"]), kernel.dims(point))
    apply = _program(asked["mechanism"], _text(asked["hparams"]), point["causal"])
    return apply(params, inputs)


@functools.lru_cache(maxsize=4)
def _program(name, hparams, causal):
    """(params, inputs) -> the output; compiled once for all seeds."""
    m = kernel.mechanism({"mechanism": name, "hparams": json.loads(hparams)})
    return jax.jit(
        lambda params, inputs: m.apply(params, *(inputs[x] for x in "qkv"), causal=causal)
    )


def _read(m, inputs):
    """As many of q, k and v as are read."""
    return {x: inputs[x] if x in m.streams else None for x in "qkv"}


def _text(fields, without=()):
    """What a cache can be keyed by."""
    kept = {name: value for name, value in fields.items() if name not in without}
    return json.dumps(kept, sort_keys=True)


def _sizes(point):
    return (point[name] for name in ("heads", "head_dim", "n", "batch"))


def _cast(arrays, point):
    return {name: x.astype(point["dtype"]) for name, x in arrays.items()}


def _target(point):
    asked = point.get("target", {"mechanism": "full", "hparams": {}})
    return {**point, **asked}


def _mean(v, causal):
    v = v.astype(jnp.float32)
    if not causal:
        return jnp.broadcast_to(v.mean(1, keepdims=True), v.shape)
    return v.cumsum(1) / jnp.arange(1, v.shape[1] + 1)[:, None, None]
