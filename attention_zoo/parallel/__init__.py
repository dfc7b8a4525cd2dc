"""Sequence parallelism: positions split evenly over the devices along one axis of a mesh.

    out = parallel.apply(m, params, q, k, v, mesh=mesh, axis="sequence", causal=True)
    parallel.over(m, mesh).apply(params, q, k, v, causal=True)      # the same, as a mechanism
    parallel.bytes_sent(m, dims, devices=8, causal=True).forward    # of each device

Every mechanism has its own form (`Mechanism.parallel`), in the cheapest way its mathematics
allows; values and gradients are those of one device. The patterns that they share are here, a file
each: `ring`, `halo`, `states`, `reduced`, `transposed`; `traffic` counts their bytes.
"""

import dataclasses
import math

import jax
from jax.sharding import Mesh, PartitionSpec

from attention_zoo import types
from attention_zoo.parallel import traffic
from attention_zoo.types import Dims, Mechanism, Traffic

AXIS = "sequence"


def apply(
    m: Mechanism,
    params,
    q,
    k,
    v,
    *,
    mesh: Mesh,
    axis: str = AXIS,
    batch_axis: str | None = None,
    mask=None,
    causal: bool = False,
):
    """`m.apply` of whole arrays, computed on shards; ValueError where it cannot be.

    `batch_axis` names an axis of the mesh over which the batch is split too; devices along others
    compute the same. An output that belongs to no one position is whole on every device.
    """
    dims = _dims(m, q, k, v)
    found = _bad_axes(mesh, axis, batch_axis, dims.batch)
    found = found or objections(m, dims, mesh.shape[axis], causal=causal, masked=mask is not None)
    if found:
        raise ValueError("; ".join(found))
    form, split = m.parallel, PartitionSpec(batch_axis, axis)
    params = {
        name: jax.lax.slice_in_dim(x, 0, dims.kv_len, axis=form.by_position[name])
        if name in form.by_position
        else x
        for name, x in params.items()
    }
    specs = {name: spec(m, name, x.ndim, axis) for name, x in params.items()}

    def run(params, q, k, v, mask):
        return form.apply(params, q, k, v, axis=axis, mask=mask, causal=causal)

    return jax.shard_map(
        run,
        mesh=mesh,
        in_specs=(specs, split, split, split, split),
        out_specs=PartitionSpec(batch_axis) if form.whole else split,
        # the kernels' loops start from zeros, which are alike on all devices, and end otherwise
        check_vma=False,
    )(params, q, k, v, mask)


def over(m: Mechanism, mesh: Mesh, axis: str = AXIS, *, batch_axis: str | None = None) -> Mechanism:
    """`m` with its `apply` split over a mesh."""

    def split(params, q, k, v, *, mask=None, causal=False):
        options = {"mesh": mesh, "axis": axis, "batch_axis": batch_axis}
        return apply(m, params, q, k, v, mask=mask, causal=causal, **options)

    return dataclasses.replace(m, apply=split)


def objections(
    m: Mechanism, dims: Dims, devices: int, *, causal: bool = False, masked: bool = False
) -> list[str]:
    """Why `m` cannot do this call split over so many devices; empty where it can."""
    found = types.objections(m, dims, causal=causal, masked=masked)
    if m.parallel is None:
        why = m.reasons.get("parallel", types.REFUSALS["parallel"])
        return [*found, f"{m.name}: {why} (got {devices} devices)"]
    lengths = {dims.kv_len: "kv_len", dims.q_len: "q_len"}
    for length, name in lengths.items():
        if length % devices:
            longer = -(-length // devices) * devices
            found.append(
                f"{m.name}: {name}={length} must be a multiple of the {devices} devices; pad it to "
                f"{longer} and mask what is added"
            )
    return found or m.parallel.objections(dims, devices, causal=causal)


def bytes_sent(
    m: Mechanism, dims: Dims, devices: int, *, causal: bool = False, masked: bool = False
) -> Traffic:
    """Bytes that each device sends, `dims` being those of the whole call; by the conventions of
    `traffic`. Backward includes the sum of the gradients of the parameters that devices share."""
    total = m.parallel.traffic(dims, devices, causal=causal, masked=masked)
    shared = sum(
        math.prod(x.shape) * x.dtype.itemsize
        for name, x in shapes(m, dims).items()
        if name not in m.frozen and not is_split(m, name)
    )
    sums = dataclasses.replace(traffic.reduce(devices, shared), forward=0, held=0)
    total = total + sums
    return Traffic(*(math.ceil(getattr(total, f.name)) for f in dataclasses.fields(Traffic)))


def shapes(m: Mechanism, dims: Dims) -> dict:
    """The parameters' shapes; no array is made."""
    return jax.eval_shape(lambda: m.init(jax.random.key(0), dims))


def is_split(m: Mechanism, name: str) -> bool:
    """Whether devices hold a share each of this parameter."""
    return m.parallel.by_head or name in m.parallel.by_position


def spec(m: Mechanism, name: str, ndim: int, axis: str = AXIS) -> PartitionSpec:
    """How a parameter of so many axes is split."""
    if not is_split(m, name):
        return PartitionSpec()
    at = 0 if m.parallel.by_head else m.parallel.by_position[name]
    return PartitionSpec(*(axis if d == at % ndim else None for d in range(ndim)))


def _dims(m, q, k, v):
    """Sizes of a call; streams that do not read an array have None for it."""
    of_keys = next(x for x in (v, k, q) if x is not None)
    of_queries = next(x for x in (q, v, k) if x is not None)
    first = next(x for x in (q, k, v) if x is not None)
    return Dims(
        batch=first.shape[0],
        q_len=of_queries.shape[1],
        kv_len=of_keys.shape[1],
        heads=of_keys.shape[2] // m.projections,
        head_dim=first.shape[3],
        value_dim=of_keys.shape[3],
        itemsize=of_keys.dtype.itemsize,
    )


def _bad_axes(mesh, axis, batch_axis, batch):
    for name in filter(None, (axis, batch_axis)):
        if name not in mesh.shape:
            return [f"the mesh has no axis {name!r}; it has {', '.join(mesh.axis_names)}"]
    if batch_axis and batch % mesh.shape[batch_axis]:
        size = mesh.shape[batch_axis]
        return [f"batch={batch} must be a multiple of the {size} devices of axis {batch_axis!r}"]
    return []
