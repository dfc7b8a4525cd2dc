"""Mechanisms by name: a file `mechanisms/NAME.py` with a `make` is one; there is no list."""

import difflib
import functools
import importlib
import inspect
import pkgutil
from typing import Any

from attention_zoo import mechanisms
from attention_zoo.types import Mechanism


def names() -> list[str]:
    """Every mechanism's name, sorted."""
    found = (module.name.rstrip("_") for module in pkgutil.iter_modules(mechanisms.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def make(name: str, **hparams: Any) -> Mechanism:
    """The mechanism `name` with these hyperparameters; ValueError for an unknown name of either,
    or a value that it cannot take."""
    known = defaults(name)
    for hparam in hparams:
        if hparam not in known:
            hint = f"it takes {', '.join(known) or 'none'}{_nearest(hparam, known)}"
            raise ValueError(f"{name} has no hyperparameter {hparam!r}; {hint}")
    try:
        return _factory(name)(**hparams)
    except TypeError as error:
        given = ", ".join(f"{hparam}={value!r}" for hparam, value in hparams.items())
        usual = ", ".join(f"{hparam}={known[hparam]!r}" for hparam in hparams)
        raise ValueError(f"{name} cannot take {given} ({error}); usual is {usual}") from error


def defaults(name: str) -> dict[str, Any]:
    """The hyperparameters of `name` and their defaults."""
    return {key: p.default for key, p in inspect.signature(_factory(name)).parameters.items()}


@functools.cache
def _factory(name):
    if name not in names():
        raise ValueError(
            f"unknown mechanism {name!r}; known: {', '.join(names())}{_nearest(name, names())}"
        )
    # `global` is a Python keyword: a trailing underscore in the file name is not part of the name.
    stem = next(
        m.name for m in pkgutil.iter_modules(mechanisms.__path__) if m.name.rstrip("_") == name
    )
    return importlib.import_module(f"{mechanisms.__name__}.{stem}").make


def _nearest(word, known):
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
