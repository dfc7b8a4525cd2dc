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
from attention_zoo import model
from attention_zoo.types import Dims
from experiments import checkpoint as checkpointing
from experiments import choice, curves, loop, pretraining, records, steps, tasks

OPTIONAL = {
    "task_args": {},
    "model": {},
    "dtype": "float32",
    "schedule": "cosine",
    "warmup": 0,
    "weight_decay": 0.0,
    "clip": 1.0,
    "final_lr": 0.1,
    "beta2": 0.95,
    "microbatches": 1,
    "patience": None,
    "target": None,
    "pretrain": None,
    "eval_hparams": {},
    "checkpoint_every": None,
    "keep_checkpoints": False,
}
"""Fields a point may leave out. `final_lr`: of the peak; `patience`: evaluations without a better
one before an early stop; `target`: the validation metric that is enough, where it stops too;
`pretrain`: see pretraining.py; `eval_hparams`: other hyperparameters to test the trained model
with, by the words that tell the metric apart; `checkpoint_every`: steps, None for at each
evaluation."""
# of the rate of a matrix product, that small models reach on a CPU; and to compile and to evaluate
SHARE, EXTRA_SECONDS = 0.35, 15.0
# what does not change the program that a point compiles
UNCOMPILED = {
    *("experiment", "label", "role", "size", "seed", "lr", "patience", "target", "eval_hparams"),
    *("eval_every", "checkpoint_every", "keep_checkpoints"),
}


def check_point(point: Mapping) -> None:
    """ValueError names the field that is wrong, or the data that are missing."""
    c = _resolve(point)
    for name in ("n", "batch", "steps", "eval_every", "microbatches"):
        if isinstance(c[name], bool) or not isinstance(c[name], int) or c[name] < 1:
            raise ValueError(f"{name} must be a whole number from 1 up, got {c[name]!r}")
    choice.check(c["lr"])
    if c["schedule"] not in steps.SCHEDULES:
        known = ", ".join(steps.SCHEDULES)
        raise ValueError(f"schedule must be one of {known}, got {c['schedule']!r}")
    if c["batch"] % c["microbatches"]:
        raise ValueError(f"microbatches={c['microbatches']} must divide batch={c['batch']}")
    if c["pretrain"] is not None:
        pretraining.check(c["pretrain"])
    for stage, task in _stages(c):
        if not 0 <= stage["warmup"] <= stage["steps"]:
            warmup, length = stage["warmup"], stage["steps"]
            raise ValueError(f"warmup must be within 0..steps={length}, got {warmup!r}")
        _mechanisms(model_config(stage, task))
        for hparams in c["eval_hparams"].values():
            _mechanisms(model_config({**stage, "hparams": hparams}, task))


def objections(point: Mapping) -> list[str]:
    found = {}
    for c, task in _stages(_resolve(point)):
        config = model_config(c, task)
        call = {
            "causal": config.kind == "decoder",
            "masked": task.masked,
            "per_position": config.per_position,
        }
        for m, dims in _calls(c, config):
            found |= dict.fromkeys(zoo.objections(m, dims, **call))
    return list(found)


def requires(point: Mapping) -> list[dict]:
    """The points whose records this one reads."""
    return choice.grid_of(point)


def predict(point: Mapping) -> dict:
    """{"flops", "bytes"} of the whole run by rules of thumb, and how fast it is for its FLOPs."""
    costs = [_predict(c, model_config(c, task)) for c, task in _stages(_resolve(point))]
    return {
        "flops": sum(c["flops"] for c in costs),
        "bytes": max(c["bytes"] for c in costs),
        "share": SHARE,
        "seconds": EXTRA_SECONDS,
    }


