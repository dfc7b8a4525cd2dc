"""Training records as `experiments.train` writes them, whatever the task, and their curves."""

import json
from pathlib import Path

from experiments.analysis import frames, reading
from experiments.reporting import tables
from tests.synthetic_records import record, write

RULES = {
    "stdlib": lambda n: {"uniform_bpb": 8, "unigram_bpb": 4.6, "order2_bpb": 2.55},
    "mqar": lambda n: {"chance_accuracy": 2 / 8192, "context_accuracy": 16 / n},
    "duplicate": lambda n: {"chance_accuracy": 1 / 127, "bigram_accuracy": 0.2},
    "listops": lambda n: {
        "majority_accuracy": 0.172,
        "root_accuracy": 0.365,
        "depth1_accuracy": 0.598,
        "depth2_accuracy": 0.737,
    },
    "multi30k": lambda n: {"copy_bleu": 3.0},
    "forecast": lambda n: {"seasonal_mse": 0.5, "seasonal_mae": 0.4, "last_value_mse": 5.0},
    "imdb": lambda n: {"chance_accuracy": 0.5, "majority_accuracy": 0.5},
    "cifar10": lambda n: {"chance_accuracy": 0.1, "majority_accuracy": 0.1},
    "pathfinder": lambda n: {"chance_accuracy": 0.5, "majority_accuracy": 0.5},
    "ucr": lambda n: {"chance_accuracy": 0.1, "majority_accuracy": 0.2},
}


def train(
    label: str,
    n: int,
    seed: int,
    score: float,
    status: str = "ok",
    reason: str = "",
    *,
    task: str = "stdlib",
    metrics: dict | None = None,
    **changes,
) -> dict:
    """`score` in bits per byte of stdlib, the error of a forecast, else an accuracy."""
    config = {
        "experiment": "language" if task == "stdlib" else task,
        "kind": "train",
        "label": label,
        "mechanism": label.split("-")[0],
        "hparams": {},
        "n": n,
        "task": task,
        "task_args": {},
        "model": {"width": 64, "depth": 2, "heads": 4, "ff": 512},
        "batch": 16384 // n,
        "steps": 600,
        "lr": 1e-3,
        "warmup": 50,
        "weight_decay": 0.1,
        "clip": 1.0,
        "seed": seed,
        "eval_every": 100,
        "dtype": "float32",
    } | changes
    if status != "ok":
        return record(config, {}, status, reason)
    key = {"stdlib": "bpb", "forecast": "mse"}.get(task, "accuracy")
    return record(
        config,
        {
            "loss": 0.69,
            f"val_{key}_best": score + 0.02,
            f"val_{key}_last": score + 0.03,
            f"test_{key}": score,
            **RULES[task](n),
            "params": 460_000 + n * 128,
            "steps": 600,
            "tokens_per_step": 16384,
            "seconds_per_step": 0.3 + n / 4096,
            "flops_per_step": 30e9,
            "best_step": 600,
        }
        | (metrics or {}),
    )


def language() -> list[dict]:
    """Three models, three seeds; one diverges once, one never learns."""
    found = []
    for n in (256, 512, 1024):
        for seed in range(3):
            found.append(train("full", n, seed, 2.4 - n / 5000 + seed / 50))
            found.append(train("local", n, seed, 2.5 - n / 6000 + seed / 40))
            diverged = ("nan", "loss is nan at step 120") if (n, seed) == (512, 1) else ("ok", "")
            found.append(train("linear", n, seed, 2.7 - n / 8000 + seed / 60, *diverged))
    return [*found, train("global", 1024, 0, 4.9)]


