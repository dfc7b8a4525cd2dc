"""What a task is scored by, and the words for the rules that a model is held against."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Metric:
    """`test_KEY`, `val_KEY_best` and the rules `*_KEY` of the records.

    People read it over `scale` in `unit`, with `decimals`. A model that does not beat the best of
    the `floor` rules has failed; one that does not beat the best of the `shallow` ones, which count
    and look nothing up, has not shown that it learned more.
    """

    key: str
    words: str
    higher_is_better: bool
    decimals: int
    scale: float = 1.0
    unit: str = ""
    floor: tuple[str, ...] = ()
    shallow: tuple[str, ...] = ()
    validated: str = ""
    """The key of the metric that chooses and draws curves, where generating would take too long."""
    beside: tuple[tuple[str, str], ...] = ()
    """(key, words) of other scores that tasks of this metric may have, on its scale."""

    @property
    def header(self) -> str:
        return self.words + self.unit

    @property
    def title(self) -> str:
        return self.words[0].upper() + self.words[1:]

    @property
    def sign(self) -> int:
        """Times a score: more is better."""
        return 1 if self.higher_is_better else -1

    def text(self, value: float) -> str:
        """In a sentence or a figure, with a decimal less than in a table."""
        return f"{value / self.scale:.{self.decimals - 1}f}{self.unit}"

    def change(self, value: float) -> str:
        """A difference of two scores; of percentages it is in points."""
        unit = " points" if self.unit else ""
        return f"{value / self.scale:+.{self.decimals - 1}f}{unit}"


def merit(
    score: float,
    loss: float | None,
    step: int,
    *,
    higher_is_better: bool,
    target: float | None = None,
) -> tuple[float, float, float]:
    """How good a model is on validation, the greatest is best: by its score up to the target; below
    that by its loss, not known is worst; by the steps it took."""
    sign = 1 if higher_is_better else -1
    enough = math.inf if target is None else sign * target
    loss = 0.0 if sign * score >= enough else math.inf if loss is None else loss
    return min(sign * score, enough), -loss, -step


# means over the classes, each against the rest
OF_CLASSES = (
    *(("precision", "precision"), ("recall", "recall"), ("specificity", "specificity")),
    *(("f1", "F1"), ("f2", "F2"), ("auc", "ROC area")),
)
METRICS = (
    Metric(
        *("accuracy", "accuracy", True, 2, 0.01, " %"),
        floor=("length_accuracy", "majority_accuracy", "chance_accuracy"),
        shallow=(
            *("context_accuracy", "position_accuracy", "bigram_accuracy", "root_accuracy"),
            *("bytes_accuracy", "fourgram_accuracy"),
        ),
        beside=OF_CLASSES,
    ),
    Metric(
        *("bpb", "bits per byte", False, 4),
        floor=("unigram_bpb",),
        shallow=("order1_bpb", "order2_bpb"),
    ),
    Metric(
        *("bleu", "BLEU", True, 2),
        floor=("nearest_bleu",),
        shallow=("copy_bleu",),
        validated="nats",
    ),
    Metric("nats", "nats per token", False, 4),
    Metric(
        *("mse", "mean squared error", False, 4),
        floor=("seasonal_mse", "last_value_mse"),
        beside=(("mae", "mean absolute error"),),
    ),
)


def validation(metric: Metric) -> Metric:
    """What the validation split is scored by."""
    return next((m for m in METRICS if m.key == metric.validated), metric)


UNKNOWN = Metric("score", "score", True, 4)
# in this order; others follow by name
RULES = {
    "uniform_bpb": "uniform",
    "unigram_bpb": "unigram (order-0)",
    "order1_bpb": "bigram (order-1)",
    "order2_bpb": "order-2",
    "chance_accuracy": "chance",
    "majority_accuracy": "majority class",
    "context_accuracy": "a value of the context",
    "position_accuracy": "by position",
    "bigram_accuracy": "bigram",
    "length_accuracy": "by length alone",
    "root_accuracy": "root operator",
    "depth1_accuracy": "exact to depth 1",
    "depth2_accuracy": "exact to depth 2",
    "depth3_accuracy": "exact to depth 3",
    "bytes_accuracy": "naive Bayes of bytes",
    "fourgram_accuracy": "naive Bayes of 4-grams",
    "copy_bleu": "the source itself",
    "nearest_bleu": "the nearest training caption's",
    "last_value_mse": "last value",
    "seasonal_mse": "a period before",
    "linear_mse": "least squares, of DLinear's form",
    "nlinear_mse": "least squares, of NLinear's form",
}
