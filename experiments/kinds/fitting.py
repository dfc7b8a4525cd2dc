"""The learned parameters of a mechanism, fitted to a target on inputs of their own.

Adam from the drawn parameters, its rate a cosine down to 0, on |out - target|² / |target|² with
another input every step, the same ones again in every one of `passes`. All rates of `lr` run at
once; the one of least loss on `CHOICE` further inputs is taken.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

FIELDS = ("steps", "passes", "lr")
CHOICE = 8


def check(fit: Mapping) -> None:
    """ValueError names the field that is wrong."""
    if not isinstance(fit, Mapping) or set(fit) != set(FIELDS):
        raise ValueError(f"fit has {', '.join(FIELDS)}, got {fit!r}")
    for name in ("steps", "passes"):
        if isinstance(fit[name], bool) or not isinstance(fit[name], int) or fit[name] < 1:
            raise ValueError(f"fit.{name} must be a whole number from 1 up, got {fit[name]!r}")
    if fit["steps"] % fit["passes"]:
        raise ValueError(f"fit.steps must be a multiple of fit.passes, got {fit!r}")
    for rate in rates(fit) or [None]:
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0:
            raise ValueError(f"fit.lr must be one or several numbers above 0, got {fit['lr']!r}")


def rates(fit: Mapping) -> list:
    return list(fit["lr"]) if isinstance(fit["lr"], list | tuple) else [fit["lr"]]


def length(fit: Mapping) -> int:
    """How many inputs `fitted` takes."""
    return fit["steps"] // fit["passes"] + CHOICE


def fitted(apply: Callable, params: dict, frozen, inputs, targets, fit: Mapping) -> tuple:
    """(params, metrics) for `apply(params, input)`; inputs and targets lead with `length(fit)`.

    `fit_loss` is the mean over the last tenth of the steps.
    """
    steps, different = fit["steps"], fit["steps"] // fit["passes"]
    held = {name: x for name, x in params.items() if name in frozen}
    start = {name: x for name, x in params.items() if name not in frozen}

    def loss(learned, data):
        given, target = data
        target = target.astype(jnp.float32)
        error = apply(learned | held, given).astype(jnp.float32) - target
        return jnp.square(error).sum() / jnp.square(target).sum()

    def run(rate, data):
        optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps))

        def step(state, number):
            learned, moments = state
            here = jax.tree.map(lambda x: x[number % different], data)
            value, gradient = jax.value_and_grad(loss)(learned, here)
            updates, moments = optimiser.update(gradient, moments)
            return (optax.apply_updates(learned, updates), moments), value

        state = start, optimiser.init(start)
        (learned, _), losses = jax.lax.scan(step, state, jnp.arange(steps))
        kept = jax.tree.map(lambda x: x[different:], data)
        return learned, losses, jax.lax.map(lambda data: loss(learned, data), kept).mean()

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
