"""Records as `experiments.run` writes them, of a machine that does 50 GFLOP/s and never jitters."""

import hashlib
import json
import math
from pathlib import Path

ENV = {
    "device": "cpu-synthetic-2c",
    "platform": "cpu",
    "cores": 2,
    "jax": "0.10.2",
    "jaxlib": "0.10.2",
    "flax": "0.12.8",
    "numpy": "2.4.6",
    "python": "3.11.2",
    "commit": "0123456789abcdef",
    "dirty": False,
    "date": "2026-11-21T07:00:00+00:00",
}
LENGTHS = (256, 512, 1024, 2048, 4096)
PAIRS = {
    "full": lambda n: n * n,
    "local": lambda n: 257 * n,
    "strided": lambda n: 2 * n * math.isqrt(n),
    "global": lambda n: 320 * n,
    "bigbird": lambda n: 512 * n,
    "linear": lambda n: 96 * n,
    "fourier": lambda n: 40 * n * math.log2(n),
}


def record(
    config: dict, metrics: dict | None = None, status: str = "ok", reason: str = "", **env
) -> dict:
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    id = hashlib.sha256(text.encode()).hexdigest()[:10]
    return {
        "schema": 1,
        "id": id,
        "config": config,
        "status": status,
        "reason": reason,
        "metrics": metrics or {},
        "env": ENV | env,
    }


def kernel(
    label: str, n: int, mode: str = "forward", status: str = "ok", reason: str = "", **changes
) -> dict:
    config = {
        "experiment": "scaling",
        "kind": "kernel",
        "label": label,
        "mechanism": label,
        "hparams": {},
        "n": n,
        "mode": mode,
        "causal": False,
        "batch": 1,
        "heads": 8,
        "head_dim": 64,
        "value_dim": 64,
        "dtype": "float32",
        "seed": 0,
        "repeats": 10,
    } | changes
    if status != "ok":
        return record(config, {}, status, reason)
    work = PAIRS.get(config["mechanism"], PAIRS["local"])(n) * 4 * 64 * 8
    if mode == "train":
        work *= 3
    held = 8 * 4 * (n * n if label == "full" else 400 * n)
    seconds = work / 50e9 + 2e-4
    forward = mode == "forward"
    return record(
        config,
        {
            "flops_formula": work,
            "flops_counted": work,
            "flops_xla": work // 2,
            "flops_ideal": work if forward else None,
            "flops_elementwise": n * 512,
            "bytes_formula": held if forward else None,
            "bytes_compiled": held,
            "bytes_measured": held + 2**20,
            "state_bytes": None,
            "seconds": seconds,
            "seconds_q1": seconds * 0.97,
            "seconds_q3": seconds * 1.08,
            "repeats": 10,
            "compile_seconds": 0.5,
            "gemm_seconds": work / 80e9,
        },
    )


def scaling() -> list[dict]:
    """Seven mechanisms, both passes; full runs out of memory and of time, one is refused."""
    found = []
    for label in PAIRS:
        for mode in ("forward", "train"):
            for n in LENGTHS:
                failure = {
                    ("full", "train", 4096): ("oom", "RESOURCE_EXHAUSTED: 8 GB"),
                    ("strided", "train", 4096): ("timeout", "over 60 s"),
                    ("fourier", "train", 256): ("refused", "fourier: it has no causal form | none"),
                }.get((label, mode, n), ("ok", ""))
                found.append(kernel(label, n, mode, *failure))
    return found


def reorder(order: str, n: int, d: int, e: int, feature_map: str = "identity") -> dict:
    config = {
        "experiment": "reordering",
        "kind": "reorder",
        "label": {"qk_v": "(qk)v", "q_kv": "q(kv)"}[order],
        "order": order,
        "feature_map": feature_map,
        "n": n,
        "head_dim": d,
        "value_dim": e,
        "heads": 8,
        "batch": 1,
        "dtype": "float32",
        "seed": 0,
        "repeats": 10,
    }
    adds = (d + e) * n * n if order == "qk_v" else 2 * d * e * n
    if order == "q_kv" and feature_map != "identity":
        adds += d * n
    if order == "qk_v" and n > 16384:
        return record(
            config, {"multiply_adds": adds, "multiply_adds_formula": adds}, "refused", "137 GB"
        )
    seconds = 16 * adds / 50e9 * (1 if order == "qk_v" else 1.3) + 1e-5
    return record(
        config,
        {
            "multiply_adds": adds,
            "multiply_adds_formula": adds,
            "crossing_n": 2 * d * e / (d + e),
            "flops_counted": 16 * adds,
            "bytes_compiled": 8 * 4 * n * n,
            "seconds": seconds,
            "seconds_q1": seconds * 0.98,
            "seconds_q3": seconds * 1.05,
            "repeats": 10,
            "gemm_seconds": None,
        },
    )


