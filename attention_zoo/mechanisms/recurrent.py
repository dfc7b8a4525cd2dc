"""Recurrent networks: vanilla, LSTM, bidirectional, or behind a convolution.

Reads the raw input as `v`, its H heads of E side by side as C = H * E features; the state has as
many (half as many a direction where `bidirectional`), starts at 0 and passes hidden positions by.

    cell="rnn"    h = tanh(x W + h U + b)                            Elman 1990
    cell="lstm"   c = σ(f) c + σ(i) tanh(g), h = σ(o) tanh(c), (i, f, g, o) = x W + h U + b
                  Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000, b_f starts at 1

`conv` puts a convolution over so many positions, with a ReLU, in front (CNN + LSTM): around each
position, or in a causal call up to it. The products with x are one for the whole sequence; those
with h are N in a row, which no machine can take at once: the cost that attention was made to avoid.
"""

import jax
import jax.numpy as jnp

from attention_zoo import ops, taps
from attention_zoo.types import Cost, Decode, Dims, Mechanism

GATES = {"rnn": 1, "lstm": 4}
# arrays of the state's size that a step leaves for the backward pass
KEPT = {"rnn": 5, "lstm": 15}
# two states so wide are joined by XLA in an array of its own, before the output
JOINED = 64


def make(cell: str = "lstm", bidirectional: bool = False, conv: int | None = None) -> Mechanism:
    if cell not in GATES:
        raise ValueError(f"cell must be one of {', '.join(GATES)}, got {cell!r}")
    if conv is not None:
        ops.positive(conv=conv)
    directions = ("forward", "backward") if bidirectional else ("forward",)

    def sizes(dims: Dims):
        """(C, size of a direction's state)."""
        C = dims.heads * dims.value_dim
        if C % len(directions):
            raise ValueError(f"recurrent: two directions share an even width, got {C}")
        return C, C // len(directions)

    def init(rng, dims: Dims):
        C, R = sizes(dims)
        params, G = {}, GATES[cell]
        for direction, key in zip(directions, jax.random.split(rng, len(directions)), strict=True):
            of_input, of_state = jax.random.split(key)
            bias = jnp.zeros((G, R)).at[1:2].set(1.0) if cell == "lstm" else jnp.zeros((G, R))
            params |= {
                f"{direction}_input": jax.random.normal(of_input, (C, G * R)) * C**-0.5,
                f"{direction}_state": jax.random.normal(of_state, (R, G * R)) * R**-0.5,
                f"{direction}_bias": bias.reshape(-1),
            }
        if conv is not None:
            key = jax.random.fold_in(rng, 2)
            params["kernel"] = jax.random.normal(key, (conv, C, C)) * (2 / (conv * C)) ** 0.5
        return params

    def move(state, gates):
        """The next (h, c) from what the gates add up to, [B, G * R]."""
        if cell == "rnn":
            return jnp.tanh(gates), state[1]
        i, f, g, o = jnp.split(gates, 4, -1)
        c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    def over_time(step, state, per_step, backwards=False):
        """(h at every position [B, N, R], last state); a hidden position keeps the state."""

        def one(state, row):
            *row, seen = row
            moved = step(state, *row)
            kept = [
                jnp.where(seen[:, None], new, old) for new, old in zip(moved, state, strict=True)
            ]
            return tuple(kept), kept[0]

        rows = [jnp.moveaxis(x, 1, 0) for x in per_step]
        state, hs = jax.lax.scan(one, state, rows, reverse=backwards)
        return jnp.moveaxis(hs, 0, 1), state

    def run(params, state, x, mask, backwards=False):
        name = "backward" if backwards else "forward"
        W, U, b = (params[f"{name}_{part}"] for part in ("input", "state", "bias"))
        return over_time(lambda s, y: move(s, y + s[0] @ U), state, (x @ W + b, mask), backwards)

    def fresh(B, params):
        R = params["forward_state"].shape[0]
        return jnp.zeros((B, R)), jnp.zeros((B, R))

    def flat(v, mask):
        """(x [B, N, C] float32, 0 where hidden; the mask)."""
        shown = jnp.ones(v.shape[:2], bool) if mask is None else mask
        return ops.hide(v, mask).reshape(*v.shape[:2], -1).astype(jnp.float32), shown

    def apply(params, q, k, v, *, mask=None, causal=False):
        x, shown = flat(v, mask)
        if conv is not None:
            x = jax.nn.relu(taps.convolve(x, params["kernel"], causal=causal))
        state = fresh(len(x), params)
        parts = [run(params, state, x, shown, d == "backward")[0] for d in directions]
        return jnp.concatenate(parts, -1).reshape(v.shape).astype(v.dtype)

    def reference(params, q, k, v, *, mask=None, causal=False):
        x, shown = flat(v, mask)
        if conv is not None:
            x = jax.nn.relu(taps.summed(x, params["kernel"], causal=causal))
        forward = walk(params, "forward", x, shown)
        if not bidirectional:
            return forward.reshape(v.shape).astype(v.dtype)
        backward = walk(params, "backward", x[:, ::-1], shown[:, ::-1])[:, ::-1]
        return jnp.concatenate([forward, backward], -1).reshape(v.shape).astype(v.dtype)

    def walk(params, name, x, shown):
        """h at every position by the formulas above, a matrix a gate."""
        W, U, b = (params[f"{name}_{part}"] for part in ("input", "state", "bias"))
        R = U.shape[0]

        def gate(number, x_t, h):
            of = slice(number * R, (number + 1) * R)
            return x_t @ W[:, of] + h @ U[:, of] + b[of]

        def step(state, row):
            (h, c), (x_t, seen) = state, row
            if cell == "rnn":
                new_h, new_c = jnp.tanh(gate(0, x_t, h)), c
            else:
                i, f, o = (jax.nn.sigmoid(gate(number, x_t, h)) for number in (0, 1, 3))
                new_c = f * c + i * jnp.tanh(gate(2, x_t, h))
                new_h = o * jnp.tanh(new_c)
            h, c = (jnp.where(seen[:, None], *pair) for pair in ((new_h, h), (new_c, c)))
            return (h, c), h

        rows = x.swapaxes(0, 1), shown.swapaxes(0, 1)
        _, hs = jax.lax.scan(step, fresh(len(x), params), rows)
        return hs.swapaxes(0, 1)

    def cost(dims: Dims, *, causal=False):
        (C, R), G, N = sizes(dims), GATES[cell], dims.q_len
        flops = 2 * dims.batch * N * (len(directions) * G * R * (C + R) + (conv or 0) * C * C)
        positions, windows = dims.batch * N, (conv or 0) * C
        # the products with x, what a step reads of them, states and output: of two directions three
        # of the products' size are alive at once
        held = (3 * G + 4) * R if bidirectional else (2 * G + 1) * R
        if bidirectional and conv is None and cell == "lstm" and dims.batch > 1:
            # copies positions first: a fourth has no place but its own
            held += G * R
        if bidirectional and conv is None and cell == "rnn" and R >= JOINED:
            # one of the states stands in the output's place until it is made
            held -= R
        if conv is not None:
            # or windows before: the shifts of x but x itself and one in the output's place, and the
            # zeros that states start from; two states are copies, and follow the shifts
            held = max(held, windows + C + R + max((conv - 2) * C, C * bidirectional))
        kept = len(directions) * (KEPT[cell] + 3 * G) * R + (windows + 2 * C if conv else 0)
        # x in float32 and the output, where they are of another type
        half = positions * C * (4 + dims.itemsize) * (dims.itemsize < 4)
        return Cost(
            flops,
            ideal_flops=flops,
            bytes=4 * positions * held + half,
            train_bytes=4 * (positions * kept + len(directions) * G * R * R) + half,
            state_bytes=4 * dims.batch * (2 * R + ((conv or 1) - 1) * C),
        )

    def decode_init(params, dims: Dims, dtype=jnp.float32):
        C, _ = sizes(dims)
        h, c = fresh(dims.batch, params)
        return {"h": h, "c": c, "recent": jnp.zeros((dims.batch, (conv or 1) - 1, C))}

    def advance(params, state, q, k, v, *, mask=None):
        x, shown = flat(v, mask)
        recent = state["recent"]
        if conv is not None:
            x, recent = taps.advance(recent, x, params["kernel"])
            x = jax.nn.relu(x)
        hs, (h, c) = run(params, (state["h"], state["c"]), x, shown)
        return hs.reshape(v.shape).astype(v.dtype), {"h": h, "c": c, "recent": recent}

    return Mechanism(
        "recurrent",
        apply,
        reference,
        cost,
        citation="1308.0850; Elman 1990; Hochreiter and Schmidhuber 1997",
        formula="8Nd'²·heads" if cell == "lstm" else "2Nd'²·heads",
        init=init,
        decode=None if bidirectional else Decode(decode_init, advance, advance),
        streams="x",
        causal=not bidirectional,
        cross=False,
        reasons={
            "causal": "one of its directions comes from the future",
            "cross": "it goes along one sequence",
            "parallel": "each state waits for the one before, so devices would take turns",
        },
    )
