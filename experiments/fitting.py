"""The learned parameters of a mechanism, fitted to a target on inputs of their own.

Adam from the drawn parameters, its rate a cosine down to 0, on |out - target|² / |target|² with new
inputs every step. All rates of `lr` run at once; the one of least loss on `CHOICE` further inputs
is taken.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

FIELDS = ("steps", "lr")
CHOICE = 8


def check(fit: Mapping) -> None:
    """ValueError names the field that is wrong."""
    if not isinstance(fit, Mapping) or set(fit) != set(FIELDS):
        raise ValueError(f"fit has {', '.join(FIELDS)}, got {fit!r}")
    steps = fit["steps"]
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"fit.steps must be a whole number from 1 up, got {steps!r}")
    for rate in rates(fit) or [None]:
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0:
            raise ValueError(f"fit.lr must be one or several numbers above 0, got {fit['lr']!r}")


def rates(fit: Mapping) -> list:
    return list(fit["lr"]) if isinstance(fit["lr"], list | tuple) else [fit["lr"]]


def length(fit: Mapping) -> int:
    """How many inputs `fitted` takes."""
    return fit["steps"] + CHOICE


def fitted(apply: Callable, params: dict, frozen, inputs, targets, fit: Mapping) -> tuple:
    """(params, metrics) for `apply(params, input)`; inputs and targets lead with `length(fit)`.

    `fit_loss` is the mean over the last tenth of the steps.
    """
    steps = fit["steps"]
    held = {name: x for name, x in params.items() if name in frozen}
    start = {name: x for name, x in params.items() if name not in frozen}

    def loss(learned, data):
        given, target = data
        target = target.astype(jnp.float32)
        error = apply(learned | held, given).astype(jnp.float32) - target
        return jnp.square(error).sum() / jnp.square(target).sum()

    def run(rate, data):
        optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps))

        def step(state, data):
            learned, moments = state
            value, gradient = jax.value_and_grad(loss)(learned, data)
            updates, moments = optimiser.update(gradient, moments)
            return (optax.apply_updates(learned, updates), moments), value

        used, kept = (jax.tree.map(lambda x, part=part: x[part], data) for part in parts)
        (learned, _), losses = jax.lax.scan(step, (start, optimiser.init(start)), used)
        return learned, losses, jax.lax.map(lambda data: loss(learned, data), kept).mean()

    parts = slice(steps), slice(steps, None)
    lr = jnp.asarray(rates(fit), jnp.float32)
    learned, losses, found = jax.jit(jax.vmap(run, (0, None)))(lr, (inputs, targets))
    # NaN is no minimum, unless there is nothing else
    best = int(jnp.argmin(jnp.where(jnp.isnan(found), jnp.inf, found)))
    metrics = {
        "fit_steps": steps,
        "fit_lr": float(rates(fit)[best]),
        "fit_loss": float(losses[best, -max(steps // 10, 1) :].mean()),
    }
    return jax.tree.map(lambda x: x[best], learned) | held, metrics