def reordering() -> list[dict]:
    panels = ((64, 64, "identity"), (64, 32, "identity"), (64, 128, "identity"), (64, 64, "elu"))
    lengths = [2**k for k in range(4, 17)]
    return [
        reorder(order, n, d, e, phi)
        for d, e, phi in panels
        for n in lengths
        for order in ("qk_v", "q_kv")
    ]


def fidelity(label: str, n: int, inputs: str, name: str, value, seed: int = 0) -> dict:
    config = {
        "experiment": "fidelity",
        "kind": "fidelity",
        "label": label,
        "mechanism": label,
        "hparams": {name: value} if name else {},
        "budget": {"name": name, "value": value},
        "n": n,
        "inputs": inputs,
        "causal": False,
        "batch": 1,
        "heads": 4,
        "head_dim": 32,
        "value_dim": 32,
        "dtype": "float32",
        "seed": seed,
    }
    if label == "rfa":
        config["target"] = {"mechanism": "full", "hparams": {"score": "cosine"}}
    if (label, n, value) == ("local", 1024, 256):
        return record(config, {}, "oom", "RESOURCE_EXHAUSTED: 8 GB")
    full, work = 4 * 4 * 32 * n * n, 4 * 4 * 32 * n * (value or 96)
    metrics = {
        "error": (1 + seed / 9) * (2 if inputs == "random" else 0.7) / (value or 9) ** 0.5,
        "error_mean": 0.8 if inputs == "random" else 0.5,
        "flops_formula": work,
        "flops_full": full,
        "flops_ratio": work / full,
    }
    if inputs == "trained":
        metrics |= {"steps": 200, "loss": 1.9}
    return record(config, metrics)


def fidelities() -> list[dict]:
    """A sparse one, one of random features by three seeds, one without a budget; one failure."""
    found = []
    for inputs in ("random", "trained"):
        for n in (256, 1024):
            for value in (16, 64, 256):
                found.append(fidelity("local", n, inputs, "window", value))
                found += [fidelity("rfa", n, inputs, "features", value, seed) for seed in range(3)]
            found.append(fidelity("linear", n, inputs, "", None))
    return found


def numbers() -> list[dict]:
    """Two mechanisms, both dtypes, both forms; one has no causal form, one no queries."""
    found = []
    for label in ("full", "fourier"):
        for causal in (False, True):
            for dtype, error in (("float32", 1.5e-7), ("bfloat16", 2.1e-3)):
                config = {
                    "experiment": "numbers",
                    "kind": "numbers",
                    "label": label,
                    "mechanism": label,
                    "hparams": {},
                    "n": 1024,
                    "causal": causal,
                    "batch": 1,
                    "heads": 4,
                    "head_dim": 64,
                    "value_dim": 64,
                    "dtype": dtype,
                    "seed": 0,
                }
                if causal and label == "fourier":
                    found.append(record(config, {}, "refused", "fourier: it has no causal form"))
                    continue
                of_keys = None if label == "fourier" else 1.2 * error
                metrics = {"error": error, "error_rounding": error / 5, "error_grad_v": error}
                metrics |= {"error_grad_q": of_keys, "error_grad_k": of_keys}
                found.append(record(config, metrics | {"error_grad_params": None}))
    return found


def elsewhere(found: dict) -> dict:
    """The same point on another device."""
    return found | {"env": found["env"] | {"device": "gpu-x"}}


def write(folder: Path, records: list[dict], points: int = 0) -> Path:
    """records.jsonl, the last `points` of them as point files."""
    merged, loose = records[: len(records) - points], records[len(records) - points :]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "records.jsonl").write_text("".join(f"{json.dumps(found)}\n" for found in merged))
    for found in loose:
        (folder / "points").mkdir(exist_ok=True)
        (folder / "points" / f"{found['id']}.json").write_text(json.dumps(found))
    return folder
