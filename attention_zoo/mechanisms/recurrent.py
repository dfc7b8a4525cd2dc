"""Recurrent networks: vanilla, LSTM, bidirectional, or behind a convolution.

Reads the raw input as `v`, its H heads of E side by side as C = H * E features; the state has as
many (half as many a direction where `bidirectional`), starts at 0 and passes hidden positions by.

    cell="rnn"    h = tanh(x W + h U + b)                            Elman 1990
    cell="lstm"   c = σ(f) c + σ(i) tanh(g), h = σ(o) tanh(c), (i, f, g, o) = x W + h U + b
                  Hochreiter and Schmidhuber 1997, forget gate of Gers et al. 2000, b_f starts at 1

`conv` puts a convolution over so many positions, with a ReLU, in front (CNN + LSTM): around each
position, or in a causal call up to it. The products with x are one for many positions (cells.py);
those with h are N in a row, which no machine can take at once: the cost that attention was made to
avoid.
"""

import jax
import jax.numpy as jnp

from attention_zoo import cells, ops, taps
from attention_zoo.types import Cost, Decode, Dims, Mechanism


def make(cell: str = "lstm", bidirectional: bool = False, conv: int | None = None) -> Mechanism:
    if cell not in cells.GATES:
        raise ValueError(f"cell must be one of {', '.join(cells.GATES)}, got {cell!r}")
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
        params, G = {}, cells.GATES[cell]
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

    def run(params, state, x, shown, direction="forward"):
        weights = tuple(params[f"{direction}_{part}"] for part in ("input", "state", "bias"))
        return cells.walk(cell, direction == "backward", weights, state, x, shown)

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
            x = taps.rectified(x, params["kernel"], jnp.zeros(x.shape[-1]), 1, causal)
        state = fresh(len(x), params)
        parts = [run(params, state, x, shown, direction)[0] for direction in directions]
        return jnp.concatenate(parts, -1).reshape(v.shape).astype(v.dtype)

    def reference(params, q, k, v, *, mask=None, causal=False):
        x, shown = flat(v, mask)
        if conv is not None:
            x = jax.nn.relu(taps.summed(x, params["kernel"], 1, causal))
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
        (C, R), G, B, N = sizes(dims), cells.GATES[cell], dims.batch, dims.q_len
        rows = ops.even(N, cells.ROWS)
        padded, several, x = N % rows > 0, B > 1, B * N * C
        walk = 2 * B * ops.ceil_to(N, rows) * len(directions) * G * R * (C + R)
        # a chunk's gates, beside the input by chunks, the states and the output
        if bidirectional:
            held = max(2.5 * x, 2 * x + (2 * G + 1) * B * rows * R) + several * x / 2
            held = 3 * x + (G + 1) * B * rows * R if padded else held
        else:
            chunk = (2 * G + 1 - (several or padded) * G) * B * rows * R
            held = (2 + (several or padded)) * x + chunk
            held = max(held, 4 * x) if several and padded else held
        # with states and gradients, gates of a chunk, and weights: fitted to compiled calls
        gates, weights, gated = B * rows * G * R, (C + R) * G * R, cell == "lstm"
        if bidirectional:
            kept = (6.2 + 0.8 * gated + 0.65 * padded) * x + 1.35 * gates + 3 * weights
        else:
            kept = (4.5 + 0.7 * gated + 0.65 * padded) * x + 4.5 * gates
            kept = max(kept, (5 + gated) * x + gates) + 1.1 * weights
        taken = 0
        if conv is not None:
            size = taps.rows_at_once(N, taps.reach(conv, 1, causal))
            taken = 2 * B * ops.ceil_to(N, size) * conv * C * C
            windows, torn = conv * B * size * C, N % size > 0
            before = 2 * windows - bidirectional * x / 2
            before = before if size == N else (2 + 1.5 * torn) * x + 2 * windows
            held = max(held + x, before)
            kernel = conv * C * C
            if bidirectional:
                kept = (6.5 + 0.75 * gated + 1.55 * torn) * x + 1.1 * gates + 2.2 * weights
                kept += 1.2 * windows + 2 * kernel
            else:
                kept = (4.5 + 0.4 * gated + 1.9 * torn) * x + 1.9 * gates + 1.1 * weights
                kept += 1.8 * windows + 1.6 * kernel
                kept = max(kept, (5.2 + gated) * x + windows + kernel + weights)
        # x in float32 and the output, where they are of another type
        half = x * (4 + dims.itemsize) * (dims.itemsize < 4)
        return Cost(
            walk + taken,
            # the gates of a chunk are made again
            train_flops=4 * walk + 3 * taken,
            ideal_flops=2 * B * N * (len(directions) * G * R * (C + R) + (conv or 0) * C * C),
            bytes=round(4 * held) + half,
            train_bytes=round(4 * kept) + half,
            state_bytes=4 * B * (2 * R + ((conv or 1) - 1) * C),
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