def _predict(c, config):
    tokens = c["batch"] * config.positions_of(c["n"])
    costs = [m.cost(dims, causal=config.kind == "decoder") for m, dims in _calls(c, config)]
    weights = config.depth * config.width * (4 * config.width + 2 * config.ff)
    weights += config.width * (config.vocab or config.classes or 1)
    step = 3 * sum(cost.flops for cost in costs) + 6 * weights * tokens
    kept = 4 * tokens * config.depth * (10 * config.width + 3 * config.ff)
    held = 16 * weights + kept + sum(cost.bytes for cost in costs)
    return {"flops": step * c["steps"], "bytes": held}


def run_point(point: Mapping, out: Path) -> dict:
    """Train, pick the best by validation, score it on the test split: the metrics of a record."""
    c, name = _resolve(point), records.point_id(point)
    better = {"higher_is_better": _task(c).higher_is_better}
    c["lr"], chosen = choice.choose(point, Path(out), _task(c).metric, **better)
    *before, (c, task) = _stages(c)
    with loop.Stop() as stop:
        metrics, best = chosen, None
        for number, (first, pretext) in enumerate(before):
            stage = f"{name}-pretraining"
            done = _train(first, pretext, number, out, stage, stop)
            metrics |= {"pretrain_steps": done.progress.step, "pretrain_nats": done.progress.best}
            best = done.best
        done = _train(c, task, len(before), out, name, stop, best)
    progress, best, evaluate = done.progress, done.best, done.evaluate
    metric, last = task.metric, progress.curve[-1]
    metrics |= {
        "loss": last["train_loss"],
        f"val_{metric}_best": progress.best,
        f"val_{metric}_last": last[f"val_{metric}"],
        **_tested(task, evaluate("test", best)),
        **{f"test_{metric}@{split}": evaluate(split, best)[metric] for split in task.also},
        **_otherwise(c, task, best),
        "best_step": progress.best_step,
        "steps": progress.step,
        "tokens_per_step": c["batch"] * c["n"],
        **_sizes(c, task),
        "flops_per_step": done.program.flops,
        "bytes_compiled": done.program.bytes,
        "seconds_per_step": statistics.median(done.durations) if done.durations else None,
        "train_seconds": progress.seconds,
        "compile_seconds": done.program.compile_seconds,
        **task.oracles(),
        **task.facts,
    }
    if not c["keep_checkpoints"]:
        for stage in (name, f"{name}-pretraining"):
            checkpointing.remove(Path(out) / "checkpoints" / stage)
    return metrics


def _tested(task, scores):
    return {f"test_{name}": value for name, value in scores.items()}


def model_config(point: Mapping, task: tasks.Task) -> model.TransformerConfig:
    """What the point asks for, on the inputs and outputs of the task."""
    fields = {field.name for field in dataclasses.fields(model.TransformerConfig)}
    asked = _hashable(point["model"])
    for name in asked:
        if name not in fields:
            raise ValueError(f"model has no field {name!r}; it has {', '.join(sorted(fields))}")
    chosen = {"mechanism": point["mechanism"], "hparams": point["hparams"]}
    sizes = {"max_len": point["n"], "dtype": point["dtype"]}
    config = model.TransformerConfig(**{**sizes, **asked, **task.model, **_hashable(chosen)})
    if "max_len" in asked:
        return config
    return dataclasses.replace(config, max_len=config.positions_of(point["n"]))


@functools.lru_cache(maxsize=2)
def _programs(key, number):
    """(programs, sums) of a stage of the point that the JSON is of, but for what is UNCOMPILED."""
    c, task = _stages({**json.loads(key), "lr": 0.0, "seed": 0})[number]
    network = zoo.Transformer(model_config(c, task), rngs=nnx.Rngs(0))
    graph, optimiser, _ = steps.start(network, c)
    step = steps.train_step(graph, task, optimiser, c["microbatches"])
    return steps.Programs(step), steps.held_out_sums(graph, task)


@dataclasses.dataclass(frozen=True)
class Trained:
    progress: loop.Progress
    best: Mapping[str, Any]
    """Variables."""
    evaluate: Callable
    program: steps.Program
    durations: list[float]


