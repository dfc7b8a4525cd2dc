"""Training: one loop for every task and model, functional steps, resumable to the bit.

A batch and its randomness are functions of (seed, step), so a checkpoint holds no iterator.
"""

import collections
import dataclasses
import json
import math
import signal
import statistics
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

import attention_zoo as zoo
from attention_zoo import model
from attention_zoo.types import Dims
from experiments import checkpoint, choice, flops, records, steps, tasks

OPTIONAL = {
    "task_args": {},
    "model": {},
    "dtype": "float32",
    "warmup": 0,
    "weight_decay": 0.0,
    "clip": 1.0,
    "final_lr": 0.1,
    "beta2": 0.95,
    "microbatches": 1,
    "patience": None,
    "target": None,
    "checkpoint_every": None,
    "keep_checkpoints": False,
}
"""Fields a point may leave out. `final_lr`: of the peak; `patience`: evaluations without a better
one before an early stop; `target`: the validation metric that is enough, where it stops too;
`checkpoint_every`: steps, None for at each evaluation."""


class NotFiniteError(FloatingPointError):
    """The loss of a step is NaN or infinite."""

    status = "nan"


@dataclasses.dataclass
class Progress:
    """What a run knows beside its arrays: saved with them."""

    step: int = 0
    recent: list[float] = dataclasses.field(default_factory=list)
    """Losses since the last evaluation."""
    curve: list[dict] = dataclasses.field(default_factory=list)
    best: float | None = None
    best_step: int | None = None
    seconds: float = 0.0
    """Of training steps, evaluation and compilation apart."""


def check_point(point: Mapping) -> None:
    """ValueError names the field that is wrong, or the data that are missing."""
    c = _resolve(point)
    for name in ("n", "batch", "steps", "eval_every", "microbatches"):
        if isinstance(c[name], bool) or not isinstance(c[name], int) or c[name] < 1:
            raise ValueError(f"{name} must be a whole number from 1 up, got {c[name]!r}")
    choice.check(c["lr"])
    if not 0 <= c["warmup"] <= c["steps"]:
        raise ValueError(f"warmup must be within 0..steps={c['steps']}, got {c['warmup']!r}")
    if c["batch"] % c["microbatches"]:
        raise ValueError(f"microbatches={c['microbatches']} must divide batch={c['batch']}")
    config = model_config(c, _task(c))
    model.mechanisms_of(config.mechanism, config.hparams, config.depth)


def objections(point: Mapping) -> list[str]:
    c = _resolve(point)
    task = _task(c)
    config = model_config(c, task)
    mechanisms = model.mechanisms_of(config.mechanism, config.hparams, config.depth)
    call = {
        "causal": config.kind == "decoder",
        "masked": task.masked,
        "per_position": config.per_position,
    }
    found = [
        zoo.objections(m, dims, **call)
        for m, dims in zip(mechanisms, _dims(c, config, mechanisms), strict=True)
    ]
    return list(dict.fromkeys(reason for reasons in found for reason in reasons))


def requires(point: Mapping) -> list[dict]:
    """The points whose records this one reads."""
    return choice.grid_of(point)


def predict(point: Mapping) -> dict:
    """{"flops", "bytes"} of the whole run, by rules of thumb."""
    c = _resolve(point)
    config = model_config(c, _task(c))
    tokens = c["batch"] * c["n"]
    mechanisms = model.mechanisms_of(config.mechanism, config.hparams, config.depth)
    calls = zip(mechanisms, _dims(c, config, mechanisms), strict=True)
    costs = [m.cost(dims, causal=config.kind == "decoder") for m, dims in calls]
    weights = config.depth * config.width * (4 * config.width + 2 * config.ff)
    weights += config.width * (config.vocab or config.classes or 1)
    step = 3 * sum(cost.flops for cost in costs) + 6 * weights * tokens
    kept = 4 * tokens * config.depth * (10 * config.width + 3 * config.ff)
    held = 16 * weights + kept + sum(cost.bytes for cost in costs)
    return {"flops": step * c["steps"], "bytes": held}


