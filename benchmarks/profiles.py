"""Where a call's time goes, by kind of operation, and how long the machine needs for each at least.

The CPU client of XLA tells a trace when each instruction began and ended. What an instruction has
to do, its text says; how fast this machine does that, small programs measure here. The least time
is that of products at the yardstick's rate, or of exponentials, or of reading and writing at the
rate of the cache or memory that so many bytes fit, whichever is longest: a bound that holds
for this list of instructions, not for another one of the same mechanism.
"""

import collections
import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks import operations

# bytes read and written by one pass, from what one core's cache holds to what none does
SIZES = tuple(2**i for i in range(16, 29, 2))
# a pass of the smallest is repeated in one call so that the call costs little
REPEATED = 2**28
CALLS = 3


@dataclasses.dataclass(frozen=True)
class Rates:
    """The machine's: FLOPs a second of products, exponentials a second, and bytes a second of a
    pass over so many bytes."""

    flops: float
    exponentials: float
    bytes: dict[int, float]

    def least(self, operation: operations.Operation) -> float:
        """Seconds of one run."""
        fitting = max((size for size in SIZES if size <= operation.bytes), default=SIZES[0])
        return max(
            operation.flops / self.flops,
            operation.exponentials / self.exponentials,
            operation.bytes / self.bytes[fitting],
        )


@functools.cache
def rates() -> Rates:
    """Of this process, the best of some calls."""
    x = jax.random.normal(jax.random.key(0), (1024, 1024))
    product = _best(jax.jit(jnp.matmul), x, x)
    passes = {size: _pass(lambda x: x * 0.5 + 1.0, size) for size in SIZES}
    bytes_ = {size: size / seconds for size, seconds in passes.items()}
    exponential = _pass(lambda x: jnp.exp(-x), SIZES[0])
    return Rates(2 * 1024**3 / product, SIZES[0] / 8 / exponential, bytes_)


def _pass(step: Callable, size: int) -> float:
    """Seconds of one of many elementwise passes in place: half of `size` is read, half written."""
    times = REPEATED // size
    x = jnp.ones(size // 8)
    program = jax.jit(lambda x: jax.lax.fori_loop(0, times, lambda _, x: step(x), x))
    return _best(program, x) / times


def _best(program, *args):
    program = program.lower(*args).compile()
    seconds = []
    for _ in range(1 + CALLS):
        start = time.perf_counter()
        jax.block_until_ready(program(*args))
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def of(compiled, args) -> dict:
    """Metrics of a call of a compiled program on one core: seconds by kind of operation, the least
    that they need, and the instruction that took longest. The median one of some calls."""
    known, found = operations.read(compiled.as_text()), []
    for _ in range(CALLS):
        with tempfile.TemporaryDirectory() as folder:
            seconds = _traced(lambda: jax.block_until_ready(compiled(*args)), folder)
            found.append((seconds, _times(Path(folder), known)))
    seconds, times = sorted(found, key=lambda pair: pair[0])[len(found) // 2]
    return _metrics(seconds, times, known)


def _traced(call, folder):
    options = jax.profiler.ProfileOptions()
    options.host_tracer_level, options.python_tracer_level = 3, 0
    with jax.profiler.trace(folder, profiler_options=options):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def _times(folder, known):
    """{instruction: [seconds of each run]}."""
    (file,) = folder.rglob("*.xplane.pb")
    times = collections.defaultdict(list)
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            for event in line.events:
                if event.name in known:
                    times[event.name].append(event.duration_ns / 1e9)
    return times


def _metrics(seconds, times, known):
    rates_, by_kind = rates(), collections.Counter()
    least, least_by_kind = collections.Counter(), collections.Counter()
    for name, runs in times.items():
        least[name] = len(runs) * rates_.least(known[name])
        by_kind[known[name].kind] += sum(runs)
        least_by_kind[known[name].kind] += least[name]
    slowest = max(times, key=lambda name: sum(times[name]))
    return {
        "profiled_seconds": seconds,
        "profiled_calls": CALLS,
        **{f"seconds_{kind}": by_kind[kind] for kind in operations.KINDS},
        **{f"least_{kind}": least_by_kind[kind] for kind in operations.KINDS},
        "slowest": known[slowest].says,
        "slowest_runs": len(times[slowest]),
        "slowest_seconds": sum(times[slowest]),
        "slowest_median": statistics.median(times[slowest]),
        "slowest_least": least[slowest],
    }
