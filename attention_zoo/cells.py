"""Recurrent cells along a sequence, a chunk of positions at a time, and their gradients.

    gates = x W + h U + b, [B, G * R]
    cell="rnn"     h = tanh(gates)
    cell="lstm"    c = σ(f) c + σ(i) tanh(g), h = σ(o) tanh(c), (i, f, g, o) = gates

Only h U waits for the state before it: the products with x are one a chunk. The backward pass keeps
states and no gates, which are larger and one product of a chunk's states. From position to position
go the gradients of gates, times U; those of W, U and b are one product a chunk, where autodiff adds
up a matrix of U's size at every position.
"""

import functools

import jax
import jax.numpy as jnp

from attention_zoo import ops

GATES = {"rnn": 1, "lstm": 4}
# positions whose gates are made at once
ROWS = 128


def move(cell: str, gates, c):
    """The next (h, c) from what the gates add up to; a vanilla network passes c on."""
    if cell == "rnn":
        return jnp.tanh(gates), c
    i, f, g, o = jnp.split(gates, GATES[cell], -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def walk(cell: str, backwards: bool, weights, state, x, shown):
    """(h at every position [B, N, R], the last state) of x [B, N, C] from a state (h, c), each
    [B, R]; `weights` are (W [C, G * R], U [R, G * R], b [G * R]). A position that is not shown,
    [B, N], keeps the state."""
    last, (hs, _) = _forward(cell, backwards, weights, state, x, shown, keeps=False)
    return _whole(hs, x.shape[1]), last


def _forward(cell, backwards, weights, state, x, shown, *, keeps):
    """(last state, h and, where it is kept, c of all positions, in chunks)."""
    W, U, b = weights

    def chunk(state, rows):
        x, shown = rows

        def one(state, row):
            y, seen = row
            state = _where(seen, move(cell, y + state[0] @ U, state[1]), state)
            return state, (state[0], state[1] if keeps else None)

        return jax.lax.scan(one, state, (x @ W + b, shown), reverse=backwards)

    return jax.lax.scan(chunk, state, (_chunks(x), _chunks(shown)), reverse=backwards)


def _kept(cell, backwards, weights, state, x, shown):
    # without gates to forget by, c is as it was
    keeps = cell != "rnn"
    last, states = _forward(cell, backwards, weights, state, x, shown, keeps=keeps)
    return (_whole(states[0], x.shape[1]), last), (weights, state, x, shown, states)


def _gradients(cell, backwards, kept, d_out):
    (W, U, b), state, x, shown, (hs, cs) = kept
    d_hs, d_state = d_out

    def chunk(found, rows):
        (d_state, d_weights), (x, shown, d_hs, h_start, c_start, hs, cs) = found, rows
        h = _before(h_start, hs, backwards)
        c = jnp.broadcast_to(c_start, h.shape) if cs is None else _before(c_start, cs, backwards)

        def one(d_state, row):
            gates, c, seen, d_h = row
            d_state = d_state[0] + d_h, d_state[1]
            _, pull = jax.vjp(functools.partial(move, cell), gates, c)
            d_gates, d_c = pull(d_state)
            d_gates = jnp.where(seen[:, None], d_gates, 0.0)
            through = jnp.zeros_like(d_c), d_c
            d_h, d_c = _where(seen, through, d_state)
            return (d_h + d_gates @ U.T, d_c), d_gates

        gates = x @ W + h @ U + b
        d_state, d_gates = jax.lax.scan(
            one, d_state, (gates, c, shown, d_hs), reverse=not backwards
        )
        flat = d_gates.reshape(-1, d_gates.shape[-1])
        of_chunk = (_columns(x).T @ flat, _columns(h).T @ flat, flat.sum(0))
        return (d_state, jax.tree.map(jnp.add, d_weights, of_chunk)), d_gates @ W.T

    starts = [
        jnp.broadcast_to(s, (len(hs), *s.shape)) if all_ is None else _starts(s, all_, backwards)
        for s, all_ in zip(state, (hs, cs), strict=True)
    ]
    rows = (_chunks(x), _chunks(shown), _chunks(d_hs), *starts, hs, cs)
    begin = d_state, jax.tree.map(jnp.zeros_like, (W, U, b))
    (d_state, d_weights), d_x = jax.lax.scan(chunk, begin, rows, reverse=not backwards)
    return d_weights, d_state, _whole(d_x, x.shape[1]), None


walk.defvjp(_kept, _gradients)


def _where(seen, moved, state):
    return tuple(jnp.where(seen[:, None], *pair) for pair in zip(moved, state, strict=True))


def _before(start, states, backwards):
    """The state before each position of a chunk [rows, B, R] that begins with `start`."""
    if backwards:
        return jnp.concatenate([states[1:], start[None]])
    return jnp.concatenate([start[None], states[:-1]])


def _starts(state, chunks, backwards):
    """The state that each chunk begins with, of those of all positions and the first."""
    if backwards:
        return jnp.concatenate([chunks[1:, 0], state[None]])
    return jnp.concatenate([state[None], chunks[:-1, -1]])


def _chunks(x):
    """[B, N, ...] in chunks of positions, [chunks, rows, B, ...], with zeros at its end."""
    return jnp.moveaxis(ops.blocks(x, ops.even(x.shape[1], ROWS)), 0, 2)


def _whole(chunks, N):
    return jnp.moveaxis(chunks.reshape(-1, *chunks.shape[2:])[:N], 0, 1)


def _columns(rows):
    return rows.reshape(-1, rows.shape[-1])
