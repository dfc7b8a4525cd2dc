"""One side of a comparison with a peer, in a process of its own: built once, called when asked.

A kind of points, for `running.worker`; theirs run in the peers' environment, which has torch and no
jax. `do` is "build" (also runs it twice; gives the memory it takes) or "call" (its time).
"""

import functools
import importlib.util
import sys
import time
from pathlib import Path

from experiments.measuring import peak

SIDE = {}


def run_point(point: dict, out: Path) -> dict:
    if point["do"] == "call":
        start = time.perf_counter()
        SIDE["run"]()
        return {"seconds": time.perf_counter() - start}
    SIDE.clear()
    SIDE["run"] = SIDES[point["side"]](point)
    SIDE["run"]()
    _, grown = peak.growth(SIDE["run"])
    return {"bytes_measured": grown}


def ours(point):
    import jax

    from experiments.kinds import kernel

    fn, args = kernel.program(kernel.mechanism(point), point)
    compiled = jax.jit(fn).lower(*args).compile()
    return lambda: jax.block_until_ready(compiled(*args))


def theirs(point):
    bench = _bench_peers(point["peers"])
    import torch

    torch.set_num_threads(point["threads"])
    call, leaves = bench.MECH[point["peer"]]["build"](point["n"])
    if point["mode"] == "forward":

        def forward():
            with torch.no_grad():
                return call()

        return forward
    with torch.no_grad():
        cotangent = torch.randn_like(call())
    return lambda: torch.autograd.grad(call(), leaves, cotangent, allow_unused=True)


SIDES = {"ours": ours, "theirs": theirs}


@functools.cache
def _bench_peers(path):
    spec = importlib.util.spec_from_file_location("bench_peers", path)
    # torch's compiler looks for it by its name
    module = sys.modules["bench_peers"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.lazy_torch()
    return module
