"""Beam search on cached states: the likeliest target of a source. One beam is greedy.

A model has `begin(source, mask, length) -> state`, whose arrays have a row a sequence, and
`advance(state, tokens [B]) -> (logits [B, V], state)`.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from attention_zoo import ops

# below every sum of logarithms, and what is added to it still is
LOWEST = -1e30


def search(
    model, source, *, mask=None, start: int, end: int, steps: int, beams: int = 1, power=0.6
):
    """(tokens [B, steps], log-probability [B]) of the best target found with so many beams.

    A target begins after `start` and goes up to its `end`, with which it is filled up. One that
    ends among the `beams` likeliest leaves the search, which stops when as many have; the best of
    them is that of log-probability / length ** `power`, `end` counted. What did not end in `steps`
    counts where fewer ended.
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

    def rows_of(tree, rows):
        return jax.tree.map(lambda x: x[rows], tree)

    def better(best, tokens, total, score):
        """The best of these [B, M] and of what was best before."""
        at = score.argmax(1)[:, None]
        ours = {"tokens": jnp.take_along_axis(tokens, at[..., None], 1)[:, 0]}
        for name, x in (("total", total), ("score", score)):
            ours[name] = jnp.take_along_axis(x, at, 1)[:, 0]
        wins = ours["score"] > best["score"]
        return {
            name: jnp.where(wins.reshape(wins.shape + (1,) * (x.ndim - 1)), x, best[name])
            for name, x in ours.items()
        }

    def go_on(carry):
        t, *_, ended = carry
        return (t < steps) & (ended < K).any()

    def step(carry):
        t, tokens, total, state, best, ended = carry
        before = jnp.where(t == 0, start, tokens[:, :, jnp.maximum(t - 1, 0)])
        logits, state = model.advance(state, before.reshape(-1))
        V = logits.shape[-1]
        more = jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(B, K, V)
        # each beam ends in one way, so among twice as many K go on
        totals, at = jax.lax.top_k((total[..., None] + more).reshape(B, K * V), min(2 * K, K * V))
        parent, token = at // V, at % V
        longer = jnp.take_along_axis(tokens, parent[..., None], 1).at[:, :, t].set(token)
        ends = token == end
        counts = ends & (jnp.arange(ends.shape[1]) < K) & (totals > LOWEST / 2)
        counts &= (ended < K)[:, None]
        best = better(best, longer, totals, jnp.where(counts, totals / (t + 1.0) ** power, LOWEST))
        total, kept = jax.lax.top_k(jnp.where(ends, LOWEST, totals), K)
        tokens = jnp.take_along_axis(longer, kept[..., None], 1)
        parent = jnp.take_along_axis(parent, kept, 1)
        state = rows_of(state, (jnp.arange(B)[:, None] * K + parent).ravel())
        return t + 1, tokens, total, state, best, ended + counts.sum(1)

    state = rows_of(model.begin(source, mask, steps), jnp.repeat(jnp.arange(B), K))
    # all beams start alike: only the first counts
    total = jnp.where(jnp.arange(K) == 0, 0.0, LOWEST) * jnp.ones((B, 1))
    tokens = jnp.full((B, K, steps), end, jnp.int32)
    none = jnp.full(B, LOWEST)
    best = {"tokens": tokens[:, 0], "total": none, "score": none}
    first = (0, tokens, total, state, best, jnp.zeros(B, jnp.int32))
    _, tokens, total, _, best, ended = jax.lax.while_loop(go_on, step, first)
    unended = jnp.where((ended < K)[:, None], total / float(steps) ** power, LOWEST)
    best = better(best, tokens, total, unended)
    return best["tokens"], best["total"]
