"""Points of kind "step": a training step of the whole transformer, with and without its attention.

Without it, a layer multiplies q, k and v entry by entry, so that projections, feed-forward, norms
and optimiser do all they did. What is missing then is attention's part. Buffers stay as they are.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import attention_zoo as zoo
from attention_zoo import ops
from attention_zoo.types import Mechanism
from experiments import tasks
from experiments.measure import side_by_side
from experiments.tasks import drawn, labelled
from experiments.training import fields, networks, steps

# what a step without attention has in columns of its own
APART = (
    *("flops_counted", "bytes_compiled", "bytes_measured"),
    *("seconds", "seconds_q1", "seconds_q3"),
)
BYTES, NUMBERS = labelled.Form(vocab=256), labelled.Form(scale=255)
# by the model's inputs; N is the steps of a series, and a patch holds several
FORMS = {"tokens": BYTES, "continuous": NUMBERS, "patches": NUMBERS}


def check_point(point: Mapping) -> None:
    """ValueError names the field that is wrong."""
    for name in ("n", "batch", "repeats"):
        if isinstance(point[name], bool) or not isinstance(point[name], int) or point[name] < 1:
            raise ValueError(f"{name} must be a whole number from 1 up, got {point[name]!r}")
    _layers(point)


def objections(point: Mapping) -> list[str]:
    found = [zoo.objections(m, dims) for m, dims in _layers(point)]
    return list(dict.fromkeys(reason for reasons in found for reason in reasons))


def predict(point: Mapping) -> dict:
    """{"flops", "bytes"} of both steps together, by rules of thumb."""
    config = _config(point)
    tokens = point["batch"] * config.positions_of(point["n"])
    costs = [m.cost(dims) for m, dims in _layers(point)]
    weights = config.depth * config.width * (4 * config.width + 2 * config.ff)
    kept = 4 * tokens * config.depth * (10 * config.width + 3 * config.ff)
    work = sum(cost.train_flops for cost in costs) + 2 * 6 * weights * tokens
    return {"flops": work, "bytes": 16 * weights + kept + sum(cost.bytes for cost in costs)}


def run_point(point: Mapping, out: Path) -> dict:
    limits = {"repeats": point["repeats"], "budget": point.get("budget", 10.0)}
    programs = program(point), program(point, attention=False)
    whole, rest = side_by_side(programs, **limits)
    return whole | {f"{name}_rest": rest[name] for name in APART}


def program(point: Mapping, *, attention: bool = True) -> tuple:
    """(step, its arguments)."""
    c = {**fields.OPTIONAL, "lr": 1e-3, "steps": 1, **point}
    task = noise(c)
    network = zoo.Transformer(_config(c), rngs=nnx.Rngs(c["seed"]))
    for block in network.stack.blocks:
        mixer = block.mixer
        mixer.mechanism = dataclasses.replace(mixer.mechanism, refresh=None)
        if not attention:
            mixer.mechanism = without_attention(mixer.mechanism)
            if mixer.mechanism.shorter is None:
                mixer.params = nnx.Dict({})
    graph, optimiser, state = steps.start(network, c)
    batch = jax.tree.map(jnp.asarray, task.batch(c["seed"], 0, c["batch"]))
    return steps.train_step(graph, task, optimiser), (state, batch, jnp.int32(0))


def without_attention(m: Mechanism) -> Mechanism:
    """Reads what `m` reads and gives outputs as many as its, but mixes no positions."""

    def apply(params, q, k, v, *, mask=None, causal=False):
        B, T, _, E = v.shape
        # a product: of a sum all gradients would be one, and be computed once
        out = v * (1 + math.prod(x for x in (q, k) if x is not None))
        out = out.reshape(B, T, m.projections, -1, E).sum(2)
        R = T if m.shorter is None else m.shorter.length(T)
        return ops.pad_to(out[:, :R], R, 1)

    return dataclasses.replace(m, apply=apply)


def noise(point: Mapping) -> tasks.Task:
    """Random bytes, or as many numbers from 0 to 1, in two classes: a task of which only the sizes
    matter."""
    n, inputs = point["n"], point["model"].get("inputs", "tokens")
    if inputs not in FORMS:
        raise ValueError(f"model.inputs must be one of {', '.join(FORMS)}, got {inputs!r}")
    form = FORMS[inputs]

    def batch(seed, step, size):
        random = drawn.generator("train", seed, step)
        rows = random.integers(0, BYTES.vocab, (size, n)), random.integers(0, 2, size)
        return labelled.batch_of(labelled.from_rows(*rows), np.arange(size), n, form)

    return labelled.classification(n, "noise", batch, {}.get, 2, form, rules={}, facts={})


def _config(point):
    return networks.config_of(point, noise(point))


def _layers(point):
    """(mechanism, dims of its call) of each layer."""
    return [(m, dims) for m, dims, _ in networks.calls(point, _config(point))]
