"""Bytes of tiny shakespeare, 1.1 MB, split 90/5/5 by position."""

from collections.abc import Sequence

from experiments.tasks import Task, data, language


def make(n: int, eval_tokens: int = 131072, grow: Sequence[int] = ()) -> Task:
    splits = language.by_position(data.read("tinyshakespeare", "input.txt"))
    facts = {"data": "tinyshakespeare"}
    return language.language_model(n, "tinyshakespeare", splits, eval_tokens, facts, grow)
