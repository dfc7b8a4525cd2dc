"""A training section -> rows: variants by N, rules without a model, what others published.

One path for every metric. Imports no jax.
"""

import dataclasses
from collections.abc import Iterable

import pandas as pd

from experiments import fits, frames, published
from experiments.analysis import column
from experiments.formats import missing
from experiments.frames import Section


@dataclasses.dataclass(frozen=True)
class Metric:
    """`test_KEY`, `val_KEY_best` and the rules `*_KEY` of the records.

    People read it over `scale` in `unit`, with `decimals`; a model must beat the first of the
    `floor` rules that is known.
    """

    key: str
    words: str
    higher_is_better: bool
    decimals: int
    scale: float = 1.0
    unit: str = ""
    floor: tuple[str, ...] = ()

    @property
    def header(self) -> str:
        return self.words + self.unit

    @property
    def sign(self) -> int:
        """Times a score: more is better."""
        return 1 if self.higher_is_better else -1

    def text(self, value: float) -> str:
        """In a sentence or a figure, with a decimal less than in a table."""
        return f"{value / self.scale:.{self.decimals - 1}f}{self.unit}"


METRICS = (
    Metric("accuracy", "accuracy", True, 2, 0.01, " %", ("majority_accuracy", "chance_accuracy")),
    Metric("bpb", "bits per byte", False, 4, floor=("unigram_bpb",)),
)
UNKNOWN = Metric("score", "score", True, 4)
# in this order; others follow by name
RULES = {
    "uniform_bpb": "uniform",
    "unigram_bpb": "unigram (order-0)",
    "order2_bpb": "order-2",
    "chance_accuracy": "chance",
    "majority_accuracy": "majority class",
    "context_accuracy": "a value of the context",
    "position_accuracy": "by position",
    "bigram_accuracy": "bigram",
    "root_accuracy": "root operator",
    "depth1_accuracy": "exact to depth 1",
    "depth2_accuracy": "exact to depth 2",
    "bytes_accuracy": "naive Bayes of bytes",
    "fourgram_accuracy": "naive Bayes of 4-grams",
}
SPLITS = ("test_", "val_", "train_", "pretrain_")
# what a training step holds, best known first
MEMORY = {
    "peak_bytes": "the peak of the device or process",
    "bytes_measured": "growth at the peak of a step",
    "bytes_compiled": "scratch and output of the compiled step",
}
METRIC_FACTS = ("params", "params_length_sized", "decode_state_bytes", "steps", "tokens_per_step",
                "flops_per_step", "seconds_per_step", "lr")  # fmt: skip
CONFIG_FACTS = {
    "batch": "batch",
    "steps": "steps",
    "lr": "lr",
    "width": "model.width",
    "depth": "model.depth",
    "dtype": "dtype",
}
ENV_FACTS = ("device", "commit", "date")


def metric_of(section: Section) -> Metric:
    """The metric that the section's records have."""
    return next((m for m in METRICS if len(scores(section.frame, m))), UNKNOWN)


def rows(section: Section) -> list[dict]:
    """Every row of a section; `what` is "model", "rule" or "published"."""
    metric = metric_of(section)
    found = [*variants(section, metric), *rules(section.frame, metric)]
    return found + others(section, metric)


def variants(section: Section, metric: Metric) -> list[dict]:
    """A row a variant and N: means over the seeds that came through."""
    held = memory_of(section.frame)
    groups = section.frame.groupby(["label", "config.n"], sort=True)
    return [variant(label, n, group, metric, held) for (label, n), group in groups]


def variant(label: str, n: int, group: pd.DataFrame, metric: Metric, held=None) -> dict:
    """The row of some seeds' records; `held` is the metric that `memory` is taken from."""
    good = group[group.status == "ok"]
    values, status = scores(good, metric), frames.failure(group)
    row = {"what": "model", "label": label, "n": n, **facts(group), **mean(values)}
    row["status"], row["word"] = status, ""
    if not len(values):
        row["word"] = next((word for word in group.status if word != "ok"), "")
        return row
    keys = dict.fromkeys(METRIC_FACTS, None) | {"val": f"val_{metric.key}_best", "memory": held}
    found = {key: _mean(good, source or key) for key, source in keys.items()}
    row |= {key: value for key, value in found.items() if value is not None}
    if lost := _lost(good.loc[values.index], values, metric):
        row["status"] = lost if status == "ok" else f"{lost}; {status}"
    return row


def facts(group: pd.DataFrame) -> dict:
    """What was asked for, and where it ran."""
    row = {"mechanism": _only(group, "config.mechanism")}
    row |= {key: _only(group, f"config.{field}") for key, field in CONFIG_FACTS.items()}
    return row | {key: _only(group, f"env.{key}") for key in ENV_FACTS}


def mean(values: pd.Series) -> dict:
    """Over seeds, with its standard error; without a value only the count of them."""
    if not len(values):
        return {"seeds": 0}
    return {"score": values.mean(), "stderr": fits.standard_error(values), "seeds": len(values)}


def _lost(rows, values, metric):
    """The verdict on seeds that do no better than the rule they have to beat; "" without any."""
    for key in metric.floor:
        level = pd.to_numeric(column(rows, f"metrics.{key}"))
        if level.notna().any():
            lost = int((metric.sign * values <= metric.sign * level).sum())
            word = f"failed run: does not beat {RULES[key]} in {lost} of {len(values)} seeds"
            return word if lost else ""
    return ""


def scores(rows: pd.DataFrame, metric: Metric) -> pd.Series:
    """On the test split, else the best on the validation split."""
    test = pd.to_numeric(column(rows, f"metrics.test_{metric.key}"))
    return test.fillna(pd.to_numeric(column(rows, f"metrics.val_{metric.key}_best"))).dropna()


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
            found.append(row | {"word": "", "status": "no model"})
    return found


def others(section: Section, metric: Metric) -> list[dict]:
    """Rows of published figures of the section's task, of its width where there are widths."""
    task = section.frame["config.task"].iloc[0]
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
    """The row that is ahead of the next by more than two standard errors of their difference."""
    known = [row for row in rows if not missing(row.get("score"))]
    known.sort(key=lambda row: -metric.sign * row["score"])
    if len(known) < 2 or any(missing(row.get("stderr")) for row in known[:2]):
        return None
    (best, second), ahead = known[:2], abs(known[0]["score"] - known[1]["score"])
    return best if ahead > 2 * (best["stderr"] ** 2 + second["stderr"] ** 2) ** 0.5 else None


def _only(rows, key):
    """The column's one value, or all of them in words."""
    values = column(rows, key).dropna().unique()
    if len(values) < 2:
        return values[0] if len(values) else None
    return ", ".join(sorted(map(frames.plain, values)))


def _mean(rows, key):
    values = pd.to_numeric(column(rows, f"metrics.{key}")).dropna()
    # a mean of equal numbers may be off by a rounding
    return values.iloc[0] if values.nunique() == 1 else values.mean() if len(values) else None
