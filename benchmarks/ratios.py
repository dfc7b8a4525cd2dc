"""A kernel's time over that of its yardstick, taken in turns in one process."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from benchmarks import profiles, yardsticks
from experiments import measure
from experiments.kinds import kernel
from experiments.measuring import environment, flops

# a matrix product of more FLOPs is timed as one of this side, and scaled
LONGEST_SIDE = 4096


@dataclasses.dataclass(frozen=True)
class Yardstick:
    """`run()` waits for its result; a call counts `scale` times. `source` says what it is."""

    run: Callable
    source: str
    scale: float = 1.0
    gflop: float | None = None


def point(label: str, mode: str, n: int, rounds: int) -> dict:
    """A point as those of kind "kernel", but for its mode."""
    n = yardsticks.length(label, n)
    return {
        "experiment": "benchmarks",
        "kind": "ratio",
        **yardsticks.variants(n)[label],
        "n": n,
        "mode": mode,
        **yardsticks.CALL,
        "rounds": rounds,
    }


def of_kernel(point: dict, mode: str) -> dict:
    """The point of kind "kernel" that mode "forward", "causal" or "train" asks for."""
    passes = "train" if mode == "train" else "forward"
    return point | {"kind": "kernel", "mode": passes, "causal": mode == "causal"}


def run(point: dict, benchmark) -> dict:
    """Metrics of a point, timed by pytest-benchmark; the yardstick runs before every round."""
    mode, counts, programs = point["mode"], {}, {}
    for each in dict.fromkeys(("forward", mode) if mode == "train" else (mode,)):
        asked = of_kernel(point, each)
        fn, args = kernel.program(kernel.mechanism(asked), asked)
        traced = jax.jit(fn).trace(*args)
        counts[each], lowered = flops.count_jaxpr(traced.jaxpr).flops, traced.lower()
        compiled = lowered.compile()
        measure.check_finite(compiled(*args))
        programs[each] = functools.partial(compiled, *args)
    memory = measure.memory_of(lowered)
    yardstick = fastest_transform(point) if point["mechanism"] == "fourier" else product(point)
    yardstick.run()
    others = {"yardstick": yardstick.run}
    if mode == "train":
        others["forward"] = programs["forward"]
    times = turns(programs[mode], others, benchmark, point["rounds"])
    stick = [yardstick.scale * seconds for seconds in times["yardstick"]]
    ratios = [a / b for a, b in zip(times["it"], stick, strict=True)]
    first, middle, third = statistics.quantiles(ratios, n=4, method="inclusive")
    qkv = 3 * 4 * point["n"] * point["heads"] * point["head_dim"]
    found = {
        "seconds": statistics.median(times["it"]),
        "yardstick": yardstick.source,
        "yardstick_gflop": yardstick.gflop,
        "yardstick_seconds": statistics.median(stick),
        "ratio": middle,
        "ratio_q1": first,
        "ratio_q3": third,
        "flops_counted": counts[mode],
        "bytes_temporary": memory and int(memory.temp_size_in_bytes),
        "bytes_qkv": qkv,
    }
    if mode == "train":
        over = [t / f for t, f in zip(times["it"], times["forward"], strict=True)]
        found |= {"over_forward": statistics.median(over), "flops_forward": counts["forward"]}
    if environment.facts()["cores"] == 1 and jax.default_backend() == "cpu":
        found |= profiles.of(compiled, args)
    return found


def turns(it: Callable, others: dict[str, Callable], benchmark, rounds: int) -> dict[str, list]:
    """Seconds of every round of `it` and, just before each, of the others."""
    times = {name: [] for name in others}

    def before():
        for name, other in others.items():
            times[name].append(timed(other))

    benchmark.pedantic(lambda: jax.block_until_ready(it()), setup=before, rounds=rounds)
    return times | {"it": list(benchmark.stats.stats.data)}


def timed(run: Callable) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def product(point: dict) -> Yardstick:
    """A float32 matrix product of the point's FLOPs."""
    gflop, source = work(point)
    side = min(max(round((gflop * 1e9 / 2) ** (1 / 3) / 64), 1) * 64, LONGEST_SIDE)
    x = jax.random.normal(jax.random.key(0), (side, side), jnp.float32)
    compiled = jax.jit(jnp.matmul).lower(x, x).compile()
    scale = gflop * 1e9 / (2 * side**3)
    return Yardstick(lambda: jax.block_until_ready(compiled(x, x)), source, scale, gflop)


def work(point: dict) -> tuple[float, str]:
    """(GFLOP, where they come from)."""
    causal = point["mode"] == "causal"

    def ideal(n):
        asked = of_kernel(point, point["mode"]) | {"n": n}
        asked |= {"hparams": yardsticks.variants(n)[point["label"]]["hparams"]}
        return kernel.mechanism(asked).cost(kernel.dims(asked), causal=causal).ideal_flops

    entry = yardsticks.F.get(point["label"])
    known = entry and (entry.causal if causal else entry.gflop)
    if known is None:
        return ideal(point["n"]) / 1e9, yardsticks.IDEAL
    return known * ideal(point["n"]) / ideal(entry.n), yardsticks.MEASURED


def fastest_transform(point: dict) -> Yardstick:
    """The library call that transforms real [N, heads x head size] in the least time here."""
    shape = (point["n"], point["heads"] * point["head_dim"])
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    on_device, cores = jnp.asarray(x), environment.facts()["cores"]

    def compiled(transform):
        program = jax.jit(transform).lower(on_device).compile()
        return lambda: program(on_device)

    calls = {
        "numpy rfft2": lambda: np.fft.rfft2(x),
        "numpy rfft, fft": lambda: np.fft.fft(np.fft.rfft(x, axis=0), axis=1),
        "scipy rfft2": lambda: scipy.fft.rfft2(x, workers=cores),
        "scipy rfft, fft": lambda: scipy.fft.fft(scipy.fft.rfft(x, axis=0), axis=1, workers=cores),
        "jax rfft2": compiled(jnp.fft.rfft2),
        "jax rfft, fft": compiled(lambda x: jnp.fft.fft(jnp.fft.rfft(x, axis=0), axis=1)),
        "jax fft2": compiled(jnp.fft.fft2),
    }
    times = {name: min(timed(call) for _ in range(3)) for name, call in calls.items()}
    best = min(times, key=times.get)
    return Yardstick(lambda: jax.block_until_ready(calls[best]()), f"{yardsticks.FASTEST}: {best}")
