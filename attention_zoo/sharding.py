"""How a transformer is split over a mesh of devices: one table of rules, and what JAX does with it.

The mesh is the one that `jax.set_mesh` has set, with the axes "data", "sequence" and "model"; where
none is set nothing here does anything. Parameters and their moments are split by RULES: over "data"
as FSDP has it (gathered where they are used), over "model" as tensor parallelism has it (heads and
feed-forward units apart). Activations are split by sequences, positions and heads. What a dimension
is not a multiple of does not split it.
"""

import re

import jax
from jax.sharding import PartitionSpec

from attention_zoo import parallel
from attention_zoo.types import Mechanism

AXES = ("data", "sequence", "model")
RULES = (
    # found in a variable's path              axes of its last dimensions
    (r"^buffers\b", ()),
    (r"\b(query|key|value|expand)\.kernel\b", ("data", "model")),
    (r"\b(query|key|value|expand)\.bias\b", ("model",)),
    (r"\b(out|contract)\.kernel\b", ("model", "data")),
    (r"\bmixer\.params\b", ("data",)),
    (r"\btable\.embedding\b", ("model", "data")),
    (r"\b(head|linear)\.kernel\b", ("data", "model")),
    (r"\bpositions\b", ("data", None)),
    # norms, biases, numbers
    (r"", ()),
)
"""The first that fits holds; leading dimensions, as those of a scanned stack, are never split."""


def rule(path: str, shape: tuple[int, ...], mesh) -> PartitionSpec:
    """How a variable of this path, its keys joined by dots, and shape lies on a mesh."""
    axes = next(axes for pattern, axes in RULES if re.search(pattern, path))[-len(shape) or None :]
    return fitting((None,) * (len(shape) - len(axes)) + axes, shape, mesh)


def fitting(axes: tuple, shape: tuple[int, ...], mesh) -> PartitionSpec:
    """These axes for the leading dimensions, but for those that a dimension is no multiple of."""
    sizes = dict(mesh.shape)
    pairs = zip(axes, shape, strict=False)
    return PartitionSpec(*(a if a and size % sizes[a] == 0 else None for a, size in pairs))


def constrain(x, *axes: str | None):
    """x with its leading dimensions split over these axes of the mesh; x itself without one."""
    mesh = jax.sharding.get_abstract_mesh()
    if x is None or not _is_ours(mesh):
        return x
    return jax.lax.with_sharding_constraint(x, fitting(axes, x.shape, mesh))


def apply(m: Mechanism, params, q, k, v, *, mask=None, causal: bool = False):
    """`m.apply`, for each part of the batch on the devices that hold it.

    By `shard_map`: JAX's partitioner gathers the batch around some sorts and Fourier transforms.
    Where positions are split too, by the mechanism's own form (`attention_zoo.parallel`; ValueError
    where it has none), which devices along "model" repeat. Split heads are left to the partitioner,
    and so is what reads the whole batch.
    """
    mesh = jax.sharding.get_abstract_mesh()
    call = {"mask": mask, "causal": causal}
    if not _is_ours(mesh):
        return m.apply(params, q, k, v, **call)
    data, sequence, heads = (mesh.shape[axis] for axis in AXES)
    by_rows = data > 1 and v.shape[0] % data == 0
    if sequence > 1:
        batch_axis = "data" if by_rows else None
        return parallel.apply(m, params, q, k, v, mesh=mesh, batch_axis=batch_axis, **call)
    if heads > 1 or m.batch_wide or not by_rows:
        return m.apply(params, q, k, v, **call)
    rows = PartitionSpec("data")
    return jax.shard_map(
        lambda params, q, k, v, mask: m.apply(params, q, k, v, mask=mask, causal=causal),
        in_specs=(PartitionSpec(), rows, rows, rows, rows),
        out_specs=rows,
        check_vma=False,
    )(params, q, k, v, mask)


def _is_ours(mesh):
    return set(AXES) <= set(mesh.axis_names)