def run_point(point: Mapping, out: Path) -> dict:
    """Train, pick the best by validation, score it on the test split: the metrics of a record."""
    c, name = _resolve(point), records.point_id(point)
    task = _task(c)
    better = {"higher_is_better": task.higher_is_better}
    c["lr"], chosen = choice.choose(point, Path(out), task.metric, **better)
    folder = Path(out) / "checkpoints" / name
    network = zoo.Transformer(model_config(c, task), rngs=nnx.Rngs(c["seed"]))
    graph, params, buffers = nnx.split(network, nnx.Param, ...)
    optimiser = steps.make_optimiser(c, scan=network.config.scan)
    state = {"params": params, "buffers": buffers, "optimiser": optimiser.init(params)}

    step = jax.jit(steps.train_step(graph, task, optimiser, c), donate_argnums=0)
    traced = step.trace(state, task.batch(c["seed"], 0, c["batch"]), jnp.int32(0))
    evaluate = steps.Evaluation(graph, task, c["batch"])
    start = time.perf_counter()
    program = traced.lower().compile()
    compile_seconds = time.perf_counter() - start

    with checkpoint.Checkpoints(folder) as checkpoints, Stop() as stop:
        curve = Path(out) / "curves" / f"{name}.jsonl"
        run = Run(c, task, program, evaluate, checkpoints, curve, stop)
        progress, best = run(state)
    metric, last = task.metric, progress.curve[-1]
    metrics = {
        **chosen,
        "loss": last["train_loss"],
        f"val_{metric}_best": progress.best,
        f"val_{metric}_last": last[f"val_{metric}"],
        f"test_{metric}": evaluate("test", best),
        "best_step": progress.best_step,
        "steps": progress.step,
        "tokens_per_step": c["batch"] * c["n"],
        "params": model.num_params(network)["total"],
        "flops_per_step": flops.count_jaxpr(traced.jaxpr).flops,
        "seconds_per_step": statistics.median(run.durations) if run.durations else None,
        "train_seconds": progress.seconds,
        "compile_seconds": compile_seconds,
        **task.oracles(),
        **task.facts,
    }
    if not c["keep_checkpoints"]:
        checkpoint.remove(folder)
    return metrics


def model_config(point: Mapping, task: tasks.Task) -> model.TransformerConfig:
    """What the point asks for, on the inputs and outputs of the task."""
    fields = {field.name for field in dataclasses.fields(model.TransformerConfig)}
    asked = _hashable(point["model"])
    for name in asked:
        if name not in fields:
            raise ValueError(f"model has no field {name!r}; it has {', '.join(sorted(fields))}")
    chosen = {"mechanism": point["mechanism"], "hparams": point["hparams"]}
    sizes = {"max_len": point["n"], "dtype": point["dtype"]}
    return model.TransformerConfig(**{**sizes, **asked, **task.model, **_hashable(chosen)})


class Stop:
    """Whether SIGTERM came, while the block lasts. Only the main thread may listen."""

    requested = False

    def __enter__(self):
        self.listens = threading.current_thread() is threading.main_thread()
        if self.listens:
            self.before = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, *exception):
        if self.listens:
            signal.signal(signal.SIGTERM, self.before)

    def _request(self, *_):
        self.requested = True


