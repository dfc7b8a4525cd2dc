"""The programs that training runs: the optimiser, a step, and the score of a held-out split."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from attention_zoo import layers
from experiments import measure, tasks
from experiments.measuring import flops


def start(network, point: Mapping) -> tuple[Any, optax.GradientTransformation, dict]:
    """(graph, optimiser, state) of a fresh network. What differs from seed to seed and rate to rate
    is in the state, so that all of them run one compiled program."""
    graph, params, buffers = nnx.split(network, nnx.Param, ...)
    optimiser = make_optimiser(point, scan=getattr(network.config, "scan", False))
    key = jax.random.fold_in(jax.random.key(point["seed"]), 1)
    return (
        graph,
        optimiser,
        {
            "params": params,
            "buffers": buffers,
            "optimiser": optimiser.init(params),
            "lr": jnp.float32(point["lr"]),
            "key": jax.random.key_data(key),
        },
    )


def make_optimiser(point: Mapping, *, scan: bool = False) -> optax.GradientTransformation:
    """AdamW after clipping by global norm, for a peak rate of 1. Only matrices decay."""

    def decays(path, x):
        # the variables of a scanned stack have a leading axis of layers
        scanned = scan and path[0].key.endswith("stack")
        return x.ndim - scanned > 1

    return optax.chain(
        optax.clip_by_global_norm(point["clip"]),
        optax.adamw(
            SCHEDULES[point["schedule"]](point),
            b2=point["beta2"],
            weight_decay=point["weight_decay"],
            mask=lambda params: jax.tree.map_with_path(decays, params),
        ),
    )


def cosine(point: Mapping) -> optax.Schedule:
    """A line from 0 to 1 over the warm-up, then half a cosine to `final_lr`."""
    return optax.warmup_cosine_decay_schedule(
        0.0 if point["warmup"] else 1.0,
        1.0,
        point["warmup"],
        # one more, for a cosine over no steps is not defined
        max(point["steps"], point["warmup"] + 1),
        point["final_lr"],
    )


def rsqrt(point: Mapping) -> optax.Schedule:
    """A line from 0 to 1 over the warm-up, then 1 / sqrt(step / warm-up)."""
    warmup = max(point["warmup"], 1)

    def share(step):
        rising = step / warmup if point["warmup"] else 1.0
        return jnp.minimum(rising, (warmup / jnp.maximum(step, warmup)) ** 0.5)

    return share


SCHEDULES = {"cosine": cosine, "rsqrt": rsqrt}


def train_step(graph, task: tasks.Task, optimiser, microbatches: int = 1) -> Callable:
    """`step(state, batch, number) -> (state, mean loss)`; gradients add up over microbatches."""

    def objective(params, buffers, batch, key):
        network = nnx.merge(graph, params, buffers, copy=True)
        sums = task.sums(_apply(network, task, batch, train=True, rngs=key), batch)
        return sums["loss"], (sums["count"], nnx.state(network, layers.Buffer))

    gradient = jax.value_and_grad(objective, has_aux=True)

    def step(state, batch, number):
        params = state["params"]
        key = jax.random.fold_in(jax.random.wrap_key_data(state["key"]), number)

        def add(total, piece):
            buffers, *sums = total
            (loss, (count, buffers)), grads = gradient(params, buffers, *piece)
            return (buffers, *jax.tree.map(jnp.add, tuple(sums), (loss, count, grads))), None

        if microbatches == 1:
            (loss, (count, buffers)), grads = gradient(params, state["buffers"], batch, key)
        else:
            pieces = jax.tree.map(lambda x: x.reshape(microbatches, -1, *x.shape[1:]), batch)
            none = jax.tree.map(jnp.zeros_like, params)
            first = (state["buffers"], jnp.zeros(()), jnp.zeros(()), none)
            keys = jax.random.split(key, microbatches)
            (buffers, loss, count, grads), _ = jax.lax.scan(add, first, (pieces, keys))
        grads = jax.tree.map(lambda g: g / count, grads)
        updates, moments = optimiser.update(grads, state["optimiser"], params)
        params = optax.apply_updates(params, jax.tree.map(lambda u: state["lr"] * u, updates))
        moved = {"params": params, "buffers": buffers, "optimiser": moments}
        return {**state, **moved}, loss / count

    return step


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled step; the state's arrays are given up to it. FLOPs and bytes are of one call."""

    run: Callable
    flops: int
    bytes: int | None
    compile_seconds: float


class Programs:
    """A step's program for each shape of batch, compiled when it comes first."""

    def __init__(self, step: Callable, shardings=None):
        """`shardings` of the state after a step, where it is spread over a mesh."""
        leave = {} if shardings is None else {"out_shardings": (shardings, None)}
        self._step, self._known = jax.jit(step, donate_argnums=0, **leave), {}

    @property
    def bytes(self) -> int | None:
        """Of the program that holds most."""
        return max((p.bytes for p in self._known.values() if p.bytes is not None), default=None)

    @property
    def compile_seconds(self) -> float:
        return sum(program.compile_seconds for program in self._known.values())

    def of(self, state: Mapping, batch: Mapping) -> Program:
        shape = tuple((name, array.shape) for name, array in sorted(batch.items()))
        if shape not in self._known:
            traced = self._step.trace(state, batch, np.int32(0))
            lowered = traced.lower()
            begin = time.perf_counter()
            run = lowered.compile()
            seconds = time.perf_counter() - begin
            work, held = flops.count_jaxpr(traced.jaxpr).flops, measure.bytes_of(lowered, run)
            self._known[shape] = Program(run, work, held, seconds)
        return self._known[shape]

    def flops_of(self, state: Mapping, batch: Mapping) -> int:
        """Of a step that need not be compiled; the state's arrays may be ShapeDtypeStructs."""
        return flops.count_jaxpr(self._step.trace(state, batch, np.int32(0)).jaxpr).flops


def held_out_sums(graph, task: tasks.Task) -> Callable:
    """`sums(params, buffers, batch)`: the task's."""

    def sums(params, buffers, batch):
        return task.sums(_apply(nnx.merge(graph, params, buffers), task, batch), batch)

    return sums


def evaluate(
    sums: Callable,
    task: tasks.Task,
    split: str,
    size: int,
    state: Mapping,
    between: Callable[[], None] = lambda: None,
) -> dict:
    """The task's metric, `extra` ones and the mean `loss`, by name, on a whole held-out split,
    `size` examples at a time; `between()` is called before each of these batches."""
    totals = {}
    for batch in task.held_out(split, size):
        between()
        for name, value in sums(state["params"], state["buffers"], batch).items():
            totals[name] = totals.get(name, 0.0) + np.asarray(value, np.float64)
    totals = {name: total if total.ndim else float(total) for name, total in totals.items()}
    loss = totals["loss"] / totals["count"]
    return {"loss": loss, task.metric: task.score(totals), **task.extra(totals)}


def _apply(network, task, batch, **kwargs):
    # an encoder-decoder is given its target too, shifted right
    target = [batch["target"]] if "target" in batch else []
    mask = batch["mask"] if task.masked else None
    return network(batch["inputs"], *target, mask=mask, **kwargs)
