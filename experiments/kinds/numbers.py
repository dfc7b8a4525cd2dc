"""Points of kind "numbers": the rounding errors of `apply` against its reference in float64.

Inputs are drawn, then rounded to the dtype, so the error is the computation's and not theirs; `q`,
`k` and `v` have the dtype, parameters float32. What a kernel decides by comparing (buckets,
clusters) a rounded tie may decide otherwise: that is an error too.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.kinds import kernel
from experiments.measuring.exact import float64, relative_error


def check_point(point: dict) -> None:
    """ValueError names the field that is wrong."""
    if point["dtype"] not in kernel.DTYPES:
        known = ", ".join(kernel.DTYPES)
        raise ValueError(f"dtype must be one of {known}, got {point['dtype']!r}")
    kernel.mechanism(point)
    kernel.dims(point)


def objections(point: dict) -> list[str]:
    return kernel.objections(point)


def run_point(point: dict, out: Path) -> dict:
    """Relative errors of the output, and of gradients of sum(out x random) by what they are in."""
    m = kernel.mechanism(point)
    draw, *rest = jax.random.split(jax.random.key(point["seed"]), 3)
    params = m.init(draw, kernel.dims(point))
    frozen = {name: params[name] for name in m.frozen}
    trained = {name: params[name] for name in params if name not in m.frozen}
    inputs = kernel.draw(m, point, rest[0])

    def call(apply, trained, inputs, frozen):
        arrays = (inputs.get(name) for name in "qkv")
        return apply(trained | frozen, *arrays, causal=point["causal"])

    shape = jax.eval_shape(functools.partial(call, m.apply), trained, inputs, frozen).shape
    cotangent = jax.random.normal(rest[1], shape, point["dtype"])

    def form(apply):
        def run(trained, inputs, frozen, cotangent):
            made, pull = jax.vjp(lambda *args: call(apply, *args, frozen), trained, inputs)
            return made, pull(cotangent.astype(made.dtype))

        return run

    rounded = jax.jit(form(m.apply))(trained, inputs, frozen, cotangent)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), (trained, inputs, frozen, cotangent))
    ideal = float64(form(m.reference))(*wide)
    (made, (of_params, of_inputs)), (want, (want_params, want_inputs)) = rounded, ideal
    return {
        "error": relative_error(made, want),
        # what rounding the exact output alone would cost
        "error_rounding": relative_error(np.asarray(want).astype(made.dtype), want),
        **{
            f"error_grad_{name}": relative_error(of_inputs[name], want_inputs[name])
            if name in inputs
            else None
            for name in "qkv"
        },
        "error_grad_params": relative_error(of_params, want_params) if trained else None,
    }
