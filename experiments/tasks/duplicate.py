"""Duplicate: 0 w 0 w with w a random word of (N-2)/2 symbols; say w again. arXiv:2001.04451.

The loss and the accuracy are of the second w. `grow` are steps at which training sequences double,
from 64 up to n, at as many tokens a batch. What a short word teaches first is to say a symbol seen;
of a long one nearly all symbols are, and there is little to begin from.

Differs from the released code, which never draws the highest symbol. The splits' random numbers
never meet, but below N = 10 there are so few words that the splits share some.
"""

from collections.abc import Sequence

import numpy as np

from experiments.tasks import Task, drawn, language

# the shortest sequences that training grows from
SHORTEST = 64


def make(n: int, symbols: int = 127, eval_examples: int = 1000, grow: Sequence[int] = ()) -> Task:
    if n < 4 or n % 2:
        raise ValueError(f"n must be an even number from 4 up, for 0 w 0 w, got {n}")
    drawn.check_whole(symbols=symbols, eval_examples=eval_examples)
    length_at = drawn.lengths(grow, n, SHORTEST)

    def draw(generator, size, n=n):
        word = generator.integers(1, symbols + 1, size=(size, n // 2 - 1), dtype=np.int32)
        half = np.pad(word, [(0, 0), (1, 0)])
        return _batch(np.concatenate([half, half], axis=1))

    def batch(seed, step, size):
        length = length_at(step)
        return draw(drawn.generator("train", seed, step), size * n // length, length)

    split, held_out = drawn.splits(
        lambda name: draw(drawn.generator(name), eval_examples), eval_examples
    )

    def oracles():
        return {"chance_accuracy": 1 / symbols, "bigram_accuracy": _by_bigrams(split("test"))}

    return Task(
        name="duplicate",
        n=n,
        model={"kind": "decoder", "inputs": "tokens", "vocab": symbols + 1},
        batch=batch,
        held_out=held_out,
        sums=language.sums,
        score=drawn.accuracy,
        metric="accuracy",
        oracles=oracles,
        facts={"symbols": symbols, "eval_examples": eval_examples},
        higher_is_better=True,
    )


def _batch(sequences):
    """Each position predicts the next token; scored are those that predict the second w."""
    size, n = sequences.shape
    scored = (np.arange(n) >= n // 2) & (np.arange(n) < n - 1)
    return {
        "inputs": sequences,
        "targets": np.pad(sequences[:, 1:], [(0, 0), (0, 1)]),
        "mask": np.ones((size, n), bool),
        "weights": np.tile(scored, (size, 1)),
    }


def _by_bigrams(batch):
    """Accuracy of the rule that says what followed the same symbol where it first stood."""
    sequences, half = batch["inputs"], batch["inputs"].shape[1] // 2
    rows = np.arange(len(sequences))[:, None]
    symbols = rows * (sequences.max() + 1) + sequences
    known, first = np.unique(symbols[:, :half], return_index=True)
    at = first[np.searchsorted(known, symbols)] - rows * half
    guesses = sequences[rows, at + 1]
    return float((guesses == batch["targets"])[batch["weights"]].mean())
