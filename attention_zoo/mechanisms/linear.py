"""Linear attention: φ(q)(φ(k)ᵀv) / (φ(q)·Σφ(k)), the reordering of (φ(q)φ(k)ᵀ)v. arXiv:2006.16236.

(q kᵀ)v costs (D + E)N² multiply-adds a head, q(kᵀv) 2DEN. Causal: prefix sums of φ(k)ᵀv, one state
a chunk of positions by a scan, quadratic inside a chunk; the backward pass recomputes a chunk. A
longer `chunk` computes more and keeps fewer states: both figures are in results/options.
Feature maps: elu (elu + 1), relu, relu2 (relu squared), exp, identity. `normalise` divides by the
sum of weights; by default all but identity do, whose weights may sum to 0. exp is not stabilised:
inputs stay below 80 in float32.
"""

import jax
import jax.numpy as jnp

from attention_zoo import ops, recurrence
from attention_zoo.parallel import states
from attention_zoo.types import Dims, Mechanism


def elu1(x):
    """elu(x) + 1, by exp alone: expm1 takes several times as long on a CPU."""
    return jnp.where(x > 0, x + 1, jnp.exp(jnp.where(x > 0, 0.0, x)))


FEATURE_MAPS = {
    "elu": elu1,
    "relu": jax.nn.relu,
    "relu2": lambda x: jax.nn.relu(x) ** 2,
    "exp": jnp.exp,
    "identity": lambda x: x,
}


def make(feature_map: str = "elu", normalise: bool | None = None, chunk: int = 64) -> Mechanism:
    if feature_map not in FEATURE_MAPS:
        raise ValueError(
            f"feature_map must be one of {', '.join(FEATURE_MAPS)}, got {feature_map!r}"
        )
    ops.positive(chunk=chunk)
    phi = FEATURE_MAPS[feature_map]
    divide = feature_map != "identity" if normalise is None else normalise

    options = {"normalise": divide, "chunk": chunk}

    def maps(params):
        return phi, lambda k: (phi(k), None)

    def apply(params, q, k, v, *, mask=None, causal=False):
        return recurrence.run(maps, (), q.shape[-1], q, k, v, mask, causal=causal, **options)

    def reference(params, q, k, v, *, mask=None, causal=False):
        q, k = (phi(x.astype(jnp.float32)) for x in (q, k))
        weights = jnp.where(ops.visible(q.shape[1], k.shape[1], mask, causal), ops.dot(q, k), 0.0)
        if divide:
            weights = ops.safe_divide(weights, weights.sum(-1, keepdims=True))
        return ops.weigh(weights, v)

    def cost(dims: Dims, *, causal=False):
        return recurrence.cost(
            dims, dims.head_dim, 0, causal=causal, busy=1, replayed=1.75, **options
        )

    return Mechanism(
        "linear",
        apply,
        reference,
        cost,
        citation="2006.16236",
        formula="2dd'N",
        decode=recurrence.decode(maps, lambda dims: dims.head_dim, **options),
        parallel=states.parallel(states.SUMS, maps, lambda dims: dims.head_dim, **options),
    )
