"""Samples of one curve -> how long another call would take and what it would hold.

Time is a fixed cost, and work, by the mechanism's formula for FLOPs (`samples.work`), times a rate;
memory is a polynomial in N, carried over to other sizes and forms by the formula for bytes.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

from attention_zoo.types import Cost, Dims
from experiments.analysis import estimates, samples
from experiments.analysis.estimates import Estimate, Point
from experiments.analysis.samples import Sample
from experiments.kinds import kernel

TOLERANCES = {"seconds": 0.3, "memory": 0.15}
# what a kernel's own blocks, where no hyperparameter says, divide
TILE = 128


@dataclasses.dataclass(frozen=True)
class Forecast:
    """Of a warm call; memory in bytes beside its inputs, None where no record has it."""

    seconds: Estimate
    memory: Estimate | None

    @property
    def familiar(self) -> bool:
        """Whether records are of such calls, but for their sizes."""
        return self.seconds.how not in ("not causal", "padded otherwise")

    def unsure(self, how: str) -> "Forecast":
        """The same, its error not known."""
        parts = (self.seconds, self.memory)
        return Forecast(*(part and Estimate(part.value, how, math.inf) for part in parts))

    def of_other_sizes(self, errors: Mapping[str, float]) -> "Forecast":
        """The same with errors at least as large, from records of other batches and heads."""
        parts = {"seconds": self.seconds, "memory": self.memory}
        return Forecast(
            **{
                what: part and Estimate(part.value, "other sizes", max(part.error, errors[what]))
                for what, part in parts.items()
            }
        )


def times(known: Iterable[Sample]) -> list[Point]:
    return [_time(s.work, s.config["n"], s.config["hparams"], s.shape, s.seconds) for s in known]


def _time(work, n, hparams, shape, seconds=math.nan):
    # what multiplies nothing is copied: as many entries as N
    work = work or float(n)
    return Point(work, (1.0, work), seconds, _padded(n, hparams), shape)


def memories(known: list[Sample], hparams: Mapping, dims: Dims, *, causal: bool) -> list[Point]:
    """What they held, carried over to these hyperparameters, sizes and form."""
    known = [sample for sample in known if sample.memory]
    follows = hparams == samples.at_length(known, dims.q_len) if known else False
    sizes = dict(zip(samples.SHAPE, shape(dims), strict=True))
    points = []
    for sample in known:
        call = sample.config
        there = (
            call | sizes | {"causal": causal, "hparams": call["hparams"] if follows else hparams}
        )
        ratio = 1.0 if there == call else kernel.predict(there)["bytes"] / sample.bytes
        length = length_of(call["n"], there["hparams"])
        points.append(dataclasses.replace(length, value=ratio * sample.memory))
    return points


def length_of(n: int, hparams: Mapping) -> Point:
    return Point(n, (1.0, n, n**1.5, n**2.0), regime=_padded(n, hparams))


def shape(dims: Dims) -> tuple[int, ...]:
    return tuple(getattr(dims, name) for name in samples.SHAPE)


def _padded(n, hparams):
    """Whether N is a multiple of a size decides what is padded."""
    sizes = (hparams[name] for name in sorted(hparams) if type(hparams[name]) is int)
    return tuple(n % size == 0 for size in (TILE, *sizes) if size > 0)


def forecast(
    known: list[Sample], hparams: Mapping, dims: Dims, cost: Cost, *, causal: bool
) -> Forecast:
    """Of a call of this cost by the samples of its curve, itself where it is among them."""
    same = [sample for sample in known if samples.same(sample, hparams, dims, causal=causal)]
    if same:
        of = same[-1]
        memory = Estimate(of.memory, "measured", 0.0) if of.memory else None
        return Forecast(Estimate(of.seconds, "measured", of.spread), memory)
    timed, held = times(known), memories(known, hparams, dims, causal=causal)
    length = length_of(dims.q_len, hparams)
    work = samples.work(cost.flops, dims.head_dim, dims.value_dim)
    call = _time(work, dims.q_len, hparams, shape(dims))
    memory = estimates.estimate(held, length, estimates.apart) if held else None
    found = Forecast(estimates.estimate(timed, call, estimates.together), memory)
    familiar = length.regime in {point.regime for point in timed}
    return found if familiar else found.unsure("padded otherwise")


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


def surest(memory: Estimate | None, compiled: Callable[[], Estimate | None]) -> Estimate | None:
    """What records tell of memory, or where they tell it badly what the program compiles to."""
    unsure = memory is None or not memory.within(TOLERANCES["memory"])
    return (compiled() or memory) if unsure else memory
