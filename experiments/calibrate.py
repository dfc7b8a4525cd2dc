"""A device's records -> how long a call would take there and what it would hold.

    python -m experiments.calibrate results/scaling/DEVICE

writes calibration.json beside the records. Time is a fixed cost, and work, by the mechanism's
formula for FLOPs (`samples.work`), times a rate; memory is a polynomial in N, carried over to other
sizes and forms by the formula for bytes. The rates are fitted to the records nearest in size
(`experiments.analysis.estimates`) of the same mechanism, its switches, pass and dtype. How far that
can be trusted is measured: every record is estimated from the others, and those of a batch and of
heads from those of other batches and heads. Where memory is uncertain so, it is a fixed growth, and
what the program compiles to times a rate.
"""

import collections
import dataclasses
import functools
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from attention_zoo.types import Cost, Dims
from experiments.analysis import estimates, reading, samples
from experiments.analysis.estimates import Estimate, Point
from experiments.analysis.samples import Sample
from experiments.kinds import kernel

FILE = "calibration.json"
TOLERANCES = {"seconds": 0.3, "memory": 0.15}
DTYPES = {4: "float32", 2: "bfloat16"}
# what a kernel's own blocks, where no hyperparameter says, divide
TILE = 128
# of held-out calls of other sizes, and at least how many of them tell their error; else it is that
# which formulas for bytes are held to, and of time not known
MOST, ENOUGH = 0.9, 20
OTHERWISE = {"seconds": math.inf, "memory": 0.1}


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Of a warm call; memory in bytes beside its inputs, None where no record has it."""

    seconds: Estimate
    memory: Estimate | None

    @property
    def familiar(self) -> bool:
        """Whether records are of such calls, but for their sizes."""
        return self.seconds.how not in ("not causal", "padded otherwise")

    def of_other_sizes(self, errors: Mapping[str, float]) -> "Forecast":
        """The same with errors at least as large, from records of other batches and heads."""
        parts = {"seconds": self.seconds, "memory": self.memory}
        return Forecast(
            **{
                what: part and Estimate(part.value, "other sizes", max(part.error, errors[what]))
                for what, part in parts.items()
            }
        )


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A device's samples by what `key` makes of a call, and what they rest on."""

    curves: Mapping[str, list[Sample]]
    facts: Mapping[str, Any]

    def predict(
        self,
        mechanism: str,
        hparams: Mapping[str, Any],
        dims: Dims,
        mode: str = "forward",
        *,
        causal: bool = False,
    ) -> Forecast:
        """ValueError where nothing of the kind was measured here.

        Of a causal call without records, by those that are not causal; of an N that is padded as
        none was, by those that are padded otherwise. The error is not known then.
        """
        cost = samples.cost(mechanism, hparams, dims, causal=causal)
        name, same_form = self.curve(mechanism, hparams, dims, mode, causal=causal)
        known = self.curves[name]
        found = _forecast(known, hparams, dims, cost, causal)
        if not same_form:
            return _unsure(found, "not causal")
        if found.familiar and _shape(dims) not in {sample.shape for sample in known}:
            return found.of_other_sizes(self.other_sizes)
        return found

    @functools.cached_property
    def other_sizes(self) -> dict[str, float]:
        """The error of calls of batches and heads that no record has, of time and of memory."""
        return of_most(off for known in self.curves.values() for off in without_their_sizes(known))

    def curve(
        self, mechanism: str, hparams: Mapping, dims: Dims, mode: str, *, causal: bool
    ) -> tuple[str, bool]:
        """The curve that such a call is calibrated on, and whether it is causal as the call is."""
        names = [
            samples.key(mechanism, hparams, mode, form, DTYPES.get(dims.itemsize, "?"))
            for form in dict.fromkeys((causal, False))
        ]
        for name in names:
            if name in self.curves:
                return name, name == names[0]
        alike = [other for other in self.curves if other.startswith(mechanism)]
        known = "; ".join(alike or sorted(self.curves))
        raise ValueError(f"no records of {names[0]!r} to calibrate by; there are {known}")


def load(path: str | Path) -> Calibration:
    """Of a calibration.json."""
    stored = json.loads(Path(path).read_text())
    curves = {name: [Sample(**one) for one in curve] for name, curve in stored["curves"].items()}
    return Calibration(curves, {name: stored[name] for name in stored if name != "curves"})


def times(known: Iterable[Sample]) -> list[Point]:
    return [_time(s.work, s.config["n"], s.config["hparams"], s.shape, s.seconds) for s in known]


def _time(work, n, hparams, shape, seconds=math.nan):
    return Point(work, (1.0, work), seconds, _padded(n, hparams), shape)


