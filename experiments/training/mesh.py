"""The mesh of devices that training is spread over: what a config asks for, made and filled.

`{"data": -1, "sequence": 1, "model": 1}`: each number is how many devices lie along an axis, and -1
what is left of all there are, or of one process's as many as the sequences of a batch can be split
among. What the axes split is said in attention_zoo/sharding.py. A mesh is no part of a point: a run
may go on from its checkpoints on another.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding

from attention_zoo import sharding
from experiments.running.worker import kind_module
from experiments.tasks import Task, data

DEFAULT = {"data": -1, "sequence": 1, "model": 1}
# of a batch's arrays
ALONG = ("data", "sequence")
# what "data" must divide
ROWS = "batch / microbatches"


def check(asked: Mapping[str, int]) -> None:
    """ValueError names what is wrong with a mesh on any machine."""
    for axis, size in asked.items():
        if axis not in DEFAULT:
            raise ValueError(f"mesh has no axis {axis!r}; it has {', '.join(DEFAULT)}")
        if isinstance(size, bool) or not isinstance(size, int) or not (size == -1 or size >= 1):
            raise ValueError(
                f"mesh.{axis} must be a whole number from 1 up, or -1 for what is left, "
                f"got {size!r}"
            )
    if list(asked.values()).count(-1) > 1:
        raise ValueError(f"mesh takes one -1, got {words(asked)}")


def check_points(points: Iterable[Mapping], asked: Mapping[str, int]) -> None:
    """ValueError unless every point can be spread over the mesh that is asked for."""
    asked = DEFAULT | dict(asked)
    if asked == DEFAULT or math.prod(asked.values()) == 1:
        return
    for point in points:
        module, where = kind_module(point["kind"]), repr(point.get("label", point["kind"]))
        if not hasattr(module, "check_mesh"):
            raise ValueError(
                f"point {where}: a {point['kind']} runs on one device and takes no mesh, got "
                f"{words(asked)}"
            )
        try:
            module.check_mesh(point, asked)
        except data.AbsentError:
            # a row of the results says so
            continue
        except ValueError as error:
            raise ValueError(f"point {where}: {error}") from error


def check_devices(points: Iterable[Mapping], asked: Mapping[str, int], devices: int) -> None:
    """ValueError unless so many devices give the mesh, and all points can be spread over it."""
    found = sizes(asked, devices)
    # along "data" as many as divide a batch are taken
    left = {axis: found[axis] for axis, size in asked.items() if size == -1 and axis != "data"}
    if left:
        check_points(points, {**asked, **left})


def divides(axis: str, asked: Mapping[str, int], **sizes: int) -> None:
    """ValueError unless the devices along an axis divide every one of these sizes."""
    for name, size in sizes.items():
        if asked.get(axis, 1) != -1 and size % asked.get(axis, 1):
            raise ValueError(f"mesh.{axis}={asked[axis]} must divide {name}={size}")


def sizes(
    asked: Mapping[str, int], devices: int, rows: int | None = None, *, all: bool = False
) -> dict[str, int]:
    """The number of devices along each axis; ValueError where so many devices cannot give it.

    `rows`: what the devices along "data" must divide; `all`: no device may stay without work.
    """
    found = DEFAULT | dict(asked)
    given = math.prod(size for size in found.values() if size != -1)
    if given > devices:
        have = "there is 1" if devices == 1 else f"there are {devices}"
        raise ValueError(f"mesh {words(found)} needs {given} devices, {have}")
    left = devices // given
    if rows is not None and found["data"] == -1 and not all:
        left = max(n for n in range(1, left + 1) if rows % n == 0)
    found = {axis: left if size == -1 else size for axis, size in found.items()}
    if rows is not None:
        divides("data", found, **{ROWS: rows})
    if all and math.prod(found.values()) != devices:
        raise ValueError(f"mesh {words(found)} must have all {devices} devices of all processes")
    return found


def make(asked: Mapping[str, int] | None, rows: int) -> Mesh | None:
    """The mesh for batches of so many sequences; None where it would be one device, or where one
    process does not ask for any."""
    several = jax.process_count() > 1
    if not (asked or several):
        return None
    found = sizes(asked or {}, jax.device_count(), rows, all=several)
    count = math.prod(found.values())
    if count == 1:
        return None
    axis_types = (AxisType.Auto,) * len(found)
    return jax.make_mesh(
        tuple(found.values()), tuple(found), axis_types, devices=jax.devices()[:count]
    )


def facts(mesh: Mesh | None) -> dict[str, str | int]:
    """What a record says of it; nothing of one device."""
    if mesh is None:
        return {}
    return {"mesh": words(mesh.shape), "devices": mesh.size, "processes": jax.process_count()}


def words(sizes: Mapping[str, int]) -> str:
    return ",".join(f"{axis}={sizes[axis]}" for axis in DEFAULT if axis in sizes)


def shardings(tree, mesh: Mesh | None):
    """How each array of a training state lies on the mesh, by the rules; None without one."""
    if mesh is None:
        return None

    def of(path, x):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return NamedSharding(mesh, sharding.rule(name, x.shape, mesh))

    return jax.tree.map_with_path(of, tree)


def place(tree, mesh: Mesh | None):
    """The state as its shardings have it, from arrays that every process has whole."""
    return tree if mesh is None else jax.tree.map(_put, tree, shardings(tree, mesh))


def feed(task: Task, mesh: Mesh | None) -> Task:
    """The task with batches that are split over the mesh.

    Each process makes the whole batch, a function of (seed, step), and gives its devices theirs.
    """
    if mesh is None:
        return task

    def split(batch):
        def of(x):
            spec = sharding.fitting(ALONG, x.shape, mesh)
            return _put(x, NamedSharding(mesh, spec))

        return jax.tree.map(of, batch)

    return dataclasses.replace(
        task,
        batch=lambda *args: split(task.batch(*args)),
        held_out=lambda *args: map(split, task.held_out(*args)),
    )


def on(mesh: Mesh | None, fn: Callable) -> Callable:
    """The function as traced for the mesh: attention_zoo.sharding then splits its activations."""
    if mesh is None:
        return fn

    @functools.wraps(fn)
    def traced(*args):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return fn(*args)

    return traced


def _put(x, how):
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return jax.device_put(x, how)
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, how, lambda index: host[index])
