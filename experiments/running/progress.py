"""How far a long point is: who measures it tells, who waits for it listens."""

from collections.abc import Callable

listener: Callable[[str], None] | None = None
"""One a process; None where nobody waits."""


def tell(text: str) -> None:
    if listener is not None:
        listener(text)
