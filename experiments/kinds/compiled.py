"""Points of kind "compiled": a mechanism's call as compiled for a TPU, without one. Nothing runs.

The real compiler, of the PyPI package `libtpu`, says what a chip would hold and which bytes it
would move; what does not fit is a row `oom`. It says nothing of time.
"""

import contextlib
import importlib.util
import os
import time
from pathlib import Path
from unittest import mock

import jax
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

import attention_zoo as zoo
from attention_zoo import parallel
from experiments.kinds import kernel

PACKAGE = "libtpu"
# of 16 GiB, what is left to a program of a v5e
HBM = int(15.75 * 2**30)
# chips by what libtpu calls them
TOPOLOGIES = {"v5e:1x1": 1, "v5e:2x2": 4, "v5e:4x4": 16}


def check_point(point: dict) -> None:
    """ValueError names the field that is wrong, or the package that is missing."""
    kernel.check_point({**point, "repeats": 1})
    topology = point["topology"]
    if topology not in TOPOLOGIES:
        raise ValueError(f"topology must be one of {', '.join(TOPOLOGIES)}, got {topology!r}")
    if point["n"] % TOPOLOGIES[topology]:
        raise ValueError(f"n={point['n']} must be a multiple of the chips of {topology}")
    if importlib.util.find_spec(PACKAGE) is None:
        raise ValueError(f"it needs the package {PACKAGE}: pip install -e '.[tpu]'")


def objections(point: dict) -> list[str]:
    m, dims, causal = kernel.mechanism(point), kernel.dims(point), point["causal"]
    devices = TOPOLOGIES[point["topology"]]
    if devices == 1:
        return zoo.objections(m, dims, causal=causal)
    return parallel.objections(m, dims, devices, causal=causal)


def run_point(point: dict, out: Path) -> dict:
    """Bytes a chip; `bytes_held` is the most that it holds at once, arguments included."""
    devices = chips(point["topology"])
    start = time.perf_counter()
    compiled = lower(point, devices).compile()
    seconds = time.perf_counter() - start
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    held = memory.peak_memory_in_bytes + memory.generated_code_size_in_bytes
    if held > HBM:
        raise MemoryError(f"a chip would hold {held:,} bytes of its {HBM:,} of hbm")
    return {
        "chips": len(devices),
        "bytes_held": held,
        "bytes_arguments": memory.argument_size_in_bytes,
        "bytes_outputs": memory.output_size_in_bytes,
        "bytes_temporaries": memory.temp_size_in_bytes,
        "bytes_accessed": int(cost["bytes accessed"]),
        "compile_seconds": seconds,
    }


def chips(topology: str) -> list:
    """The chips of a slice that is not there."""
    # ask no network which machine of Google's this is; no TPU is held, so several may compile
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    # a host of v5e has four
    name = "v5e:2x2" if TOPOLOGIES[topology] == 1 else topology
    slice_of = topologies.get_topology_desc(platform="tpu", topology_name=name)
    return list(slice_of.devices)[: TOPOLOGIES[topology]]


def lower(point: dict, devices) -> jax.stages.Lowered:
    """The measured call for these chips: positions split over them, where there are several, by the
    mechanism's own form."""
    m, made = kernel.mechanism(point), {}
    if len(devices) == 1:

        def split(*_):
            return SingleDeviceSharding(devices[0])

        over = m
    else:
        mesh = Mesh(devices, (parallel.AXIS,), axis_types=(AxisType.Auto,))
        over = parallel.over(m, mesh)

        def split(path, x):
            return NamedSharding(mesh, _spec(m, path, x))

    def build():
        made["fn"], args = kernel.program(over, point)
        return args

    def placed(path, x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split(path, x))

    with as_if_on("tpu"):
        args = jax.tree.map_with_path(placed, jax.eval_shape(build))
        return jax.jit(made["fn"]).lower(*args)


def _spec(m, path, x):
    """How an argument of `kernel.program` is split: (parameters, inputs), and in training
    (trained, inputs, frozen, cotangent)."""
    number, *name = (key.idx if hasattr(key, "idx") else key.key for key in path)
    if number == 1 or not (name or m.parallel.whole):
        return PartitionSpec(None, parallel.AXIS)
    return parallel.spec(m, name[0], len(x.shape)) if name else PartitionSpec()


@contextlib.contextmanager
def as_if_on(backend: str):
    """What mechanisms choose by the kind of device, they choose as on this one."""
    with mock.patch.object(jax, "default_backend", return_value=backend):
        yield
