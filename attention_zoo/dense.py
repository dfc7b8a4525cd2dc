"""The linear layer of the shared transformer."""

import jax
from flax import nnx

from attention_zoo import ops


class Linear(nnx.Linear):
    """nnx.Linear whose matrix has a gradient that takes half the time on a CPU (`ops.product`)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, dot_general=_product, **kwargs)


def _product(x, matrix, dimensions, **asked):
    if x.ndim == 1 or any(value is not None for value in asked.values()):
        return jax.lax.dot_general(x, matrix, dimensions, **asked)
    return ops.product(x, matrix)
