"""Self-pretraining: before a task, its own training inputs are what is predicted. arXiv:2310.02980.

"masked": a share of the tokens is hidden, the model says what they were; "causal": it says each
next token. Embedding, backbone and mechanism go over to the task, the head is drawn anew. A model
that fills in has one token more than its task, the sign for a hidden one.

"text" is of the text model that a reprogrammed forecaster has in it: a decoder with full attention,
trained on tiny shakespeare by `text_n` bytes, and frozen after that.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from experiments.tasks import Batch, Task, drawn, language, tinyshakespeare
from experiments.training import choice

FIELDS = {"objective", "steps", "lr", "warmup", "share", "text_n", "text_batch"}
SHARE = 0.15
TEXT = {"text_n": 128, "text_batch": 16}


def check(pretrain: Any) -> None:
    """ValueError names the field that is wrong."""
    if not isinstance(pretrain, Mapping) or not {"objective", "steps"} <= set(pretrain) <= FIELDS:
        optional = ", ".join(sorted(FIELDS - {"objective", "steps"}))
        raise ValueError(
            f"pretrain has objective and steps, and may have {optional}; got {pretrain!r}"
        )
    if pretrain["objective"] not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise ValueError(f"objective must be one of {known}, got {pretrain['objective']!r}")
    drawn.check_whole(steps=pretrain["steps"])
    if "lr" in pretrain:
        choice.check_rate("pretrain.lr", pretrain["lr"])
    if not 0 < pretrain.get("share", SHARE) < 1:
        raise ValueError(f"share must be above 0 and below 1, got {pretrain['share']!r}")


def stages(point: Mapping, task: Task) -> list[tuple[dict, Task]]:
    """The point and the task of each training, in order: two where the point has `pretrain`."""
    pretrain = point["pretrain"]
    if pretrain is None:
        return [(dict(point), task)]
    changes, pretext, task = OBJECTIVES[pretrain["objective"]](point, task)
    first = {**point, "patience": None, "target": None, **changes}
    first["steps"], first["lr"] = pretrain["steps"], pretrain.get("lr", point["lr"])
    first["warmup"] = pretrain.get("warmup", min(point["warmup"], pretrain["steps"]))
    return [(first, pretext), (dict(point), task)]


def transfer(trained: Mapping[str, Any], state: Mapping[str, Any]) -> dict:
    """The state with what was trained in it: all but the head, or a frozen text model."""
    if "text" in state["buffers"]:
        return _with_text(trained, state)

    def choose(path, new, old):
        return new if path[0].key == "head" else old

    kept = {
        name: jax.tree.map_with_path(choose, state[name], trained[name])
        for name in ("params", "buffers")
    }
    return {**state, **kept}


def _with_text(trained, state):
    held = state["buffers"]["text"]
    leaves = jax.tree.leaves(nnx.merge_state(trained["params"], trained["buffers"]))
    text = jax.tree.unflatten(jax.tree.structure(held), leaves)
    buffers = nnx.merge_state(state["buffers"], nnx.State({"text": text}))
    return {**state, "buffers": buffers}


def masked(point: Mapping, task: Task) -> tuple[dict, Task, Task]:
    """(what the first point has of its own, its task, the second's task)."""
    _check_tokens(task)
    share = point["pretrain"].get("share", SHARE)
    if task.model["kind"] != "encoder":
        raise ValueError(
            f"masked pretraining takes an encoder, but {task.name} has a {task.model['kind']}; "
            'take objective "causal"'
        )
    sign = task.model["vocab"]

    def hide(batch: Batch, key: tuple[int, int]) -> Batch:
        generator = np.random.Generator(np.random.Philox(key=np.array(key, np.uint64)))
        hidden = (generator.random(batch["inputs"].shape) < share) & batch["mask"]
        return {
            "inputs": np.where(hidden, sign, batch["inputs"]).astype(np.int32),
            "targets": batch["inputs"],
            "mask": batch["mask"],
            "weights": hidden,
        }

    wider = dataclasses.replace(task, model={**task.model, "vocab": sign + 1})
    return {}, _pretext(wider, hide, {"outputs": "position", "classes": sign}), wider


def causal(point: Mapping, task: Task) -> tuple[dict, Task, Task]:
    _check_tokens(task)

    def shift(batch: Batch, key: tuple[int, int]) -> Batch:
        def ahead(array):
            return np.pad(array[:, 1:], [(0, 0), (0, 1)])

        targets, weights = ahead(batch["inputs"]), ahead(batch["mask"])
        return {**batch, "targets": targets, "weights": weights}

    return {}, _pretext(task, shift, {"kind": "decoder"}), task


def text(point: Mapping, task: Task) -> tuple[dict, Task, Task]:
    if "text" not in point["model"]:
        raise ValueError(
            'pretrain objective "text" is of a model with a text model in it, architecture '
            f'"reprogrammed"; got {point["model"]!r}'
        )
    sizes = {name: point["pretrain"].get(name, TEXT[name]) for name in TEXT}
    drawn.check_whole(**sizes)
    longest = point["model"]["text"].get("max_len")
    if longest is not None and sizes["text_n"] > longest:
        raise ValueError(
            f"pretrain.text_n must be at most model.text.max_len={longest}, got {sizes['text_n']}"
        )
    changes = {
        **{"mechanism": "full", "hparams": {}, "model": dict(point["model"]["text"])},
        **{"n": sizes["text_n"], "batch": sizes["text_batch"], "microbatches": 1},
    }
    return changes, tinyshakespeare.make(sizes["text_n"]), task


OBJECTIVES = {"masked": masked, "causal": causal, "text": text}


def _check_tokens(task):
    if task.model["inputs"] != "tokens":
        raise ValueError(f"pretrain takes tokens, but {task.name} has {task.model['inputs']}")


def _pretext(task, change, model):
    def held_out(split, size):
        for number, batch in enumerate(task.held_out(split, size)):
            yield change(batch, (2**64 - 1, number))

    return dataclasses.replace(
        task,
        name=f"{task.name}, pretraining",
        model={**task.model, **model},
        batch=lambda seed, step, size: change(task.batch(seed, step, size), (seed, step)),
        held_out=held_out,
        sums=language.sums,
        # the task's are of its own sums
        extra=lambda totals: {},
        score=lambda totals: totals["loss"] / totals["count"] if totals["count"] else math.nan,
        metric="nats",
        higher_is_better=False,
    )