class Run:
    """The loop. One step is in flight while the next batch is made."""

    def __init__(self, point, task, step, evaluate, checkpoints, curve: Path, stop: Stop):
        self.point, self.task, self.step = point, task, step
        self.evaluate, self.checkpoints, self.curve, self.stop = evaluate, checkpoints, curve, stop
        self.flight, self.durations, self.mark = collections.deque(), [], 0.0
        self.sign = 1 if task.higher_is_better else -1

    def __call__(self, state: Mapping[str, Any]) -> tuple[Progress, Mapping[str, Any]]:
        """From the last checkpoint, if any, to the end: progress and the best model's variables."""
        c, progress = self.point, Progress()
        best = _copy_variables(state)
        if found := self.checkpoints.restore({"state": state, "best": best}):
            _, trees, notes = found
            state, best, progress = trees["state"], trees["best"], Progress(**notes)
        self.write_curve(progress)
        self.mark = time.perf_counter()
        while progress.step < c["steps"] and not self.is_over(progress):
            batch = self.task.batch(c["seed"], progress.step, c["batch"])
            state, loss = self.step(state, batch, jnp.int32(progress.step))
            progress.step += 1
            self.flight.append((progress.step, loss))
            self.land(progress, flying=1)
            evaluates = progress.step % c["eval_every"] == 0 or progress.step == c["steps"]
            saves = progress.step % (c["checkpoint_every"] or c["eval_every"]) == 0
            if not (evaluates or saves or self.stop.requested):
                continue
            self.land(progress, flying=0)
            if evaluates and self.measure(progress, state):
                best = _copy_variables(state)
            if saves or self.stop.requested:
                notes = dataclasses.asdict(progress)
                self.checkpoints.save(progress.step, {"state": state, "best": best}, notes)
            if self.stop.requested:
                raise SystemExit(128 + signal.SIGTERM)
            self.mark = time.perf_counter()
        return progress, best

    def land(self, progress, *, flying: int):
        """Wait until no more than `flying` steps are under way."""
        while len(self.flight) > flying:
            step, loss = self.flight.popleft()
            loss = float(loss)
            now = time.perf_counter()
            self.durations.append(now - self.mark)
            progress.seconds += now - self.mark
            self.mark = now
            if not math.isfinite(loss):
                raise NotFiniteError(f"the loss is {loss} at step {step}")
            progress.recent.append(loss)

    def measure(self, progress, state) -> bool:
        """Add a line to the curve; whether it is the best so far."""
        score = self.evaluate("val", state)
        line = {
            "step": progress.step,
            "train_loss": math.fsum(progress.recent) / len(progress.recent),
            f"val_{self.task.metric}": score,
            "seconds": round(progress.seconds, 3),
        }
        progress.recent = []
        progress.curve.append(line)
        self.write_curve(progress)
        better = progress.best is None or self.sign * (score - progress.best) > 0
        if better:
            progress.best, progress.best_step = score, progress.step
        return better

    def is_over(self, progress) -> bool:
        """Whether validation reached the target, or has not got better for so long."""
        patience, target = self.point["patience"], self.point["target"]
        since = sum(line["step"] > (progress.best_step or 0) for line in progress.curve)
        stale = patience is not None and since >= patience
        reached = None not in (target, progress.best) and self.sign * (progress.best - target) >= 0
        return stale or reached

    def write_curve(self, progress):
        self.curve.parent.mkdir(parents=True, exist_ok=True)
        draft = self.curve.with_suffix(".tmp")
        draft.write_text("".join(json.dumps(line) + "\n" for line in progress.curve))
        draft.replace(self.curve)


def _resolve(point):
    return {**OPTIONAL, **point}


def _task(point):
    return tasks.make(point["task"], point["n"], **point["task_args"])


def _dims(point, config, mechanisms):
    """Of each layer's call."""
    head_dim = config.width // config.heads
    itemsize = jnp.dtype(config.dtype).itemsize
    return [
        Dims(point["batch"], n, n, config.heads, head_dim, itemsize=itemsize)
        for n in model.lengths_of(mechanisms, point["n"])
    ]


def _copy_variables(state):
    return jax.tree.map(jnp.copy, {name: state[name] for name in ("params", "buffers")})


def _hashable(value):
    if isinstance(value, Mapping):
        return {name: _hashable(item) for name, item in value.items()}
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
