"""Auto-correlation: values rolled by the delays at which q and k agree most. arXiv:2106.13008.

r(τ) = mean over heads and features of Σ_t q[t + τ] . k[t], around a circle of T, by the Fourier
transform. The int(`factor` * ln T) largest, by softmax, weigh v[t + delay]: all heads share them.
They are a sequence's own; with `batch_wide` the delays, not their weights, are those of the
batch's mean, as the authors' code has it in training. Keys and values of another length than the
queries are cut to theirs, or padded with zeros at the end. The series decomposition around it is
in decomposition.py.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from attention_zoo import ops
from attention_zoo.parallel import traffic, transposed
from attention_zoo.types import Cost, Dims, Mechanism


def make(factor: int = 3, batch_wide: bool = False) -> Mechanism:
    ops.positive(factor=factor)

    def count(T):
        return min(T, max(1, int(factor * math.log(T))))

    def delays_of(agreement):
        """(delays, weights) [B, count], of the agreements [B, T] at every delay."""
        basis = agreement.mean(0, keepdims=True) if batch_wide else agreement
        _, delays = jax.lax.top_k(jax.lax.stop_gradient(basis), count(agreement.shape[1]))
        delays = jnp.broadcast_to(delays, (len(agreement), delays.shape[1]))
        return delays, jax.nn.softmax(jnp.take_along_axis(agreement, delays, 1))

    def apply(params, q, k, v, *, mask=None, causal=False, axis=None):
        """With a mesh axis, the heads are those of one of its devices."""
        _, T, H, D = q.shape
        k, v = fitted(k, T), fitted(v, T)
        at_q, at_k = (jnp.fft.rfft(x.astype(jnp.float32), axis=1) for x in (q, k))
        agreement = jnp.fft.irfft((at_q * at_k.conj()).sum((2, 3)), T) / (H * D)
        if axis is not None:
            agreement = jax.lax.pmean(agreement, axis)
        return jax.vmap(rolled)(v, *delays_of(agreement)).astype(v.dtype)

    def reference(params, q, k, v, *, mask=None, causal=False):
        _, T, H, D = q.shape
        k, v = fitted(k, T), fitted(v, T)
        t, tau = jnp.arange(T), jnp.arange(T)[:, None]
        agreement = ops.dot(q, k)[:, :, (t + tau) % T, t].sum((1, 3)) / (H * D)
        delays, weights = delays_of(agreement)
        turned = (t + delays[..., None]) % T == t[:, None, None, None]
        matrix = jnp.einsum("bi,sbit->bts", weights, turned * 1.0)
        return jnp.einsum("bts,bshe->bthe", matrix, v.astype(jnp.float32)).astype(v.dtype)

    def sharded(params, q, k, v, *, axis, **call):
        form = by_heads(functools.partial(apply, axis=axis))
        return form.apply(params, q, k, v, axis=axis, **call)

    def sent(dims: Dims, P: int, **call):
        agreements = traffic.reduce(P, traffic.FLOAT * dims.batch * dims.q_len)
        return by_heads(apply).traffic(dims, P, **call) + agreements

    def by_heads(apply):
        why = "a delay goes around the whole sequence"
        return transposed.by_heads("auto_correlation", apply, "qkv", why)

    def cost(dims: Dims, *, causal=False):
        T, channels = dims.q_len, dims.heads * dims.head_dim
        transforms = dims.batch * (2 * channels + 1)
        keys, values = T * channels, T * dims.heads * dims.value_dim
        # two spectra, and a copy of them where XLA sums over more than 32 features
        spectra = keys * (3 if dims.head_dim > 32 else 2)
        # gradients; values twice, with theirs; in a roll's, beside the spectra, two more
        train = 2 * keys + 5 * values + max(spectra, keys + 2 * values)
        flops = transforms * round(2.5 * T * math.log2(T))
        return Cost(
            flops,
            train_flops=2 * flops,  # the gradient of a transform is one transform
            ideal_flops=round(transforms * 2.5 * T * math.log2(T)),
            # values twice and the output; a spectrum, an array turned to be transformed, its own
            bytes=4 * dims.batch * 3 * (keys + values),
            train_bytes=4 * dims.batch * train,
        )

    return Mechanism(
        "auto_correlation",
        apply,
        reference,
        cost,
        citation="2106.13008",
        formula="N log N · d + factor · ln N · N d'",
        parallel=None
        if batch_wide
        else dataclasses.replace(by_heads(apply), apply=sharded, traffic=sent),
        causal=False,
        mask=False,
        batch_wide=batch_wide,
        reasons={
            "causal": "its delays go around the whole sequence",
            "parallel": "batch_wide takes the mean of a batch, which may be split too",
            "mask": "its delays go around the whole array, of which padding would be a part",
        },
    )


def fitted(x, T: int):
    """x [B, S, ...] as long as the queries."""
    return ops.pad_to(x[:, :T], T, 1)


def rolled(v, delays, weights):
    """Σ_i weights[i] v[(t + delays[i]) mod T], v [T, H, E], float32."""
    twice = jnp.concatenate([v, v])

    # recomputed in the backward pass, which would keep every rolled copy
    @jax.checkpoint
    def add(total, turn):
        delay, weight = turn
        return total + weight * jax.lax.dynamic_slice_in_dim(twice, delay, len(v)), None

    return jax.lax.scan(add, jnp.zeros(v.shape, jnp.float32), (delays, weights))[0]