def memories(known: list[Sample], hparams: Mapping, dims: Dims, *, causal: bool) -> list[Point]:
    """What they held, carried over to these hyperparameters, sizes and form."""
    known = [sample for sample in known if sample.memory]
    follows = hparams == samples.at_length(known, dims.q_len) if known else False
    sizes = dict(zip(samples.SHAPE, _shape(dims), strict=True))
    points = []
    for sample in known:
        call = sample.config
        there = (
            call | sizes | {"causal": causal, "hparams": call["hparams"] if follows else hparams}
        )
        ratio = 1.0 if there == call else kernel.predict(there)["bytes"] / sample.bytes
        length = _length(call["n"], there["hparams"])
        points.append(dataclasses.replace(length, value=ratio * sample.memory))
    return points


def _length(n, hparams):
    return Point(n, (1.0, n, n**1.5, n**2.0), regime=_padded(n, hparams))


def _shape(dims):
    return tuple(getattr(dims, name) for name in samples.SHAPE)


def _padded(n, hparams):
    """Whether N is a multiple of a size decides what is padded."""
    sizes = (hparams[name] for name in sorted(hparams) if type(hparams[name]) is int)
    return tuple(n % size == 0 for size in (TILE, *sizes) if size > 0)


def _forecast(known, hparams, dims, cost: Cost, causal):
    same = [sample for sample in known if samples.same(sample, hparams, dims)]
    if same:
        of = same[-1]
        memory = Estimate(of.memory, "measured", 0.0) if of.memory else None
        return Forecast(Estimate(of.seconds, "measured", of.spread), memory)
    timed, held = times(known), memories(known, hparams, dims, causal=causal)
    length = _length(dims.q_len, hparams)
    work = samples.work(cost.flops, dims.head_dim, dims.value_dim)
    call = _time(work, dims.q_len, hparams, _shape(dims))
    memory = estimates.estimate(held, length, estimates.apart) if held else None
    found = Forecast(estimates.estimate(timed, call, estimates.together), memory)
    familiar = length.regime in {point.regime for point in timed}
    return found if familiar else _unsure(found, "padded otherwise")


def carried(known: list[Sample], compiled: int) -> Estimate | None:
    """Memory of a program that compiled to so many bytes: what the samples held is fitted to a
    fixed growth and their compiled bytes times a rate. None where no sample has both."""
    points = [
        Point(sample.compiled, (1.0, sample.compiled), sample.memory)
        for sample in known
        if sample.memory and sample.compiled
    ]
    if not points:
        return None
    found = estimates.estimate(points, Point(compiled, (1.0, compiled)))
    return dataclasses.replace(found, how="compiled")


def _unsure(found, how):
    parts = (found.seconds, found.memory)
    return Forecast(*(part and Estimate(part.value, how, math.inf) for part in parts))


def surest(memory: Estimate | None, compiled: Callable[[], Estimate | None]) -> Estimate | None:
    """What records tell of memory, or where they tell it badly what the program compiles to."""
    unsure = memory is None or not memory.within(TOLERANCES["memory"])
    return (compiled() or memory) if unsure else memory


def held_out(sets: Mapping[str, list[Sample]]) -> dict[str, list[dict]]:
    """{"curve", "n", "ratio"} of every record, estimated from the others over measured: of time,
    and of all the memory that a call needs.

    But for the smallest of a curve: from larger ones alone a fixed cost cannot be told.
    """
    found = {"seconds": [], "memory": []}
    for name, known in sets.items():
        with_memory = [sample for sample in known if sample.memory]
        ratios = {
            "seconds": (known, estimates.held_out(times(known), estimates.together)),
            "memory": (with_memory, _memories_held_out(with_memory)),
        }
        for what, (of, values) in ratios.items():
            found[what] += [
                {"curve": name, "n": sample.config["n"], "ratio": ratio}
                for sample, ratio in list(zip(of, values, strict=True))[1:]
                if not math.isnan(ratio)
            ]
    return found


def _memories_held_out(known):
    if len(known) < 3:
        return [math.nan] * len(known)
    ratios = []
    for i, sample in enumerate(known):
        others, call = [*known[:i], *known[i + 1 :]], sample.config
        points = memories(others, call["hparams"], kernel.dims(call), causal=call["causal"])
        found = surest(
            estimates.estimate(points, _length(call["n"], call["hparams"]), estimates.apart),
            lambda others=others, held=sample.compiled: held and carried(others, held),
        )
        ratios.append((sample.inputs + found.value) / (sample.inputs + sample.memory))
    return ratios


