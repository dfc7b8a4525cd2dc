"""Points of kind "decoding": generating N tokens, with a cached decode state and without.

The point's `model` continues one token to N, the likeliest token each time: a decoder, or an
encoder-decoder (of attention or recurrent) that is given a source of N tokens. With the state the
source is read once and each token costs a step; without it the whole network is called on the
source and on the whole sequence, padded to N, again for every token.
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

import attention_zoo as zoo
from attention_zoo.model import num_params
from experiments.measure import measure
from experiments.tasks import Task
from experiments.training import networks

VOCAB = 256
# what generates, by field of the model; the first where it is not given
GENERATE = {"architecture": ("transformer", "recurrent"), "kind": ("decoder", "encoder_decoder")}
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
        # an encoder is called on the whole source, and cross-attention too
        if call["causal"] and m.decode is None:
            found[f"{m.name}: no token-by-token form"] = None
    return list(found)


def predict(point: Mapping) -> dict:
    """{"flops", "bytes"} of both together, by rules of thumb."""
    config, N = config_of(point), point["n"]
    calls = networks.calls(point, config)
    costs = [m.cost(dims, causal=call["causal"]) for m, dims, call in calls]
    network = nnx.eval_shape(lambda: networks.make(config, rngs=nnx.Rngs(0)))
    weights = num_params(network)["total"]
    whole = sum(cost.flops for cost in costs) + 2 * weights * point["batch"] * N
    return {"flops": whole * (N + 1), "bytes": sum(cost.bytes for cost in costs) + 4 * weights}


def run_point(point: Mapping, out: Path) -> dict:
    limits = {"repeats": point["repeats"], "budget": point.get("budget", 10.0)}
    found = measure(*program(point), **limits)
    again = measure(*program(point, cached=False), **limits)
    held = {"state_bytes": state_bytes(point)}
    return found | {f"{name}_uncached": again[name] for name in APART} | held


def program(point: Mapping, *, cached: bool = True) -> tuple:
    """(function, arguments): the tokens [B, N - 1] that follow the first [B, 1], of a source [B, N]
    if the model reads one."""
    graph, variables = nnx.split(_network(point))
    generate = with_state if cached else without_state
    return functools.partial(generate, graph, point["n"] - 1), (variables, *_tokens(point))


def with_state(graph, steps: int, variables, first, *source):
    model = nnx.merge(graph, variables)
    if not source:
        return model.generate(first, steps)

    def step(carry, _):
        state, token = carry
        logits, state = model.advance(state, token)
        token = logits.argmax(-1).astype(token.dtype)
        return (state, token), token

    begun = model.begin(*source, None, steps)
    return jax.lax.scan(step, (begun, first[:, 0]), length=steps)[1].T


def without_state(graph, steps: int, variables, first, *source):
    def step(tokens, t):
        # a pass writes its buffers: into a copy of this trace's own
        model = nnx.merge(graph, variables, copy=True)
        # or the compiler would encode the source before the loop, once
        again, t = jax.lax.optimization_barrier((source, t))
        token = model(*again, tokens)[:, t].argmax(-1).astype(tokens.dtype)
        return tokens.at[:, t + 1].set(token), None

    tokens = jnp.pad(first, [(0, 0), (0, steps)])
    return jax.lax.scan(step, tokens, jnp.arange(steps))[0][:, 1:]


def state_bytes(point: Mapping) -> int:
    """Of all that is held from token to token of one sequence."""
    network, (_, *source) = _network(point), _tokens(point | {"batch": 1})

    def begin():
        if not source:
            return network.stack.init_states(1, point["n"])
        return network.begin(*source, None, point["n"] - 1)

    state = jax.eval_shape(begin)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))


def config_of(point: Mapping):
    """Of the model, on bytes."""
    asked = {field: point["model"].get(field, known[0]) for field, known in GENERATE.items()}
    for field, known in GENERATE.items():
        if asked[field] not in known:
            raise ValueError(f"model.{field} must be {' or '.join(known)}, got {asked[field]!r}")
    fields = {"kind": asked["kind"], "inputs": "tokens", "vocab": VOCAB, "target_vocab": VOCAB}
    empty = dict.fromkeys(("batch", "held_out", "sums", "score", "metric", "oracles"))
    return networks.config_of(point, Task("decoding", point["n"], fields, **empty))


def _network(point):
    return networks.make(config_of(point), rngs=nnx.Rngs(point["seed"]))


def _tokens(point):
    """The first [B, 1], and a source [B, N] of what reads one."""
    key, B = jax.random.key(point["seed"]), point["batch"]
    first = jax.random.randint(key, (B, 1), 0, VOCAB)
    if getattr(config_of(point), "kind", None) == "decoder":
        return (first,)
    return first, jax.random.randint(jax.random.fold_in(key, 1), (B, point["n"]), 0, VOCAB)
