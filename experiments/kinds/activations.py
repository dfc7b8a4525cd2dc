"""q, k and v of a layer of a byte language model that is trained here, once, for a short while."""

import dataclasses
import functools
import os
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import attention_zoo as zoo
from experiments import records, tasks
from experiments.training import networks, steps

TASK, MECHANISM = "stdlib", "full"
OPTIMISER = {"schedule": "cosine", "weight_decay": 0.1, "clip": 1.0}
OPTIMISER |= {"final_lr": 0.1, "beta2": 0.95}
SIZES = ("n", "batch", "steps", "depth", "ff")
FIELDS = (*SIZES, "layer", "lr", "warmup", "seed")


def check(training: Mapping) -> None:
    """ValueError names the field that is wrong."""
    if set(training) != set(FIELDS):
        raise ValueError(f"training has {', '.join(FIELDS)}, got {', '.join(training)}")
    for name in SIZES:
        if isinstance(training[name], bool) or not isinstance(training[name], int):
            raise ValueError(f"training.{name} must be a whole number, got {training[name]!r}")
        if training[name] < 1:
            raise ValueError(f"training.{name} must be 1 or more, got {training[name]!r}")
    if not 0 <= training["layer"] < training["depth"]:
        layer, depth = training["layer"], training["depth"]
        raise ValueError(f"training.layer must be within 0..{depth - 1}, got {layer!r}")


def qkv(training: Mapping, heads: int, head_dim: int, n: int, batch: int, out: Path) -> tuple:
    """({"q", "k", "v"}, {"steps", "loss"}) on the first `batch` held-out windows of n bytes.

    The loss is the mean of the last tenth of training. The weights are kept in `out`.
    """
    graph, variables, loss = _model(training, heads, head_dim, out)
    windows = next(tasks.make(TASK, n, eval_tokens=batch * n).held_out("val", batch))["inputs"]
    arrays = _reader(graph, training["layer"])(variables, windows)
    return arrays, {"steps": training["steps"], "loss": loss}


def series(
    training: Mapping, heads: int, head_dim: int, n: int, batch: int, out: Path, *, count: int
) -> dict:
    """{"q", "k", "v"} [count, batch, ...] of windows of the training text, in no way held out."""
    graph, variables, _ = _model(training, heads, head_dim, out)
    windows = fitting_windows(training, n, batch, count)
    read = _reader(graph, training["layer"])
    return jax.lax.map(lambda window: read(variables, window), windows)


def fitting_windows(training: Mapping, n: int, batch: int, count: int) -> np.ndarray:
    """[count, batch, n] bytes at random places, other ones than the model's training took."""
    task = tasks.make(TASK, n)
    drawn = (task.batch(training["seed"] + 1, number, batch) for number in range(count))
    return np.stack([np.asarray(found["inputs"]) for found in drawn])


def _model(training, heads, head_dim, out):
    task = tasks.make(TASK, training["n"])
    point = OPTIMISER | dict(training)
    sizes = {"width": heads * head_dim, "heads": heads, "positions": "sinusoidal"}
    point |= {"mechanism": MECHANISM, "hparams": {}, "dtype": "float32"}
    point["model"] = sizes | {name: training[name] for name in ("depth", "ff")}
    return _trained(_Frozen(point), task.name, Path(out))


class _Frozen(dict):
    """A point that a cache can be keyed by."""

    def __hash__(self):
        return hash(records.point_id(self))


@functools.lru_cache(maxsize=2)
def _trained(point, task_name, out):
    """(graph, variables, loss), from a file where another process has written it."""
    task = tasks.make(task_name, point["n"])
    network = zoo.Transformer(networks.config_of(point, task), rngs=nnx.Rngs(point["seed"]))
    graph, optimiser, state = steps.start(network, point)
    params, buffers = state["params"], state["buffers"]
    file = out / "models" / f"{records.point_id(point)}.npz"
    if file.is_file():
        held = np.load(file)
        leaves = [jnp.asarray(held[str(i)]) for i in range(len(jax.tree.leaves(params)))]
        params = jax.tree.unflatten(jax.tree.structure(params), leaves)
        return graph, nnx.merge_state(params, buffers), float(held["loss"])
    step = jax.jit(steps.train_step(graph, task, optimiser), donate_argnums=0)
    losses = []
    for number in range(point["steps"]):
        batch = task.batch(point["seed"], number, point["batch"])
        state, loss = step(state, batch, jnp.int32(number))
        losses.append(loss)
    loss = float(jnp.stack(losses[-max(len(losses) // 10, 1) :]).mean())
    leaves = {str(i): np.asarray(x) for i, x in enumerate(jax.tree.leaves(state["params"]))}
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez(draft, loss=loss, **leaves)
    draft.replace(file)
    return graph, nnx.merge_state(state["params"], state["buffers"]), loss


@functools.lru_cache(maxsize=2)
def _reader(graph, layer):
    """(variables, bytes) -> what the layer's mechanism is called with."""

    @jax.jit
    def read(variables, inputs):
        network, kept = nnx.merge(graph, variables), {}
        mixer = network.stack.blocks[layer].mixer
        attend = mixer.mechanism.apply

        def keep(params, q, k, v, **options):
            kept.update(q=q, k=k, v=v)
            return attend(params, q, k, v, **options)

        mixer.mechanism = dataclasses.replace(mixer.mechanism, apply=keep)
        network(inputs)
        return kept

    return read
