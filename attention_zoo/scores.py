"""Score functions: what a query q says to a key k, before the softmax over keys.

scaled_dot  q·k / sqrt(D)    general   qᵀWk                       W [H, D, D]
dot         q·k              additive  uᵀ tanh(W_q q + W_k k)     W [H, D, hidden], u [H, hidden]
cosine      q·k / (|q||k|)   location  (Wq)_j for the j-th key    W [H, D, length]

The first four are scaled dot products of encoded queries and keys, which every implementation
computes. The last two go by rows of queries, so that no [T, S, hidden] array ever exists.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from attention_zoo import ops
from attention_zoo.types import Dims

# entries that a few rows of queries may spread over keys and hidden units
ROW_ENTRIES = 2**20


@dataclasses.dataclass(frozen=True)
class Score:
    """`formula(params, q, k, v) -> [B, H, T, S]` defines it. `query(params, q)` and
    `key(params, k, v)` encode; `logits(params, q, k)` is of codes (None: their scaled dot)."""

    citation: str
    formula: Callable
    query: Callable = lambda params, q: q
    key: Callable = lambda params, k, v: k
    logits: Callable | None = None
    init: Callable = lambda rng, dims, hidden, length: {}
    width: Callable = lambda dims, hidden: dims.head_dim
    """Size of a key's code, which is what a decode state keeps."""
    flops: Callable = lambda dims, hidden: 0
    """Of encoding all queries and keys, forward; both operands of every product learn."""


def unit(x):
    """x / |x| in float32; 0 stays 0."""
    x = x.astype(jnp.float32)
    square = (x * x).sum(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.where(square == 0, 1.0, square))


def stretch(x, like):
    """Undoes the 1 / sqrt(D) of the scaled dot product."""
    return (x * x.shape[-1] ** 0.5).astype(like.dtype)


def float32_einsum(letters, *arrays):
    return jnp.einsum(letters, *arrays, preferred_element_type=jnp.float32)


def general_init(rng, dims: Dims, hidden, length):
    D = dims.head_dim
    return {"weight": jax.random.normal(rng, (dims.heads, D, D)) / D}


def general_query(params, q):
    return stretch(float32_einsum("bthd,hde->bthe", q, params["weight"]), q)


def general_formula(params, q, k, v):
    return jnp.einsum("bthd,hde,bshe->bhts", q, params["weight"], k)


def additive_init(rng, dims: Dims, hidden, length):
    H, D, A = dims.heads, dims.head_dim, hidden or dims.head_dim
    query, key, out = jax.random.split(rng, 3)
    return {
        "query": jax.random.normal(query, (H, D, A)) * (2 * D) ** -0.5,
        "key": jax.random.normal(key, (H, D, A)) * (2 * D) ** -0.5,
        "out": jax.random.normal(out, (H, A)) * A**-0.5,
    }


def additive_logits(params, q, k):
    hidden = jnp.tanh(q[:, :, None].astype(jnp.float32) + k[:, None])
    return jnp.einsum("btsha,ha->bhts", hidden, params["out"])


def additive_formula(params, q, k, v):
    W = jnp.concatenate([params["query"], params["key"]], 1)
    T, S = q.shape[1], k.shape[1]
    pairs = jnp.concatenate([jnp.repeat(q[:, :, None], S, 2), jnp.repeat(k[:, None], T, 1)], -1)
    hidden = jnp.tanh(jnp.einsum("btshc,hca->btsha", pairs, W))
    return jnp.einsum("ha,btsha->bhts", params["out"], hidden)


def location_init(rng, dims: Dims, hidden, length):
    shape = (dims.heads, dims.head_dim, length)
    return {"weight": jax.random.normal(rng, shape) * dims.head_dim**-0.5}


def location_logits(params, q, k):
    longest = params["weight"].shape[-1]
    if k.shape[1] > longest:
        raise ValueError(
            f"full: location weights are sized for length {longest}, got {k.shape[1]} keys; "
            f"make it with length={k.shape[1]} or more, or init with such kv_len"
        )
    return float32_einsum("bthd,hds->bhts", q, params["weight"][:, :, : k.shape[1]])


SCORES = {
    "scaled_dot": Score("1706.03762", lambda params, q, k, v: ops.dot(q, k) * q.shape[-1] ** -0.5),
    "dot": Score(
        "1508.04025",
        lambda params, q, k, v: ops.dot(q, k),
        query=lambda params, q: stretch(q, q),
    ),
    "cosine": Score(
        "1410.5401",
        lambda params, q, k, v: ops.dot(unit(q), unit(k)),
        query=lambda params, q: stretch(unit(q), q),
        key=lambda params, k, v: unit(k).astype(k.dtype),
    ),
    "general": Score(
        "1508.04025",
        general_formula,
        query=general_query,
        init=general_init,
        flops=lambda d, hidden: 2 * d.batch * d.heads * d.q_len * d.head_dim**2,
    ),
    "additive": Score(
        "1409.0473",
        additive_formula,
        query=lambda params, q: float32_einsum("bthd,hda->btha", q, params["query"]),
        key=lambda params, k, v: float32_einsum("bshd,hda->bsha", k, params["key"]),
        logits=additive_logits,
        init=additive_init,
        width=lambda d, hidden: hidden or d.head_dim,
        flops=lambda d, hidden: (
            2 * d.batch * d.heads * (d.q_len + d.kv_len) * d.head_dim * (hidden or d.head_dim)
        ),
    ),
    "location": Score(
        "1508.04025",
        lambda params, q, k, v: location_logits(params, q, v),
        # a key is its position: its code is empty
        key=lambda params, k, v: v[..., :0],
        logits=location_logits,
        init=location_init,
        width=lambda d, hidden: 0,
    ),
}


def row_count(B: int, T: int, S: int, H: int, hidden: int) -> int:
    """How many rows of queries go together."""
    return ops.even(T, max(ROW_ENTRIES // (B * H * S * hidden), 1))


def by_rows(
    score: Score, params, q, k, v, hidden: int, *, mask=None, causal: bool = False, start=0
):
    """Attention of encoded q and k by `score.logits`, a few rows at a time: O(N) memory. The first
    query stands at position `start`."""
    B, T, H, _ = q.shape
    S = v.shape[1]
    rows = row_count(B, T, S, H, hidden)
    seen = jnp.ones((B, S), bool) if mask is None else mask

    @jax.checkpoint
    def step(_, part):
        q, i = part
        allowed = (jnp.arange(S) <= i[:, None]) | (not causal)
        weights = ops.softmax(
            score.logits(params, q, k), allowed[None, None] & seen[:, None, None, :]
        )
        return None, ops.weigh(weights, v)

    padded = ops.pad_to(q, ops.ceil_to(T, rows), 1)
    chunks = jnp.moveaxis(padded.reshape(B, -1, rows, *q.shape[2:]), 1, 0)
    positions = start + jnp.arange(padded.shape[1]).reshape(-1, rows)
    _, out = jax.lax.scan(step, None, (chunks, positions))
    return jnp.moveaxis(out, 0, 1).reshape(B, -1, H, v.shape[-1])[:, :T]
