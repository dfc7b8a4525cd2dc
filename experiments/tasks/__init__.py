"""Tasks by name: a file `tasks/NAME.py` with a `make(n, ...)` is a task; there is no list."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Batch = Mapping[str, Any]
"""inputs [B, N, ...]; targets; mask [B, N], True = real; weights, as targets, 0 = not scored. Of an
encoder-decoder also target: what stands before each of its targets, padded at the end."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A source of batches by (seed, step), a metric, and the rows that a model has to beat."""

    name: str
    n: int
    model: Mapping[str, Any]
    """Fields of TransformerConfig that the data decides."""
    batch: Callable[[int, int, int], Batch]
    """`batch(seed, step, size)`: a training batch, the same for the same arguments."""
    held_out: Callable[[str, int], Iterator[Batch]]
    """`held_out(split, size)`: every example of "val", "test" or one of `also` once, the last batch
    padded."""
    sums: Callable[[Any, Batch], Mapping[str, Any]]
    """`sums(outputs, batch)`: `loss`, `count` and more, that add up over batches."""
    score: Callable[[Mapping[str, float]], float]
    """The metric, from the sums of a whole split."""
    metric: str
    oracles: Callable[[], dict[str, float]]
    """Reference rows on the test split, by column name."""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What was read: goes into the record."""
    also: tuple[str, ...] = ()
    """Held-out splits beside "val" and "test": the trained model is scored on them too."""
    extra: Callable[[Mapping[str, float]], dict[str, float]] = lambda totals: {}
    """Further metrics, by name, from the sums of a whole split."""
    judge: Callable[[Any], dict[str, float]] | None = None
    """Test metrics, by column name, of what a trained network generates."""
    higher_is_better: bool = False
    masked: bool = False
    """Padding can change what is scored, so the model must hide it."""


def names() -> list[str]:
    """Every task's name, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if hasattr(_module(name), "make"))


def make(name: str, n: int, **args: Any) -> Task:
    """The task `name` at length `n`, its data read. ValueError names an unknown one or argument."""
    if name not in names():
        raise ValueError(f"unknown task {name!r}; known: {', '.join(names())}")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n must be a whole number from 1 up, got {n!r}")
    factory = _module(name).make
    known = [key for key in inspect.signature(factory).parameters if key != "n"]
    for arg in args:
        if arg not in known:
            raise ValueError(
                f"{name} has no argument {arg!r}; it takes {', '.join(known) or 'none'}"
            )
    return factory(n, **args)


def _module(name):
    return importlib.import_module(f"{__name__}.{name}")
