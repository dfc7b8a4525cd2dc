"""Sequence parallelism: equal to one device in value and gradient, and as many bytes as said."""

import dataclasses
import functools

import jax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as Spec

import attention_zoo as zoo
from attention_zoo import parallel
from experiments import communication
from tests.cases import CASES, EXTRA, MODES, SIZES, Case, assert_close, inputs, padding

P, N = 4, 64
# what bites at the edges of shards of 16
EDGES = {
    "local-wide": Case("local", {"window": (21, 35)}),
    "local-huge": Case("local", {"window": 640}),
}
RESIZED = {
    name: dataclasses.replace(case, hparams=case.hparams | {"length": N})
    for name, case in CASES.items()
    if "length" in case.hparams
}
ALL = CASES | RESIZED | EDGES


def make_mesh(count=P, names=("sequence",), shape=None):
    shape = shape or (count,)
    return jax.make_mesh(
        shape, names, axis_types=(AxisType.Auto,) * len(names), devices=jax.devices()[:count]
    )


def dims(length=N):
    return zoo.Dims(q_len=length, kv_len=length, **SIZES)


def runs():
    for name, case in ALL.items():
        for mode, causal in MODES.items():
            if parallel.objections(case.m, dims(), P, causal=causal, masked=case.m.mask):
                continue
            # with a mask in one mode, without in the other; `make test-all` tries the rest
            for masked in {True, False} if case.m.mask else {False}:
                slow = name in EXTRA or name in EDGES or masked == causal
                marks = [pytest.mark.xdist_group(f"parallel-{name}")]
                marks += [pytest.mark.slow] if slow else []
                word = "masked" if masked else "unmasked"
                yield pytest.param(name, mode, masked, marks=marks, id=f"{name}-{mode}-{word}")


@functools.cache
def results(name, mode, masked):
    """((out, gradients) of one device, the same of P devices, bytes sent by each of them)."""
    case, causal = ALL[name], MODES[mode]
    m = case.m
    params, q, k, v, cotangent = inputs(case, N)
    mask = padding(N) if masked else None
    frozen = {key: params[key] for key in m.frozen}
    trained = {key: x for key, x in params.items() if key not in m.frozen}
    arrays = {letter: x for letter, x in zip("qkv", (q, k, v), strict=True) if letter in reads(m)}

    def program(apply):
        def run(trained, arrays, frozen, mask, cotangent):
            def call(trained, arrays):
                read = (arrays.get(letter) for letter in "qkv")
                return apply(trained | frozen, *read, mask=mask, causal=causal)

            out, pull = jax.vjp(call, trained, arrays)
            return out, pull(cotangent)

        return run

    mesh = make_mesh()
    placed = place(m, mesh, trained, arrays, frozen, mask, cotangent)
    one = jax.jit(program(m.apply))(trained, arrays, frozen, mask, cotangent)
    compiled = jax.jit(program(parallel.over(m, mesh).apply)).lower(*placed).compile()
    return one, compiled(*placed), communication.bytes_sent(compiled.as_text(), P)


def place(m, mesh, trained, arrays, frozen, mask, cotangent):
    """Arguments where a program on shards finds them."""

    def put(x, *spec):
        return jax.device_put(x, NamedSharding(mesh, Spec(*spec)))

    def param(name, x):
        at = 0 if m.parallel.by_head else m.parallel.by_position.get(name)
        spec = [None] * x.ndim
        if at is not None:
            spec[at] = "sequence"
        return put(x, *spec)

    params = ({name: param(name, x) for name, x in group.items()} for group in (trained, frozen))
    trained, frozen = params
    split = jax.tree.map(lambda x: put(x, None, "sequence"), (arrays, mask))
    cotangent = put(cotangent) if m.parallel.whole else put(cotangent, None, "sequence")
    return trained, split[0], frozen, split[1], cotangent


def reads(m):
    return {"x": "v"}.get(m.streams, m.streams)


@pytest.mark.parametrize(("name", "mode", "masked"), list(runs()))
def test_equals_one_device(name, mode, masked):
    one, many, _ = results(name, mode, masked)
    assert_close(many, one, floor=ALL[name].floor)


@pytest.mark.parametrize(("name", "mode", "masked"), list(runs()))
def test_bytes_sent_are_the_formula(name, mode, masked):
    m = ALL[name].m
    found = results(name, mode, masked)[2]
    said = parallel.bytes_sent(m, dims(), P, causal=MODES[mode], masked=masked)
    assert sum(found.values()) == pytest.approx(said.forward + said.backward, abs=2), found
