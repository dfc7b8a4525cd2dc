"""A training section -> rows: variants by N, rules without a model, what others published.

One path for every metric. Imports no jax.
"""

import functools
import math
from collections.abc import Callable, Iterable

import pandas as pd

from experiments.analysis import fits, frames, published, verdicts
from experiments.analysis.findings import column
from experiments.analysis.formats import missing
from experiments.analysis.frames import Section
from experiments.tasks.metric import METRICS, RULES, UNKNOWN, Metric, merit, validation

# prefixes of scores that are no rule's
SPLITS = ("test_", "val_", "train_", "pretrain_")
# what a training step holds, best known first
MEMORY = {
    "peak_bytes": "the peak of the device or process",
    "bytes_measured": "growth at the peak of a step",
    "bytes_compiled": "scratch and output of the compiled step",
}
METRIC_FACTS = ("params", "params_length_sized", "decode_state_bytes", "steps", "tokens_per_step",
                "flops_per_step", "seconds_per_step")  # fmt: skip
# the parameters of a fair comparison, over those of full attention
FULL, EVEN = "full", (0.9, 1.1)
# what is farther from the models than so many times their spread would squeeze them
FAR = 2
CONFIG_FACTS = {
    "batch": "batch",
    "steps": "steps",
    "lr": "lr",
    "width": "model.width",
    "depth": "model.depth",
    "dtype": "dtype",
}
ENV_FACTS = ("device", "commit")


def metric_of(section: Section) -> Metric:
    """The metric that the section's records have."""
    return next((m for m in METRICS if len(scores(section.frame, m))), UNKNOWN)


def rows(section: Section) -> list[dict]:
    """Every row of a section; `what` is "model", "rule" or "published"."""
    metric = metric_of(section)
    found = [*variants(section, metric), *rules(section.frame, metric)]
    return found + others(section, metric)


def variants(section: Section, metric: Metric) -> list[dict]:
    """A row a variant and N: means over the seeds that came through; what has not as many
    parameters as full attention says so."""
    return [dict(row) for row in _variants(section, metric)]


# tables, plots, headlines and the page ask for them in turn
@functools.lru_cache(64)
def _variants(section, metric):
    held = memory_of(section.frame)
    groups = section.frame[_columns(section.frame)].groupby(["label", "config.n"], sort=True)
    rows = [variant(label, n, group, metric, held) for (label, n), group in groups]
    even = {}
    for row in rows:
        if row["label"].startswith(FULL) and _own(row):
            even.setdefault(row["n"], _own(row))
    for row in rows if even else ():
        # where only what is cheap runs, full attention of the shortest
        reference = even.get(row["n"], next(iter(even.values())))
        ratio = (_own(row) or reference) / reference
        if not EVEN[0] <= ratio <= EVEN[1]:
            said = f"{ratio:.3g} times {FULL}'s parameters"
            row["status"] = said if row["status"] == "ok" else f"{row['status']}; {said}"
            row["unequal"] = True
    return rows


def _columns(frame):
    """The columns that a row is made of: of a hundred others, groups are slow to take."""
    config = {f"config.{field}" for field in ("n", "mechanism", *CONFIG_FACTS.values())}
    known = config | {f"env.{key}" for key in (*ENV_FACTS, "date")}
    return [c for c in frame if c in known or not c.startswith(("config.", "env."))]


def _own(row):
    """Parameters but those whose number is the length's."""
    return (row.get("params") or 0) - (row.get("params_length_sized") or 0)


def variant(label: str, n: int, group: pd.DataFrame, metric: Metric, held=None) -> dict:
    """The row of some seeds' records; `held` is the metric that `memory` is taken from."""
    came = group.status == "ok"
    # rows of many columns are slow to pick
    good = group if came.all() else group[came]
    values, status = scores(good, metric), frames.failure(group)
    of = group if good.empty else good
    row = {"what": "model", "label": label, "n": n, **facts(of), **mean(values)}
    row |= {"status": status, "word": "", "records": frames.sources(group.id)}
    if not len(values):
        row["word"] = next((word for word in group.status if word != "ok"), "")
        return row
    keys = dict.fromkeys(METRIC_FACTS, None) | {
        "val": f"val_{validation(metric).key}_best",
        "val_last": f"val_{validation(metric).key}_last",
        "memory": held,
    }
    found = {key: mean_of(good, source or key) for key, source in keys.items()}
    row |= {key: value for key, value in found.items() if value is not None}
    row["lr"] = _only(good, "metrics.lr") or row["lr"]
    row["seconds_per_step"] = _least(good, "seconds_per_step")
    if column(good, frames.DEVICE).nunique() > 1:
        row["seconds_per_step"] = None  # times of several devices are no time of any
    row["beaten"] = beaten = verdicts.beaten(good.loc[values.index], values, metric)
    if beaten:
        row["status"] = beaten if status == "ok" else f"{beaten}; {status}"
    return row


