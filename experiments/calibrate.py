"""A device's records -> how long a call would take there, by the mechanism's formula.

    python -m experiments.calibrate results/scaling/DEVICE

writes calibration.json beside the records. A call's time is its FLOPs by formula times the seconds
a FLOP of that mechanism and pass took: a line in log-log between the sizes that were measured,
level beyond them. That one curve holds what a roofline has to model apart: the fixed cost of a
small call, the matrix products' own rate, and the memory traffic of a large one. How far it can be
trusted is measured by leaving every second length out.
"""

import bisect
import dataclasses
import json
import math
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attention_zoo as zoo
from attention_zoo.types import Dims
from experiments import kernel, records

FILE = "calibration.json"
TOLERANCE = 0.3
DTYPES = {4: "float32", 2: "bfloat16"}


@dataclasses.dataclass(frozen=True)
class Curve:
    """Seconds a FLOP at so many FLOPs, ascending."""

    flops: tuple[int, ...]
    seconds_per_flop: tuple[float, ...]

    def seconds(self, flops: int) -> float:
        x = [math.log(known) for known in self.flops]
        y = [math.log(rate) for rate in self.seconds_per_flop]
        at = math.log(flops)
        right = bisect.bisect(x, at)
        if right in (0, len(x)):
            return flops * math.exp(y[min(right, len(x) - 1)])
        share = (at - x[right - 1]) / (x[right] - x[right - 1])
        return flops * math.exp(y[right - 1] + share * (y[right] - y[right - 1]))


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A device's curves by what `key` makes of a call, and what they rest on."""

    curves: Mapping[str, Curve]
    facts: Mapping[str, Any]

    def predict(
        self,
        mechanism: str,
        hparams: Mapping[str, Any],
        dims: Dims,
        mode: str = "forward",
        *,
        causal: bool = False,
    ) -> float:
        """Seconds of a warm call. ValueError where nothing of the kind was measured here."""
        name = key(mechanism, hparams, mode, causal, DTYPES.get(dims.itemsize, "?"))
        if name not in self.curves:
            alike = [other for other in self.curves if other.startswith(mechanism)]
            known = "; ".join(alike or sorted(self.curves))
            raise ValueError(f"no records of {name!r} to calibrate by; there are {known}")
        flops = zoo.make(mechanism, **hparams).cost(dims, causal=causal).flops
        return self.curves[name].seconds(flops)


def load(path: str | Path) -> Calibration:
    """Of a calibration.json."""
    stored = json.loads(Path(path).read_text())
    curves = {name: Curve(*map(tuple, curve.values())) for name, curve in stored["curves"].items()}
    return Calibration(curves, {name: stored[name] for name in stored if name != "curves"})


def key(mechanism: str, hparams: Mapping, mode: str, causal: bool, dtype: str) -> str:
    """A call's curve: words and switches among its hyperparameters choose it, sizes do not."""
    usual = zoo.defaults(mechanism)
    chosen = [
        f"{name}={value}"
        for name, value in sorted(hparams.items())
        if isinstance(value, str | bool) and value != usual.get(name)
    ]
    return ", ".join([" ".join([mechanism, *chosen]), mode, *["causal"] * causal, dtype])


def samples(found: Iterable[dict]) -> dict[str, list[tuple[int, float, dict]]]:
    """(FLOPs by formula, seconds, config), ascending, of the calls that were timed, by `key`."""
    sets = {}
    for record in found:
        point, seconds = record["config"], record["metrics"].get("seconds")
        if point["kind"] != "kernel" or record["status"] != "ok" or not seconds:
            continue
        name = key(*(point[field] for field in ("mechanism", "hparams", "mode", "causal", "dtype")))
        cost = kernel.mechanism(point).cost(kernel.dims(point), causal=point["causal"])
        sets.setdefault(name, []).append((cost.flops, seconds, point))
    return {name: sorted(of_name, key=lambda s: s[0]) for name, of_name in sorted(sets.items())}


def curve(of_name: list[tuple[int, float, dict]]) -> Curve:
    by_flops = {}
    for flops, seconds, _ in of_name:
        by_flops.setdefault(flops, []).append(seconds / flops)
    return Curve(tuple(by_flops), tuple(map(statistics.geometric_mean, by_flops.values())))


def held_out(sets: Mapping[str, list]) -> list[dict]:
    """{"curve", "n", "ratio"} of every second length, predicted from the others over measured."""
    found = []
    for name, of_name in sets.items():
        kept, left = of_name[::2], of_name[1::2]
        if len(kept) > 1:
            rest = curve(kept)
            found += [
                {"curve": name, "n": point["n"], "ratio": rest.seconds(flops) / seconds}
                for flops, seconds, point in left
            ]
    return found


def calibrate(found: list[dict]) -> dict:
    """What calibration.json holds, of the records of one device."""
    sets = samples(found)
    if not sets:
        raise ValueError("no records of kind kernel with a time among them; run configs/scaling.py")
    used = [record["env"] for record in found if record["status"] == "ok"]
    tests = held_out(sets)
    errors = sorted(abs(test["ratio"] - 1) for test in tests)
    misses = sorted((t for t in tests if abs(t["ratio"] - 1) > TOLERANCE), key=lambda t: t["ratio"])

    def said(name):
        return sorted({str(env.get(name)) for env in used})

    return {
        "device": ", ".join(said("device")),
        "records": {name: said(name) for name in ("commit", "jax", "jaxlib", "cores")},
        "held_out": {
            "points": len(tests),
            "median_error": round(statistics.median(errors), 4) if errors else None,
            "error_of_90_percent": round(errors[int(0.9 * len(errors))], 4) if errors else None,
            "within_tolerance": round(1 - len(misses) / len(tests), 4) if tests else None,
            "tolerance": TOLERANCE,
            "misses": [{**miss, "ratio": round(miss["ratio"], 3)} for miss in misses],
        },
        "curves": {name: dataclasses.asdict(curve(of_name)) for name, of_name in sets.items()},
    }


def main(arguments: list[str] | None = None) -> int:
    folders = sys.argv[1:] if arguments is None else arguments
    if len(folders) != 1:
        print("usage: python -m experiments.calibrate results/scaling/DEVICE", file=sys.stderr)
        return 2
    folder = Path(folders[0])
    try:
        made = calibrate(records.load(folder))
    except ValueError as error:
        print(f"experiments.calibrate: {folder}: {error}", file=sys.stderr)
        return 2
    path = folder / FILE
    path.write_text(json.dumps(made, indent=1) + "\n")
    kept = made["held_out"]
    print(
        f"{path}: {kept['points']} points held out, median error {kept['median_error']}, "
        f"{kept['within_tolerance']} of them within {TOLERANCE}; the others:"
    )
    for miss in kept["misses"]:
        print(f"  {miss['curve']}, n={miss['n']}: predicted {miss['ratio']} of what was measured")
    return 0


if __name__ == "__main__":
    sys.exit(main())
