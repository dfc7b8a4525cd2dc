"""Records of kernels -> the calls that were timed, each with its formulas, curve by curve."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import attention_zoo as zoo
from attention_zoo.types import Cost, Dims
from experiments.analysis import damage
from experiments.kinds import kernel
from experiments.running.configuration import hashable

SHAPE = ("batch", "heads", "head_dim", "value_dim")
SIZES = ("n", *SHAPE)
CALL = ("label", "mechanism", "hparams", "mode", "causal", "dtype", *SIZES)
# so wide are a key and a value where what is beside their products takes as long as they do: that
# which predicts most records of configs/sizes.py on cpu-amd-epyc-2c
EVEN = 80
MEASURED = ("seconds", "seconds_q1", "seconds_q3", "bytes_measured", "bytes_compiled")


@dataclasses.dataclass(frozen=True)
class Sample:
    """A record's call, the fields in CALL; by formula the `flops` forward and the `bytes` of its
    pass; measured `seconds` with the relative `spread` of their quartiles, and `memory` beside its
    `inputs` in bytes (see `_held`)."""

    config: Mapping[str, Any]
    flops: int
    bytes: int
    seconds: float
    spread: float
    memory: int | None
    compiled: int | None
    inputs: int

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.config[name] for name in SHAPE)

    @property
    def work(self) -> float:
        return work(self.flops, self.config["head_dim"], self.config["value_dim"])


def calls(found: Iterable[dict]) -> tuple[list[dict], list[str]]:
    """The records of kernels, and a line that tells which of them mean nothing to this code."""
    kept, damaged = [], []
    for record in (record for record in found if record["config"].get("kind") == "kernel"):
        problem = _problem(record)
        if problem:
            damaged.append((f"record {record['id']}", problem))
        else:
            kept.append(record)
    return kept, damage.told(damaged)


def _problem(record):
    """Why no such call can be made, or what was measured of it is no number."""
    try:
        kernel.check_point(record["config"])
    except KeyError as error:
        return f"config has no {error.args[0]}"
    except (AttributeError, TypeError, ValueError) as error:
        return str(error)
    if record["status"] != "ok":
        return None
    for name in MEASURED:
        value = record["metrics"].get(name)
        # of all but the time, null and 0 are what was not had
        if (value or name == "seconds") and not _is_positive(value):
            return f"metrics.{name} should be a number above 0, got {value!r}"
    return None


def _is_positive(value):
    return isinstance(value, int | float) and value is not True and 0 < value < math.inf


def key(mechanism: str, hparams: Mapping, mode: str, causal: bool, dtype: str) -> str:
    """A call's curve: words and switches among its hyperparameters choose it, sizes do not."""
    usual = zoo.defaults(mechanism)
    chosen = [
        f"{name}={value}"
        for name, value in sorted(hparams.items())
        if isinstance(value, str | bool) and value != usual.get(name)
    ]
    return ", ".join([" ".join([mechanism, *chosen]), mode, *["causal"] * causal, dtype])


def curves(found: Iterable[dict]) -> dict[str, list[Sample]]:
    """What `calls` kept and was timed by `key`, ascending in work; of a call the latest record."""
    latest = {}
    for record in sorted(found, key=lambda record: str(record["env"].get("date"))):
        point = record["config"]
        if record["status"] == "ok":
            call = {field: point[field] for field in CALL}
            name = key(*(point[f] for f in ("mechanism", "hparams", "mode", "causal", "dtype")))
            latest[name, json.dumps(call, sort_keys=True)] = record, call
    sets = {}
    for name, text in sorted(latest):
        record, call = latest[name, text]
        sets.setdefault(name, []).append(_sample(record, call))
    return {name: sorted(of, key=lambda sample: sample.work) for name, of in sets.items()}


def _sample(record, call):
    point, metrics = record["config"], record["metrics"]
    flops, planned = kernel.cost(point).flops, kernel.predict(point)["bytes"]
    seconds, compiled = metrics["seconds"], metrics.get("bytes_compiled")
    quartiles = (metrics.get(f"seconds_{name}") or seconds for name in ("q1", "q3"))
    spread = max(abs(quartile / seconds - 1) for quartile in quartiles)
    inputs, held = kernel.input_bytes(point), _held(metrics)
    return Sample(call, flops, planned, seconds, spread, held, compiled, inputs)


def _held(metrics):
    """Bytes: growth at the peak, or as compiled where that is more; None where neither was had.

    A program needs what it was compiled to hold. A process grows by less where it reuses memory
    that was freed or never touches some pages, and by more where a library allocates beside.
    """
    return max(metrics.get("bytes_measured") or 0, metrics.get("bytes_compiled") or 0) or None


def work(flops: int, head_dim: int, value_dim: int) -> float:
    """What a time is in proportion to: the products' FLOPs, and what every score takes beside them
    whatever the width of keys and values: as much as the products where that is EVEN in all."""
    return flops * (1 + EVEN / (head_dim + value_dim))


def at_length(known: Iterable[Sample], n: int) -> dict[str, Any]:
    """The hyperparameters that these calls would have had at N: those that follow √N or a share of
    N in all of them follow it on, others are those of the nearest N."""
    by_n = {sample.config["n"]: sample.config["hparams"] for sample in known}
    nearest = by_n[min(by_n, key=lambda m: abs(math.log(m / n)))]
    return {
        name: _follow({m: by_n[m].get(name) for m in by_n}, n, nearest[name]) for name in nearest
    }


def _follow(values, n, otherwise):
    if len(set(map(str, values.values()))) == 1 or not all(type(v) is int for v in values.values()):
        return otherwise
    if all(value == round(m**0.5) for m, value in values.items()):
        return round(n**0.5)
    shares = {m // value if m % value == 0 else None for m, value in values.items()}
    return n // shares.pop() if len(shares) == 1 and None not in shares else otherwise


def same(sample: Sample, hparams: Mapping, dims: Dims, *, causal: bool) -> bool:
    """Whether the sample is this very call."""
    sizes = (dims.q_len, dims.batch, dims.heads, dims.head_dim, dims.value_dim)
    asked = {name: hashable(value) for name, value in hparams.items()}
    had = {name: hashable(value) for name, value in sample.config["hparams"].items()}
    alike = asked == had and causal == sample.config["causal"]
    return alike and sizes == tuple(sample.config[field] for field in SIZES)


def cost(mechanism: str, hparams: Mapping, dims: Dims, *, causal: bool = False) -> Cost:
    made = zoo.make(mechanism, **{name: hashable(value) for name, value in hparams.items()})
    return made.cost(dims, causal=causal)
