"""Records of `make bench` -> benchmarks.csv and .md beside them. Imports no jax.

python -m benchmarks.table results/benchmarks/DEVICE
"""

import sys
from pathlib import Path

from benchmarks import command, provenance, yardsticks
from experiments import records
from experiments.analysis import formats
from experiments.analysis.formats import Column, Table

COLUMNS = (
    Column("label", "mechanism"),
    Column("mode", "mode"),
    Column("n", "N", 12),
    Column("yardstick", "held against"),
    Column("yardstick_gflop", "GFLOP", 3),
    Column("ms", "ms", 4),
    Column("ratio", "t / yardstick", decimals=2),
    Column("ratio_q1", "q1", decimals=2),
    Column("ratio_q3", "q3", decimals=2),
    Column("ratio_target", "at most", decimals=2),
    Column("ratio_met", "met"),
    Column("over_forward", "t / forward", decimals=2),
    Column("over_target", "at most", decimals=1),
    Column("over_met", "met"),
    Column("mb", "MB temporary", 3),
    Column("memory", "over q, k, v", decimals=2),
    Column("memory_target", "at most", decimals=1),
    Column("memory_met", "met"),
)


def write(folder: Path) -> Path:
    """Both files, of all records there; the path of the Markdown."""
    found = records.load(folder)
    made = rows(found)
    table = Table.of("benchmarks", "Kernels against yardsticks", caption(found), COLUMNS, made)
    (folder / "benchmarks.csv").write_text(formats.csv(table.frame))
    path = folder / "benchmarks.md"
    path.write_text(formats.markdown(table))
    return path


def rows(found: list[dict]) -> list[dict]:
    order = [*yardsticks.variants(1024)], yardsticks.MODES

    def place(record):
        config = record["config"]
        return order[0].index(config["label"]), order[1].index(config["mode"]), config["n"]

    return [row(record["config"], record["metrics"]) for record in sorted(found, key=place)]


def row(config: dict, metrics: dict) -> dict:
    label, mode = config["label"], config["mode"]
    made = {
        **{key: config[key] for key in ("label", "mode", "n")},
        **metrics,
        "ms": 1e3 * metrics["seconds"],
        "ratio_target": yardsticks.speed_target(label, mode),
        "memory_target": yardsticks.memory_target(label, mode),
    }
    if metrics["bytes_temporary"] is not None:
        made["mb"] = metrics["bytes_temporary"] / 1e6
        made["memory"] = metrics["bytes_temporary"] / metrics["bytes_qkv"]
    if mode == "train":
        again = metrics["flops_counted"] > 3.01 * metrics["flops_forward"]
        made["over_target"] = yardsticks.RECOMPUTED if again else yardsticks.KEPT
    for value, target in (("ratio", "ratio"), ("over_forward", "over"), ("memory", "memory")):
        made[f"{target}_met"] = verdict(made.get(value), made.get(f"{target}_target"))
    return made


def verdict(value: float | None, target: float | None) -> str:
    if value is None or target is None:
        return ""
    return "yes" if value <= target else "no"


def caption(found: list[dict]) -> str:
    rounds, cores = (
        provenance.values(found, part, key)
        for part, key in (("config", "rounds"), ("env", "cores"))
    )
    return (
        "Time over that of a float32 matrix product (Fourier: of the fastest FFT call), medians of "
        f"{rounds} rounds in turns, in one process pinned to cores: {cores}; batch 1, 8 heads of "
        "64, float32. Temporaries as compiled, without XLA's own matrix library. Forward and "
        f"backward may take {yardsticks.KEPT} forwards, {yardsticks.RECOMPUTED} where scores are "
        f"computed again; {provenance.words(found, 'jax')}"
    )


if __name__ == "__main__":
    sys.exit(command.main("table", "ratio", write))
