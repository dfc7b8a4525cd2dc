"""Efficient attention: softmax_features(q) (softmax_positions(k)ᵀ v). arXiv:1812.01243.

Each feature is one global attention map, its weights over positions shared by all queries; a query
mixes the D summaries. Causal: the softmax over positions runs over the prefix, one normaliser a
feature and position. `normaliser="row"` divides a query's row by its sum instead, φ(q)·Σ exp(k),
as linear-attention-transformer does where causal; `scaled` multiplies the output by D^-0.5, as it
does where not. What a longer `chunk` of the causal form takes and holds: results/options.
Differs from the paper, which has no causal form.
"""

import dataclasses

import jax
import jax.numpy as jnp

from attention_zoo import exponential, ops
from attention_zoo.parallel import states
from attention_zoo.types import Decode, Dims, Mechanism


def make(normaliser: str = "feature", scaled: bool = False, chunk: int = 64) -> Mechanism:
    if normaliser not in ("feature", "row"):
        raise ValueError(f'normaliser must be "feature" or "row", got {normaliser!r}')
    ops.positive(chunk=chunk)
    options = {"normaliser": normaliser, "chunk": chunk}

    def maps(params):
        return jax.nn.log_softmax, lambda k: k

    def leave(out, D):
        return out * jnp.asarray(D**-0.5, out.dtype) if scaled else out

    def apply(params, q, k, v, *, mask=None, causal=False):
        D = q.shape[-1]
        return leave(exponential.run(maps, (), D, q, k, v, mask, causal=causal, **options), D)

    def reference(params, q, k, v, *, mask=None, causal=False):
        allowed = ops.visible(q.shape[1], k.shape[1], mask, causal)
        a, b = (jnp.einsum("bthd->bhtd", x.astype(jnp.float32)) for x in (q, k))
        out = exponential.reference(jax.nn.log_softmax(a), b, v, allowed, normaliser)
        return leave(out, q.shape[-1])

    def cost(dims: Dims, *, causal=False):
        busy, replayed = (3, 3.0) if normaliser == "row" else (2, 3.25)
        held = {"busy": busy, "replayed": replayed}
        return exponential.cost(dims, dims.head_dim, 0, causal=causal, **held, **options)

    inner = exponential.decode(maps, lambda dims: dims.head_dim, **options)

    def step(params, state, q, k, v, *, mask=None):
        out, state = inner.step(params, state, q, k, v, mask=mask)
        return leave(out, q.shape[-1]), state

    sharded = states.parallel(states.PEAKED, maps, lambda dims: dims.head_dim, **options)

    def on_shards(params, q, k, v, **call):
        return leave(sharded.apply(params, q, k, v, **call), q.shape[-1])

    return Mechanism(
        "efficient",
        apply,
        reference,
        cost,
        citation="1812.01243",
        formula="2dd'N",
        decode=Decode(inner.init, step, step),
        parallel=dataclasses.replace(sharded, apply=on_shards),
    )