def _train(c, task, number, out, name, stop, pretrained=None):
    """The stage of this number, from its last checkpoint to its end."""
    key = {field: value for field, value in c.items() if field not in UNCOMPILED}
    programs, sums = _programs(json.dumps(key, sort_keys=True), number)
    network = zoo.Transformer(model_config(c, task), rngs=nnx.Rngs(c["seed"]))
    _, _, state = steps.start(network, c)
    if pretrained is not None:
        state = pretraining.transfer(pretrained, state)

    def evaluate(split, variables):
        return steps.evaluate(sums, task, split, c["batch"], variables)

    folder = Path(out) / "checkpoints" / name
    with checkpointing.Checkpoints(folder) as checkpoints, curves.Curve(out, name) as curve:
        kept = {"checkpoints": checkpoints, "curve": curve, "stop": stop}
        run = loop.Run(c, task, programs, evaluate, **kept)
        progress, best = run(state)
    # a run that had ended before has taken no step here
    program = run.program or programs.of(state, task.batch(c["seed"], c["steps"] - 1, c["batch"]))
    return Trained(progress, best, evaluate, program, run.durations)


def _otherwise(c, task, best):
    """The test metric of the best model with each of `eval_hparams`.

    A buffer keeps its trained value, unless its shape is another: then it is drawn.
    """
    trained, found = dict(jax.tree.leaves_with_path(best["buffers"])), {}

    def fitting(path, drawn):
        kept = trained.get(path, drawn)
        return kept if kept.shape == drawn.shape else drawn

    for words, hparams in c["eval_hparams"].items():
        config = model_config({**c, "hparams": hparams}, task)
        network = zoo.Transformer(config, rngs=nnx.Rngs(c["seed"]))
        graph, params, buffers = nnx.split(network, nnx.Param, ...)
        if jax.tree.map(jnp.shape, params) != jax.tree.map(jnp.shape, best["params"]):
            raise ValueError(f"eval_hparams {words!r} have parameters of other shapes than trained")
        variables = {"params": best["params"], "buffers": jax.tree.map_with_path(fitting, buffers)}
        sums = steps.held_out_sums(graph, task)
        scores = steps.evaluate(sums, task, "test", c["batch"], variables)
        found[f"test_{task.metric}@{words}"] = scores[task.metric]
    return found


def _sizes(c, task):
    """Parameters, and of a decoder the bytes of its decode state for one sequence."""
    config = model_config(c, task)
    network = nnx.eval_shape(lambda: zoo.Transformer(config, rngs=nnx.Rngs(0)))
    counted = model.num_params(network)
    sizes = {"params": counted["total"], "params_length_sized": counted["by_length"]}
    if config.kind == "decoder":
        calls = [(m, dataclasses.replace(dims, batch=1)) for m, dims in _calls(c, config)]
        costs = [m.cost(dims, causal=True) for m, dims in calls]
        sizes["decode_state_bytes"] = sum(cost.state_bytes for cost in costs)
    return sizes


def _resolve(point):
    return {**OPTIONAL, **point}


def _task(point):
    return tasks.make(point["task"], point["n"], **point["task_args"])


def _stages(point):
    return pretraining.stages(point, _task(point))


def _mechanisms(config):
    return model.mechanisms_of(config.mechanism, config.hparams, config.depth)


def _calls(point, config):
    """(mechanism, dims) of each layer."""
    head_dim = config.width // config.heads
    itemsize = jnp.dtype(config.dtype).itemsize
    mechanisms = _mechanisms(config)
    lengths = model.lengths_of(mechanisms, config.positions_of(point["n"]))
    return [
        (m, Dims(point["batch"], n, n, config.heads, head_dim, itemsize=itemsize))
        for m, n in zip(mechanisms, lengths, strict=True)
    ]


def _hashable(value):
    if isinstance(value, Mapping):
        return {name: _hashable(item) for name, item in value.items()}
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
