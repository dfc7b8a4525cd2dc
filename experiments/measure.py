"""Measure a function in this process: FLOPs counted and XLA's, memory compiled and measured, time.

On the CPU the compiled memory is that of a second compilation, without XLA's own matrix library,
which allocates where `memory_analysis` does not look (plain attention would read as 0 bytes of
scratch). It makes a program up to 2x faster or slower: time and measured peak are the default's.
"""

import contextlib
import functools
import math
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from experiments.measuring import flops, peak

# a sample shorter than this repeats the call, to be longer than the clock's and dispatch's jitter
SAMPLE_SECONDS = 1e-3
# looking at a call's memory takes so long that only longer ones are timed by it
LOOK_SECONDS = 1.0
LEAST_REPEATS, MOST_REPEATS = 3, 25
# of the median, that the quartiles of settled samples are apart at most
SETTLED = 0.1
# matrix products are timed up to this size and scaled beyond; below the least FLOPs not at all
GEMM_SIDE = {"cpu": 1024}
GEMM_SIDE_ACCELERATOR = 8192
GEMM_LEAST_FLOPS = 2**20
# quick to compile, for it never runs
MEMORY_OPTIONS = {
    "cpu": {"xla_cpu_experimental_ynn_fusion_type": "", "xla_backend_optimization_level": 0}
}


def measure(fn: Callable, args: tuple, *, repeats: int, budget: float = 10.0) -> dict:
    """Metrics of the compiled `fn(*args)`; `repeats` and `budget` as of `sample`."""
    (metrics,) = side_by_side([(fn, args)], repeats=repeats, budget=budget)
    return metrics


def side_by_side(
    programs: Sequence[tuple[Callable, tuple]], *, repeats: int, budget: float = 10.0
) -> list[dict]:
    """Metrics of each (fn, args), timed by turns: what slows the machine for a moment slows all of
    them, and their ratios hold. `budget` is for one of them."""
    ready = [_ready(fn, args) for fn, args in programs]
    runs = [(run, once) for run, once, _ in ready]
    times = by_turns(runs, repeats=repeats, budget=budget * len(runs))
    return [facts | _spread(of) for (_, _, facts), of in zip(ready, times, strict=True)]


def _ready(fn, args):
    """(call, seconds of one, metrics that need no more of them)."""
    start = time.perf_counter()
    traced = jax.jit(fn).trace(*args)
    trace_seconds = time.perf_counter() - start
    counts = flops.count_jaxpr(traced.jaxpr)
    exact = not counts.unknown_loops and not counts.uncounted
    start = time.perf_counter()
    lowered = traced.lower()
    trace_seconds += time.perf_counter() - start
    start = time.perf_counter()
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - start
    # the peak of an accelerator cannot be reset: the first call alone can raise it
    out, first_grown = peak_growth(lambda: compiled(*args))
    check_finite(out)
    del out
    once, (_, grown) = _timed(lambda: peak_growth(lambda: compiled(*args)))
    on_cpu = jax.default_backend() == "cpu"
    # of this call alone, where the system let it be watched
    process_bytes = peak.highest() if on_cpu and grown is not None else None
    if once < LOOK_SECONDS:
        once, _ = _timed(lambda: jax.block_until_ready(compiled(*args)))
    facts = {
        "flops_counted": counts.flops if exact else None,
        "flops_xla": _flops_xla(compiled),
        "flops_elementwise": counts.elementwise + counts.transcendental + counts.reduction,
        "bytes_compiled": bytes_of(lowered, compiled),
        "bytes_measured": grown if on_cpu else first_grown,
        "bytes_process": process_bytes,
        "trace_seconds": trace_seconds,
        "compile_seconds": compile_seconds,
        "gemm_seconds": gemm_seconds(counts.flops) if exact else None,
    }
    return lambda: compiled(*args), once, facts


def _timed(run):
    """(seconds, what it returns)."""
    start = time.perf_counter()
    out = run()
    return time.perf_counter() - start, out


def _spread(times):
    q1, median, q3 = statistics.quantiles(times, n=4, method="inclusive")
    found = {"seconds": median, "seconds_q1": q1, "seconds_q3": q3}
    return found | {"repeats": len(times)}


