"""Series decomposition: a moving mean apart from what moves around it. arXiv:2106.13008.

Autoformer's block keeps the season of each residual sum and hands the trends on beside it:

    season, t = decompose(season + attention(norm(season)));  trend += t
    season, t = decompose(season + feed_forward(norm(season)));  trend += t

Theirs adds the trends up in a decoder, each by a projection of its own; here they join the season
before the head.
"""

import jax
import jax.numpy as jnp

from attention_zoo import ops
from attention_zoo.layers import Block


def moving_mean(x, width: int):
    """[B, N, ...]: the mean of the `width` positions around each, the ends repeated beyond them."""
    left = (width - 1) // 2
    ends = [(0, 0), (left + 1, width - 1 - left), *[(0, 0)] * (x.ndim - 2)]
    sums = jnp.cumsum(jnp.pad(x.astype(jnp.float32), ends, mode="edge"), 1)
    return ((sums[:, width:] - sums[:, :-width]) / width).astype(x.dtype)


def decompose(x, width: int = 25):
    """(season, trend) of x [B, N, ...], which add up to x: the trend is its moving mean."""
    ops.positive(width=width)
    trend = moving_mean(x, width)
    return x - trend, trend


class DecomposedBlock(Block):
    """A block from (season, trend) to (season, trend), each [B, T, C]."""

    def __init__(self, *args, decomposition: int, **kwargs):
        super().__init__(*args, **kwargs)
        self.decomposition = decomposition

    def __call__(self, x, *, mask=None, key=None):
        keys = (None,) * 3 if key is None else jax.random.split(key, 3)
        season, trend = x

        def join(branch, norm, key):
            """Keeps the season of the sum, and adds its trend to the others."""
            nonlocal season, trend
            season, mean = decompose(self._join(season, branch, norm, key), self.decomposition)
            trend = trend + mean

        entered = self._enter(season, self.mixer_norm)
        join(self.mixer(entered, mask=mask, key=keys[0]), self.mixer_norm, keys[1])
        if self.has_ff:
            join(self.feed(self._enter(season, self.ff_norm)), self.ff_norm, keys[2])
        return season, trend
