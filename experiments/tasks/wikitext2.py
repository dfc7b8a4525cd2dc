"""Bytes of WikiText-2: its validation text trains (the last tenth validates), its test text tests.

The training text is not read, so no figure here compares with a published one.
"""

from collections.abc import Sequence

from experiments.tasks import Task, data, language


def make(n: int, eval_tokens: int = 131072, grow: Sequence[int] = ()) -> Task:
    text = data.read("wikitext2", "valid.txt")
    splits = {
        **language.by_position(text, val=0.1, test=0.0),
        "test": data.read("wikitext2", "test.txt"),
    }
    facts = {**data.facts("wikitext2"), "note": "trained on the validation text"}
    return language.language_model(n, "wikitext2", splits, eval_tokens, facts, grow)
