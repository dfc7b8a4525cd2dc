"""Run the experiment of a config file and keep a record of every point.

    python -m experiments.run --config configs/scaling.py --config.lengths=256,512 --out out/scaling

Run it again to go on where it stopped: only what has no record is measured. Several runners may
share a folder: `--launcher local --workers 4` starts four of them here, `--launcher slurm` queues
them on a cluster. With `--distributed` this process is one of several that train as one.
"""

import dataclasses
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from experiments import command, measure, records, sweep
from experiments.measuring import environment
from experiments.running import again, arguments, configuration, distributed, stopping, summary
from experiments.running.worker import kind_module
from experiments.training import mesh

# of a point of unknown cost, and of starting one
UNKNOWN_SECONDS = 20.0
START_SECONDS = 1.0
# before the timed ones: a first one, one whose memory is watched, and a short one once more
UNTIMED_CALLS = 3
# of the product that tells an accelerator's rate
DEVICE_FLOPS = 2 * 4096**3


def main(argv: list[str] | None = None, share=None) -> int:
    """The exit code: 0 after a sweep, 2 for a mistake that one line on stderr names.

    `share`: a jobs.Share, of a worker that shares the sweep.
    """
    try:
        return _main(sys.argv[1:] if argv is None else argv, share)
    except distributed.LostError as error:
        command.mistake("run", f"{error}; the same command goes on from here")
        distributed.leave(distributed.LOST)
    except (ValueError, records.StorageError, RuntimeError) as error:
        return command.mistake("run", error)


def _main(argv, share):
    options, assignments, slurm = arguments.parse(argv, __doc__)
    if options.list and not (options.config or options.again):
        for path, words in configuration.available().items():
            print(f"{path:30} {words}")
        return 0
    config, points = _asked(options, assignments)
    settings = _settings(config)
    mesh.check_points(points, settings.mesh)
    if options.list:
        for point in points:
            print(f"{records.point_id(point)} {summary.name(point)}")
        return 0
    if options.dry_run:
        _print_plan(points)
        return 0
    if options.launcher:
        # it takes half a second to import
        from experiments.running import launch

        works = launch.Works(options, assignments, config.experiment, points, settings.mesh)
        return works.start(slurm)
    if options.distributed:
        distributed.join(options.coordinator, options.processes, options.process)
        settings = dataclasses.replace(settings, isolate="none")
    return _run(points, settings, config.get("experiment"), options, share)


def _asked(options, assignments):
    """(config, points) of a config file, or of records."""
    if options.again:
        if options.config or not options.out:
            raise ValueError("--again takes --out and no --config: its points are those of records")
        points = again.points(options.again, options.ids)
        config = again.settings(options.again, points)
        configuration.override(config, assignments)
        return config, points
    if not options.config:
        known = ", ".join(configuration.available())
        raise ValueError(f"--config is missing; there are {known}")
    module, config = configuration.load(options.config)
    configuration.override(config, assignments)
    return config, configuration.points(module, config)


def _run(points, settings, experiment, options, share):
    # of several processes jax's runtime heeds SIGTERM, to stop all of them at one step
    numbers = [signal.SIGINT] + [signal.SIGTERM] * (distributed.count == 1)
    store, first = None, distributed.is_first()
    with stopping.heeded(*numbers):
        try:
            env = environment.facts() if settings.isolate == "none" else environment.probe()
            mesh.check_devices(points, settings.mesh, env.get("devices", 1))
            store = records.Store(options.out or Path("results") / experiment / env["device"])
            retry, waits = options.retry, share is not None
            if waits:
                retry, points = share.retry, share.order(points)
            todo = sweep.pending(points, store, retry=retry)
            with _Bar(points, todo, shown=first) as bar, logging_redirect_tqdm():
                heard = {"done": bar.done, "told": bar.told}
                held = sweep.run(points, store, settings, env, retry=retry, wait=waits, **heard)
            if first:
                store.merge()
                summary.show(points, store, held)
            return 0
        except stopping.Stopped as stop:
            if store is not None and first:
                store.merge()
                summary.stopped(stop)
                summary.show(points, store)
            return stop.code
        except SystemExit:
            # training in this very process, which has saved where it was
            if first:
                summary.stopped("SIGTERM")
            raise
        finally:
            if store is not None:
                store.close()


