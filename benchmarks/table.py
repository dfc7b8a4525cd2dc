"""Records of `make bench` -> benchmarks and operations, .csv and .md beside them. Imports no jax.

python -m benchmarks.table results/benchmarks/DEVICE
"""

import sys
from pathlib import Path

from benchmarks import command, operations, provenance, yardsticks
from experiments import records
from experiments.analysis import formats
from experiments.analysis.formats import Column, Table

COLUMNS = (
    Column("label", "mechanism"),
    Column("mode", "mode"),
    Column("n", "N", 12),
    Column("yardstick", "held against"),
    Column("yardstick_gflop", "GFLOP", 3),
    Column("gflop", "GFLOP done", 3),
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
OPERATIONS = (
    *COLUMNS[:3],
    Column("ratio", "t / yardstick", decimals=2),
    Column("ratio_target", "at most", decimals=2),
    Column("ratio_least", "least", decimals=2),
    Column("above", "above for"),
    Column("lost_in", "lost most in"),
    Column("lost", "lost there", decimals=2),
    *(
        column
        for kind in operations.KINDS
        for column in (
            Column(f"share_{kind}", f"% {kind}", decimals=0, scale=0.01),
            Column(f"pace_{kind}", "at %", decimals=0, scale=0.01),
        )
    ),
    Column("share_rest", "% rest", decimals=0, scale=0.01),
    Column("slowest", "longest"),
    Column("slowest_runs", "times"),
    Column("slowest_share", "%", decimals=0, scale=0.01),
)
OPERATIONS_CAPTION = (
    "Of one call under XLA's profiler, the median of {calls}: which part of its time each kind of "
    "operation took, and at which part of its own ceiling it ran: the FLOPs of a product of 1,024 "
    "x 1,024, the exponentials, or the bytes of a pass over an array of that size in cache or "
    "memory, whichever bounds it, all measured in the same process. Least: the sum of the ceilings "
    "over the yardstick, what this list of operations would take if each ran at its own. Above "
    "for: why the target is missed: {operations} where even the least lies above it, so that "
    "others are wanted, {pace} where these could be fast enough. Lost most in: the kind that took "
    "longest beyond its ceiling, and how long, in yardsticks. Rest: between operations. Longest: "
    "the one instruction that took longest in all; "
)
# why a target is missed
WHAT, PACE = "its operations", "their pace"


def write(folder: Path) -> Path:
    """The files, of all records there; the path of the Markdown of the first table."""
    found = records.load(folder)
    tables = [
        Table.of("benchmarks", "Kernels against yardsticks", caption(found), COLUMNS, rows(found))
    ]
    if traced := [record for record in found if "profiled_seconds" in record["metrics"]]:
        words = OPERATIONS_CAPTION + provenance.words(traced, "jax")
        words = words.format(
            calls=provenance.values(traced, "metrics", "profiled_calls"), operations=WHAT, pace=PACE
        )
        made = [operations_row(row) for row in rows(traced)]
        title = "Where a kernel's time goes"
        tables.append(Table.of("operations", title, words, OPERATIONS, made))
    for table in tables:
        (folder / f"{table.name}.csv").write_text(formats.csv(table.frame))
        (folder / f"{table.name}.md").write_text(formats.markdown(table, f"{table.name}.csv"))
    return folder / "benchmarks.md"


def operations_row(made: dict) -> dict:
    """Of a row with the metrics of `profiles.of`."""
    seconds, spent = made["profiled_seconds"], 0.0
    least = sum(made[f"least_{kind}"] for kind in operations.KINDS)
    made = made | {"ratio_least": least / made["yardstick_seconds"]}
    if made["ratio_met"] == "no":
        made["above"] = WHAT if made["ratio_least"] > made["ratio_target"] else PACE
    lost = {kind: made[f"seconds_{kind}"] - made[f"least_{kind}"] for kind in operations.KINDS}
    made["lost_in"] = max(lost, key=lost.__getitem__)
    made["lost"] = lost[made["lost_in"]] / made["yardstick_seconds"]
    for kind in operations.KINDS:
        took = made[f"seconds_{kind}"]
        spent += took
        if took:
            made |= {f"share_{kind}": took / seconds, f"pace_{kind}": made[f"least_{kind}"] / took}
    made |= {"share_rest": 1 - spent / seconds}
    return made | {"slowest_share": made["slowest_seconds"] / seconds}


def rows(found: list[dict]) -> list[dict]:
    order = [*yardsticks.variants(1024)], yardsticks.MODES

    def place(record):
        config = record["config"]
        return order[0].index(config["label"]), order[1].index(config["mode"]), config["n"]

    found = sorted(found, key=place)
    return [row(r["config"], r["metrics"]) | {"records": r["id"]} for r in found]


def row(config: dict, metrics: dict) -> dict:
    label, mode = config["label"], config["mode"]
    made = {
        **{key: config[key] for key in ("label", "mode", "n")},
        **metrics,
        "ms": 1e3 * metrics["seconds"],
        "gflop": metrics["flops_counted"] / 1e9,
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
        "64, float32. GFLOP done are counted in the traced program: over those before them, what "
        "its products alone would take at the yardstick's rate. "
        "Temporaries as compiled, without XLA's own matrix library. Forward and "
        f"backward may take {yardsticks.KEPT} forwards, {yardsticks.RECOMPUTED} where scores are "
        f"computed again; {provenance.words(found, 'jax')}"
    )


if __name__ == "__main__":
    sys.exit(command.main("table", "ratio", write))
