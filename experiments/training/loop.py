"""The training loop: steps, evaluations, an early stop, checkpoints. Resumable to the bit.

A batch and its randomness are functions of (seed, step), so a checkpoint holds no iterator.
"""

import collections
import dataclasses
import math
import signal
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.checkpoint import Checkpoints
from experiments.running import distributed
from experiments.running.progress import tell
from experiments.tasks import Task
from experiments.tasks.metric import merit
from experiments.training.curves import Curve
from experiments.training.steps import Programs

TELL_SECONDS = 1.0
# that the speed now is the median of
RECENT_STEPS = 50


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
    best_loss: float | None = None
    """On validation. Of equal scores, and small sets have many, the one of the lowest is best."""
    seconds: float = 0.0
    """Of training steps, evaluation and compilation apart."""
    flops: int = 0
    positions: int = 0
    """Of all steps' inputs, padding included."""


class Stop:
    """Whether SIGTERM came, while the block lasts. Only the main thread may listen.

    Of several processes jax's runtime listens, and has all of them stop at one step.
    """

    requested = False

    def __enter__(self):
        in_main = threading.current_thread() is threading.main_thread()
        self.listens = in_main and distributed.count == 1
        if self.listens:
            self.before = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, *exception):
        if self.listens:
            signal.signal(signal.SIGTERM, self.before)

    def after(self, step: int) -> bool:
        """To be asked after every step."""
        return self.requested or distributed.stops(step)

    def _request(self, *_):
        self.requested = True


class Run:
    """The loop. One step is in flight while the next batch is made.

    `evaluate(split, variables) -> {metric: value}`.
    """

    def __init__(
        self,
        point: Mapping,
        task: Task,
        programs: Programs,
        evaluate: Callable,
        *,
        checkpoints: Checkpoints,
        curve: Curve,
        stop: Stop,
    ):
        self.point, self.task, self.programs, self.program = point, task, programs, None
        self.evaluate, self.checkpoints, self.curve, self.stop = evaluate, checkpoints, curve, stop
        self.flight, self.durations = collections.deque(), []
        self.mark, self.told = 0.0, 0.0
        self.sign = 1 if task.higher_is_better else -1

    def __call__(self, state: Mapping[str, Any]) -> tuple[Progress, Mapping[str, Any]]:
        """From the last checkpoint, if any, to the end: progress and the best model's variables."""
        c, progress = self.point, Progress()
        best = _copy_variables(state)
        if found := self.checkpoints.restore({"state": state, "best": best}):
            _, trees, notes = found
            state, best, progress = trees["state"], trees["best"], Progress(**notes)
        self.curve.write(progress.curve)
        self.mark = time.perf_counter()
        while progress.step < c["steps"] and not self.is_over(progress):
            batch = self.task.batch(c["seed"], progress.step, c["batch"])
            begin = time.perf_counter()
            self.program = self.programs.of(state, batch)
            # compiling is no training
            self.mark += time.perf_counter() - begin
            state, loss = self.program.run(state, batch, np.int32(progress.step))
            progress.step += 1
            progress.flops += self.program.flops
            progress.positions += math.prod(batch["inputs"].shape[:2])
            self.flight.append((progress.step, loss))
            self.land(progress, flying=1)
            evaluates = progress.step % c["eval_every"] == 0 or progress.step == c["steps"]
            saves = progress.step % (c["checkpoint_every"] or c["eval_every"]) == 0
            stops = self.stop.after(progress.step)
            if not (evaluates or saves or stops):
                continue
            self.land(progress, flying=0)
            if evaluates and self.measure(progress, state):
                best = _copy_variables(state)
            if saves or stops:
                notes = dataclasses.asdict(progress)
                self.checkpoints.save(progress.step, {"state": state, "best": best}, notes)
            if stops:
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
            if now - self.told > TELL_SECONDS:
                self.told = now
                tell(self.describe(step))

    def describe(self, step: int) -> str:
        """How far, how fast, and how long the rest takes if no early stop comes."""
        seconds = statistics.median(self.durations[-RECENT_STEPS:])
        total = self.point["steps"]
        left = (total - step) * seconds
        return f"step {step}/{total}, {1 / seconds:.3g} steps/s, {left:.0f} s left"

    def measure(self, progress, state) -> bool:
        """Add a line to the curve; whether it is the best so far."""
        scores = self.evaluate("val", state)
        score, loss = scores[self.task.metric], scores["loss"]
        line = {
            "step": progress.step,
            "train_loss": math.fsum(progress.recent) / len(progress.recent),
            f"val_{self.task.metric}": score,
            "val_loss": loss,
            "seconds": round(progress.seconds, 3),
        }
        progress.recent = []
        progress.curve.append(line)
        self.curve.write(progress.curve)
        rule = {"higher_is_better": self.task.higher_is_better}
        better = progress.best is None or (
            merit(score, loss, progress.step, **rule)
            > merit(progress.best, progress.best_loss, progress.best_step, **rule)
        )
        if better:
            progress.best, progress.best_step, progress.best_loss = score, progress.step, loss
        return better

    def is_over(self, progress) -> bool:
        """Whether validation reached the target, or has not got better for so long."""
        patience, target = self.point["patience"], self.point["target"]
        since = sum(line["step"] > (progress.best_step or 0) for line in progress.curve)
        stale = patience is not None and since >= patience
        reached = None not in (target, progress.best) and self.sign * (progress.best - target) >= 0
        return stale or reached


def _copy_variables(state):
    return jax.tree.map(jnp.copy, {name: state[name] for name in ("params", "buffers")})
