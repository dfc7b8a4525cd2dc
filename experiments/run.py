"""Run the experiment of a config file and keep a record of every point.

    python -m experiments.run --config configs/scaling.py --config.lengths=256,512 --out out/scaling

Run it again to go on where it stopped: only what has no record is measured. Several runners may
share a folder.
"""

import argparse
import collections
import signal
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments import configuration, environment, mesh, records, sweep
from experiments.measure import LEAST_REPEATS
from experiments.worker import kind_module

# of a point of unknown cost, and of starting one
UNKNOWN_SECONDS = 20.0
START_SECONDS = 1.0
# before the timed ones: a first one, and one whose memory is watched
UNTIMED_CALLS = 2


class Stopped(BaseException):
    """A signal asked us to end."""


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 after a sweep, 2 for a mistake that one line on stderr names."""
    try:
        return _main(sys.argv[1:] if argv is None else argv)
    except (ValueError, records.StorageError, RuntimeError) as error:
        print(f"experiments.run: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _main(argv):
    options, assignments = _parse(argv)
    if options.list and not options.config:
        for path, summary in configuration.available().items():
            print(f"{path:30} {summary}")
        return 0
    if not options.config:
        known = ", ".join(configuration.available())
        raise ValueError(f"--config is missing; there are {known}")
    module, config = configuration.load(options.config)
    configuration.override(config, assignments)
    settings = _settings(config)
    points = configuration.points(module, config)
    mesh.check_points(points, settings.mesh)
    if options.list:
        for point in points:
            print(f"{records.point_id(point)} {name(point)}")
        return 0
    if options.dry_run:
        _print_plan(points)
        return 0
    return _run(points, settings, config, options)


def _run(points, settings, config, options):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    store = None
    try:
        env = environment.facts() if settings.isolate == "none" else environment.probe()
        mesh.sizes(settings.mesh, env.get("devices", 1))
        out = options.out or Path("results") / config.experiment / env["device"]
        store = records.Store(out)
        todo = sweep.pending(points, store, retry=options.retry)
        with _Bar(points, todo) as bar:
            heard = {"done": bar.done, "told": bar.told}
            held = sweep.run(points, store, settings, env, retry=options.retry, **heard)
        store.merge()
        _print_summary(points, store, held)
        return 0
    except Stopped as stop:
        if store is not None:
            store.merge()
            print(f"stopped by {stop}; the same command goes on from here", file=sys.stderr)
            _print_summary(points, store, [])
        return 128 + signal.Signals[str(stop)]
    finally:
        if store is not None:
            store.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else 0)


def name(point: dict) -> str:
    """A point in a few words."""
    words = [point.get("experiment"), point.get("label"), f"n={point['n']}"]
    words += [point[key] for key in ("mode", "order", "feature_map") if key in point]
    words += [f"{key}={point[key]}" for key in ("value_dim", "seed") if point.get(key)]
    words += [f"lr={point['lr']}"] if point.get("role") == "grid" else []
    return " ".join(str(word) for word in words if word) + (
        " causal" if point.get("causal") else ""
    )


def predicted(point: dict, flops_per_second: float) -> tuple[dict, float]:
    """({"flops", "bytes"} where known, seconds of the whole point)."""
    module = kind_module(point["kind"])
    if hasattr(module, "objections") and module.objections(point):
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
        seconds = seconds * UNTIMED_CALLS + max(seconds * LEAST_REPEATS, within)
    return cost, START_SECONDS + seconds


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

    def __init__(self, points, todo):
        rate = flops_per_second()
        self._weights = {records.point_id(p): predicted(p, rate)[1] for p in todo}
        self._count, self._total = len(points) - len(todo), len(points)
        self._every = 0.2 if sys.stderr.isatty() else 5.0
        self._said = 0.0
        self._bar = tqdm(
            total=sum(self._weights.values()),
            bar_format="{percentage:3.0f}% |{bar:24}| {desc} [{elapsed}, {remaining} left]",
            mininterval=self._every,
            disable=not todo,
        )

    def done(self, point, record):
        self._count += 1
        status = record["status"] if record else "with another runner"
        self._bar.set_description_str(
            f"{self._count}/{self._total} {name(point)}: {status}", refresh=False
        )
        self._bar.update(self._weights.get(records.point_id(point), 0))

    def told(self, point, text):
        """Show how far the point is that runs now."""
        if time.monotonic() - self._said >= self._every:
            self._said = time.monotonic()
            self._bar.set_description_str(f"{self._count + 1}/{self._total} {name(point)}: {text}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()


def _print_plan(points):
    rate, total = flops_per_second(), 0.0
    print(f"{'id':10} {'FLOPs':>9} {'bytes':>9} {'seconds':>8}  point")
    for point in points:
        cost, seconds = predicted(point, rate)
        total += seconds
        flops, held = (
            f"{cost[key]:9.2e}" if cost.get(key) else f"{'?':>9}" for key in ("flops", "bytes")
        )
        speed = f", {point['steps'] / seconds:.3g} steps/s" if seconds and "steps" in point else ""
        print(f"{records.point_id(point)} {flops} {held} {seconds:8.1f}  {name(point)}{speed}")
    print(f"{len(points)} points, about {total / 60:.1f} min at {rate / 1e9:.0f} GFLOP/s")


def _print_summary(points, store, held):
    known = store.all()
    mine = [known[id] for id in map(records.point_id, points) if id in known]
    failed = [record for record in mine if record["status"] != "ok"]
    for record in failed[:20]:
        print(f"{record['status']:8} {name(record['config'])}: {record['reason']}")
    if len(failed) > 20:
        print(f"... and {len(failed) - 20} more that are not ok")
    counts = collections.Counter(record["status"] for record in mine)
    words = ", ".join(f"{counts[status]} {status}" for status in records.STATUSES if counts[status])
    missing = len(points) - len(mine) - len(held)
    words += f", {len(held)} with another runner" if held else ""
    words += f", {missing} not measured yet" if missing else ""
    print(f"{len(mine)} of {len(points)} points: {words}\nrecords: {store.merged}")


def _settings(config):
    fields = ("isolate", "time_limit", "memory_limit_gb", "mesh")
    return sweep.Settings(**{key: config[key] for key in fields if key in config})


def _stop(number, frame):
    raise Stopped(signal.Signals(number).name)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def _parse(argv):
    """(options, [(dotted key, text)]) of a command line."""
    parser = _Parser(
        prog="python -m experiments.run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="--config.KEY=VALUE replaces a value, --config.lengths=256,512 a tuple.",
    )
    parser.add_argument("--config", help="a config file, or its bare name, and :CHOICE of a size")
    parser.add_argument("--out", type=Path, help="folder of the records: results/EXPERIMENT/DEVICE")
    parser.add_argument(
        "--list", action="store_true", help="print the configs, or a config's points"
    )
    parser.add_argument("--dry_run", action="store_true", help="print points and predicted costs")
    parser.add_argument("--retry", action="store_true", help="measure again what ended in an error")
    options, rest = parser.parse_known_args(argv)
    assignments = []
    while rest:
        key, equals, text = rest.pop(0).partition("=")
        if not key.startswith("--config.") or not (equals or rest):
            known = "--config, --config.KEY=VALUE, --out, --list, --dry_run, --retry"
            raise ValueError(f"unknown argument {key!r}; known: {known}")
        assignments.append((key.removeprefix("--config."), text if equals else rest.pop(0)))
    return options, assignments


if __name__ == "__main__":
    sys.exit(main())
