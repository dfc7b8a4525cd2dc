"""Bytes of tiny shakespeare, 1.1 MB, split 90/5/5 by position."""

from experiments.tasks import Task, data, language


def make(n: int, eval_tokens: int = 131072) -> Task:
    text = data.read("tinyshakespeare", "input.txt")
    return language.language_model(
        n, "tinyshakespeare", language.by_position(text), eval_tokens, {"data": "tinyshakespeare"}
    )
