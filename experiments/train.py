"""Training points: what they may ask for, one training each, the metrics of its best model.

The loop is in loop.py, what it compiles in steps.py.
"""

import dataclasses
import functools
import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import attention_zoo as zoo
from attention_zoo import layers, model, parallel
from experiments import checkpoint as checkpointing
from experiments import records, tasks
from experiments.running import distributed
from experiments.training import (
    choice,
    curves,
    fields,
    loop,
    networks,
    prediction,
    pretraining,
    steps,
)
from experiments.training import mesh as meshes

# what does not change the program that a point compiles
UNCOMPILED = {
    *("experiment", "label", "role", "size", "seed", "lr", "patience", "target", "eval_hparams"),
    *("eval_every", "checkpoint_every", "keep_checkpoints"),
}


def check_point(point: Mapping) -> None:
    """ValueError names the field that is wrong, or the data that are missing."""
    c = _resolve(point)
    fields.check(c)
    networks.check_model(c)
    for stage, task in _stages(c):
        if not 0 <= stage["warmup"] <= stage["steps"]:
            warmup, length = stage["warmup"], stage["steps"]
            raise ValueError(f"warmup must be within 0..steps={length}, got {warmup!r}")
        networks.calls(stage, networks.config_of(stage, task))
        for hparams in c["eval_hparams"].values():
            changed = {**stage, "hparams": hparams}
            networks.calls(changed, networks.config_of(changed, task))


def check_mesh(point: Mapping, asked: Mapping[str, int]) -> None:
    """ValueError names what the devices along an axis do not divide, or cannot share."""
    for c, task in _stages(_resolve(point)):
        config = networks.config_of(c, task)
        meshes.divides("data", asked, **{meshes.ROWS: fields.rows(c)})
        units = {name: getattr(config, name) for name in ("heads", "ff") if hasattr(config, name)}
        meshes.divides("model", asked, **units)
        meshes.divides("sequence", asked, n=c["n"])
        if (devices := asked.get("sequence", 1)) > 1:
            for m, dims, call in networks.calls(c, config, masked=task.masked):
                given = {name: call[name] for name in ("causal", "masked")}
                layers.refuse(parallel.objections(m, dims, devices, **given))


def objections(point: Mapping) -> list[str]:
    found = {}
    for c, task in _stages(_resolve(point)):
        for m, dims, call in networks.calls(c, networks.config_of(c, task), masked=task.masked):
            found |= dict.fromkeys(zoo.objections(m, dims, **call))
    return list(found)


def requires(point: Mapping) -> list[dict]:
    """The points whose records this one reads."""
    return choice.grid_of(point)


def is_outdated(point: Mapping, record: Mapping, get: Callable[[str], dict | None]) -> bool:
    """Whether the grid's records, some of which have come since, choose another learning rate."""
    return _choose(point, get)[0] != record["metrics"]["lr"]


def predict(point: Mapping) -> dict:
    """{"flops", "bytes"} of the whole run by rules of thumb, and how fast it is for its FLOPs."""
    return prediction.predict(_stages(_resolve(point)))


def run_point(point: Mapping, out: Path, asked: Mapping[str, int] | None = None) -> dict:
    """Train, pick the best by validation, score it on the test split: the metrics of a record.

    Where the grid of its learning rate had this very training, its metrics and curve are taken.
    `asked`: the mesh of devices, see mesh.py.
    """
    c, name = _resolve(point), records.point_id(point)
    mesh = meshes.make(asked, fields.rows(c))
    c["lr"], chosen = distributed.agree(lambda: _choose(point, records.Store(out).get))
    twin = distributed.agree(lambda: choice.same_training(point, c["lr"], Path(out)))
    if twin and _task(c).judge is None:
        for stage in ("", "-pretraining"):
            curves.copy(out, f"{twin['id']}{stage}", f"{name}{stage}")
        return {**twin["metrics"], **chosen, "same_training": twin["id"]}
    *before, (_, task) = _stages(c)
    with loop.Stop() as stop:
        metrics, best = chosen, None
        for number, (_, pretext) in enumerate(before):
            done = _train(c, number, out, f"{name}-pretraining", stop, mesh)
            metrics["pretrain_steps"] = done.progress.step
            metrics |= {f"pretrain_{pretext.metric}": done.progress.best}
            best = done.best
        done = _train(c, len(before), out, name, stop, mesh, best)
    progress, best, evaluate = done.progress, done.best, done.evaluate
    metric, last = task.metric, progress.curve[-1]
    metrics |= {
        "loss": last["train_loss"],
        f"val_{metric}_best": progress.best,
        f"val_{metric}_last": last[f"val_{metric}"],
        "val_loss_best": progress.best_loss,
        **_tested(task, evaluate("test", best)),
        **{f"test_{metric}@{split}": evaluate(split, best)[metric] for split in task.also},
        **_otherwise(c, task, best, mesh),
        **_judged(task, c, best),
        "best_step": progress.best_step,
        "steps": progress.step,
        "tokens_per_step": round(progress.positions / progress.step),
        **_sizes(c, task),
        "flops_per_step": done.flops,
        "bytes_compiled": done.programs.bytes,
        # a run that ended while its sequences grew took none at its own n
        "seconds_per_step": statistics.median(progress.durations) if progress.durations else None,
        "train_seconds": progress.seconds,
        "compile_seconds": done.programs.compile_seconds,
        **task.oracles(),
        **task.facts,
        **meshes.facts(mesh),
    }
    if not c["keep_checkpoints"]:
        for stage in (name, f"{name}-pretraining"):
            checkpointing.remove(Path(out) / "checkpoints" / stage)
    return metrics