def predicted(point: dict, flops_per_second: float) -> tuple[dict, float]:
    """({"flops", "bytes"} where known, seconds of the whole point)."""
    module = kind_module(point["kind"])
    if sweep.refusal(point):
        return {}, 0.0
    if not hasattr(module, "predict"):
        return {}, UNKNOWN_SECONDS
    cost = module.predict(point)
    if not cost.get("flops"):
        return cost, UNKNOWN_SECONDS
    # what is repeated predicts one call, what is not the whole of it
    seconds = cost["flops"] / (flops_per_second * cost.get("share", 1.0)) + cost.get("seconds", 0.0)
    if "repeats" in point:
        within = min(seconds * point["repeats"], point.get("budget", float("inf")))
        seconds = seconds * UNTIMED_CALLS + max(seconds * measure.LEAST_REPEATS, within)
    return cost, START_SECONDS + seconds


def flops_of_device() -> tuple[float, str]:
    """(FLOPs a second of a float32 matrix product, where it was made): on the accelerator, which
    this process holds from then on, or without one in numpy."""
    if jax.default_backend() == "cpu":
        return flops_per_second(), "numpy"
    seconds = measure.gemm_seconds(DEVICE_FLOPS)
    return DEVICE_FLOPS / seconds, jax.devices()[0].device_kind


def flops_per_second() -> float:
    """Of a float32 matrix product in numpy: near enough to plan by, on a CPU."""
    x = np.ones((512, 512), np.float32)
    x @ x
    start = time.perf_counter()
    for _ in range(5):
        x @ x
    return 5 * 2 * 512**3 / (time.perf_counter() - start)


class _Bar:
    """Progress in predicted seconds, so that the time left is not fooled by dear points."""

    def __init__(self, points, todo, *, shown=True):
        rate = flops_per_second()
        self._weights = {records.point_id(p): predicted(p, rate)[1] for p in todo}
        self._count, self._total = len(points) - len(todo), len(points)
        self._every = 0.2 if sys.stderr.isatty() else 5.0
        self._said = 0.0
        self._bar = tqdm(
            total=sum(self._weights.values()),
            bar_format="{percentage:3.0f}% |{bar:24}| {desc} [{elapsed}, {remaining} left]",
            mininterval=self._every,
            disable=not (todo and shown),
        )

    def done(self, point, record):
        self._count += 1
        status = record["status"] if record else "with another runner"
        self._bar.set_description_str(
            f"{self._count}/{self._total} {summary.name(point)}: {status}", refresh=False
        )
        self._bar.update(self._weights.get(records.point_id(point), 0))

    def told(self, point, text):
        """Show how far the point is that runs now."""
        if time.monotonic() - self._said >= self._every:
            self._said = time.monotonic()
            at = f"{self._count + 1}/{self._total} {summary.name(point)}"
            self._bar.set_description_str(f"{at}: {text}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()


def _print_plan(points):
    (rate, where), total = flops_of_device(), 0.0
    print(f"{'id':10} {'FLOPs':>9} {'bytes':>9} {'seconds':>8}  point")
    for point in points:
        cost, seconds = predicted(point, rate)
        total += seconds
        flops, held = (
            f"{cost[key]:9.2e}" if cost.get(key) else f"{'?':>9}" for key in ("flops", "bytes")
        )
        speed = f", {point['steps'] / seconds:.3g} steps/s" if seconds and "steps" in point else ""
        if why := sweep.refusal(point):
            speed = f", {why[0]}"
        words = f"{summary.name(point)}{speed}"
        print(f"{records.point_id(point)} {flops} {held} {seconds:8.1f}  {words}")
    speed = f"the {rate / 1e9:.0f} GFLOP/s of a matrix product on {where}"
    print(f"{len(points)} points, about {total / 60:.1f} min at {speed}")


def _settings(config):
    fields = ("isolate", "time_limit", "memory_limit_gb", "mesh")
    given = {key: config[key] for key in fields if key in config}
    return sweep.Settings(**{**given, "mesh": dict(given.get("mesh", {}))})


if __name__ == "__main__":
    sys.exit(main())
