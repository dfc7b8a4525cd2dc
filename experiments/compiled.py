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

from experiments import kernel

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
    return kernel.objections(point)


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
    """The measured call for these chips: positions split over them, where there are several."""
    whole = split = SingleDeviceSharding(devices[0])
    if len(devices) > 1:
        mesh = Mesh(devices, ("sequence",), axis_types=(AxisType.Auto,))
        whole = NamedSharding(mesh, PartitionSpec())
        split = NamedSharding(mesh, PartitionSpec(None, "sequence"))
    N, made = point["n"], {}

    def build():
        made["fn"], args = kernel.program(kernel.mechanism(point), point)
        return args

    def placed(x):
        # inputs, cotangents: [B, N, H, D]
        by_position = len(x.shape) == 4 and x.shape[1] == N
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split if by_position else whole)

    with as_if_on("tpu"):
        args = jax.tree.map(placed, jax.eval_shape(build))
        return jax.jit(made["fn"]).lower(*args)


@contextlib.contextmanager
def as_if_on(backend: str):
    """What mechanisms choose by the kind of device, they choose as on this one."""
    with mock.patch.object(jax, "default_backend", return_value=backend):
        yield