def facts(group: pd.DataFrame) -> dict:
    """What was asked for, and where it ran."""
    row = {"mechanism": _only(group, "config.mechanism")}
    row |= {key: _only(group, f"config.{field}") for key, field in CONFIG_FACTS.items()}
    row |= {key: _only(group, f"env.{key}") for key in ENV_FACTS}
    return row | {"date": _days(column(group, "env.date"))}


def mean(values: pd.Series) -> dict:
    """Over seeds, with its standard error; without a value only the count of them."""
    if not len(values):
        return {"seeds": 0}
    return {"score": values.mean(), "stderr": fits.standard_error(values), "seeds": len(values)}


def of_one_class(accuracy: float) -> dict[str, float]:
    """The scores of a class, against the rest, by who says nothing else and is right so often."""
    found = {"accuracy": accuracy, "precision": accuracy, "recall": 1.0, "specificity": 0.0}
    for name, weight in {"f1": 1.0, "f2": 4.0}.items():
        found[name] = (1 + weight) * accuracy / (weight * accuracy + 1)
    return found


def scores(rows: pd.DataFrame, metric: Metric) -> pd.Series:
    """On the test split, else, of what none was scored on it, the best on the validation split."""
    test = pd.to_numeric(column(rows, f"metrics.test_{metric.key}")).dropna()
    if len(test):
        return test
    return pd.to_numeric(column(rows, f"metrics.val_{metric.key}_best")).dropna()


def rules(frame: pd.DataFrame, metric: Metric) -> list[dict]:
    """Rows without a model, once where they are the same at every N."""
    stems = [c.removeprefix("metrics.") for c in frame if c.startswith("metrics.")]
    keys = [k for k in stems if k.endswith(f"_{metric.key}") and not k.startswith(SPLITS)]
    order = [*RULES]
    keys.sort(key=lambda k: (order.index(k) if k in order else len(order), k))
    found = []
    for key in keys:
        values = pd.to_numeric(frame[f"metrics.{key}"], errors="coerce")
        by_n = values.groupby(frame["config.n"]).mean().dropna()
        same = len(by_n) and by_n.max() - by_n.min() < 1e-9
        words = RULES.get(key, key.removesuffix(f"_{metric.key}").replace("_", " "))
        for n, value in list(by_n.items())[:1] if same else by_n.items():
            row = {"what": "rule", "label": words, "n": None if same else n, "score": value}
            known = values.notna() & (same or frame["config.n"] == n)
            row["records"] = frames.sources(frame.id[known])
            found.append(row | {"word": "", "status": "no model"})
    return found


def others(section: Section, metric: Metric) -> list[dict]:
    """Rows of published figures of the section's task, of its width where there are widths."""
    task = published.task_of(section.frame)
    width = _only(section.frame, "config.model.width")
    found = published.of_width(published.of(task, metric.key), width)
    return [_published(row) for row in found[found.setting.isna()].itertuples()]


def _published(row):
    at = "" if missing(row.width) else f", width {row.width:g}"
    return {
        "what": "published",
        "label": f"{row.model}{at} ({row.source})",
        "model": row.model,
        "source": row.source + at,
        "differs": row.differs,
        "mechanism": row.mechanism,
        "n": row.n,
        "score": row.value,
        "word": row.word,
        "status": row.status,
    }


def ordered(rows: Iterable[dict]) -> list[str]:
    """Labels: full attention, the other models by name, then what is no model of ours."""

    def place(row):
        ours = row["what"] == "model"
        within = (row["mechanism"] != "full", row["label"]) if ours else ()
        return ("model", "rule", "published").index(row["what"]), within

    return list(dict.fromkeys(row["label"] for row in sorted(rows, key=place)))


def seeds(models: list[dict]) -> str:
    """How many seeds the scores are of, in words."""
    counts = sorted({row["seeds"] for row in models})
    if counts == [1]:
        return "one seed"
    return f"mean of {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"


