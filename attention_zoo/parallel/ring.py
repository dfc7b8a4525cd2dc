"""Ring attention: keys and values travel once around the devices, queries stay. arXiv:2310.01889.

The parts of the softmax join by their logsumexp. The backward pass sends keys and values around
again, and with them their gradients, so a device holds two shards whatever the number of devices.
A causal call computes nothing for shards of the future, but these still travel, and the last device
has P times the work of the first.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from attention_zoo import tiles
from attention_zoo.parallel import traffic
from attention_zoo.types import Dims, Traffic


def attend(q, k, v, mask, *, axis: str, own: tuple, others: tuple, causal: bool):
    """(out, logsumexp) of the queries here over the keys of every device.

    `own` and `others` are (schedule, sees) for the keys from here and from elsewhere;
    `sees(source)` is what `tiles.attend` takes for keys of that device: a function, or None.
    """
    P, here = jax.lax.axis_size(axis), jax.lax.axis_index

    def walk(visit, carry, travelling):
        """visit(carry, what has come, source) -> (carry, to send on), for every other device."""

        def step(state, hop):
            carry, travelling = state
            travelling = shift(travelling, axis)
            return visit(carry, travelling, (here(axis) - hop) % P), None

        return jax.lax.scan(step, (carry, travelling), jnp.arange(1, P))[0]

    def unless_future(source, call, otherwise):
        if not causal:
            return call()
        return jax.lax.cond(source > here(axis), lambda: otherwise, call)

    def forward(q, k, v, mask):
        def visit(part, keys, source):
            k, v, mask = keys

            def call():
                more = tiles.attend(q, k, v, others[0], others[1](source), mask=mask)
                return tiles.merge(part, more)

            return unless_future(source, call, part), keys

        part = tiles.attend(q, k, v, own[0], own[1](here(axis)), mask=mask)
        return walk(visit, part, (k, v, mask))[0]

    def with_residuals(q, k, v, mask):
        made = forward(q, k, v, mask)
        return made, (q, k, v, mask, *made)

    def backward(residuals, cotangents):
        q, k, v, mask, *made = residuals

        def grads(k, v, mask, schedule, sees):
            return tiles.gradients(q, k, v, schedule, sees, *made, *cotangents, mask=mask)

        def visit(d_q, travelling, source):
            k, v, mask, *before = travelling

            def call():
                found = grads(k, v, mask, others[0], others[1](source))
                return tuple(a + b for a, b in zip((d_q, *before), found, strict=True))

            d_q, *after = unless_future(source, call, (d_q, *before))
            return d_q, (k, v, mask, *after)

        d_q, *d_kv = grads(k, v, mask, own[0], own[1](here(axis)))
        d_q, (_, _, _, *d_kv) = walk(visit, d_q, (k, v, mask, *d_kv))
        # one more step and the gradients are back where their keys live
        d_k, d_v = shift(d_kv, axis)
        return d_q.astype(q.dtype), d_k.astype(k.dtype), d_v.astype(v.dtype), None

    run = jax.custom_vjp(forward)
    run.defvjp(with_residuals, backward)
    return run(q, k, v, mask)


def shift(arrays, axis: str):
    """Every array to the next device, from the last one to the first."""
    P = jax.lax.axis_size(axis)
    if P == 1:
        return arrays
    ways = [(source, (source + 1) % P) for source in range(P)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, axis, ways), arrays)


def traffic_of(dims: Dims, P: int, keys: int, masked: bool) -> Traffic:
    """Of `attend` with so many keys a device."""
    if P == 1:
        return Traffic()
    there = traffic.permute(traffic.keys_and_values(dims, keys), times=P - 1)
    mask = dims.batch * keys * masked * (P - 1)
    widths = dims.head_dim + dims.value_dim
    grads = traffic.FLOAT * dims.batch * dims.heads * keys * widths
    forward = there.forward + mask
    # what came from the only other device is there still
    again = 0 if P == 2 else forward
    return Traffic(forward, again + P * grads, 2 * there.held + grads)


def nothing(source: int) -> Callable | None:
    """For `own` or `others`: all keys are seen."""
    return None
