"""Decode states for softmax over a fixed pattern: a cache of keys and values and its readers.

`slot(i, C)` is where token i is written among C slots (a ring buffer reuses them; past the end
drops). `reads(i, C, H)` are the positions a query may look at, [n] or [n, H]; None to look at every
slot.
"""

import functools

import jax
import jax.numpy as jnp

from attention_zoo import ops
from attention_zoo.types import Decode, Dims


def scaled_dot(params, q, keys):
    """Of a query [B, H, D] and cached keys [B, C, H, D]: [B, H, C] in float32."""
    logits = jnp.einsum("bhd,bchd->bhc", q, keys, preferred_element_type=jnp.float32)
    return logits * q.shape[-1] ** -0.5


def cached(apply, capacity, slot, sees, *, reads=None, score=scaled_dot) -> Decode:
    """Decode of `apply` by a cache of `capacity(dims)` slots; `sees(i, j)` as in the parallel form.

    Where `reads` is given, `slot` must be the position itself. State: keys, values, each slot's
    position (-1: empty) and mask, and the number of tokens so far.
    """

    def init(params, dims: Dims, dtype=jnp.float32):
        C = capacity(dims)
        return {
            "k": jnp.zeros((dims.batch, C, dims.heads, dims.head_dim), dtype),
            "v": jnp.zeros((dims.batch, C, dims.heads, dims.value_dim), dtype),
            "mask": jnp.zeros((dims.batch, C), bool),
            "position": jnp.full(C, -1, jnp.int32),
            "length": jnp.zeros((), jnp.int32),
        }

    def prefill(params, state, q, k, v, *, mask=None):
        B, T = k.shape[:2]
        out = apply(params, q, k, v, mask=mask, causal=True)
        tokens = jnp.arange(T, dtype=jnp.int32)
        # of all tokens that are written to a slot the last one stays
        owner = state["position"].at[slot(tokens, state["position"].size)].max(tokens, mode="drop")
        mask = jnp.ones((B, T), bool) if mask is None else mask
        kept = {"k": k, "v": v, "mask": mask}
        state = {
            name: x.at[:].set(jnp.take(kept[name], jnp.maximum(owner, 0), 1).astype(x.dtype))
            for name, x in state.items()
            if name in kept
        }
        length = jnp.asarray(T, jnp.int32)
        return out, {**state, "position": owner, "length": length}

    def read(state, i):
        """Keys, values [B, c, H, ...], positions [c, 1 or H], mask [B, c, 1 or H] for query i."""
        k, v, position = state["k"], state["v"], state["position"]
        if reads is None:
            return k, v, position[:, None], state["mask"][:, :, None]
        _, C, H, _ = k.shape
        j = reads(i, C, H)
        j = j[:, None] if j.ndim == 1 else j
        inside = (j >= 0) & (j < C)
        at = jnp.where(inside, j, 0)
        heads = jnp.arange(H)
        return (
            k[:, at, heads],
            v[:, at, heads],
            jnp.where(inside, position[at], -1),
            state["mask"][:, at],
        )

    def one(params, state, token):
        q, k, v, visible = token  # [B, H, D], ..., [B]
        i = state["length"]
        at = slot(i, state["position"].size)
        new = {"k": k, "v": v, "mask": visible}
        state = state | {
            n: state[n].at[:, at].set(x.astype(state[n].dtype), mode="drop") for n, x in new.items()
        }
        state = state | {"position": state["position"].at[at].set(i, mode="drop"), "length": i + 1}
        keys, values, position, mask = read(state, i)
        allowed = (position >= 0) & (position <= i) & sees(i, position)
        allowed = jnp.einsum("bch->bhc", allowed & mask)
        weights = ops.softmax(score(params, q, keys), allowed).astype(v.dtype)
        return state, jnp.einsum("bhc,bche->bhe", weights, values.astype(v.dtype))

    def step(params, state, q, k, v, *, mask=None):
        mask = jnp.ones(k.shape[:2], bool) if mask is None else mask
        tokens = tuple(jnp.moveaxis(x, 1, 0) for x in (q, k, v, mask))
        state, out = jax.lax.scan(functools.partial(one, params), state, tokens)
        return jnp.moveaxis(out, 0, 1), state

    return Decode(init, prefill, step)


def state_bytes(capacity: int, dims: Dims) -> int:
    """Bytes of a cache with that many slots: keys, values, a mask bit a sequence, a position."""
    width = dims.heads * (dims.head_dim + dims.value_dim) * dims.itemsize
    return capacity * (dims.batch * (width + 1) + 4) + 4
