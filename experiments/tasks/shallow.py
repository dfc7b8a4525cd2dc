"""What counting alone can tell: naive Bayes, each token or n-gram a witness by itself.

A rule here learns from the training examples, and nothing of it is chosen: it is a row to beat.
"""

import functools
from collections.abc import Callable

import numpy as np

from experiments.tasks.labelled import Examples

BUCKETS = 1 << 18
# tokens looked at together
CHUNK = 1 << 20


def ngrams(order: int, vocab: int = 256) -> Callable[[Examples, Examples, int, int], float]:
    """Accuracy by which n-grams of `order` tokens occur, and how often, anywhere."""
    size = vocab if order == 1 else BUCKETS

    def codes(tokens, real):
        count = tokens.shape[1] - order + 1
        if count < 1:
            return tokens[:, :0], real[:, :0]
        code = np.zeros((len(tokens), count), np.uint64)
        for i in range(order):
            # an odd factor keeps the buckets of a power of two even
            code = code * np.uint64(0x9E3779B97F4A7C15) + tokens[:, i : i + count].astype(np.uint64)
        # as real tokens precede the padding, the last of an n-gram tells for all
        code = code if order == 1 else (code >> np.uint64(40)) % np.uint64(size)
        return code.astype(np.int64), real[:, order - 1 :]

    return functools.partial(_naive_bayes, codes=codes, size=lambda n: size)


def positions(vocab: int) -> Callable[[Examples, Examples, int, int], float]:
    """Accuracy by which token stands at which position: for sequences that are aligned."""

    def codes(tokens, real):
        return tokens + vocab * np.arange(tokens.shape[1]), real

    return functools.partial(_naive_bayes, codes=codes, size=lambda n: n * vocab)


def _naive_bayes(train, test, n, classes, *, codes, size):
    size = size(n)
    counts = np.zeros(classes * size)
    for rows in _chunks(train, n):
        code, real = codes(*train.pick(rows, n))
        code = code + train.labels[rows, None] * size
        counts += np.bincount(code[real], minlength=classes * size)
    counts = counts.reshape(classes, size)
    rates = np.log((counts + 1) / (counts.sum(1, keepdims=True) + size))
    prior = np.log(np.bincount(train.labels, minlength=classes) + 1)
    right = 0
    for rows in _chunks(test, n):
        code, real = codes(*test.pick(rows, n))
        scores = [prior[c] + np.where(real, rates[c][code], 0).sum(1) for c in range(classes)]
        right += (np.argmax(scores, 0) == test.labels[rows]).sum()
    return float(right / len(test))


def _chunks(examples, n):
    step = max(1, CHUNK // n)
    return (np.arange(i, min(i + step, len(examples))) for i in range(0, len(examples), step))
