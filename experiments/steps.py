"""The programs that training runs: the optimiser, a step, and the score of a held-out split."""

import collections
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from attention_zoo import layers
from experiments import tasks


def make_optimiser(point: Mapping, *, scan: bool = False) -> optax.GradientTransformation:
    """AdamW after clipping by global norm; linear warm-up, then a cosine. Only matrices decay."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0 if point["warmup"] else point["lr"],
        point["lr"],
        point["warmup"],
        # one more, for a cosine over no steps is not defined
        max(point["steps"], point["warmup"] + 1),
        point["lr"] * point["final_lr"],
    )

    def decays(path, x):
        # the variables of a scanned stack have a leading axis of layers
        scanned = scan and path[0].key.endswith("stack")
        return x.ndim - scanned > 1

    return optax.chain(
        optax.clip_by_global_norm(point["clip"]),
        optax.adamw(
            schedule,
            b2=point["beta2"],
            weight_decay=point["weight_decay"],
            mask=lambda params: jax.tree.map_with_path(decays, params),
        ),
    )


def train_step(graph, task: tasks.Task, optimiser, point: Mapping) -> Callable:
    """`step(state, batch, number) -> (state, mean loss)`; gradients add up over microbatches."""
    root, parts = jax.random.fold_in(jax.random.key(point["seed"]), 1), point["microbatches"]

    def objective(params, buffers, batch, key):
        network = nnx.merge(graph, params, buffers, copy=True)
        sums = task.sums(_apply(network, task, batch, train=True, rngs=key), batch)
        return sums["loss"], (sums["count"], nnx.state(network, layers.Buffer))

    gradient = jax.value_and_grad(objective, has_aux=True)

    def step(state, batch, number):
        params, key = state["params"], jax.random.fold_in(root, number)

        def add(total, piece):
            buffers, *sums = total
            (loss, (count, buffers)), grads = gradient(params, buffers, *piece)
            return (buffers, *jax.tree.map(jnp.add, tuple(sums), (loss, count, grads))), None

        if parts == 1:
            (loss, (count, buffers)), grads = gradient(params, state["buffers"], batch, key)
        else:
            pieces = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
            none = jax.tree.map(jnp.zeros_like, params)
            start = (state["buffers"], jnp.zeros(()), jnp.zeros(()), none)
            total, _ = jax.lax.scan(add, start, (pieces, jax.random.split(key, parts)))
            buffers, loss, count, grads = total
        grads = jax.tree.map(lambda g: g / count, grads)
        updates, moments = optimiser.update(grads, state["optimiser"], params)
        params = optax.apply_updates(params, updates)
        return {"params": params, "buffers": buffers, "optimiser": moments}, loss / count

    return step


class Evaluation:
    """The task's metric on a whole held-out split."""

    def __init__(self, graph, task: tasks.Task, batch: int):
        self.task, self.batch = task, batch

        def sums(params, buffers, batch):
            return task.sums(_apply(nnx.merge(graph, params, buffers), task, batch), batch)

        self.sums = jax.jit(sums)

    def __call__(self, split: str, state: Mapping) -> float:
        totals = collections.Counter()
        for batch in self.task.held_out(split, self.batch):
            found = self.sums(state["params"], state["buffers"], batch)
            totals.update({name: float(value) for name, value in found.items()})
        return self.task.score(totals)


def _apply(network, task, batch, **kwargs):
    return network(batch["inputs"], mask=batch["mask"] if task.masked else None, **kwargs)
