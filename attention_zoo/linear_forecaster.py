"""Forecasts that are linear in the past: what attention on series has to beat. arXiv:2205.13504.

    DLinear   W_t trend(x) + W_r (x - trend(x)),  trend: the mean of `kernel` steps around each
    NLinear   x_N + W (x - x_N)                   x_N: the last step

A channel by itself, W [N, horizon]. Published for raw windows; here they come normalised, as for
every model of the task.
"""

import dataclasses

from flax import nnx

from attention_zoo import ops
from attention_zoo.decomposition import moving_mean

FORMS = ("dlinear", "nlinear")


@dataclasses.dataclass(frozen=True)
class LinearConfig:
    """`max_len` steps in, `classes` steps out; `kernel` is odd."""

    max_len: int
    classes: int
    form: str = "dlinear"
    kernel: int = 25

    def __post_init__(self):
        if self.form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {self.form!r}")
        ops.positive(max_len=self.max_len, classes=self.classes, kernel=self.kernel)
        if not self.kernel % 2:
            raise ValueError(f"kernel must be odd, to stand around a step, got {self.kernel}")

    def positions_of(self, steps: int) -> int:
        """A whole series is one."""
        return 1


class LinearForecaster(nnx.Module):
    def __init__(self, config: LinearConfig, *, rngs: nnx.Rngs):
        c = self.config = config

        def linear():
            # the mean of the past, to begin with, as published
            start = nnx.initializers.constant(1 / c.max_len)
            return nnx.Linear(c.max_len, c.classes, kernel_init=start, rngs=rngs)

        self.linear = linear()
        self.trend = linear() if c.form == "dlinear" else None

    def __call__(self, x, *, mask=None, train=False, rngs=None):
        """[B, horizon] of x [B, N, 1]; nothing is random, and nothing may be hidden."""
        c = self.config
        if x.shape[1:] != (c.max_len, 1):
            raise ValueError(f"a linear forecaster takes [B, {c.max_len}, 1], got {x.shape}")
        if mask is not None:
            raise ValueError("a linear forecaster takes no mask")
        x = x[..., 0]
        if c.form == "nlinear":
            return x[:, -1:] + self.linear(x - x[:, -1:])
        trend = moving_mean(x, c.kernel)
        return self.trend(trend) + self.linear(x - trend)

    def sized_by_length(self) -> list:
        return [linear.kernel for linear in (self.linear, self.trend) if linear]
