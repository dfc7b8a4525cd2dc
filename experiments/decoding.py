"""Points of kind "decoding": generating N tokens, with a cached decode state and without.

A decoder of the point's `model` continues one token to N, the likeliest token each time. With the
state each token costs a step; without it the whole sequence, padded to N, is read again for every
token, as one that has no state must.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

import attention_zoo as zoo
from attention_zoo.model import TransformerConfig
from experiments import networks
from experiments.measure import measure
from experiments.tasks import Task

VOCAB = 256
# measured without the state too, in columns of their own
APART = ("flops_counted", "bytes_compiled", "seconds", "seconds_q1", "seconds_q3")


def check_point(point: Mapping) -> None:
    """ValueError names the field that is wrong."""
    for name in ("n", "batch", "repeats"):
        least = 2 if name == "n" else 1
        value = point[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number from {least} up, got {value!r}")
    networks.calls(point, config_of(point))


def objections(point: Mapping) -> list[str]:
    found = {}
    for m, dims, call in networks.calls(point, config_of(point)):
        found |= dict.fromkeys(zoo.objections(m, dims, **call))
        if m.decode is None:
            found[f"{m.name}: no token-by-token form"] = None
    return list(found)


def predict(point: Mapping) -> dict:
    """{"flops", "bytes"} of both together, by rules of thumb."""
    config, N = config_of(point), point["n"]
    costs = [m.cost(dims, causal=True) for m, dims, _ in networks.calls(point, config)]
    weights = config.depth * config.width * (4 * config.width + 2 * config.ff)
    whole = sum(cost.flops for cost in costs) + 2 * weights * point["batch"] * N
    return {"flops": whole * (N + 1), "bytes": sum(cost.bytes for cost in costs) + 4 * weights}


def run_point(point: Mapping, out: Path) -> dict:
    limits = {"repeats": point["repeats"], "budget": point.get("budget", 10.0)}
    found = measure(*program(point), **limits)
    again = measure(*program(point, cached=False), **limits)
    calls = networks.calls(point, config_of(point))
    costs = [m.cost(dataclasses.replace(dims, batch=1), causal=True) for m, dims, _ in calls]
    state = sum(cost.state_bytes for cost in costs)
    return found | {f"{name}_uncached": again[name] for name in APART} | {"state_bytes": state}


def program(point: Mapping, *, cached: bool = True) -> tuple:
    """(function, arguments): the tokens [B, N - 1] that follow the first [B, 1]."""
    network = zoo.Transformer(config_of(point), rngs=nnx.Rngs(point["seed"]))
    graph, variables = nnx.split(network)
    first = jax.random.randint(jax.random.key(point["seed"]), (point["batch"], 1), 0, VOCAB)
    N = point["n"]

    def with_state(variables, first):
        return nnx.merge(graph, variables).generate(first, N - 1)

    def without_state(variables, first):
        model = nnx.merge(graph, variables)

        def step(tokens, t):
            token = model(tokens)[:, t].argmax(-1).astype(tokens.dtype)
            return tokens.at[:, t + 1].set(token), None

        tokens = jnp.pad(first, [(0, 0), (0, N - 1)])
        return jax.lax.scan(step, tokens, jnp.arange(N - 1))[0][:, 1:]

    return with_state if cached else without_state, (variables, first)


def config_of(point: Mapping) -> TransformerConfig:
    fields = {"kind": "decoder", "inputs": "tokens", "vocab": VOCAB}
    empty = dict.fromkeys(("batch", "held_out", "sums", "score", "metric", "oracles"))
    return networks.config_of(point, Task("decoding", point["n"], fields, **empty))
