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

from attention_zoo import heads, ops
from attention_zoo.parallel import traffic, transposed
from attention_zoo.types import Cost, Dims, Mechanism

UNROLL = 4  # turns that are added in one pass


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
        B, T, H, D = q.shape
        k, v = fitted(k, T), fitted(v, T)
        group = heads.group_size(B, H, T * D)
        products = heads.each(cross_spectrum, group, (q, k), None).sum(2)
        agreement = jnp.fft.irfft(jax.lax.complex(*jnp.moveaxis(products, 2, 0)), T) / (H * D)
        if axis is not None:
            agreement = jax.lax.pmean(agreement, axis)
        delays, weights = delays_of(agreement)
        weights = jnp.broadcast_to(weights[..., None, None], (*weights.shape, H, 1))
        return heads.each(rolled, group, (v, weights), delays)

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
        B, T, H = dims.batch, dims.q_len, dims.heads
        transform, channels = 2.5 * T * math.log2(T), H * dims.head_dim
        keys, values = B * T * channels, B * T * H * dims.value_dim
        # of a group of heads: queries and keys, one of them turned to be transformed, two spectra;
        # values once and twice and, where turns are more than one loop's trip, their sum
        share = heads.group_size(B, H, T * dims.head_dim) / H
        spectra, sums = B * H * (T + 2), count(T) >= 2 * UNROLL
        # XLA finds room for it in what is not written yet, the more the more groups there are
        last = spectra if 1 / share > 4 else (4 + sums - 2 * (share <= 1 / 4)) * share * values
        return Cost(
            B * (2 * channels + 1) * round(transform),
            # again in the backward pass, and there the transforms of both gradients
            train_flops=B * (6 * channels + 2) * round(transform),
            ideal_flops=round(B * (2 * channels + 1) * transform),
            bytes=round(
                4 * (values + max(4 * share * keys + spectra, (3 + sums) * share * values))
            ),
            train_bytes=round(
                4 * (2 * keys + values + max(2 * values + last, 6 * share * keys + spectra))
            ),
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
        by_query=False,
        mask=False,
        batch_wide=batch_wide,
        reasons={
            "causal": "its delays go around the whole sequence",
            "by_query": "all queries choose its delays, and a decoder's later ones are its future",
            "parallel": "batch_wide takes the mean of a batch, which may be split too",
            "mask": "its delays go around the whole array, of which padding would be a part",
        },
    )


def fitted(x, T: int):
    """x [B, S, ...] as long as the queries."""
    return ops.pad_to(x[:, :T], T, 1)


def cross_spectrum(_, q, k):
    """Σ_d F(q) conj F(k) of q and k [B, g, T, D]: [B, g, T // 2 + 1, 2], real and imaginary."""
    # positions last, where transforms need them
    at_q, at_k = (jnp.fft.rfft(x.swapaxes(2, 3).astype(jnp.float32)) for x in (q, k))
    products = (at_q * at_k.conj()).sum(2)
    return jnp.stack([products.real, products.imag], -1)


def rolled(delays, v, weights):
    """Σ_i weights[i] v[t + delays[i]], of delays [B, n], v [B, g, T, E], weights [B, g, n, 1]."""
    return jax.vmap(jax.vmap(_rolled, (None, 0, 0)))(delays, v, weights[..., 0]).astype(v.dtype)


@jax.custom_vjp
def _rolled(delays, v, weights):
    twice = jnp.concatenate([v, v])

    def add(total, turn):
        delay, weight = turn
        return total + weight * jax.lax.dynamic_slice_in_dim(twice, delay, len(v)), None

    return jax.lax.scan(add, jnp.zeros(v.shape, jnp.float32), (delays, weights), unroll=UNROLL)[0]


def _backward(residuals, d_out):
    """Values roll back; a weight's gradient is what its turn of the values has of the output's."""
    delays, v, weights = residuals
    twice = jnp.concatenate([v, v])

    def share(_, delay):
        return None, (d_out * jax.lax.dynamic_slice_in_dim(twice, delay, len(v))).sum()

    _, d_weights = jax.lax.scan(share, None, delays)
    d_v = _rolled((len(v) - delays) % len(v), d_out, weights)
    return None, d_v.astype(v.dtype), d_weights


_rolled.defvjp(lambda *given: (_rolled(*given), given), _backward)