def _choose(point, get):
    task = _task(_resolve(point))
    return choice.choose(point, get, task.metric, higher_is_better=task.higher_is_better)


def _tested(task, scores):
    return {f"test_{name}": value for name, value in scores.items()}


@functools.lru_cache(maxsize=2)
def _programs(key, number, mesh):
    """(programs, sums) of a stage of the point that the JSON is of, but for what is UNCOMPILED."""
    c, task = _stages({**json.loads(key), "lr": 0.0, "seed": 0})[number]
    network = networks.make(networks.config_of(c, task), rngs=nnx.Rngs(0))
    graph, optimiser, state = steps.start(network, c)
    step = steps.train_step(graph, task, optimiser, c["microbatches"])
    programs = steps.Programs(meshes.on(mesh, step), meshes.shardings(state, mesh))
    return programs, jax.jit(meshes.on(mesh, steps.held_out_sums(graph, task)))


@dataclasses.dataclass(frozen=True)
class Trained:
    progress: loop.Progress
    best: Mapping[str, Any]
    """Variables."""
    evaluate: Callable
    programs: steps.Programs
    flops: int
    """Of a step at the point's own n."""


def _train(whole, number, out, name, stop, mesh, pretrained=None):
    """The stage of this number of a point, from its last checkpoint to its end."""
    c, task = _stages(whole)[number]
    key = {field: value for field, value in whole.items() if field not in UNCOMPILED}
    programs, sums = _programs(json.dumps(key, sort_keys=True), number, mesh)
    network = networks.make(networks.config_of(c, task), rngs=nnx.Rngs(c["seed"]))
    _, _, state = steps.start(network, c)
    if pretrained is not None:
        state = pretraining.transfer(pretrained, state)
    state, task = meshes.place(state, mesh), meshes.feed(task, mesh)
    like = jax.eval_shape(lambda x: x, state)

    def evaluate(split, variables):
        return steps.evaluate(sums, task, split, fields.rows(c), variables, stop.heed)

    folder = Path(out) / "checkpoints" / name
    with checkpointing.Checkpoints(folder) as checkpoints, curves.Curve(out, name) as curve:
        kept = {"checkpoints": checkpoints, "curve": curve, "stop": stop}
        run = loop.Run(c, task, programs, evaluate, **kept)
        progress, best = run(state)
    if run.program is None:
        # a run that had ended before has taken no step here
        programs.of(state, task.batch(c["seed"], progress.step - 1, c["batch"]))
    if progress.whole:
        work = round(progress.flops / progress.whole)
    else:
        work = programs.flops_of(like, next(task.held_out("val", c["batch"])))
    return Trained(progress, best, evaluate, programs, work)


def _otherwise(c, task, best, mesh):
    """The test metric of the best model with each of `eval_hparams`.

    A buffer keeps its trained value, unless its shape is another: then it is drawn.
    """
    trained, found = dict(jax.tree.leaves_with_path(best["buffers"])), {}

    def fitting(path, drawn):
        kept = trained.get(path, drawn)
        return kept if kept.shape == drawn.shape else drawn

    for words, hparams in c["eval_hparams"].items():
        config = networks.config_of({**c, "hparams": hparams}, task)
        network = networks.make(config, rngs=nnx.Rngs(c["seed"]))
        graph, params, buffers = nnx.split(network, nnx.Param, ...)
        if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, best["params"]):
            raise ValueError(f"eval_hparams {words!r} have parameters of other shapes than trained")
        variables = {"params": best["params"], "buffers": jax.tree.map_with_path(fitting, buffers)}
        sums = jax.jit(meshes.on(mesh, steps.held_out_sums(graph, task)))
        fed = meshes.feed(task, mesh)
        scores = steps.evaluate(sums, fed, "test", fields.rows(c), meshes.place(variables, mesh))
        found[f"test_{task.metric}@{words}"] = scores[task.metric]
    return found


def _sizes(c, task):
    """Parameters, and of a decoder the bytes of its decode state for one sequence."""
    config = networks.config_of(c, task)
    network = nnx.eval_shape(lambda: networks.make(config, rngs=nnx.Rngs(0)))
    counted = model.num_params(network)
    sizes = {"params": counted["total"], "params_length_sized": counted["by_length"]}
    if getattr(config, "kind", None) == "decoder":
        calls = [
            (m, dataclasses.replace(dims, batch=1)) for m, dims, _ in networks.calls(c, config)
        ]
        costs = [m.cost(dims, causal=True) for m, dims in calls]
        sizes["decode_state_bytes"] = sum(cost.state_bytes for cost in costs)
    return sizes


def _judged(task, c, best):
    """The test metrics of what the best model generates, where the task asks for it; not of a run
    that only chooses a rate."""
    if task.judge is None or c.get("role") == "grid":
        return {}
    network = networks.make(networks.config_of(c, task), rngs=nnx.Rngs(0))
    graph, _, _ = nnx.split(network, nnx.Param, ...)
    return task.judge(nnx.merge(graph, best["params"], best["buffers"]))


def _resolve(point):
    return {**fields.OPTIONAL, **point}


def _task(point):
    return tasks.make(point["task"], point["n"], **point["task_args"])


def _stages(point):
    return pretraining.stages(point, _task(point))
