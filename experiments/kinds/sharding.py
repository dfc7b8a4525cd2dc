"""Points of kind "sharding": one call with its positions split over devices, and what they send.

Bytes are counted in the compiled programs, of the forward pass and of the value with gradients. On
a CPU the devices are virtual and share its cores: the time then is that of all their work.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from attention_zoo import parallel
from attention_zoo.types import Mechanism
from experiments import measure
from experiments.kinds import kernel
from experiments.measuring import communication

# virtual devices of a CPU; one number for all points, as a process makes them once
VIRTUAL = 8
COMPILE_SECONDS = 8.0
SCALING = ("strong", "weak")


def check_point(point: dict) -> None:
    """ValueError names the field that is wrong."""
    kernel.check_point({**point, "mode": "train"})
    if point["scaling"] not in SCALING:
        raise ValueError(f"scaling must be one of {', '.join(SCALING)}, got {point['scaling']!r}")
    count = point["devices"]
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"devices must be a whole number from 1 up, got {count!r}")


def objections(point: dict) -> list[str]:
    m, dims = kernel.mechanism(point), kernel.dims(point)
    return parallel.objections(m, dims, point["devices"], causal=point["causal"])


def predict(point: dict) -> dict:
    """{"flops", "seconds"}: of a forward and backward pass, and of compiling it twice or more."""
    cost = kernel.mechanism(point).cost(kernel.dims(point), causal=point["causal"])
    return {"flops": cost.train_flops, "seconds": COMPILE_SECONDS}


def run_point(point: dict, out: Path) -> dict:
    m, dims, causal, P = (
        *(kernel.mechanism(point), kernel.dims(point)),
        *(point["causal"], point["devices"]),
    )
    mesh = mesh_of(P)
    said = parallel.bytes_sent(m, dims, P, causal=causal)
    params_key, data_key, cotangent_key = jax.random.split(jax.random.key(point["seed"]), 3)
    params, inputs = m.init(params_key, dims), kernel.draw(m, point, data_key)
    shape = jax.eval_shape(
        lambda: m.apply(params, *(inputs.get(letter) for letter in "qkv"), causal=causal)
    )
    cotangent = jax.random.normal(cotangent_key, shape.shape, shape.dtype)
    args = place(m, mesh, params, inputs, None, cotangent)
    forward = jax.jit(program(m, mesh, causal=causal, gradients=False)).lower(*args).compile()
    sent = communication.bytes_sent(forward.as_text(), P)
    lowered = jax.jit(program(m, mesh, causal=causal)).lower(*args)
    compiled = lowered.compile()
    sent_in_all = communication.bytes_sent(compiled.as_text(), P)
    measure.check_finite(compiled(*args))
    begin = time.perf_counter()
    jax.block_until_ready(compiled(*args))
    once = time.perf_counter() - begin
    budget = point.get("budget", 10.0)
    times = measure.sample(lambda: compiled(*args), once, repeats=point["repeats"], budget=budget)
    quartiles = statistics.quantiles(times, n=4, method="inclusive")
    return {
        "sent_forward_formula": said.forward,
        "sent_forward": sum(sent.values()),
        "sent_backward_formula": said.backward,
        "sent_backward": sum(sent_in_all.values()) - sum(sent.values()),
        **{f"sent_{kind.replace('-', '_')}": size for kind, size in sent_in_all.items()},
        "bytes_compiled": measure.bytes_of(lowered, compiled),
        "seconds": quartiles[1],
        "seconds_q1": quartiles[0],
        "seconds_q3": quartiles[2],
        "repeats": len(times),
    }


def mesh_of(count: int) -> Mesh:
    """So many devices in a row along `parallel.AXIS`."""
    # a process that has asked for its devices keeps those it has
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", VIRTUAL)
    found = jax.devices()
    if len(found) < count:
        raise ValueError(
            f"devices={count} needs as many, and there are {len(found)}; on a CPU isolate=point or "
            f"mechanism makes {VIRTUAL} virtual ones"
        )
    return jax.make_mesh(
        (count,), (parallel.AXIS,), axis_types=(AxisType.Auto,), devices=found[:count]
    )


def program(m: Mechanism, mesh: Mesh, **options) -> Callable:
    """`call` of the mechanism split over a mesh."""
    return call(parallel.over(m, mesh).apply, **options)


def call(apply: Callable, *, causal: bool, gradients: bool = True) -> Callable:
    """A function of what `place` gives: the output, or (output, gradients in trained parameters
    and inputs)."""

    def run(trained, frozen, inputs, mask, cotangent):
        def of(trained, inputs):
            arrays = (inputs.get(letter) for letter in "qkv")
            return apply(trained | frozen, *arrays, mask=mask, causal=causal)

        if not gradients:
            return of(trained, inputs)
        out, pull = jax.vjp(of, trained, inputs)
        return out, pull(cotangent)

    return run


def place(m: Mechanism, mesh: Mesh, params: Mapping, inputs: Mapping, mask, cotangent) -> tuple:
    """(trained, frozen, inputs, mask, cotangent), each where a program on shards finds it."""

    def put(x, spec):
        return jax.device_put(x, NamedSharding(mesh, spec))

    split = PartitionSpec(None, parallel.AXIS)
    params = {name: put(x, parallel.spec(m, name, x.ndim)) for name, x in params.items()}
    inputs, mask = jax.tree.map(lambda x: put(x, split), (dict(inputs), mask))
    cotangent = put(cotangent, PartitionSpec() if m.parallel.whole else split)
    frozen = {name: params.pop(name) for name in m.frozen}
    return params, frozen, inputs, mask, cotangent
