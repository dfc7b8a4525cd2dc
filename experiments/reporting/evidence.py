"""What the records say of a mechanism's quality near a call: fidelity to softmax, scores of tasks.

Imports no jax.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.analysis import fits, quality, verdicts
from experiments.analysis.findings import column
from experiments.analysis.frames import Section
from experiments.reporting import errors

# with this score, exact attention by another order of sums; errors of rounding
EXACT, SCORE = "full", "scaled_dot"
HPARAMS = "config.hparams."
TASKS = 2


def fidelities(sections: list[Section]) -> pd.DataFrame:
    """The rows of all fidelity sections that have a number, with their form in `causal`."""
    found = [_rows(section) for section in sections if section.kind == "fidelity"]
    return pd.concat(found) if found else pd.DataFrame(columns=["mechanism"])


def _rows(section):
    # of an experiment among others most columns are empty, and slow
    rows = errors.fidelity(
        dataclasses.replace(section, frame=section.frame.dropna(axis=1, how="all"))
    )
    switches = {
        label: _switches(of.iloc[0].filter(like=HPARAMS).rename(lambda c: c.removeprefix(HPARAMS)))
        for label, of in section.frame.groupby("label")
    }
    rows = rows.assign(switches=rows.label.map(switches))
    return rows[rows.word == "ok"].assign(causal=bool(section.frame["config.causal"].iloc[0]))


def _switches(hparams):
    """What chooses a form; sizes do not."""
    return {name: value for name, value in hparams.items() if isinstance(value, str | bool)}


def _agree(some, others):
    return all(some[name] == others[name] for name in some.keys() & others.keys())


def fidelity(
    rows: pd.DataFrame, mechanism: str, hparams: Mapping, n: int, *, causal: bool
) -> dict[str, Any] | None:
    """Relative error against what it approximates, on a trained model's q, k and v where there are,
    at the N nearest to `n`; {"error", "target", "n", "inputs", "budget", "value", "causal"}.

    Between two measured budgets it is interpolated in log-log; beyond them `value` is the nearest.
    """
    if mechanism == EXACT:
        known = {"error": 0.0, "target": EXACT, "inputs": "any", "budget": "", "value": None}
        same = hparams.get("score", SCORE) == SCORE
        return known | {"n": None, "causal": causal} if same else None
    asked = _switches(hparams)
    rows = rows[rows.mechanism == mechanism]
    rows = rows[[_agree(asked, switches) for switches in rows.get("switches", [])]]
    if rows.empty:
        return None
    for name, wanted in (("causal", causal), ("inputs", "trained")):
        rows = rows[rows[name] == wanted] if (rows[name] == wanted).any() else rows
    nearest = min(rows.n.unique(), key=lambda known: abs(math.log(known / n)))
    rows = rows[rows.n == nearest]
    numbers = [name for name, value in hparams.items() if type(value) in (int, float)]
    budgeted = rows[rows.budget.isin(numbers) & (rows.value > 0)]
    row = _at(budgeted, hparams) if len(budgeted) else _only(rows)
    return row | {"n": int(nearest)}


def _at(rows, hparams):
    """At the budget asked for, or the nearest one that was measured."""
    rows = rows[rows.budget == rows.budget.iloc[0]].sort_values("value")
    budget = rows.budget.iloc[0]
    value = min(max(hparams[budget], rows.value.min()), rows.value.max())
    error = fits.interpolate(rows.value, rows.error, value)
    return _answer(rows.iloc[0], error, budget, float(value))


def _only(rows):
    """Of a mechanism whose budget is not one of its hyperparameters as asked: the least error."""
    row = rows.loc[rows.error.idxmin()]
    value = None if pd.isna(row.value) else float(row.value)
    return _answer(row, row.error, row.budget or "", value)


def _answer(row, error, budget, value):
    return {
        "error": float(error),
        "target": row.target,
        "inputs": row.inputs,
        "budget": budget,
        "value": value,
        "causal": bool(row.causal),
    }


def tasks(sections: list[Section], n: int, *, causal: bool) -> list[dict[str, Any]]:
    """The trained tasks whose lengths come nearest to N, of the same form where there are, each
    once, as most models were trained: {"task", "title", "n", "causal", "metric", "rows", "rule"}.
    Where no model beats every rule, their order tells nothing and the task stays out."""
    found = []
    for section in (section for section in sections if section.kind == "train"):
        metric = quality.metric_of(section)
        scored = [row for row in quality.variants(section, metric) if row.get("score") is not None]
        taught = {row["n"] for row in scored if not row["beaten"]}
        rows = [row for row in scored if row["n"] in taught]
        if not rows:
            continue
        states = column(section.frame, "metrics.decode_state_bytes")
        form = metric.key == "bpb" or bool(states.notna().any())
        nearest = min({row["n"] for row in rows}, key=lambda known: abs(math.log(known / n)))
        task = {"task": str(section.frame["config.task"].iloc[0]), "title": section.title}
        task |= {"n": int(nearest), "causal": form, "metric": metric}
        task["rule"] = verdicts.strongest(quality.rules(section.frame, metric), metric, nearest)
        found.append(task | {"rows": [row for row in rows if row["n"] == nearest]})
    alike = [task for task in found if task["causal"] == causal] or found
    alike.sort(key=lambda task: (abs(math.log(task["n"] / n)), -len(task["rows"]), task["title"]))
    once = {}
    for task in alike:
        once.setdefault(task["task"], task)
    return [*once.values()][:TASKS]


def score(task: Mapping, label: str, mechanism: str) -> dict[str, Any] | None:
    """{"task", "title", "n", "metric", "label", "score", "stderr", "seeds", "status", "steps",
    "params", "device"} of the mechanism, of its own label where that was trained."""
    rows = [row for row in task["rows"] if row["mechanism"] == mechanism]
    rows = [row for row in rows if row["label"] == label] or rows
    if not rows:
        return None
    row = (min if not task["metric"].higher_is_better else max)(rows, key=lambda r: r["score"])
    keys = ("label", "score", "stderr", "seeds", "status", "steps", "params", "device")
    of = {key: task[key] for key in ("task", "title", "n")}
    return {**of, "metric": task["metric"].key, **{key: row.get(key) for key in keys}}
