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
    """`m.apply`, for each part of the batch on the device that holds it.

    By `shard_map`: JAX's partitioner gathers the batch around some sorts and Fourier transforms.
    Where there are several devices over "sequence" or "model" too, the partitioner decides.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not _is_ours(mesh) or mesh.shape["data"] < mesh.size or v.shape[0] % mesh.size:
        return m.apply(params, q, k, v, mask=mask, causal=causal)
    rows = PartitionSpec("data")
    return jax.shard_map(
        lambda params, q, k, v, mask: m.apply(params, q, k, v, mask=mask, causal=causal),
        in_specs=(PartitionSpec(), rows, rows, rows, rows),
        out_specs=rows,
        check_vma=False,
    )(params, q, k, v, mask)


def _is_ours(mesh):
    return set(AXES) <= set(mesh.axis_names)
