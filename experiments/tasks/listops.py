"""ListOps: the value, 0 to 9, of a nested expression of N tokens at most. arXiv:2011.04006.

The distribution of the Long-Range Arena's generator: a node is an operator with probability 1/4
where its depth is below `max_depth` (the root's is 1), else a uniform digit; an operator is MIN,
MAX, MED (of two middle arguments the mean, cut to a whole number) or SM (sum modulo 10), with 2 to
10 arguments. An expression is kept where min_length < length < max_length; by default the window is
(n/4, n), the benchmark's 500 and 2,000 at N = 2,000. Duplicates are dropped, over all three splits.

[MAX 4 [SM 1 9 ] 7 ] is eight tokens: an operator with its bracket is one, a closing bracket one,
as the benchmark's encoder has it. Ids: padding 0, digits 1..10, operators 11..14, "]" 15; 16 is
spare. The data set is the same for every seed; a training batch is `size` draws from it, with
repetition. It is made at the first batch, a split at a time.

Differs from the benchmark: batches are not passes over a shuffled split; padding is hidden by an
explicit mask.
"""

import dataclasses
import functools
import hashlib

import numpy as np

from experiments.tasks import Task, drawn, language, trees

# expressions grown at a time
BLOCK = 1024
# a window that keeps fewer than one in so many grown expressions is refused
RAREST = 1000


@dataclasses.dataclass(frozen=True)
class Examples:
    tokens: np.ndarray
    """Of all expressions, one after the other."""
    begins: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray


def make(
    n: int,
    min_length: int | None = None,
    max_length: int | None = None,
    max_depth: int = 10,
    train_examples: int = 96000,
    val_examples: int = 2000,
    test_examples: int = 2000,
) -> Task:
    if n < 5:
        raise ValueError(f"n must be at least 5, to be above the shortest length, 4, got {n}")
    low = n // 4 if min_length is None else min_length
    high = n if max_length is None else max_length
    counts = {"val": val_examples, "test": test_examples, "train": train_examples}
    drawn.check_whole(**{f"{split}_examples": count for split, count in counts.items()})
    drawn.check_whole(min_length=low, max_length=high)
    drawn.check_whole(2, max_depth=max_depth)
    if high > n:
        raise ValueError(f"max_length must be at most n={n}, got {high}")
    if high < max(low + 2, 5):
        raise ValueError(
            f"max_length must be at least 5 and min_length + 2, both ends being left out, "
            f"got min_length={low} and max_length={high}"
        )

    def examples(split):
        return data_set(split, (low, high), max_depth, tuple(counts.items()))

    def rows_of(split, rows):
        return _batch(examples(split), rows, n)

    def batch(seed, step, size):
        rows = drawn.generator("train", seed, step).integers(train_examples, size=size)
        return rows_of("train", rows)

    def held_out(split, size):
        return drawn.in_batches(functools.partial(rows_of, split), counts[split], size)

    return Task(
        name="listops",
        n=n,
        model={
            "kind": "encoder",
            "inputs": "tokens",
            "outputs": "sequence",
            "vocab": len(trees.TOKENS),
            "classes": 10,
        },
        batch=batch,
        held_out=held_out,
        sums=language.sums,
        score=drawn.accuracy,
        metric="accuracy",
        oracles=lambda: shallow_rules(examples("train"), examples("test")),
        facts={
            "min_length": low,
            "max_length": high,
            "max_depth": max_depth,
            **{f"{split}_examples": count for split, count in counts.items()},
        },
        higher_is_better=True,
        masked=True,
    )


@functools.lru_cache(maxsize=6)
def data_set(split: str, window: tuple[int, int], max_depth: int, counts: tuple) -> Examples:
    """A split, without what is in those before it in `counts`, pairs of a name and a size."""
    names = [name for name, _ in counts]
    seen = set()
    for name in names[: names.index(split)]:
        before = data_set(name, window, max_depth, counts)
        _fresh(before.tokens, before.lengths, seen)
    generator = drawn.generator("pool" if split == "train" else split)
    return draw(generator, dict(counts)[split], window, max_depth, seen)


def draw(generator, count: int, window: tuple[int, int], max_depth: int, seen: set) -> Examples:
    """`count` expressions of lengths within the window that are not in `seen`, which grows.

    Roots that are digits are never drawn: no window keeps them.
    """
    (low, high), pieces, have, grown = window, [], 0, 0
    while have < count:
        levels, lengths = trees.grow(generator, BLOCK, high, max_depth)
        levels = trees.select(levels, (low < lengths) & (lengths < high))
        grown += BLOCK
        if levels:
            tokens, lengths = trees.write(levels)
            fresh = _fresh(tokens, lengths, seen)
            tokens = tokens[np.repeat(fresh, lengths)]
            pieces.append((tokens, lengths[fresh], trees.values(levels)[0][fresh]))
            have += fresh.sum()
        if grown > 20 * RAREST and have * RAREST < grown:
            raise ValueError(
                f"min_length={low}, max_length={high}, max_depth={max_depth} keep {have} distinct "
                f"of {grown} expressions where {count} are asked for; a wider window, another "
                "max_depth or fewer examples would do"
            )
    tokens, lengths, labels = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    lengths = lengths[:count]
    begins = np.cumsum(lengths) - lengths
    return Examples(tokens[: lengths.sum()], begins, lengths, labels[:count].astype(np.int32))


def _fresh(tokens, lengths, seen):
    """Which expressions are not in `seen`, nor further left; adds them."""
    fresh, end = np.zeros(len(lengths), bool), 0
    for i, length in enumerate(lengths):
        digest = hashlib.blake2b(tokens[end : end + length], digest_size=16).digest()
        end += length
        fresh[i] = digest not in seen
        seen.add(digest)
    return fresh


def _batch(examples, rows, n):
    columns = np.arange(n)
    mask = columns < examples.lengths[rows, None]
    tokens = examples.tokens.take(examples.begins[rows, None] + columns, mode="clip")
    return {
        "inputs": np.where(mask, tokens, trees.PAD).astype(np.int32),
        "targets": examples.labels[rows],
        "mask": mask,
        "weights": np.ones(len(rows), bool),
    }


def shallow_rules(train: Examples, test: Examples) -> dict[str, float]:
    """Accuracy on the test split of rules that read little.

    `majority`: the commonest label of the training split; `root`: the commonest of those whose root
    is the same operator; `depth1` to `depth3`: the value where every operator deeper than that
    is taken to be worth what is typical of it, 0 for MIN, 9 for MAX, 4 for MED and SM. Weighing
    what they may be worth by its likelihood does better: at N = 2,000 by 2 and 3 points of depths
    1 and 2. `chance` is of ten digits.
    """
    commonest = np.bincount(train.labels, minlength=10).argmax()
    by_root = np.zeros((len(trees.TOKENS), 10), np.int64)
    np.add.at(by_root, (train.tokens[train.begins], train.labels), 1)
    levels = trees.read(test.tokens, test.lengths)
    guesses = {
        "majority": commonest,
        "root": by_root.argmax(1)[test.tokens[test.begins]],
        **{f"depth{n}": trees.shallow_values(levels, n) for n in (1, 2, 3)},
    }
    shares = {
        f"{name}_accuracy": float((guess == test.labels).mean()) for name, guess in guesses.items()
    }
    return {"chance_accuracy": 0.1, **shares}