def refused(rows: list[dict]) -> list[str]:
    """Labels of what was refused at every N: it cannot do the task."""
    words = {}
    for row in rows:
        if row["what"] == "model":
            words.setdefault(row["label"], set()).add(row["word"])
    return sorted(label for label, found in words.items() if found == {"refused"})


def far(models: list[dict]) -> Callable[[float | None], bool]:
    """Whether a score is too far from those of the models to be drawn beside them."""
    scores = [row["score"] for row in models]
    low, high = min(scores), max(scores)
    room = FAR * max(high - low, 0.05 * abs(high))

    def is_far(score):
        return not missing(score) and not low - room <= score <= high + room

    return is_far


def of_one_device(rows: Iterable[dict]) -> tuple[list[dict], list[str]]:
    """The rows with a score and a time of the device that has most of them, for times of several
    may not share an axis; and, where there are others, which device that is and which they are."""
    scored = [row for row in rows if not missing(row.get("score"))]
    timed = [row for row in scored if not missing(row.get("seconds_per_step"))]
    devices = [row["device"] for row in timed]
    most = max(sorted(set(devices)), key=devices.count, default=None)
    others = [row["label"] for row in scored if devices and row["device"] != most]
    words = [f"times: {most}", f"of other devices, or several: {', '.join(others)}"]
    return [row for row in timed if row["device"] == most], words if others else []


def losses(rows: list[dict]) -> list[str]:
    """What has no score, by why."""
    words = {}
    for row in rows:
        if row["word"]:
            words.setdefault(row["word"], []).append(row["label"])
    return [f"{word}: {', '.join(labels)}" for word, labels in words.items()]


def fullest(rows: list[dict]) -> int:
    """The N at which most of the rows have a score, the longest of those."""
    counts = {}
    for row in rows:
        counts[row["n"]] = counts.get(row["n"], 0) + (not missing(row.get("score")))
    return max(counts, key=lambda n: (counts[n], n))


def memory_of(frame: pd.DataFrame) -> str | None:
    """Which of MEMORY the records have."""
    return next((k for k in MEMORY if column(frame, f"metrics.{k}").notna().any()), None)


def clear_best(rows: Iterable[dict], metric: Metric) -> dict | None:
    """The row that is clearly ahead of the next, of those that are a fair comparison, where it
    beats every rule; see `fits.is_clear`."""
    known = [row for row in rows if not missing(row.get("score")) and not row.get("unequal")]
    known.sort(key=lambda row: -metric.sign * row["score"])
    pair = known[:2]
    if len(pair) < 2 or any(missing(row.get("stderr")) for row in pair) or pair[0].get("beaten"):
        return None
    # of repeated calls the error knows how few they are
    seeds = [row.get("seeds", math.inf) for row in pair]
    ahead = pair[0]["score"] - pair[1]["score"]
    return pair[0] if fits.is_clear(ahead, [row["stderr"] for row in pair], seeds) else None


def merit_of(rows: pd.DataFrame, score: float, metric: Metric) -> tuple[float, float, float]:
    """How good a learning rate is, as `choice.choose` sees it: `metric.merit` of its runs' mean."""
    target, loss, step = (
        None if missing(value) else value
        for value in (
            pd.to_numeric(column(rows, "config.target")).max(),
            *(mean_of(rows, key) for key in ("val_loss_best", "best_step")),
        )
    )
    rule = {"higher_is_better": metric.higher_is_better, "target": target}
    return merit(score, loss, step or 0, **rule)


def _only(rows, key):
    """The column's one value, or all of them in words."""
    values = column(rows, key).dropna().unique()
    if len(values) < 2:
        return values[0] if len(values) else None
    return ", ".join(sorted(map(frames.plain, values)))


def _days(dates):
    days = sorted(str(date)[:10] for date in dates.dropna())
    return " to ".join(dict.fromkeys((days[0], days[-1]))) if days else None


def _least(rows, key):
    """Of what others that ran meanwhile can only add to."""
    value = pd.to_numeric(column(rows, f"metrics.{key}")).min()
    return None if missing(value) else value


def mean_of(rows: pd.DataFrame, key: str) -> float | None:
    """Of a metric of the records; None where none has it."""
    values = pd.to_numeric(column(rows, f"metrics.{key}")).dropna()
    # a mean of equal numbers may be off by a rounding
    return values.iloc[0] if values.nunique() == 1 else values.mean() if len(values) else None
