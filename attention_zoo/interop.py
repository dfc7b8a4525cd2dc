"""Mechanisms for other people's layers: Flax's MultiHeadAttention, and callers of jax.nn.

Both hand attention functions arguments that a mechanism may be unable to honour, and Flax drops
those that a function does not name. So every argument is named here, and honoured or refused.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from attention_zoo import ops, registry
from attention_zoo.types import Dims, Mechanism, objections


def attention_fn(name: str, *, causal: bool = False, params=None, **hparams: Any):
    """`attention_fn=` of flax.nnx.MultiHeadAttention and flax.linen.MultiHeadDotProductAttention.

    A key padding mask, broadcastable from [B, 1, 1, S], is honoured. Ask for causality here or by
    Flax's `is_causal`, not by a mask. `params` are those of a mechanism that learns some.
    """
    attend = _bind(name, hparams, params)

    # Linen passes the arguments that it finds in this signature and drops the others
    def attention(
        query,
        key,
        value,
        bias=None,
        mask=None,
        broadcast_dropout=True,
        dropout_rng=None,
        dropout_rate=0.0,
        deterministic=False,
        dtype=None,
        precision=None,
        module=None,
        promote_dtype=None,
        is_causal=False,
        force_fp32_for_softmax=False,
        einsum_dot_general=None,
        qk_attn_weights_einsum=None,
        attn_weights_value_einsum=None,
    ):
        if dropout_rate > 0 and not deterministic:
            _refuse(name, f"dropout_rate={dropout_rate}", "drop attention's output instead")
        if module is not None:
            _refuse(name, "sow_weights=True", "its weights are never built")
        if precision is not None:
            _refuse(name, f"precision={precision}", "set it by jax.default_matmul_precision")
        einsums = (einsum_dot_general, qk_attn_weights_einsum, attn_weights_value_einsum)
        if any(einsum is not None for einsum in einsums):
            _refuse(name, "an einsum of Flax's", "leave it out")
        return attend(query, key, value, bias, mask, causal or is_causal, dtype)

    return attention


def jax_attention_fn(name: str, *, causal: bool = False, params=None, **hparams: Any):
    """A function with the signature of jax.nn.dot_product_attention; as `attention_fn` else."""
    attend = _bind(name, hparams, params)

    def dot_product_attention(
        query,
        key,
        value,
        bias=None,
        mask=None,
        *,
        scale=None,
        is_causal=False,
        query_seq_lengths=None,
        key_value_seq_lengths=None,
        local_window_size=None,
        implementation=None,
        return_residual=False,
    ):
        D = query.shape[-1]
        if scale is not None and not math.isclose(scale, D**-0.5):
            _refuse(name, f"scale={scale}", f"only 1 / sqrt({D}) is; scale the queries yourself")
        if query_seq_lengths is not None:
            _refuse(name, "query_seq_lengths", "drop the outputs of padded queries instead")
        if local_window_size is not None:
            _refuse(name, f"local_window_size={local_window_size}", 'name "local" and a window')
        if implementation is not None:
            _refuse(
                name, f"implementation={implementation!r}", "choose it where the function is made"
            )
        if return_residual:
            _refuse(name, "return_residual=True", "only the output is returned")
        if key_value_seq_lengths is not None:
            inside = jnp.arange(key.shape[-3]) < key_value_seq_lengths[:, None]
            inside = inside[:, None, None, :]
            mask = inside if mask is None else mask.astype(bool) & inside
        return attend(query, key, value, bias, mask, causal or is_causal, None)

    return dot_product_attention


def _bind(name, hparams, params):
    m = registry.make(name, **hparams)
    if m.streams == "x" or m.projections > 1:
        needs = "the raw input" if m.streams == "x" else f"{m.projections} projections of each head"
        raise ValueError(f"{name}: it reads {needs}; use attention_zoo.layers.SequenceMixer")
    return functools.partial(_attend, m, params)


def _attend(m: Mechanism, params, q, k, v, bias, mask, causal, dtype):
    """Any batch axes, grouped heads, a mask and a bias broadcastable to [..., H, T, S]."""
    dtype = jnp.result_type(q, k, v) if dtype is None else dtype
    *batch, T, H, D = q.shape
    S = k.shape[-3]
    if causal and T == 1 < S:
        raise ValueError(
            f"{m.name}: causal with 1 query and {S} keys looks like Flax's decode=True cache, "
            "which it cannot use; decode by Transformer.generate or Mechanism.decode"
        )
    q, k, v = (x.astype(dtype).reshape(-1, *x.shape[-3:]) for x in (q, k, v))
    k, v = (jnp.repeat(x, H // x.shape[2], axis=2) for x in (k, v))
    keys, bias = _visibility(m, mask, bias, (*batch, H, T, S))
    dims = Dims(q.shape[0], T, S, H, D, v.shape[-1], q.dtype.itemsize)
    found = objections(m, dims, causal=causal, masked=keys is not None, per_position=True)
    if found:
        raise ValueError("; ".join(found))
    biased = {} if bias is None else {"bias": bias}
    out = m.apply(_params(m, params, dims), q, k, v, mask=keys, causal=causal, **biased)
    return out.reshape(*batch, *out.shape[1:])


def _visibility(m, mask, bias, shape):
    """(key mask [B, S] or None, bias [B, H, T, S] or None) of Flax's mask and bias."""
    *batch, _, _, S = shape
    if bias is not None and not m.bias:
        _refuse(m.name, f"a bias {bias.shape}", "leave it out")
    if bias is not None:
        bias = jnp.broadcast_to(bias, shape).reshape(-1, *shape[-3:])
    if mask is None:
        return None, bias
    mask = mask.reshape((1,) * (len(shape) - mask.ndim) + mask.shape).astype(bool)
    if mask.shape[-3:-1] == (1, 1):
        return jnp.broadcast_to(mask[..., 0, 0, :], (*batch, S)).reshape(-1, S), bias
    if not m.bias:
        _refuse(
            m.name,
            f"a mask {mask.shape} that differs by head or query",
            "drop it, and pass causal=True to attention_fn if it was causal; "
            f"padding keys may be hidden by one broadcastable to [B, 1, 1, {S}]",
        )
    hidden = jnp.where(jnp.broadcast_to(mask, shape), 0.0, ops.LOWEST).reshape(-1, *shape[-3:])
    return None, hidden if bias is None else bias + hidden


def _params(m, params, dims):
    def init():
        return m.init(jax.random.key(0), dims)

    names = set(jax.eval_shape(init))
    if params is None and names <= m.frozen:
        return init()
    if params is None or set(params) != names:
        got = "none" if params is None else ", ".join(sorted(params)) or "none"
        raise ValueError(f"{m.name}: params must hold {', '.join(sorted(names))}; got {got}")
    return params


def _refuse(name, what, instead):
    raise ValueError(f"{name}: {what} cannot be honoured: {instead}")
