"""No mixing of positions: what is left of a block whose attention was taken out.

The output is 0, so that the residual alone goes on to the feed-forward layer: the row that tells
what any other mechanism adds.
"""

import jax.numpy as jnp

from attention_zoo.types import Cost, Decode, Dims, Mechanism, Parallel, Traffic


def make() -> Mechanism:
    def apply(params, q, k, v, *, mask=None, causal=False):
        return jnp.zeros_like(v)

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        return jnp.zeros_like(v)

    def advance(params, state, q, k, v, *, mask=None):
        return jnp.zeros_like(v), state

    def cost(dims: Dims, *, causal=False):
        held = dims.batch * dims.q_len * dims.heads * dims.value_dim
        # the gradient, and the output in float32 times its cotangent
        trained = (dims.itemsize + 4) * held
        return Cost(flops=0, ideal_flops=0, bytes=dims.itemsize * held, train_bytes=trained)

    return Mechanism(
        "none",
        apply,
        apply,
        cost,
        citation="1706.03762, less the attention",
        formula="0",
        decode=Decode(lambda params, dims, dtype=jnp.float32: {}, advance, advance),
        parallel=Parallel(sharded, lambda dims, P, **call: Traffic(), "nothing"),
        streams="x",
        cross=False,
        reasons={"cross": "it reads one sequence, and nothing of it"},
    )
