"""Linear attention: each device sums its keys into a state; states, not keys, are sent.

Not causal: one sum over devices. Causal: a prefix sum over devices in log2 P steps, then each goes
on from what came before it. States are float32 whatever the arrays are. A state travels packed,
[B, rows, H, R]: E rows of Σ v φkᵀ, one of Σ φk and, where sums fade or are relative to a peak, one
more for that.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from attention_zoo import exponential, ops, recurrence
from attention_zoo.parallel import halo, traffic
from attention_zoo.types import Dims, Parallel, Traffic


@dataclasses.dataclass(frozen=True)
class Kind:
    """How states are made of keys, join and are read: `then(first, second)` the state after the
    keys of both, `total(state, axis)` after those of every device."""

    form: object
    pack: Callable
    unpack: Callable
    then: Callable
    total: Callable
    total_traffic: Callable
    extra_rows: int = 1
    nothing: float = 0.0
    """What the last row is without keys; the others are 0."""


def parallel(kind: Kind, maps: Callable, width: Callable, **options) -> Parallel:
    """Of a mechanism that `kind.form.run` computes with `maps`; `width(dims)` is the features'
    number R."""
    extra = options.pop("extra", 0.0)

    def apply(params, q, k, v, *, axis, mask=None, causal=False):
        state = jnp.moveaxis(
            kind.pack(maps, params, k, v, mask, width(Dims(head_dim=q.shape[-1]))), 2, 1
        )
        state = earlier(kind, state, axis) if causal else kind.total(state, axis)
        state = kind.unpack(jnp.moveaxis(state, 1, 2), extra)
        call = {"causal": causal, "summed": True, **options}
        return kind.form.attend(maps, params, q, k, v, mask, state, **call)[0]

    def traffic_of(dims: Dims, P: int, *, causal=False, masked=False) -> Traffic:
        row = traffic.FLOAT * dims.batch * dims.heads * width(dims)
        if not causal:
            return kind.total_traffic(dims, P, row)
        state = (dims.value_dim + kind.extra_rows) * row
        return traffic.permute(state, times=traffic.scan_steps(P))

    return Parallel(apply, traffic_of, "states: a sum; causal: a prefix sum")


def earlier(kind: Kind, state, axis: str):
    """The state after the keys of all devices before this one."""
    P, here = jax.lax.axis_size(axis), jax.lax.axis_index(axis)

    def from_before(state, hops):
        """That of the device so many before; without keys where there is none."""
        come = halo.pass_on(state, hops, axis)
        if not kind.nothing:
            return come
        return come.at[:, -1].set(jnp.where(here >= hops, come[:, -1], kind.nothing))

    state, hops = from_before(state, 1), 1
    while hops < P - 1:
        state, hops = kind.then(from_before(state, hops), state), 2 * hops
    return state


def _pack(*rows):
    """[B, H, rows, R] of [B, H, E, R] and [B, H, R]."""
    return jnp.concatenate([x if x.ndim == 4 else x[:, :, None] for x in rows], 2)


# sums


def _pack_sums(maps, params, k, v, mask, R):
    empty = recurrence.empty(k.shape[0], k.shape[2], R, v.shape[-1])
    state = recurrence.write(maps, params, k, v, mask, empty)
    return _pack(state["kv"], state["k"])


def _unpack_sums(state, extra):
    E = state.shape[2] - 1
    return {"kv": state[:, :, :E], "k": state[:, :, E]}


SUMS = Kind(
    recurrence,
    _pack_sums,
    _unpack_sums,
    then=lambda first, second: first + second,
    total=jax.lax.psum,
    total_traffic=lambda dims, P, row: traffic.reduce(P, row * (dims.value_dim + 1)),
)


# sums that fade: the last row is the logarithm of what is left of earlier ones


def _pack_fading(maps, params, k, v, mask, R):
    _, _, decay = recurrence.keys_of(
        maps(params)[1], *(jnp.moveaxis(x, 2, 1) for x in (k, v)), mask
    )
    decay = jnp.broadcast_to(decay.sum(-1)[..., None], (*decay.shape[:2], R))
    return _pack(_pack_sums(maps, params, k, v, mask, R), decay)


def _fade(first, second):
    kept = first[:, :-1] * jnp.exp(second[:, -1:]) + second[:, :-1]
    return jnp.concatenate([kept, first[:, -1:] + second[:, -1:]], 1)


def _total_fading(state, axis):
    """What all later devices leave of each one's sums."""
    decays = jax.lax.all_gather(state[:, -1, :, 0], axis)
    later = jnp.arange(len(decays)) > jax.lax.axis_index(axis)
    left = jnp.where(later[:, None, None], decays, 0.0).sum(0)
    sums = jax.lax.psum(state[:, :-1] * jnp.exp(left)[:, None, :, None], axis)
    return jnp.pad(sums, ((0, 0), (0, 1), (0, 0), (0, 0)))


FADING = Kind(
    recurrence,
    _pack_fading,
    lambda state, extra: _unpack_sums(state[:, :, :-1], extra),
    _fade,
    _total_fading,
    lambda dims, P, row: (
        traffic.gather(P, traffic.FLOAT * dims.batch * dims.heads)
        + traffic.reduce(P, row * (dims.value_dim + 1))
    ),
    extra_rows=2,
)


# sums of exponentials: the last row is the peak that they are relative to


def _pack_peaked(maps, params, k, v, mask, R):
    empty = exponential.empty(k.shape[0], k.shape[2], R, v.shape[-1])
    state = exponential.write(maps, params, k, v, mask, empty)
    return _pack(state["kv"], state["k"], state["peak"])


def _relative(state, peak):
    """The sums of a state, made relative to a higher peak."""
    return state[:, :-1] * jnp.exp(jax.lax.stop_gradient(state[:, -1:]) - peak)


def _join_peaked(first, second):
    peak = jax.lax.stop_gradient(jnp.maximum(first[:, -1:], second[:, -1:]))
    return jnp.concatenate([_relative(first, peak) + _relative(second, peak), peak], 1)


def _total_peaked(state, axis):
    peak = jax.lax.pmax(jax.lax.stop_gradient(state[:, -1:]), axis)
    return jnp.concatenate([jax.lax.psum(_relative(state, peak), axis), peak], 1)


def _unpack_peaked(state, extra):
    B, H, rows, R = state.shape
    if extra:
        start = exponential.empty(B, H, R, rows - 2, extra)
        start = _pack(start["kv"], start["k"], start["peak"])
        state = jnp.moveaxis(_join_peaked(*(jnp.moveaxis(x, 2, 1) for x in (start, state))), 1, 2)
    return {"kv": state[:, :, :-2], "k": state[:, :, -2], "peak": state[:, :, -1]}


PEAKED = Kind(
    exponential,
    _pack_peaked,
    _unpack_peaked,
    _join_peaked,
    _total_peaked,
    lambda dims, P, row: (
        traffic.reduce(P, row, gradient=False) + traffic.reduce(P, row * (dims.value_dim + 1))
    ),
    extra_rows=2,
    nothing=ops.LOWEST,
)
