"""Which mechanism for this call on that device: time, memory, fidelity, scores, refusals.

    python -m experiments.advise --n 32768 --heads 8 --head_dim 64 --batch 4 --causal \\
        --memory 16GiB --device cpu

Times and memory are the device's own records where it has this very call, else the cost model
calibrated on them (`experiments.calibrate`); each says which, and how far off the same was where it
could be checked. Memory is inputs and parameters, the output, and what lies between. The last line
is the command that measures the first one's call here. Of several devices that fit, it is this one,
else the one with the most records.
"""

import argparse
import collections
import dataclasses
import math
import re
import signal
import statistics
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jax

import attention_zoo as zoo
from experiments import calibrate, command, measure
from experiments.analysis import forecasts, frames, held_out, reading
from experiments.analysis import samples as timed
from experiments.analysis.estimates import Estimate
from experiments.calibrate import Calibration
from experiments.kinds import kernel
from experiments.measuring import environment
from experiments.measuring.environment import ROOT
from experiments.reporting import advice, evidence
from experiments.running import asked
from experiments.running.configuration import literal

CONFIRMED, KERNELS = "out/asked", "attention_zoo"
# by their formulas some mechanisms list their tiles, which is work of N²
LONGEST = 2**20
UNITS = {"": 1, **{f"{p}B": 1000**i for i, p in enumerate(("", "k", "M", "G", "T"))},
         **{f"{p}iB": 1024**i for i, p in enumerate("KMGT", 1)}}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """0; 2 for a mistake that one line on stderr names."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        answer = advise(options)
    except ValueError as error:
        return command.mistake("advise", error)
    print(advice.as_json(answer) if options.json else advice.as_text(answer))
    return 0


def advise(options: argparse.Namespace) -> dict:
    """{"call", "records", "held_out", "tasks", "ranked", "refused", "confirm"}; ranked is fastest
    first, and `confirm` the command that measures it."""
    device, found, sections = read(options)
    dtype = options.dtype or statistics.mode(r["config"]["dtype"] for r in found)
    found = [r for r in found if r["config"]["dtype"] == dtype]
    if not found:
        raise ValueError(f"--dtype {dtype}: no records of kernels in it on {device}")
    known = Calibration(calibrate.curves(found), {})
    platform = None if options.quick else found[0]["env"].get("platform")
    tasks = evidence.tasks(sections, options.n, causal=options.causal)
    call = {name: getattr(options, name) for name in ("n", "batch", "heads", "head_dim", "causal")}
    call |= {"value_dim": options.value_dim or options.head_dim, "dtype": dtype, "seed": 0}
    call |= {"mode": options.mode}
    fidelities = evidence.fidelities(sections)
    ranked, refused = [], []
    for curve in candidates(known, options.n, options.set):
        point = {**call, **curve}
        row = dict(curve)
        try:
            row["reasons"] = objections(point, pooled=options.pooled)
        except ValueError as error:
            # what was asked for by hand is a mistake, what follows N is not to be had at this one
            if curve["label"] in options.set:
                raise
            row["reasons"] = [str(error)]
        if not row["reasons"]:
            try:
                row |= forecast(point, known, platform)
            except ValueError as error:
                row["reasons"] = [str(error)]
            else:
                row["reasons"] = too_large(row, options.memory)
        row["fidelity"] = evidence.fidelity(
            fidelities, curve["mechanism"], curve["hparams"], options.n, causal=options.causal
        )
        row["scores"] = [evidence.score(task, curve["label"], curve["mechanism"]) for task in tasks]
        (refused if row["reasons"] else ranked).append(row)
    ranked.sort(key=lambda row: row["seconds"].value)
    for name in set(zoo.names()) - {row["mechanism"] for row in (*ranked, *refused)}:
        refused.append({"label": name, "reasons": [f"no record of it in {dtype} on {device}"]})
    return {
        "call": {**call, "device": device, "memory": options.memory},
        "records": sources(found),
        "held_out": trusted(ranked, known, call),
        "tasks": tasks,
        "ranked": ranked,
        "refused": sorted(refused, key=lambda row: row["label"]),
        "confirm": asked.command({**call, **ranked[0]}, CONFIRMED) if ranked else None,
    }


def read(options: argparse.Namespace) -> tuple[str, list[dict], list[frames.Section]]:
    """The device, its records of kernels, and all sections of all devices."""
    everything = reading.read(options.records)
    found, left_out = timed.calls(everything.records)
    for note in (*everything.notes, *left_out):
        print(note, file=sys.stderr)
    known = collections.Counter(r["env"]["device"] for r in found)
    device = choose(options.device, known, _this_device)
    sections = frames.sections(everything.frame)
    return device, [r for r in found if r["env"]["device"] == device], sections


def _this_device():
    return environment.facts()["device"]


def trusted(ranked: list[dict], known: Calibration, call: Mapping) -> dict[str, dict]:
    """How far the model was off where held out, on the records of these very forms alone."""
    used = {}
    for row in ranked:
        if math.isfinite(row["seconds"].error) and row["seconds"].how != "other sizes":
            name, _ = _curve(call | row, known)
            used[name] = known.curves[name]
    return held_out.summaries(held_out.held_out(used))


def _curve(point, known):
    call = (point["mechanism"], point["hparams"], kernel.dims(point), point["mode"])
    return known.curve(*call, causal=point["causal"])


def sources(found: list[dict]) -> list[dict]:
    """{"commit", "count", "from", "to", "changed"}: the dates of each commit's records, and whether
    the kernels are others now; None where git does not know the commit here."""
    dates = {}
    for record in found:
        env = record["env"]
        dates.setdefault(env.get("commit"), []).append(str(env.get("date"))[:10])
    return [
        {"commit": commit, "count": len(days), "from": min(days), "to": max(days)}
        | {"changed": environment.differs(commit, KERNELS) if environment.knows(commit) else None}
        for commit, days in sorted(dates.items(), key=lambda item: max(item[1]))
    ]


def choose(wanted: str | None, known: Mapping[str, int], this: Callable[[], str]) -> str:
    """The one device whose name begins as asked, or of several this one, else that with the most
    records, of which `known` are the numbers."""
    names = ", ".join(sorted(known))
    if not known:
        raise ValueError("no records of kernels to advise from; experiments.run writes them")
    found = [name for name in sorted(known) if name.startswith(wanted or "")]
    if wanted in found or len(found) == 1:
        return wanted if wanted in found else found[0]
    if found and this() in found:
        return this()
    if wanted is None:
        raise ValueError(f"--device is missing; there are records of {names}")
    if not found:
        raise ValueError(f"--device {wanted} is unknown; known: {names}")
    most = max(found, key=known.__getitem__)
    print(f"--device {wanted} fits {', '.join(found)}: this is {most}", file=sys.stderr)
    return most


def candidates(known: Calibration, n: int, changes: Mapping[str, Mapping]) -> list[dict]:
    """{"label", "mechanism", "hparams"} of every label that was measured, as it would be at N;
    `changes` are hyperparameters by label."""
    by_label = {}
    for curve in known.curves.values():
        for sample in curve:
            by_label.setdefault(sample.config["label"], []).append(sample)
    for label in changes:
        if label not in by_label:
            raise ValueError(f"--set knows no {label!r}; there are {', '.join(sorted(by_label))}")
    return [
        {
            "label": label,
            "mechanism": of_label[0].config["mechanism"],
            "hparams": timed.at_length(of_label, n) | changes.get(label, {}),
        }
        for label, of_label in sorted(by_label.items())
    ]


def objections(point: Mapping, *, pooled: bool) -> list[str]:
    m, dims = kernel.mechanism(point), kernel.dims(point)
    return zoo.objections(m, dims, causal=point["causal"], per_position=not pooled)


def too_large(row: Mapping, most: int | None) -> list[str]:
    if most is None:
        return []
    if row["needs_bytes"] is None:
        return [f"no record says what it holds, to compare with {advice.size(most)}"]
    if row["needs_bytes"] <= most:
        return []
    return [f"it needs {advice.size(row['needs_bytes'])}, more than {advice.size(most)}"]


def forecast(point: dict, known: Calibration, platform: str | None) -> dict:
    """{"seconds", "memory": Estimates, "inputs_bytes", "needs_bytes"}.

    Where records tell memory badly and jax runs on `platform` here, the program is compiled to see.
    """
    call = (point["mechanism"], point["hparams"], kernel.dims(point), point["mode"])
    found = known.predict(*call, causal=point["causal"])
    memory, inputs = found.memory, kernel.input_bytes(point)
    if platform == jax.default_backend():
        curve = known.curves[_curve(point, known)[0]]
        memory = forecasts.surest(memory, lambda: compiled(point, curve, known=found.familiar))
    needs = None if memory is None else round(inputs + memory.value)
    return {
        "seconds": found.seconds,
        "memory": memory,
        "inputs_bytes": inputs,
        "needs_bytes": needs,
    }


def compiled(point: dict, curve: list[timed.Sample], *, known: bool) -> Estimate | None:
    """The memory of the program as compiled here; None where XLA does not say. Its error is not
    known where no record tells what such a program holds beside."""
    found = measure.memory_of(kernel.trace(point).lower())
    if found is None:
        return None
    held = found.temp_size_in_bytes + found.output_size_in_bytes
    carried = forecasts.carried(curve, held)
    return carried if known or not carried else dataclasses.replace(carried, error=math.inf)


def parse(arguments: list[str]) -> argparse.Namespace:
    p = command.Parser(
        prog="python -m experiments.advise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("--n", type=_length, required=True, help="sequence length")
    p.add_argument("--batch", type=command.count, default=1)
    p.add_argument("--heads", type=command.count, default=8)
    p.add_argument("--head_dim", type=command.count, default=64, help="of queries and keys")
    p.add_argument("--value_dim", type=command.count, help="of values (head_dim)")
    p.add_argument("--mode", choices=kernel.MODES, default="forward", help="train: with gradients")
    p.add_argument("--causal", action="store_true", help="later positions are hidden")
    p.add_argument("--pooled", action="store_true", help="an output a sequence is enough")
    p.add_argument("--memory", type=_bytes, metavar="SIZE", help="most to hold, such as 16GiB")
    p.add_argument("--device", help="the beginning of its name in the records")
    p.add_argument("--dtype", choices=kernel.DTYPES, help="(that of most of the device's records)")
    p.add_argument(
        "--set", type=_change, action="append", default=[], metavar="LABEL.NAME=VALUE",
        help="a hyperparameter other than measured, such as local.window=64",
    )  # fmt: skip
    p.add_argument("--quick", action="store_true", help="compile nothing to see what it holds")
    p.add_argument("--json", action="store_true", help="for scripts; bytes and seconds")
    p.add_argument(
        "--records", nargs="+", type=Path, default=[ROOT / "results"], metavar="FOLDER",
        help="where records are (results)",
    )  # fmt: skip
    options = p.parse_args(arguments)
    changes = {}
    for label, name, value in options.set:
        changes.setdefault(label, {})[name] = value
    options.set = changes
    return options


def _length(text):
    if command.count(text) > LONGEST:
        raise argparse.ArgumentTypeError(f"must be at most {LONGEST:,}, got {int(text):,}")
    return int(text)


def _bytes(text):
    number = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?([A-Za-z]*)", text)
    units = {unit.lower(): size for unit, size in UNITS.items()}
    if not number or number[2].lower() not in units:
        raise argparse.ArgumentTypeError(f"must be a size such as 16GiB or 500MB, got {text!r}")
    return int(float(number[1]) * units[number[2].lower()])


def _change(text):
    found = re.fullmatch(r"(.+)\.(\w+)=(.+)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"must be such as local.window=64, got {text!r}")
    return found[1], found[2], literal(found[3])


if __name__ == "__main__":
    # a reader that has seen enough, such as head, ends it quietly
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
