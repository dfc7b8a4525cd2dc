"""Decode states of attention to sorted blocks: a cache of all tokens, and the block's sorted ones.

A block is sorted for when its first token comes, from the mean of the queries so far; where columns
are balanced, their normalisers so far are in the state.
"""

import jax
import jax.numpy as jnp

from attention_zoo import ops
from attention_zoo.types import Decode, Dims


def decode(block: int, each: int, iterations: int, run, sort_for) -> tuple:
    """(Decode, state_bytes(dims)); a block sees `each` sorted ones, balanced `iterations` times.

    `run(params, q, k, v, mask, causal, b) -> (out, sorted, columns)`, the parallel form.
    `sort_for(params, mean_q, keys, shown, u, values, columns) -> (*sorted, columns)`: for u.
    """

    def init(params, dims: Dims, dtype=jnp.float32):
        B, H, D, E = dims.batch, dims.heads, dims.head_dim, dims.value_dim
        b = min(block, dims.kv_len)
        n = -(-dims.kv_len // b)
        state = {
            "k": jnp.zeros((B, n * b, H, D), dtype),
            "v": jnp.zeros((B, n * b, H, E), dtype),
            "mask": jnp.zeros((B, n * b), bool),
            "q_sum": jnp.zeros((B, H, D), jnp.float32),
            "q_count": jnp.zeros(B, jnp.float32),
            "sorted_k": jnp.zeros((B, each * b, H, D), dtype),
            "sorted_v": jnp.zeros((B, each * b, H, E), dtype),
            "sorted_mask": jnp.zeros((B, each * b, H), bool),
            "length": jnp.zeros((), jnp.int32),
        }
        if iterations:
            state["columns"] = jnp.full((iterations, B, H, n), ops.LOWEST)
        return state

    def state_bytes(dims):
        dtype = {2: jnp.bfloat16, 8: jnp.float64}.get(dims.itemsize, jnp.float32)
        state = jax.eval_shape(lambda: init({}, dims, dtype))
        return sum(x.size * x.dtype.itemsize for x in state.values())

    def put_sorted(state, sorted_, columns):
        for name, x in zip(("sorted_k", "sorted_v", "sorted_mask"), sorted_, strict=True):
            state = state | {name: x[:, -1].astype(state[name].dtype)}
        if iterations:
            late = state["columns"].shape[-1] - columns.shape[-1]
            columns = jnp.pad(columns, ((0, 0),) * 3 + ((0, late),), constant_values=ops.LOWEST)
            state = state | {"columns": columns}
        return state

    def prefill(params, state, q, k, v, *, mask=None):
        mask = jnp.ones(k.shape[:2], bool) if mask is None else mask
        b, C = state["sorted_mask"].shape[1] // each, state["mask"].shape[1]
        out, sorted_, columns = run(params, q, k, v, mask, True, b)
        state = put_sorted(state, sorted_, columns)
        for name, x in (("k", ops.hide(k, mask)), ("v", ops.hide(v, mask)), ("mask", mask)):
            state = state | {name: ops.pad_to(x, C, 1).astype(state[name].dtype)}
        return out, state | {
            "q_sum": ops.hide(q, mask).sum(1, dtype=jnp.float32),
            "q_count": mask.sum(1) * 1.0,
            "length": jnp.asarray(q.shape[1], jnp.int32),
        }

    def step(params, state, q, k, v, *, mask=None):
        mask = jnp.ones(k.shape[:2], bool) if mask is None else mask
        hidden = (ops.hide(x, mask) for x in (k, v))
        xs = tuple(jnp.moveaxis(x, 1, 0) for x in (q, *hidden, mask))
        state, out = jax.lax.scan(lambda state, token: one(params, state, *token), state, xs)
        return jnp.moveaxis(out, 0, 1), state

    def one(params, state, q, k, v, visible):
        i, b = state["length"], state["sorted_mask"].shape[1] // each
        state = state | {
            name: state[name].at[:, i].set(x.astype(state[name].dtype))
            for name, x in (("k", k), ("v", v), ("mask", visible))
        }
        state["q_sum"] = state["q_sum"] + jnp.where(visible[:, None, None], q, 0)
        state["q_count"] = state["q_count"] + visible
        state["length"] = i + 1

        def begin(state):
            """Sort for the block that starts here."""
            keys, values, shown = (
                state[name].reshape(len(q), -1, b, *state[name].shape[2:])
                for name in ("k", "v", "mask")
            )
            mean_q = ops.safe_divide(state["q_sum"], state["q_count"][:, None, None])
            *sorted_, columns = sort_for(
                params, mean_q[:, None], keys, shown, i // b, values, state.get("columns")
            )
            return put_sorted(state, sorted_, columns)

        state = jax.lax.cond(i % b == 0, begin, lambda state: state, state)
        own = (jax.lax.dynamic_slice_in_dim(state[n], i // b * b, b, 1) for n in ("k", "v"))
        keys, values = (
            jnp.concatenate([x, state[n]], 1)
            for n, x in zip(("sorted_k", "sorted_v"), own, strict=True)
        )
        near = jax.lax.dynamic_slice_in_dim(state["mask"], i // b * b, b, 1)
        near = jnp.repeat(near[..., None], q.shape[1], 2)
        allowed = jnp.einsum("bch->bhc", jnp.concatenate([near, state["sorted_mask"]], 1))
        logits = jnp.einsum("bhd,bchd->bhc", q, keys, preferred_element_type=jnp.float32)
        weights = ops.softmax(logits * q.shape[-1] ** -0.5, allowed)
        return state, jnp.einsum("bhc,bche->bhe", weights.astype(v.dtype), values.astype(v.dtype))

    return Decode(init, prefill, step), state_bytes
