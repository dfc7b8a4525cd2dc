"""Sections of kinds fidelity and numbers -> tables and headlines. Imports no jax."""

import pandas as pd

from experiments.analysis import frames
from experiments.analysis.formats import Column, Table, missing, significant
from experiments.analysis.frames import Section
from experiments.reporting import equal_flops

FIDELITY = (
    Column("label", "mechanism"),
    Column("target", "approximates"),
    Column("inputs", "inputs"),
    Column("n", "N", 12),
    Column("budget", "budget"),
    Column("value", "of", 12),
    Column("error", "error", 3),
    Column("error_min", "least", 3),
    Column("error_max", "most", 3),
    Column("seeds", "seeds", 12),
    Column("error_mean", "error of the mean", 3),
    Column("flops_formula", "GFLOP formula", 4, 1e9),
    Column("flops_ratio", "of full's", 3),
    Column("steps", "steps", 12),
    Column("loss", "loss", decimals=3),
    Column("fit_steps", "steps of the fit", 12),
    Column("fit_lr", "its rate", 2),
    Column("fit_loss", "its loss", 3),
    Column("status", "status"),
)
NUMBERS = (
    Column("label", "mechanism"),
    Column("n", "N", 12),
    Column("form", "form"),
    Column("dtype", "dtype"),
    Column("error", "output", 2),
    Column("error_rounding", "of rounding it alone", 2),
    Column("error_grad_q", "gradient in q", 2),
    Column("error_grad_k", "in k", 2),
    Column("error_grad_v", "in v", 2),
    Column("error_grad_params", "in parameters", 2),
    Column("status", "status"),
)


def fidelity(section: Section) -> pd.DataFrame:
    """A row a cell: the median, least and most over seeds, a budget apart by name and value."""
    cells = frames.cells(section).rename(columns={"budget.name": "budget", "budget.value": "value"})
    keys = frames.CELL["fidelity"]
    good = section.frame[section.frame.status == "ok"].copy()
    good["metrics.error"] = pd.to_numeric(good.get("metrics.error"))
    spread = good.groupby(keys, dropna=False, sort=False)["metrics.error"].agg(["min", "max"])
    targets = section.frame.groupby("label").apply(_target, include_groups=False)
    cells["target"] = cells.label.map(targets)
    names = [key.removeprefix("config.") for key in keys]
    names = [{"budget.name": "budget", "budget.value": "value"}.get(name, name) for name in names]
    spread.index.names = names
    spread = spread.rename(columns={"min": "error_min", "max": "error_max"}).reset_index()
    cells = cells.merge(spread, on=names, how="left")
    for column in ("error", "error_mean", "flops_formula", "flops_ratio"):
        cells[column] = cells.get(column)
    return cells.sort_values(["label", "inputs", "n", "value"], ignore_index=True)


def numbers(section: Section) -> pd.DataFrame:
    cells = frames.cells(section)
    cells["form"] = cells.causal.map({True: "causal", False: "bidirectional"})
    # float32 before the half-width ones
    order = [*dict.fromkeys(["float32", *sorted(cells["dtype"])])]
    cells["place"] = cells["dtype"].map(order.index)
    return cells.sort_values(["label", "n", "causal", "place"], ignore_index=True)


def fidelity_table(section: Section, text: str) -> list[Table]:
    what = (
        "Error: |out - full| / |full| in Frobenius norm, median over seeds; error of the mean: "
        "of the plain mean of the visible values; loss of a fit: the square of such an error."
    )
    equal = (
        "Error where a mechanism would do so many of full attention's FLOPs: interpolated in "
        "log-log between its two nearest budgets, which are named; least first."
    )
    rows = fidelity(section)
    return [
        Table.of(section.name, section.title, f"{what} {text}", FIDELITY, rows),
        Table.of(
            f"{section.name}-equal-flops",
            f"{section.title}: error at equal FLOPs",
            f"{equal} {text}",
            equal_flops.COLUMNS,
            equal_flops.table(rows),
        ),
    ]


def numbers_table(section: Section, text: str) -> list[Table]:
    what = "Relative error in Frobenius norm against the reference in float64."
    return [
        Table.of(section.name, section.title, f"{what} {text}", NUMBERS, numbers(section)),
    ]


TABLES = {"fidelity": fidelity_table, "numbers": numbers_table}


def fidelity_lines(section: Section):
    """(figure, words, records) of the least error at half of full's FLOPs or fewer, by inputs."""
    rows = fidelity(section)
    for inputs, of_inputs in rows.groupby("inputs"):
        n = of_inputs.n.max()
        cheap = of_inputs[(of_inputs.n == n) & (of_inputs.flops_ratio <= 0.5)].dropna(
            subset="error"
        )
        if len(cheap):
            best = cheap.loc[cheap.error.idxmin()]
            budget = "" if missing(best.value) else f", {best.budget} {best.value:g}"
            words = f"least error within half of full's FLOPs, {inputs} inputs, N = {n:,}"
            yield significant(best.error, 2), f"{words}: {best.label}{budget}", best.records


def numbers_lines(section: Section):
    """(figure, words, records) of the worst output, by dtype."""
    rows = numbers(section)
    for dtype, of_dtype in rows.groupby("dtype", sort=False):
        known = of_dtype.dropna(subset="error") if "error" in of_dtype else of_dtype[:0]
        if len(known):
            worst = known.loc[known.error.idxmax()]
            words = f"largest relative error of an output in {dtype}: {worst.label}, {worst.form}"
            yield significant(worst.error, 2), words, worst.records


def name(row: dict) -> str:
    """What tells a point from its neighbours, in words."""
    if row["config.kind"] == "numbers":
        form = "causal" if row["config.causal"] is True else "bidirectional"
        return f"{row['config.label']} {form}, {row['config.dtype']}"
    value = row.get("config.budget.value")
    budget = "" if missing(value) else f" {row['config.budget.name']} {value:g}"
    form = ", causal" if row["config.causal"] is True else ""
    return f"{row['config.label']}{budget}, {row['config.inputs']}{form}"


def _target(rows):
    """In words, of a label's records."""
    mechanism = rows.get("config.target.mechanism")
    found = [] if mechanism is None else mechanism.dropna()
    if not len(found):
        return "full"
    at = found.index[0]
    score = rows.get("config.target.hparams.score")
    if found[at] == "full" and score is not None and not missing(score[at]):
        return f"full, {score[at]}"
    return "full" if found[at] == "full" else f"{found[at]}, one bucket"
