"""Multi-query associative recall: say the value that was paired with a key. arXiv:2312.04927.

After Zoology's generator (`multiquery_ar`). Of a vocabulary of V the keys are 1..V/2-1 and the
values V/2..V-1. A sequence begins with `pairs` pairs k v of distinct keys and distinct values; each
key comes once more, as a query, at an even distance 2g after the pairs, where the `pairs` gaps g
are drawn one after the other, without repetition, with weights (g+1)^(power-1): pair i takes the
i-th gap drawn. The target at a query is its value, which the input does not show; only queries are
scored. All other positions are fillers, uniform over 0..V-1. A filler may repeat a key or a value:
the answer is what followed the key where it first stood. Without `random_fillers` they are 0, which
is neither, as in the paper's figure 2.

`grow` are steps at which training sequences double, from 64 tokens of 4 pairs up to n and `pairs`:
they begin short, at as many tokens a batch, for on long ones alone a small model needs very many
steps to find the rule.

Differs: training sequences are drawn anew each step, where Zoology's are 100,000 in 64 epochs;
validation is apart from test; V may be less than N. Where N is 512 or more `pairs` is N/8, else
N/16: (64, 4) (128, 8) (256, 16) (512, 64) are the settings published. The trained model is
tested on fewer pairs as well, on 4, 8, 16 and so on.
"""

from collections.abc import Sequence

import numpy as np

from experiments.tasks import Task, drawn, language

# the shortest sequences that training grows from
SHORTEST = 64
# sequences that the rule by position is counted on
COUNTED = 20000


def make(
    n: int,
    vocab: int = 8192,
    pairs: int | None = None,
    power: float = 0.01,
    eval_examples: int = 3000,
    grow: Sequence[int] = (),
    random_fillers: bool = True,
) -> Task:
    if pairs is None:
        pairs = published(n)
    _check(n, vocab, pairs, power)
    drawn.check_whole(eval_examples=eval_examples)

    def grown(doublings):
        return min(n, SHORTEST << doublings), min(pairs, published(SHORTEST) << doublings)

    doublings = drawn.growth(grow)
    if grow and grown(len(grow)) != (n, pairs):
        tokens, number = grown(len(grow))
        raise ValueError(
            f"grow must double sequences up to n={n} and pairs={pairs}, got {len(grow)} steps, "
            f"for {tokens} and {number}"
        )
    fewer = tuple(f"pairs={2**e}" for e in range(2, pairs.bit_length()) if 2**e < pairs)

    def draw_gaps(generator, size, pairs=pairs, n=n):
        rates = np.arange(1, (n - 2 * pairs) // 2 + 1) ** (power - 1.0)
        # the order of exponential arrivals at these rates is that of weighted draws
        return _earliest(generator.exponential(size=(size, len(rates))) / rates, pairs)

    def draw(generator, size, pairs=pairs, n=n):
        gaps = draw_gaps(generator, size, pairs, n)
        keys = 1 + _distinct(generator, vocab // 2 - 1, size, pairs)
        values = vocab // 2 + _distinct(generator, vocab // 2, size, pairs)
        inputs = np.zeros((size, n), np.int32)
        if random_fillers:
            inputs = generator.integers(vocab, size=(size, n), dtype=np.int32)
        inputs[:, : 2 * pairs : 2], inputs[:, 1 : 2 * pairs : 2] = keys, values
        targets, scored = np.zeros((size, n), np.int32), np.zeros((size, n), bool)
        rows, queries = np.arange(size)[:, None], 2 * pairs + 2 * gaps
        inputs[rows, queries], targets[rows, queries], scored[rows, queries] = keys, values, True
        mask = np.ones((size, n), bool)
        return {"inputs": inputs, "targets": targets, "mask": mask, "weights": scored}

    def batch(seed, step, size):
        length, number = n, pairs
        if grow:
            length, number = grown(doublings(step))
        return draw(drawn.generator("train", seed, step), size * n // length, number, length)

    def draw_split(name):
        if name not in fewer:
            return draw(drawn.generator(name), eval_examples)
        number = int(name.removeprefix("pairs="))
        return draw(drawn.generator("test", step=number), eval_examples, number)

    _, held_out = drawn.splits(draw_split, eval_examples)

    def by_position():
        """Of the rule that knows which pairs a gap favours, and never looks at the key."""
        counts = np.zeros(((n - 2 * pairs) // 2, pairs), np.int64)
        for step in range(COUNTED // 1000):
            gaps = draw_gaps(drawn.generator("train", 0, step), 1000)
            np.add.at(counts, (gaps, np.arange(pairs)), 1)
        gaps = draw_gaps(drawn.generator("test"), eval_examples)
        return float((counts.argmax(1)[gaps] == np.arange(pairs)).mean())

    def oracles():
        return {
            "chance_accuracy": 2 / vocab,
            "context_accuracy": 1 / pairs,
            "position_accuracy": by_position(),
        }

    return Task(
        name="mqar",
        n=n,
        model={"kind": "decoder", "inputs": "tokens", "vocab": vocab},
        batch=batch,
        held_out=held_out,
        sums=language.sums,
        score=drawn.accuracy,
        metric="accuracy",
        oracles=oracles,
        facts={"vocab": vocab, "pairs": pairs, "power": power, "eval_examples": eval_examples},
        also=fewer,
        higher_is_better=True,
    )


def published(n: int) -> int:
    """How many pairs a sequence of n tokens has unless it is told."""
    return max(1, n // 8 if n >= 512 else n // 16)


def _check(n, vocab, pairs, power):
    drawn.check_whole(4, n=n, vocab=vocab)
    for name, size in (("n", n), ("vocab", vocab)):
        if size % 2:
            raise ValueError(f"{name} must be even, got {size}")
    drawn.check_whole(pairs=pairs)
    if 4 * pairs > n:
        raise ValueError(f"pairs must be at most n/4 = {n // 4}, got {pairs}")
    if pairs > vocab // 2 - 1:
        raise ValueError(
            f"pairs must be at most the {vocab // 2 - 1} keys of vocab={vocab}, got {pairs}"
        )
    if not 0 <= power <= 1:
        raise ValueError(f"power must be within 0..1, 1 for uniform gaps, got {power}")


def _distinct(generator, count, size, k):
    """[size, k]: in each row k distinct numbers below `count`, every ordered choice as likely."""
    if 2 * k > count:
        return _earliest(generator.random((size, count)), k)
    # repeated numbers are drawn again, whichever they are: no number is favoured
    numbers = generator.integers(count, size=(size, k))
    while (again := _repeats(numbers)).any():
        numbers[again] = generator.integers(count, size=again.sum())
    return numbers


def _repeats(numbers):
    """Where a row has a number that it has further left too."""
    order = numbers.argsort(axis=1, kind="stable")
    ranked = np.take_along_axis(numbers, order, axis=1)
    found = np.zeros(numbers.shape, bool)
    np.put_along_axis(found, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    return found


def _earliest(times, k):
    """[size, k]: the indices of each row's k least times, in their order."""
    found = np.argpartition(times, k - 1, axis=1)[:, :k]
    order = np.take_along_axis(times, found, axis=1).argsort(axis=1)
    return np.take_along_axis(found, order, axis=1)
