"""The lectures' bridge from Markov chains to attention."""

import numpy as np
import pytest

from experiments import markov


def test_the_example_runs_and_prints_its_matrices(capsys):
    markov.main()
    printed = capsys.readouterr().out
    for words in ("First order", "Second order with skips", "Mask keys", "battery ... ran"):
        assert words in printed
    assert "masked:          down 100%" in printed
    assert "masked:          please 100%" in printed


def test_shares_are_counts_by_hand():
    words = markov.vocabulary(["a b a c", "b a"])
    chain = markov.first_order(["a b a c", "b a"])
    assert words == ["a", "b", "c"]
    np.testing.assert_allclose(chain, [[0, 1 / 2, 1 / 2], [1, 0, 0], [0, 0, 0]])
    pairs = markov.with_skips(["a b a c", "b a"])
    # after "a b": a; after "a b a" the earlier words are a and b
    np.testing.assert_allclose(pairs[1, 0], [1, 0, 0])
    np.testing.assert_allclose(pairs[0, 1], [0, 0, 1])


def test_a_mask_is_a_row_picked_by_a_product():
    pairs = markov.with_skips(markov.LOGS)
    keys, words = markov.mask_keys(pairs), markov.vocabulary(markov.LOGS)
    ran = words.index("ran")
    query = np.arange(len(words)) == ran
    row = query.astype(float) @ keys
    assert [word for word, kept in zip(words, row, strict=True) if kept] == ["battery", "program"]
    # the prediction by products is the sum over the words that stand before and are looked for
    context = ["check", "the", "program", "log", "and", "find", "out", "whether", "it", "ran"]
    votes = sum(pairs[ran, words.index(word)] for word in {*context[:-1]} & {"battery", "program"})
    found = markov.after(" ".join(context), pairs, words, keys)
    assert found == {words[i]: votes[i] / votes.sum() for i in np.flatnonzero(votes)}


def test_after_one_word_no_pair_votes():
    words, pairs = markov.vocabulary(markov.LOGS), markov.with_skips(markov.LOGS)
    for keys in (None, markov.mask_keys(pairs)):
        assert markov.after("check", pairs, words, keys) == {}


@pytest.mark.parametrize("text", ["", "check the engine"])
def test_words_that_are_none_of_the_sentences_are_named(text):
    words, pairs = markov.vocabulary(markov.LOGS), markov.with_skips(markov.LOGS)
    with pytest.raises(ValueError, match=f"text must be of the words and, .*, got {text!r}"):
        markov.after(text, pairs, words)


@pytest.mark.parametrize("animal", ["battery", "program"])
def test_without_the_mask_the_vote_is_close(animal):
    words, pairs = markov.vocabulary(markov.LOGS), markov.with_skips(markov.LOGS)
    votes = markov.after(f"check the {animal} log and find out whether it ran", pairs, words)
    assert set(votes) == {"down", "please"}
    assert 0.5 < max(votes.values()) < 0.6
