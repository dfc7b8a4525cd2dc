"""The same program with float64 for float32: what exact arithmetic would have given.

References cast to float32 where it counts, so float64 inputs alone would not make them exact. Here
the traced program is evaluated equation by equation with every float twice as wide, in loops and
branches too; constants are the float32 numbers that the program holds.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

WIDE = {
    "float16": "float64",
    "bfloat16": "float64",
    "float32": "float64",
    "complex64": "complex128",
}
# primitives that are a call of one program inside, by the name of the parameter that holds it
CALLS = ("jaxpr", "call_jaxpr")
LOOPS = ("scan", "while", "cond")
# what these do depends on the bits of a float, so they keep its width
BITWISE = ("bitcast_convert_type", "reduce_precision", "nextafter")


def float64(fn: Callable) -> Callable:
    """`fn` of arrays, each operation in float64; NumPy arrays out."""

    def exact(*args):
        program, shape = jax.make_jaxpr(fn, return_shape=True)(*args)
        flat = [np.asarray(x) for x in jax.tree.leaves(args)]
        consts = [np.asarray(x) for x in program.consts]
        with jax.enable_x64(True):

            @jax.jit
            def run(consts, flat):
                return evaluate(program.jaxpr, widen(consts), widen(flat))

            out = [np.asarray(x) for x in run(consts, flat)]
        return jax.tree.unflatten(jax.tree.structure(shape), out)

    return exact


def relative_error(found, exact) -> float | None:
    """|found - exact| / |exact| in Frobenius norm over all leaves; None where exact is 0."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
    pairs = [(np.asarray(x, np.float64), np.asarray(y, np.float64)) for x, y in pairs]
    size = sum(float((y**2).sum()) for _, y in pairs)
    return (sum(float(((x - y) ** 2).sum()) for x, y in pairs) / size) ** 0.5 if size else None


def evaluate(jaxpr, consts, args) -> list:
    """The outputs of a jaxpr whose float inputs are wide."""
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom):
        if isinstance(atom, core.Literal):
            return widen([jnp.asarray(atom.val, atom.aval.dtype)])[0]
        return values[atom]

    for eqn in jaxpr.eqns:
        outs = perform(eqn, [read(atom) for atom in eqn.invars])
        values.update(zip(eqn.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def perform(eqn, args) -> list:
    name, params = eqn.primitive.name, eqn.params
    if name in LOOPS:
        return {"scan": _scan, "while": _while, "cond": _cond}[name](params, args)
    for key in CALLS:
        if key in params:
            inner, consts = _open(params[key])
            return evaluate(inner, consts, args)
    if name in BITWISE:
        args = [
            x.astype(atom.aval.dtype) if str(atom.aval.dtype) in WIDE else x
            for x, atom in zip(args, eqn.invars, strict=True)
        ]
    else:
        params = {key: _wide_param(key, value) for key, value in params.items()}
    found = eqn.primitive.bind(*args, **params)
    return widen(found if eqn.primitive.multiple_results else [found])


def widen(arrays) -> list:
    """Floats and complex numbers at twice their width; others as they are."""
    return [x.astype(WIDE[str(x.dtype)]) if str(x.dtype) in WIDE else x for x in arrays]


def _scan(params, args):
    inner, held = _open(params["jaxpr"])
    consts, carry = params["num_consts"], params["num_carry"]
    fixed, start, rows = args[:consts], args[consts : consts + carry], args[consts + carry :]

    def body(state, row):
        out = evaluate(inner, held, [*fixed, *state, *row])
        return out[:carry], out[carry:]

    state, stacked = jax.lax.scan(
        body, start, rows, length=params["length"], reverse=params["reverse"]
    )
    return [*state, *stacked]


def _while(params, args):
    (test, test_held), (body, body_held) = (_open(params[f"{p}_jaxpr"]) for p in ("cond", "body"))
    m, n = params["cond_nconsts"], params["body_nconsts"]
    of_test, of_body, start = args[:m], args[m : m + n], args[m + n :]
    return jax.lax.while_loop(
        lambda state: evaluate(test, test_held, [*of_test, *state])[0],
        lambda state: evaluate(body, body_held, [*of_body, *state]),
        start,
    )


def _cond(params, args):
    def branch(closed):
        inner, held = _open(closed)
        return lambda *inputs: evaluate(inner, held, inputs)

    return jax.lax.switch(args[0], [branch(closed) for closed in params["branches"]], *args[1:])


def _open(jaxpr):
    """(jaxpr, its constants, wide)."""
    if isinstance(jaxpr, core.ClosedJaxpr):
        return jaxpr.jaxpr, widen([jnp.asarray(x) for x in jaxpr.consts])
    return jaxpr, []


def _wide_param(key, value):
    if key == "update_jaxpr" and value is not None:
        # how a scatter joins two numbers
        wide = widen([jnp.zeros(var.aval.shape, var.aval.dtype) for var in value.invars])
        return jax.make_jaxpr(lambda *pair: evaluate(value, [], pair))(*wide).jaxpr
    if isinstance(value, np.dtype) and str(value) in WIDE:
        return np.dtype(WIDE[str(value)])
    return value
