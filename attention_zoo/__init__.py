"""attention_zoo: every efficient-attention idea as one readable, proven, measured pure function."""

from attention_zoo.registry import defaults, make, names
from attention_zoo.types import Cost, Decode, Dims, Mechanism, objections

__all__ = [
    "Cost",
    "Decode",
    "Dims",
    "Mechanism",
    "Transformer",
    "defaults",
    "make",
    "names",
    "objections",
]


def __getattr__(name):
    # Flax is imported only by those who ask for the transformer.
    if name == "Transformer":
        from attention_zoo.model import Transformer

        return Transformer
    raise AttributeError(f"module 'attention_zoo' has no attribute {name!r}")