def without_their_sizes(known: list[Sample]) -> Iterable[tuple[str, float]]:
    """("seconds" or "memory", how far off it is) of calls predicted by those of other sizes, but
    for the sizes that most are of: the others are too few to tell their curve."""
    most = collections.Counter(sample.shape for sample in known).most_common(1)[0][0]
    for sample in known:
        others, call = [one for one in known if one.shape != sample.shape], sample.config
        if sample.shape != most:
            dims, form = kernel.dims(call), call["causal"]
            cost = samples.cost(call["mechanism"], call["hparams"], dims, causal=form)
            found = _forecast(others, call["hparams"], dims, cost, form)
            if found.familiar:
                yield "seconds", estimates.off(found.seconds.value / sample.seconds)
            if found.familiar and found.memory and sample.memory:
                needs = [sample.inputs + held for held in (found.memory.value, sample.memory)]
                yield "memory", estimates.off(needs[0] / needs[1])


def of_most(off: Iterable[tuple[str, float]]) -> dict[str, float]:
    """What MOST of those held out were within; where they are not ENOUGH, OTHERWISE."""
    errors = {"seconds": [], "memory": []}
    for what, error in off:
        errors[what].append(error)
    return {
        what: sorted(of)[int(MOST * len(of))] if len(of) >= ENOUGH else OTHERWISE[what]
        for what, of in errors.items()
    }


def summary(tests: list[dict], tolerance: float) -> dict:
    """How far held-out records were off, and every one by more than the tolerance."""
    errors = sorted(abs(test["ratio"] - 1) for test in tests)
    misses = sorted((t for t in tests if abs(t["ratio"] - 1) > tolerance), key=lambda t: t["ratio"])
    return {
        "points": len(tests),
        "median_error": round(statistics.median(errors), 4) if errors else None,
        "error_of_90_percent": round(errors[int(0.9 * len(errors))], 4) if errors else None,
        "within_tolerance": round(1 - len(misses) / len(tests), 4) if tests else None,
        "tolerance": tolerance,
        "misses": [{**miss, "ratio": round(miss["ratio"], 3)} for miss in misses],
    }


def summaries(tests: Mapping[str, list[dict]]) -> dict[str, dict]:
    """`summary` of what `held_out` found."""
    return {what: summary(tests[what], tolerance) for what, tolerance in TOLERANCES.items()}


def curves(found: list[dict]) -> dict[str, list[Sample]]:
    """Those of `samples.curves`; ValueError where there are none."""
    sets = samples.curves(found)
    if not sets:
        raise ValueError("no records of kind kernel with a time among them; run configs/scaling.py")
    return sets


def calibration(found: list[dict]) -> Calibration:
    """Of the records of one device."""
    sets = curves(found)
    used = [record["env"] for record in found if record["status"] == "ok"]

    def said(name):
        return sorted({str(env.get(name)) for env in used})

    devices = said("device")
    if len(devices) > 1:
        raise ValueError(f"records of {', '.join(devices)}; name the folder of one device")
    tests = held_out(sets)
    facts = {
        "device": devices[0],
        "records": {name: said(name) for name in ("commit", "jax", "jaxlib", "cores")},
        "held_out": summaries(tests),
    }
    return Calibration(sets, facts)


def calibrate(found: list[dict]) -> dict:
    """What calibration.json holds, of the records of one device."""
    made = calibration(found)
    curves = {
        name: [dataclasses.asdict(one) for one in known] for name, known in made.curves.items()
    }
    return {**made.facts, "curves": curves}


def main(arguments: list[str] | None = None) -> int:
    folders = sys.argv[1:] if arguments is None else arguments
    if len(folders) != 1:
        print("usage: python -m experiments.calibrate results/scaling/DEVICE", file=sys.stderr)
        return 2
    folder = Path(folders[0])
    read = reading.read([folder])
    found, left_out = samples.calls(read.records)
    for note in (*read.notes, *left_out):
        print(note, file=sys.stderr)
    try:
        made = calibrate(found)
    except ValueError as error:
        print(f"experiments.calibrate: {folder}: {error}", file=sys.stderr)
        return 2
    path = folder / FILE
    path.write_text(json.dumps(made, indent=1) + "\n")
    for what, kept in made["held_out"].items():
        print(
            f"{path}: {what}: {kept['points']} held out, median error {kept['median_error']}, "
            f"{kept['within_tolerance']} of them within {kept['tolerance']}; the others:"
        )
        for miss in kept["misses"]:
            print(f"  {miss['curve']}, n={miss['n']}: predicted {miss['ratio']} of measured")
    return 0


if __name__ == "__main__":
    sys.exit(main())
