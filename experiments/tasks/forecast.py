"""Forecasting: the next `horizon` rows of a series from the n before, each channel by itself.

After PatchTST (arXiv:2211.14730): a channel of a window is one example; what goes into the model is
normalised by the window's own mean and deviation, which the forecast is given back (RevIN without
parameters). `mixed`, as Informer and its successors have it (arXiv:2012.07436): a step of all
channels is one position, the steps ahead are positions that hold zeros, all channels of a step are
forecast together, and no window is normalised. Errors are of
values z-scored by the training rows, over every window of the test rows, none dropped, and every
channel. The look-back of a split's first window reaches into the split before. Rows to beat: the
last value; the value a period before; and the least-squares linear map of the look-back, the class
of DLinear and, of values less the last, of NLinear (arXiv:2205.13504; 2403.14587: closed forms).
"""

import functools

import jax.numpy as jnp
import numpy as np

from experiments.tasks import Task, data, drawn
from experiments.tasks import series as public

# added to the deviation of a window, as in PatchTST
EPS = 1e-5
CHUNK = 4096


def make(n: int, series: str = "ETTh1", horizon: int = 96, mixed: bool = False) -> Task:
    drawn.check_whole(horizon=horizon)
    if not isinstance(mixed, bool):
        raise ValueError(f"mixed must be True or False, got {mixed!r}")
    values, splits = public.read(series)
    starts = {split: _starts(splits[split], n, horizon) for split in splits}
    for split, found in starts.items():
        if not len(found):
            first, end = splits[split]
            raise ValueError(
                f"n + horizon must fit the {end - first} rows that {series} has to {split}, "
                f"got n={n}, horizon={horizon}"
            )
    channels = values.shape[1]
    together = channels if mixed else 1

    def examples(split, numbers):
        if mixed:
            rows = values[starts[split][numbers][:, None] + np.arange(n + horizon)]
            x, y = rows[:, :n], rows[:, n:].reshape(len(rows), -1)
            mean, deviation = np.zeros(len(x)), np.ones(len(x))
        else:
            begin = starts[split][numbers // channels]
            x, y = _window(values, begin, numbers % channels, n, horizon)
            mean, deviation = x.mean(1), np.sqrt(x.var(1) + EPS)
            x = ((x - mean[:, None]) / deviation[:, None])[..., None]
        return {
            "inputs": x.astype(np.float32),
            "targets": y.astype(np.float32),
            "mean": mean.astype(np.float32),
            "deviation": deviation.astype(np.float32),
            "mask": np.ones(x.shape[:2], bool),
            "weights": np.ones(len(x), bool),
        }

    def count(split):
        return len(starts[split]) * channels // together

    def batch(seed, step, size):
        lot = drawn.generator("train", seed, step)
        return examples("train", lot.integers(count("train"), size=size))

    def held_out(split, size):
        return drawn.in_batches(functools.partial(examples, split), count(split), size)

    def oracles():
        found = {}
        for name, forecast in _rules(series, n, horizon).items():
            error = [forecast(x) - y for x, y in _chunks(values, starts["test"], n, horizon)]
            error = np.concatenate(error)
            found |= {f"{name}_mse": float((error**2).mean())}
            found |= {f"{name}_mae": float(np.abs(error).mean())}
        return found

    return Task(
        name="forecast",
        n=n,
        model={
            **{"kind": "encoder", "features": together},
            **(
                {"outputs": "ahead", "ahead": horizon, "classes": channels}
                if mixed
                else {"outputs": "flat", "classes": horizon}
            ),
        },
        batch=batch,
        held_out=held_out,
        sums=sums,
        score=lambda totals: totals["loss"] / totals["count"],
        metric="mse",
        extra=lambda totals: {"mae": totals["absolute"] / totals["count"]},
        oracles=oracles,
        facts={
            **data.facts(public.FILES[series][0]),
            "series": series,
            "channels": channels,
            **{f"{split}_windows": len(found) for split, found in starts.items()},
        },
    )


def sums(outputs, batch):
    """Of squared and absolute errors, after the window's own scale is given back."""
    weights = batch["weights"].astype(jnp.float32)[:, None]
    outputs = outputs.reshape(len(outputs), -1)
    forecast = outputs * batch["deviation"][:, None] + batch["mean"][:, None]
    error = (forecast - batch["targets"]) * weights
    return {
        "loss": (error**2).sum(),
        "absolute": jnp.abs(error).sum(),
        "count": weights.sum() * outputs.shape[1],
    }


def _starts(rows, n, horizon):
    """The first row of every window whose forecast lies within the split."""
    first, end = rows
    return np.arange(max(first - n, 0), end - n - horizon + 1)


def _window(values, begin, channel, n, horizon):
    """(look-back [B, n], what follows [B, horizon])."""
    rows = values[begin[:, None] + np.arange(n + horizon), channel[:, None]]
    return rows[:, :n], rows[:, n:]


def _chunks(values, starts, n, horizon):
    """(look-backs [M, n], futures [M, horizon]) of all windows and channels."""
    channels = values.shape[1]
    for begin in range(0, len(starts), max(1, CHUNK // channels)):
        some = starts[begin : begin + max(1, CHUNK // channels)]
        at = np.repeat(some, channels)
        yield _window(values, at, np.tile(np.arange(channels), len(some)), n, horizon)


def _rules(name, n, horizon):
    """Forecasts [M, horizon] of look-backs [M, n], by name."""
    period = public.PERIODS[name]
    found = {"last_value": lambda x: np.repeat(x[:, -1:], horizon, 1)}
    if n >= period:
        back = n - period + np.arange(horizon) % period
        found["seasonal"] = lambda x: x[:, back]
    plain, less_last = _least_squares(name, n, horizon)
    found["linear"] = lambda x: _with_one(x) @ plain
    found["nlinear"] = lambda x: x[:, -1:] + _with_one(x - x[:, -1:]) @ less_last
    return found


@functools.lru_cache(8)
def _least_squares(name, n, horizon):
    """The maps [n + 1, horizon], of values and of values less the last, that fit the training
    windows best."""
    values, splits = public.read(name)
    starts = _starts(splits["train"], n, horizon)
    maps = []
    for shift in (0.0, 1.0):
        square, cross = 0.0, 0.0
        for x, y in _chunks(values, starts, n, horizon):
            last = shift * x[:, -1:]
            ones = _with_one(x - last)
            square, cross = square + ones.T @ ones, cross + ones.T @ (y - last)
        # the last column less itself is 0: a small ridge settles it
        ridge = 1e-6 * np.trace(square) / len(square) * np.eye(len(square))
        maps.append(np.linalg.solve(square + ridge, cross))
    return maps


def _with_one(x):
    return np.concatenate([x, np.ones((len(x), 1))], 1)
