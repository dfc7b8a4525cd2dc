"""What a classifier confuses: sums that add up over batches, and the scores made of them.

Precision, recall, specificity and F are means over the classes, each against the rest; the area
under the ROC curve too, of probabilities rounded to `BINS` steps, so that ties are halves.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from experiments.tasks import language

BINS = 1000
BETAS = {"f1": 1.0, "f2": 2.0}
# steps of the false positive rate, from 0 to 1, at which a record holds the ROC curve
RATES = 50


def sums(logits, batch):
    """`confusion` [C, C] by (true, said), and `said` [2, C, BINS]: how often a class, true (1) or
    not (0), was given a probability."""
    C = logits.shape[-1]
    weights = batch["weights"].astype(jnp.float32)
    side = jax.nn.one_hot(batch["targets"], C, dtype=int)
    step = jnp.clip((jax.nn.softmax(logits.astype(jnp.float32)) * BINS).astype(int), 0, BINS - 1)
    histogram = jnp.zeros((2, C, BINS)).at[side, jnp.arange(C), step].add(weights[:, None])
    return {
        **language.sums(logits, batch),
        "confusion": jnp.zeros((C, C)).at[batch["targets"], logits.argmax(-1)].add(weights),
        "said": histogram,
    }


def scores(totals: Mapping[str, np.ndarray]) -> dict:
    """Metrics by name, from the sums of a whole split; a class that is absent is left out."""
    confusion = totals["confusion"]
    return {
        **of_matrix(confusion),
        "auc": area(totals["said"]),
        "roc": curve(totals["said"]),
        "confusion": confusion.astype(int).tolist(),
    }


def of_matrix(confusion: np.ndarray) -> dict[str, float]:
    """A class that was never said has precision 0."""
    right, true, said = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    total, there = confusion.sum(), true > 0
    precision = np.divide(right, said, out=np.zeros_like(right), where=said > 0)[there]
    recall = (right / np.where(there, true, 1))[there]
    negatives = (total - true)[there]
    specificity = 1 - np.divide(
        (said - right)[there], negatives, out=np.zeros_like(negatives), where=negatives > 0
    )
    found = {"precision": precision, "recall": recall, "specificity": specificity}
    for name, beta in BETAS.items():
        below = beta**2 * precision + recall
        above = (1 + beta**2) * precision * recall
        found[name] = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return {name: float(values.mean()) for name, values in found.items()}


def area(said: np.ndarray) -> float | None:
    """The mean area under the ROC curves of the classes that have both sides."""
    others, own = _sided(said)
    if not len(own):
        return None
    below = np.cumsum(others, 1) - others / 2
    return float(((own * below).sum(1) / (own.sum(1) * others.sum(1))).mean())


def curve(said: np.ndarray) -> list[float] | None:
    """The true positive rate at each of the false positive rates 0, 1 / RATES, ... 1: the mean of
    the classes' ROC curves, each rising to its height at rate 0."""
    others, own = _sided(said)
    if not len(own):
        return None
    at, found = np.linspace(0, 1, RATES + 1), []
    for sides in zip(others, own, strict=True):
        false, true = (np.cumsum([0, *side[::-1]]) / side.sum() for side in sides)
        # of equal rates the highest
        last = np.append(np.diff(false) > 0, True)
        found.append(np.interp(at, false[last], true[last]))
    return [round(float(rate), 4) for rate in np.mean(found, 0)]


def _sided(said):
    """(of the others, of the class itself) of the classes that have both."""
    others, own = said
    both = (own.sum(1) > 0) & (others.sum(1) > 0)
    return others[both], own[both]


def of_majority(train: np.ndarray, test: np.ndarray, classes: int) -> dict[str, float]:
    """The scores of always saying the most frequent class of the training labels."""
    matrix = np.zeros((classes, classes))
    most = np.bincount(train, minlength=classes).argmax()
    matrix[:, most] = np.bincount(test, minlength=classes)
    return {f"majority_{name}": value for name, value in of_matrix(matrix).items()}