def recall() -> list[dict]:
    """mqar: full solves it, three others forget; one runs out of memory, a search chose rates."""
    found = []
    forgets = {"full": 0.0, "local": 0.3, "linear": 0.8, "performer": 1.1}
    for i, (label, loss) in enumerate(forgets.items()):
        for n in (64, 128, 256, 512):
            state = 64 * n * 8 if label == "full" else 4096 * (1 + i)
            held = {"decode_state_bytes": state, "peak_bytes": 1e6 * n * (5 if i == 0 else 2)}
            for seed in range(3):
                score = max(0.999 - loss * n / 512 - seed / 500, 0.02)
                fate = ("oom", "no room") if (label, n) == ("performer", 512) else ("ok", "")
                chosen = {"grid": [0.001, 0.003, 0.01], "at": {"seed": 0} if seed else {}}
                more = {"lr": chosen, "role": "final", "size": "small"}
                held |= {"lr": 0.003}
                found.append(train(label, n, seed, score, *fate, task="mqar", metrics=held, **more))
        for lr in (0.001, 0.003, 0.01):
            score = 0.9 - abs(lr - 0.003) * 20
            more = {"lr": lr, "role": "grid", "size": "small"}
            found.append(train(label, 64, 0, score, task="mqar", **more))
    return found


def duplicates() -> list[dict]:
    """Trained with all pairs or so many rounds of hashing, evaluated with others."""
    found = []
    for hashes in (0, 1, 4):
        for seed in range(2):
            at = {
                f"test_accuracy@{key}": score - seed / 100
                for key, score in (("full", 0.99), ("hashes=8", 0.9), ("hashes=1", 0.5))
            }
            label = f"lsh-{hashes}" if hashes else "full"
            found.append(train(label, 128, seed, 0.9, task="duplicate", metrics=at))
    return found


def arena() -> list[dict]:
    """Two tasks of the Long-Range Arena, one seed each; one mechanism has only one of them."""
    found = []
    for task, scores in {
        "listops": {"full": 0.37, "local": 0.30, "linear": 0.16},
        "imdb": {"full": 0.64, "linear": 0.66},
    }.items():
        for label, score in scores.items():
            held = {"peak_bytes": 2e8 if label == "full" else 5e7}
            found.append(train(label, 512, 0, score, task=task, metrics=held))
    return found


def forecasts(horizons=(96, 192), labels=("full", "probsparse", "DLinear"), **changes):
    """ETTh1 from two look-backs, two seeds at the first horizon."""
    found = []
    for horizon in horizons:
        more = changes | {
            "task": "forecast",
            "experiment": f"forecast-ETTh1-{horizon}",
            "task_args": {"series": "ETTh1", "horizon": horizon},
        }
        for number, label in enumerate(labels):
            more["mechanism"] = "none" if label == "DLinear" else label
            for n in (96, 336):
                for seed in range(2 if horizon == horizons[0] else 1):
                    score = 0.4 + number / 100 + horizon / 1000 - n / 10000 + seed / 1000
                    metrics = {"test_mae": score + 0.02}
                    found.append(train(label, n, seed, score, metrics=metrics, **more))
    return found


def curves(folder: Path, records: list[dict]) -> None:
    """curves/<id>.jsonl of every record of training that came through."""
    (folder / "curves").mkdir(exist_ok=True)
    for found in records:
        if found["config"]["kind"] != "train" or found["status"] != "ok":
            continue
        key = next(key for key in found["metrics"] if key.endswith("_best"))
        last, sign = found["metrics"][key], 1 if "bpb" in key else -1
        lines = [
            {
                "step": step,
                "train_loss": 1.0,
                "val_loss": 1.1,
                key.removesuffix("_best"): last + sign * (5 if sign > 0 else last) * 0.99**step,
                "seconds": step * 0.3,
            }
            for step in range(0, 601, 100)
        ]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / "curves" / f"{found['id']}.jsonl").write_text(text)


def by(rows):
    return {(row["label"], row["n"]): row for row in rows}


def table(section, name):
    return next(found for found in tables.build(section) if found.name == name)


def sections(records, tmp_path):
    """(sections by name, records) read back from a folder of them."""
    found = reading.read([write(tmp_path / "in", records)])
    assert not found.notes
    return {section.name: section for section in frames.sections(found.frame)}, found
