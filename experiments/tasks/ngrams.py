"""What counting alone predicts: bits a byte of an order-k model, the row a network has to beat."""

import numpy as np


def bits_per_byte(train: np.ndarray, text: np.ndarray, order: int, start: int = 10) -> float:
    """Mean -log2 p of the bytes `text` given the `order` before them, counted on `train`.

    Interpolated Witten-Bell: p_k(x|c) = (n(c, x) + t(c) p_{k-1}(x|c')) / (n(c) + t(c)), n the count
    and t the number of distinct bytes seen after context c, down to p_{-1} = 1/256. Both texts are
    taken to follow `order` bytes `start` (a newline).
    """
    p = np.full(len(text), 1 / 256)
    for k in range(order + 1):
        grams, counts = np.unique(_grams(train, k, start), return_counts=True)
        contexts, first, distinct = np.unique(grams >> 8, return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, first)
        queries = _grams(text, k, start)
        n = _lookup(grams, counts, queries)
        t, total = (_lookup(contexts, column, queries >> 8) for column in (distinct, totals))
        # a context never seen leaves the shorter one's answer
        p = np.where(total > 0, (n + t * p) / np.maximum(total + t, 1), p)
    return float(-np.log2(p).mean())


def _grams(text, k, start):
    """Each byte with the k before it, as one number: the last byte is the lowest."""
    padded = np.concatenate([np.full(k, start, np.uint8), text]).astype(np.int64)
    return sum(padded[i : i + len(text)] << (8 * (k - i)) for i in range(k + 1))


def _lookup(keys, values, queries):
    at = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    return np.where(keys[at] == queries, values[at], 0)
