"""The training loop: steps, evaluations, an early stop, checkpoints. Resumable to the bit.

A batch and its randomness are functions of (seed, step), so a checkpoint holds no iterator. It is
written before the evaluation of its step, which a run that goes on from it does again.
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
# that the speed of the run is the median of
TIMED_STEPS = 1000


class NotFiniteError(FloatingPointError):
    """The loss of a step, or a validation's, is NaN or infinite."""

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
    positions: int = 0
    """Of all steps' inputs, padding included."""
    whole: int = 0
    """Steps of as many sequences as the point says: while a task grows, batches have more that are
    shorter."""
    flops: int = 0
    """Of the whole steps."""
    durations: list[float] = dataclasses.field(default_factory=list)
    """Seconds of the last of the whole steps."""


class Stop:
    """Whether SIGTERM came, while the block lasts. Only the main thread may listen.

    Where nothing was left to be asked for it, leaving the block ends the process. Of several
    processes jax's runtime listens, and has all of them stop at one step.
    """

    requested = False

    def __enter__(self):
        in_main = threading.current_thread() is threading.main_thread()
        self.listens = in_main and distributed.count == 1
        if self.listens:
            self.before = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, error, *_):
        if self.listens:
            signal.signal(signal.SIGTERM, self.before)
        if error is None:
            self.heed()

    def after(self, step: int) -> bool:
        """To be asked after every step."""
        return self.requested or distributed.stops(step)

    def heed(self) -> None:
        """SystemExit if it came: to be called where ending loses nothing."""
        if self.requested:
            self.leave()

    def leave(self) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    def _request(self, *_):
        self.requested = True


class Run:
    """The loop. One step is in flight while the next batch is made.

    `evaluate(split, variables) -> {metric: value}`; a SystemExit in it stops the run, which goes on
    from that step.
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
        self.flight, self.times = collections.deque(), collections.deque(maxlen=RECENT_STEPS)
        self.mark, self.told, self.saved = 0.0, 0.0, (0, 0)
        self.sign = 1 if task.higher_is_better else -1

    def __call__(self, state: Mapping[str, Any]) -> tuple[Progress, Mapping[str, Any]]:
        """From the last checkpoint, if any, to the end: progress and the best model's variables."""
        c, progress = self.point, Progress()
        best = _copy_variables(state)
        if found := self.checkpoints.restore({"state": state, "best": best}):
            _, trees, notes = found
            state, best, progress = trees["state"], trees["best"], Progress(**notes)
            self.saved = _place(progress)
        self.curve.write(progress.curve)
        while True:
            if self.is_due(progress):
                try:
                    better = self.measure(progress, state)
                except SystemExit:
                    self.save(progress, state, best)
                    raise
                if better:
                    best = _copy_variables(state)
            if progress.step == c["steps"] or self.is_over(progress):
                if c["keep_checkpoints"] or self.saved[0] != progress.step:
                    self.save(progress, state, best)
                return progress, best
            state = self.step(progress, state)
            due, every = self.is_due(progress), c["checkpoint_every"]
            saves = due if every is None else progress.step % every == 0
            stops = self.stop.after(progress.step)
            if due or saves or stops:
                self.land(progress, flying=0)
            if saves or stops or progress.step == c["steps"]:
                self.save(progress, state, best)
            if stops:
                self.stop.leave()

    def step(self, progress, state):
        """The state after the next step, which is under way."""
        c = self.point
        if not self.flight:
            self.mark = time.perf_counter()
        batch = self.task.batch(c["seed"], progress.step, c["batch"])
        if self.program is None:
            # with its first batch a task may draw its data, or read them
            self.mark = time.perf_counter()
        begin = time.perf_counter()
        self.program = self.programs.of(state, batch)
        # compiling is no training
        self.mark += time.perf_counter() - begin
        state, loss = self.program.run(state, batch, np.int32(progress.step))
        sequences, length = batch["inputs"].shape[:2]
        whole = sequences == c["batch"]
        progress.step += 1
        progress.positions += sequences * length
        progress.whole += whole
        progress.flops += whole * self.program.flops
        self.flight.append((progress.step, loss, whole))
        self.land(progress, flying=1)
        return state

    def land(self, progress, *, flying: int):
        """Wait until no more than `flying` steps are under way."""
        while len(self.flight) > flying:
            step, loss, whole = self.flight.popleft()
            loss = float(loss)
            now = time.perf_counter()
            took, self.mark = now - self.mark, now
            self.times.append(took)
            progress.seconds += took
            if whole:
                progress.durations.append(took)
                del progress.durations[:-TIMED_STEPS]
            if not math.isfinite(loss):
                raise NotFiniteError(f"the loss is {loss} at step {step}")
            progress.recent.append(loss)
            if now - self.told > TELL_SECONDS:
                self.told = now
                tell(self.describe(step))

    def save(self, progress, state, best):
        """Unless it is saved as it is."""
        if self.saved != _place(progress):
            trees, notes = {"state": state, "best": best}, dataclasses.asdict(progress)
            self.checkpoints.save(progress.step, trees, notes)
            self.saved = _place(progress)

    def is_due(self, progress) -> bool:
        """Whether the step is to be evaluated: every `eval_every`-th and the last, but none that is
        closer than that to the last."""
        every, left = self.point["eval_every"], self.point["steps"] - progress.step
        falls = left == 0 or (progress.step % every == 0 and left >= every)
        done = progress.curve[-1]["step"] if progress.curve else 0
        return falls and progress.step > done

    def describe(self, step: int) -> str:
        """How far, how fast, and how long the rest takes if no early stop comes."""
        seconds = statistics.median(self.times)
        total = self.point["steps"]
        left = (total - step) * seconds
        return f"step {step}/{total}, {1 / seconds:.3g} steps/s, {left:.0f} s left"

    def measure(self, progress, state) -> bool:
        """Add a line to the curve; whether it is the best so far."""
        scores = self.evaluate("val", state)
        score, loss = scores[self.task.metric], scores["loss"]
        if not (math.isfinite(score) and math.isfinite(loss)):
            told = f"validation's {self.task.metric} is {score}, its loss {loss}"
            raise NotFiniteError(f"{told}, after step {progress.step}")
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


def _place(progress):
    """Steps and evaluations that are done."""
    return progress.step, len(progress.curve)


def _copy_variables(state):
    return jax.tree.map(jnp.copy, {name: state[name] for name in ("params", "buffers")})
