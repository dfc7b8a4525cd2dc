"""From Markov chains to attention, on the lectures' own sentences.

    python -m experiments.markov

Prints, and holds itself to, four models of the next word: by the word before; by the two before;
by the word before together with each earlier word of the sentence (second order with skips, which
vote); and the same where a mask leaves only the pairs that tell something. The mask of a word is a
row of a matrix, so looking it up is a product of a one-hot query with mask keys: attention. After
"Transformers from Scratch" by Brandon Rohrer, whose sentences these are. Imports no jax.
"""

import numpy as np

COMMANDS = (
    "show me my directories please",
    "show me my files please",
    "show me my photos please",
)
RUNS = ("check whether the battery ran down please", "check whether the program ran please")
LOGS = (
    "check the program log and find out whether it ran please",
    "check the battery log and find out whether it ran down please",
)


def vocabulary(sentences) -> list[str]:
    return sorted({word for sentence in sentences for word in sentence.split()})


def first_order(sentences) -> np.ndarray:
    """[V, V]: how often a word follows another, as a share; a row of 0 ends every sentence."""
    words = vocabulary(sentences)
    counts = np.zeros((len(words),) * 2)
    for sentence in sentences:
        at = [words.index(word) for word in sentence.split()]
        np.add.at(counts, (at[:-1], at[1:]), 1)
    return shares(counts)


def second_order(sentences) -> np.ndarray:
    """[V, V, V]: how often a word follows two others, as a share."""
    words = vocabulary(sentences)
    counts = np.zeros((len(words),) * 3)
    for sentence in sentences:
        at = [words.index(word) for word in sentence.split()]
        np.add.at(counts, (at[:-2], at[1:-1], at[2:]), 1)
    return shares(counts)


def with_skips(sentences) -> np.ndarray:
    """[V, V, V]: how often a word follows `last` where `earlier` stands somewhere before it, as a
    share, by [last, earlier]."""
    words = vocabulary(sentences)
    counts = np.zeros((len(words),) * 3)
    for sentence in sentences:
        at = [words.index(word) for word in sentence.split()]
        for place in range(1, len(at) - 1):
            for earlier in set(at[:place]):
                counts[at[place], earlier, at[place + 1]] += 1
    return shares(counts)


def mask_keys(pairs: np.ndarray) -> np.ndarray:
    """[V, V]: what to look for, by [last, earlier]: the pairs that leave no doubt of the next word
    where others leave some; all pairs there are where none leaves any."""
    certain = pairs.max(-1) == 1
    open_rows = ((pairs.max(-1) > 0) & ~certain).any(-1, keepdims=True)
    return np.where(open_rows, certain, pairs.max(-1) > 0).astype(float)


def predict(pairs: np.ndarray, context: list[int], keys: np.ndarray | None = None) -> np.ndarray:
    """[V]: the shares of the votes for the next word, of every pair or of those a mask leaves."""
    V = len(pairs)
    query = np.eye(V)[context[-1]]  # one-hot
    present = np.eye(V)[context[:-1]].max(0, initial=0)
    if keys is not None:
        present = present * (query @ keys)
    votes = present @ np.einsum("l,lev->ev", query, pairs)
    return shares(votes)


def shares(counts: np.ndarray) -> np.ndarray:
    total = counts.sum(-1, keepdims=True)
    return np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)


def after(text: str, model: np.ndarray, words: list[str], keys=None) -> dict[str, float]:
    """The next words and their shares; none where no pair votes, as after a single word."""
    context = text.split()
    if not context or not set(context) <= set(words):
        raise ValueError(f"text must be of the words {', '.join(words)}, got {text!r}")
    found = predict(model, [words.index(word) for word in context], keys)
    return {word: float(share) for word, share in zip(words, found, strict=True) if share > 0}


def show(title: str, rows: list[str], columns: list[str], matrix: np.ndarray) -> None:
    """A matrix with its words; 0 as a dot."""
    print(f"\n{title}")
    side, width = max(map(len, rows)), max(5, *map(len, columns)) + 1
    print(" " * side + "".join(f"{word:>{width}}" for word in columns))
    for name, values in zip(rows, matrix, strict=True):
        cells = (f"{value:.2f}".rstrip("0").rstrip(".") if value else "." for value in values)
        print(f"{name:<{side}}" + "".join(f"{cell:>{width}}" for cell in cells))


def main() -> None:
    words = vocabulary(COMMANDS)
    chain = first_order(COMMANDS)
    show("First order: the next word (across) after a word (down)", words, words, chain)
    assert chain[words.index("show"), words.index("me")] == 1
    np.testing.assert_allclose(chain[words.index("my")].max(), 1 / 3)

    words, chain = vocabulary(RUNS), second_order(RUNS)
    seen = np.argwhere(chain.any(-1))
    names = [f"{words[a]} {words[b]}" for a, b in seen]
    show("Second order: after two words", names, words, chain[tuple(seen.T)])
    assert first_order(RUNS)[words.index("ran")].max() == 0.5
    for pair, next_word in (("battery ran", "down"), ("program ran", "please")):
        a, b = map(words.index, pair.split())
        assert chain[a, b, words.index(next_word)] == 1

    words, pairs = vocabulary(LOGS), with_skips(LOGS)
    keys, ran = mask_keys(pairs), words.index("ran")
    earlier = [word for word in words if pairs[ran, words.index(word)].any()]
    rows = [words.index(word) for word in earlier]
    names = [f"{word} ... ran" for word in earlier]
    show("Second order with skips: how each pair votes", names, words, pairs[ran, rows])
    show("Mask keys: what a last word (down) looks for (across)", words, words, keys)
    query = np.eye(len(words))[ran]
    show("One-hot query of 'ran' times the mask keys", ["ran"], words, (query @ keys)[None])
    for text in ("check the program log and find out whether it ran",
                 "check the battery log and find out whether it ran"):  # fmt: skip
        votes, masked = after(text, pairs, words), after(text, pairs, words, keys)
        print(f"\n{text} ...\n  all pairs vote:  {said(votes)}\n  masked:          {said(masked)}")
        expected = "please" if "program" in text else "down"
        assert max(votes, key=votes.get) == expected
        assert votes[expected] < 1
        assert masked == {expected: 1.0}


def said(found):
    return ", ".join(f"{word} {share:.0%}" for word, share in found.items())


if __name__ == "__main__":
    main()
