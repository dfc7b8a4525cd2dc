"""How far forecasts are off: of every sample by the others, and of those of a batch and of heads by
those of other batches and heads."""

import collections
import math
import statistics
from collections.abc import Iterable, Mapping

from experiments.analysis import estimates, forecasts, samples
from experiments.analysis.forecasts import TOLERANCES
from experiments.analysis.samples import Sample
from experiments.kinds import kernel

# of held-out calls of other sizes, and at least how many of them tell their error; else it is that
# which formulas for bytes are held to, and of time not known
MOST, ENOUGH = 0.9, 20
OTHERWISE = {"seconds": math.inf, "memory": 0.1}


def held_out(sets: Mapping[str, list[Sample]]) -> dict[str, list[dict]]:
    """{"curve", "n", "ratio"} of every record, estimated from the others over measured: of time,
    and of all the memory that a call needs.

    But for the smallest of a curve: from larger ones alone a fixed cost cannot be told.
    """
    found = {"seconds": [], "memory": []}
    for name, known in sets.items():
        with_memory = [sample for sample in known if sample.memory]
        ratios = {
            "seconds": (known, estimates.held_out(forecasts.times(known), estimates.together)),
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
        dims, at = kernel.dims(call), forecasts.length_of(call["n"], call["hparams"])
        points = forecasts.memories(others, call["hparams"], dims, causal=call["causal"])
        found = forecasts.surest(
            estimates.estimate(points, at, estimates.apart),
            lambda others=others, held=sample.compiled: held and forecasts.carried(others, held),
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
            found = forecasts.forecast(others, call["hparams"], dims, cost, causal=form)
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
