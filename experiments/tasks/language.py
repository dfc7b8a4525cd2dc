"""Byte language modelling: predict every byte of a window of N from those before it. Bits a byte.

A window starts with one byte of context, so short windows include little of it: bits a byte falls
with N for any model that uses its context. Models compare at one N.
"""

import functools
import hashlib
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import optax

from experiments.tasks import Task, drawn, ngrams

# what precedes the first byte of a split
START = 10
# the shortest windows that training grows from
SHORTEST = 128


def language_model(
    n: int,
    name: str,
    splits: dict[str, bytes],
    eval_tokens: int,
    facts: dict,
    grow: Sequence[int] = (),
) -> Task:
    """The task of these `train`, `val` and `test` texts.

    Training windows lie at random offsets. `grow` are steps at which they double, from SHORTEST up
    to n, at as many bytes a batch; without it they are n from the first. Held out are the first
    `eval_tokens` bytes of a split, the same at every N, in windows that do not overlap: each byte
    is predicted once, and the last window padded.
    """
    drawn.check_whole(eval_tokens=eval_tokens)
    length_at = drawn.lengths(grow, n, SHORTEST)
    texts = {split: np.frombuffer(text, np.uint8) for split, text in splits.items()}
    if len(texts["train"]) < n:
        raise ValueError(f"n must be at most the {len(texts['train'])} bytes of {name}, got {n}")
    held = {split: texts[split][:eval_tokens] for split in ("val", "test")}
    stream = _after_start(texts["train"])

    def batch(seed, step, size):
        generator = np.random.Generator(np.random.Philox(key=np.array([seed, step], np.uint64)))
        length = length_at(step)
        size = size * n // length
        offsets = generator.integers(0, len(stream) - length, size=size)
        windows = stream[offsets[:, None] + np.arange(length + 1)]
        return _batch(windows[:, :-1], windows[:, 1:], np.ones((size, length), bool))

    def held_out(split, size):
        text, context = held[split], _after_start(held[split])
        for begin in range(0, len(text), size * n):
            inputs = _windows(context[begin : min(begin + size * n, len(text))], size, n)
            targets = _windows(text[begin : begin + size * n], size, n)
            left = np.arange(begin, begin + size * n).reshape(size, n) < len(text)
            yield _batch(inputs, targets, left)

    def oracles():
        train, test = splits["train"], splits["test"][:eval_tokens]
        return {
            "uniform_bpb": 8.0,
            "unigram_bpb": _by_counting(train, test, 0),
            "order1_bpb": _by_counting(train, test, 1),
            "order2_bpb": _by_counting(train, test, 2),
        }

    return Task(
        name=name,
        n=n,
        model={"kind": "decoder", "inputs": "tokens", "vocab": 256},
        batch=batch,
        held_out=held_out,
        sums=sums,
        score=lambda totals: totals["loss"] / totals["count"] / math.log(2),
        metric="bpb",
        oracles=oracles,
        facts={
            **facts,
            "data_sha256": hashlib.sha256(b"".join(splits.values())).hexdigest(),
            **{f"{split}_bytes": len(text) for split, text in texts.items()},
            "eval_tokens": len(held["test"]),
        },
    )


def sums(logits, batch):
    """Cross-entropy in nats, bytes predicted, and bytes whose likeliest guess was right."""
    weights = batch["weights"].astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), batch["targets"]
    )
    right = (logits.argmax(-1) == batch["targets"]) * weights
    return {"loss": (losses * weights).sum(), "count": weights.sum(), "correct": right.sum()}


def by_position(text: bytes, val: float = 0.05, test: float = 0.05) -> dict[str, bytes]:
    """The beginning, what follows it, and the end of a text."""
    first = round(len(text) * (1 - val - test))
    second = round(len(text) * (1 - test))
    return {"train": text[:first], "val": text[first:second], "test": text[second:]}


@functools.lru_cache(maxsize=8)
def _by_counting(train, test, order):
    arrays = (np.frombuffer(text, np.uint8) for text in (train, test))
    return ngrams.bits_per_byte(*arrays, order, START)


def _after_start(text):
    return np.concatenate([np.array([START], np.uint8), text])


def _windows(text, size, n):
    return np.pad(text, (0, size * n - len(text))).reshape(size, n)


def _batch(inputs, targets, mask):
    # padding follows whatever is scored, where a causal model cannot see it: masked stays False
    return {
        "inputs": inputs.astype(np.int32),
        "targets": targets.astype(np.int32),
        "mask": mask,
        "weights": mask,
    }
