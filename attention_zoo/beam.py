"""Beam search on cached states: the likeliest target of a source. One beam is greedy.

A model has `begin(source, mask, length) -> state`, whose arrays have a row a sequence, and
`advance(state, tokens [B]) -> (logits [B, V], state)`.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from attention_zoo import ops

LOWEST = -1e30


def search(
    model, source, *, mask=None, start: int, end: int, steps: int, beams: int = 1, power=0.6
):
    """(tokens [B, steps], log-probability [B]) of the best of `beams` targets.

    A target begins after `start` and goes up to its `end`, with which it is filled up. Beams that
    have ended stay among the `beams` and compete by log-probability; of those left at the end the
    best by log-probability / length ** `power` is taken, `end` counted.
    """
    ops.positive(steps=steps, beams=beams)
    if steps > model.config.max_len:
        raise ValueError(f"steps must be at most max_len={model.config.max_len}, got {steps}")
    graph, variables = nnx.split(model)
    return _search(graph, variables, source, mask, start, end, power, steps=steps, beams=beams)


@functools.partial(jax.jit, static_argnames=("graph", "steps", "beams"))
def _search(graph, variables, source, mask, start, end, power, *, steps, beams):
    model = nnx.merge(graph, variables)
    B, K = len(source), beams

    def pick(tree, rows):
        return jax.tree.map(lambda x: x[rows], tree)

    def go_on(carry):
        t, _, _, ended, _ = carry
        return (t < steps) & ~ended.all()

    def step(carry):
        t, tokens, total, ended, state = carry
        before = jnp.where(t == 0, start, tokens[:, :, jnp.maximum(t - 1, 0)])
        logits, state = model.advance(state, before.reshape(-1))
        V = logits.shape[-1]
        more = jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(B, K, V)
        # what has ended goes on with `end`, for nothing
        more = jnp.where(ended[..., None], jnp.where(jnp.arange(V) == end, 0.0, LOWEST), more)
        totals, best = jax.lax.top_k((total[..., None] + more).reshape(B, K * V), K)
        parent, token = best // V, best % V
        tokens = jnp.take_along_axis(tokens, parent[..., None], 1).at[:, :, t].set(token)
        ended = jnp.take_along_axis(ended, parent, 1) | (token == end)
        rows = (jnp.arange(B)[:, None] * K + parent).ravel()
        return t + 1, tokens, totals, ended, pick(state, rows)

    state = pick(model.begin(source, mask, steps), jnp.repeat(jnp.arange(B), K))
    # all beams start alike: only the first counts
    total = jnp.where(jnp.arange(K) == 0, 0.0, LOWEST) * jnp.ones((B, 1))
    tokens = jnp.full((B, K, steps), end, jnp.int32)
    first = (0, tokens, total, jnp.zeros((B, K), bool), state)
    _, tokens, total, ended, _ = jax.lax.while_loop(go_on, step, first)
    length = (tokens != end).sum(-1) + ended
    best = (total / jnp.maximum(length, 1) ** power).argmax(-1)
    chosen = jnp.take_along_axis(tokens, best[:, None, None], 1)[:, 0]
    return chosen, jnp.take_along_axis(total, best[:, None], 1)[:, 0]