def sample(run: Callable, once: float, *, repeats: int, budget: float) -> list[float]:
    """Seconds a call, of what is warm and takes about `once`; the rest as of `by_turns`."""
    (times,) = by_turns([(run, once)], repeats=repeats, budget=budget)
    return times


def by_turns(
    runs: Sequence[tuple[Callable, float]], *, repeats: int, budget: float
) -> list[list[float]]:
    """Seconds a call of each (warm call, about what it takes), one of each in turn: `repeats`
    samples, then up to MOST_REPEATS until all are settled; after `budget` seconds none but the
    LEAST_REPEATS. Short calls are put together to a sample.
    """
    start = time.perf_counter()
    calls = [max(1, min(1000, round(SAMPLE_SECONDS / max(once, 1e-9)))) for _, once in runs]
    times = [[] for _ in runs]
    while len(times[0]) < LEAST_REPEATS or (
        (len(times[0]) < repeats or any(map(_unsettled, times)))
        and time.perf_counter() - start <= budget
    ):
        for (run, _), count, mine in zip(runs, calls, times, strict=True):
            begin = time.perf_counter()
            for _ in range(count):
                out = run()
            jax.block_until_ready(out)
            mine.append((time.perf_counter() - begin) / count)
            del out
    return times


def _unsettled(times):
    q1, median, q3 = statistics.quantiles(times, n=4, method="inclusive")
    return len(times) < MOST_REPEATS and q3 - q1 > SETTLED * median


def gemm_seconds(work: int) -> float | None:
    """Seconds of one float32 matrix product of so many FLOPs here and now; None where too small to
    time."""
    if work < GEMM_LEAST_FLOPS:
        return None
    longest = GEMM_SIDE.get(jax.default_backend(), GEMM_SIDE_ACCELERATOR)
    # a power of two, so that a process compiles few products
    side = min(longest, 2 ** round(math.log2(work / 2) / 3))
    return _product_seconds(side) * work / (2 * side**3)


def _product_seconds(side):
    x = jax.random.normal(jax.random.key(0), (side, side), jnp.float32)
    product = _product(side)
    once, _ = _timed(lambda: jax.block_until_ready(product(x, x)))
    return statistics.median(sample(lambda: product(x, x), once, repeats=7, budget=1.0))


@functools.cache
def _product(side):
    x = jax.ShapeDtypeStruct((side, side), jnp.float32)
    return jax.jit(jnp.matmul).lower(x, x).compile()


def check_finite(out) -> None:
    """FloatingPointError unless every number in every array is finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(out):
        finite = jnp.isfinite(leaf)
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not bool(finite.all()):
            where = jax.tree_util.keystr(path) or "the output"
            share = 1 - float(finite.mean())
            raise FloatingPointError(f"{share:.0%} of {where} is not finite")


def peak_growth(run: Callable) -> tuple:
    """(result, bytes by which memory in use grew at its highest, or None if unknown)."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return peak.growth(lambda: jax.block_until_ready(run()))
    before = device.memory_stats()
    out = jax.block_until_ready(run())
    after = device.memory_stats()
    if not before or not after or "peak_bytes_in_use" not in after:
        return out, None
    # the device's peak cannot be reset: it tells nothing unless this run raised it
    if after["peak_bytes_in_use"] <= before["peak_bytes_in_use"]:
        return out, None
    return out, after["peak_bytes_in_use"] - before["bytes_in_use"]


def _flops_xla(compiled):
    analysis = compiled.cost_analysis()
    if isinstance(analysis, list | tuple):
        analysis = analysis[0] if analysis else None
    work = (analysis or {}).get("flops", -1)
    return int(work) if work >= 0 else None


def memory_of(lowered, compiled=None):
    """XLA's `memory_analysis` of a program, on the CPU without its own matrix library; or None."""
    options = MEMORY_OPTIONS.get(jax.default_backend())
    if options:
        # an XLA without that option has no such library either
        with contextlib.suppress(jax.errors.JaxRuntimeError, ValueError):
            return lowered.compile(compiler_options=options).memory_analysis()
    return (compiled or lowered.compile()).memory_analysis()


def bytes_of(lowered, compiled) -> int | None:
    """Bytes of a program's temporaries and outputs, as compiled; None where XLA does not say."""
    memory = memory_of(lowered, compiled)
    if memory is None:
        return None
    return int(memory.temp_size_in_bytes + memory.output_size_in_bytes)
