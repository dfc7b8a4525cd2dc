"""Ours and the implementations of ../shared/peers side by side, in turns, in one run.

    make peers
    python -m benchmarks.peers --python .venv-peers/bin/python --cases local_lucid --lengths 1024

A process each for ours and theirs, and a pair of them a case; they call in turns, so that a noisy
machine is noisy for both. Goes on where it stopped; what fails is a row.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks import peer_table, yardsticks
from benchmarks.peer_cases import CASES
from experiments import records, sweep
from experiments.measuring import environment
from experiments.running import isolate

LENGTHS = (1024, 2048, 4096, 8192, 16384)
LEAST_ROUNDS = 3


def main(argv: list[str] | None = None) -> int:
    """0 after a run; 2 for a mistake, or peers that are not there, said in one line."""
    try:
        return _main(_parser().parse_args(argv))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"benchmarks.peers: {error}", file=sys.stderr)
        return 2


def _main(options):
    bench = check(options.peers, options.python)
    threads = len(os.sched_getaffinity(0))
    env = environment.probe() | {"torch": torch_version(options.python)}
    out = options.out or Path("results") / "peers" / env["device"]
    store = records.Store(out)
    listed = points(options.cases, options.lengths, options.rounds, threads)
    todo = sweep.pending(listed, store, retry=options.retry)
    memory = sweep.memory_of_machine() * 2 // 5  # for each of the two
    limits = {"seconds": options.time_limit, "memory": memory}
    with tqdm(total=len(todo), disable=not todo) as bar:
        for case in dict.fromkeys(point["peer"] for point in todo):
            with pair(options.python) as sides:
                for point in (p for p in todo if p["peer"] == case):
                    bar.set_description(f"{case} n={point['n']} {point['mode']}")
                    found = compare(point, sides, bench, limits, options.budget)
                    store.write(records.make(point, **found, env=env))
                    bar.update()
    store.merge()
    store.close()
    print(peer_table.write(out))
    return 0


def check(folder: Path, python: Path) -> Path:
    """The path of bench_peers.py; ValueError says what is missing and how it comes."""
    bench = folder / "bench_peers.py"
    if not bench.is_file():
        raise ValueError(f"no bench_peers.py in {folder}; name its folder by PEERS or --peers")
    if not python.is_file():
        raise ValueError(f"no environment with the peers at {python}; `make peers` makes one")
    return bench.resolve()


def torch_version(python: Path) -> str:
    words = [str(python), "-c", "import torch; print(torch.__version__)"]
    asked = subprocess.run(words, capture_output=True, text=True)
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or ["it does not start"])[-1]
        raise RuntimeError(f"{python} has no torch ({last}); `make peers` installs it")
    return asked.stdout.strip()


def points(cases, lengths, rounds: int, threads: int) -> list[dict]:
    """A point a case, length and pass that the peer has."""
    return [
        {
            "experiment": "peers",
            "kind": "peers",
            "peer": name,
            "label": CASES[name].mechanism,
            "mechanism": CASES[name].mechanism,
            "hparams": CASES[name].at(n),
            "n": n,
            "mode": mode,
            "causal": CASES[name].causal,
            **yardsticks.CALL,
            "rounds": rounds,
            "threads": threads,
        }
        for name in cases
        for n in lengths
        for mode in ("forward", "train")[: 1 + CASES[name].backward]
    ]


class pair:  # noqa: N801, a context
    """{"ours", "theirs"}: a process each."""

    def __init__(self, python: Path):
        variables = environment.worker_variables()
        self.sides = {
            "ours": isolate.Worker(variables),
            # not resolved: a link would lead out of its environment
            "theirs": isolate.Worker(variables, str(Path(python).absolute())),
        }

    def __enter__(self):
        return self.sides

    def __exit__(self, *_):
        for side in self.sides.values():
            side.kill()


def compare(point: dict, sides: dict, bench: Path, limits: dict, budget: float) -> dict:
    """{"status", "reason", "metrics"}; where one side fails the other is measured all the same."""
    failed, metrics, times = {}, {}, {side: [] for side in sides}

    def ask(side, do):
        way = {"kind": "benchmarks.peer_side", "side": side, "do": do, "peers": str(bench)}
        answer = sides[side].measure(point | way, Path(), **limits)
        if answer["status"] != "ok":
            failed[side] = answer
        return answer["metrics"]

    for side in sides:
        built = ask(side, "build")
        metrics[name("bytes_measured", side)] = built.get("bytes_measured")
    start = time.perf_counter()
    while alive := [side for side in sides if side not in failed]:
        done = min(len(times[side]) for side in alive)
        late = done >= LEAST_ROUNDS and time.perf_counter() - start > budget
        if done >= point["rounds"] or late:
            break
        for side in alive:
            if called := ask(side, "call"):
                times[side].append(called["seconds"])
    for side, found in times.items():
        metrics[name("seconds", side)] = statistics.median(found) if found else None
    metrics["rounds"] = len(times["ours"])
    if failed:
        reason = "; ".join(f"{side}: {answer['reason']}" for side, answer in failed.items())
        first = next(iter(failed.values()))
        return {"status": first["status"], "reason": reason, "metrics": metrics}
    ratios = [a / b for a, b in zip(times["ours"], times["theirs"], strict=True)]
    quartiles = statistics.quantiles(ratios, n=4, method="inclusive")
    metrics |= dict(zip(("ratio_q1", "ratio", "ratio_q3"), quartiles, strict=True))
    return {"status": "ok", "reason": "", "metrics": metrics}


def name(metric: str, side: str) -> str:
    return metric if side == "ours" else f"{metric}_peer"


def _parser():
    summary = __doc__.split("\n")[0]
    p = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=summary)
    p.add_argument("--peers", type=Path, default=Path("../shared/peers"), metavar="FOLDER")
    p.add_argument("--python", type=Path, default=Path(".venv-peers/bin/python"))
    p.add_argument("--out", type=Path, help="folder of the records: results/peers/DEVICE")
    p.add_argument("--cases", type=_cases, default=tuple(CASES), metavar="A,B")
    p.add_argument("--lengths", type=_lengths, default=LENGTHS, metavar="N,N")
    p.add_argument("--rounds", type=_rounds, default=7)
    p.add_argument("--budget", type=float, default=20.0, help="seconds of calls after 3 rounds")
    p.add_argument("--time_limit", type=float, default=200.0, help="seconds a call may take")
    p.add_argument("--retry", action="store_true", help="measure again what ended in an error")
    return p


def _cases(text):
    chosen = tuple(text.split(","))
    for case in chosen:
        if case not in CASES:
            raise argparse.ArgumentTypeError(f"no case {case!r}; there are {', '.join(CASES)}")
    return chosen


def _lengths(text):
    return tuple(_from(1, n) for n in text.split(","))


def _rounds(text):
    """Quartiles want two at least."""
    return _from(2, text)


def _from(least, text):
    if not text.strip().isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"want a whole number from {least} up, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
