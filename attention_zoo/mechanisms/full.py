"""Full attention: softmax(q kᵀ / sqrt(D)) v over every visible pair. arXiv:1706.03762.

Implementations: "plain" builds the [T, S] weights; "chunked" never does (online softmax over tiles,
O(N) memory forward and backward, arXiv:2112.05682, 2205.14135; a causal call skips the future
tiles); "cudnn" is jax.nn.dot_product_attention on a GPU in half precision. None takes cudnn where
it can run, else plain for short and chunked for long sequences.
"""

import jax
import jax.numpy as jnp

from attention_zoo import cache, ops, tiles
from attention_zoo.types import Cost, Dims, Mechanism

# below this many pairs the [T, S] weights of a head fit in cache and plain wins
PLAIN_PAIRS = 512 * 512


def make(implementation: str | None = None, block: int = 512, key_block: int = 1024) -> Mechanism:
    choices = (None, *IMPLEMENTATIONS)
    if implementation not in choices:
        raise ValueError(f"implementation must be one of {choices}, got {implementation!r}")
    ops.positive(block=block, key_block=key_block)

    def layout(T, S, causal):
        return tiles.everything(T, S, causal, block, key_block)

    def apply(params, q, k, v, *, mask=None, causal=False, bias=None):
        chosen = choose(implementation, q.shape[1] * k.shape[1], q.dtype, bias)
        run = IMPLEMENTATIONS[chosen]
        return run(q, k, v, mask, causal, bias, layout)

    def reference(params, q, k, v, *, mask=None, causal=False, bias=None):
        return plain(q, k, v, mask, causal, bias)

    def cost(dims: Dims, *, causal=False):
        T, S, heads = dims.q_len, dims.kv_len, dims.batch * dims.heads
        state = cache.state_bytes(S, dims)
        if choose(implementation, T * S, None, None) != "plain":
            return layout(T, S, causal).cost(dims, ideal_pairs=T * S, state_bytes=state)
        flops = 2 * heads * T * S * (dims.head_dim + dims.value_dim)
        held = 2 * T * S + T * dims.value_dim
        return Cost(flops, ideal_flops=flops, bytes=4 * heads * held, state_bytes=state)

    return Mechanism(
        "full",
        apply,
        reference,
        cost,
        citation="1706.03762; 2112.05682; 2205.14135",
        formula="(d+d')N²",
        decode=cache.cached(apply, lambda dims: dims.kv_len, lambda i, C: i, lambda i, j: j <= i),
        bias=True,
    )


def choose(implementation, pairs, dtype, bias):
    """The implementation that runs a call with so many query-key pairs a head."""
    if implementation is not None:
        return implementation
    if bias is None and jax.default_backend() == "gpu" and dtype in (jnp.bfloat16, jnp.float16):
        return "cudnn"
    return "plain" if bias is not None or pairs <= PLAIN_PAIRS else "chunked"


def plain(q, k, v, mask, causal, bias, layout=None):
    allowed = ops.visible(q.shape[1], k.shape[1], mask, causal)
    logits = ops.dot(q, k) * q.shape[-1] ** -0.5
    return ops.weigh(ops.softmax(logits if bias is None else logits + bias, allowed), v)


def chunked(q, k, v, mask, causal, bias, layout):
    if bias is not None:
        raise ValueError('bias needs implementation="plain", got "chunked"')

    def sees(i, j):
        return (j <= i) | (not causal)

    schedule = layout(q.shape[1], k.shape[1], causal)
    out, _ = tiles.attend(q, k, v, schedule, sees, mask=mask)
    return out.astype(v.dtype)


def cudnn(q, k, v, mask, causal, bias, layout=None):
    keys = None if mask is None else mask[:, None, None, :]
    out = jax.nn.dot_product_attention(
        q, k, v, bias=bias, mask=keys, is_causal=causal, implementation="cudnn"
    )
    if mask is None:
        return out
    # cuDNN gives the mean value to a row that sees nothing
    seen = jnp.cumsum(mask, 1) > 0 if causal else mask.any(1, keepdims=True)
    return jnp.where(seen[:, :, None, None], out, 0)


IMPLEMENTATIONS = {"plain": plain, "chunked": chunked, "cudnn": cudnn}
