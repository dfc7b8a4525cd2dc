"""Global attention: chosen tokens attend everywhere and are attended by all. arXiv:2004.05150.

Form 1, `tokens`: positions of the sequence itself, the first so many or a tuple of positions. Form
2, `learned`: extra learned tokens beside the sequence; their own rows are dropped from the output,
so only their keys and values are parameters. With `window`, every query also sees its local band:
Longformer. With `separate`, global tokens have projections of their own, as there: q, k and v then
carry 2H heads, the second H for the rows of global tokens. Differs from Longformer: no dilation.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import cache, ops, tile_memory, tiles
from attention_zoo.parallel import halo, reduced
from attention_zoo.types import Cost, Decode, Dims, Mechanism, Parallel

ROWS, KEYS = 128, 1024  # the tile of a part that is dense on one side


def make(
    tokens: int | tuple[int, ...] = 16,
    learned: int = 0,
    window: int | tuple[int, int] | None = None,
    separate: bool = False,
) -> Mechanism:
    leading = isinstance(tokens, int)
    positions = np.arange(tokens) if leading else np.unique(np.array(tokens, int))
    if (leading and tokens < 0) or (positions < 0).any():
        raise ValueError(f"tokens must be a count from 0 up or positions from 0 up, got {tokens!r}")
    if learned < 0:
        raise ValueError(f"learned must be a count from 0 up, got {learned}")
    if len(positions) + learned == 0:
        raise ValueError("tokens and learned are both 0; use `local` for a window alone")
    left, right = (-1, -1) if window is None else ops.window_sides(window)
    exact = leading and learned == 0

    def init(rng, dims: Dims):
        if not learned:
            return {}
        keys, values = jax.random.split(rng)
        return {
            "keys": jax.random.normal(keys, (learned, dims.heads, dims.head_dim)),
            "values": jax.random.normal(values, (learned, dims.heads, dims.value_dim)),
        }

    def is_global(i, T):
        return i < tokens if leading else jnp.zeros(T, bool).at[positions].set(True, mode="drop")[i]

    def in_band(i, j):
        return (i - j <= left) & (j - i <= right) if window is not None else jnp.zeros_like(i == j)

    def apply(params, q, k, v, *, mask=None, causal=False):
        T = q.shape[1]
        here = positions[positions < T]
        (q, k, v), (q_rows, k_all, v_all) = halves(q, k, v)
        parts = []
        if window is not None:
            schedule = tiles.band(T, left, 0 if causal else right)
            parts.append(tiles.attend(q, k, v, schedule, near(T, causal), mask=mask))
        if len(here):
            schedule = tiles.everything(T, len(here), False, ROWS, KEYS)
            seen = None if mask is None else at(mask, here)
            # the j-th global token stands at j wherever a call is causal
            parts.append(
                tiles.attend(
                    q, at(k, here), at(v, here), schedule, tiles.past if causal else None, mask=seen
                )
            )
        if learned:
            parts.append(over_learned(params, q))
        out, _ = tiles.merge(*parts)
        if len(here):
            rows = global_rows(params, at(q_rows, here), k_all, v_all, mask, causal)
            out = put(out, rows, here)
        return out.astype(v.dtype)

    # slices where they serve: the gradients of a gather and a scatter are slow and hold more
    def at(x, here):
        return x[:, : len(here)] if leading else x[:, here]

    def put(x, rows, here):
        if leading:
            return jnp.concatenate([rows, x[:, len(here) :]], 1)
        return x.at[:, here].set(rows)

    def global_rows(params, q, k, v, mask, causal):
        """The rows of the global tokens: all keys, and the learned ones."""
        schedule = tiles.everything(q.shape[1], k.shape[1], False, ROWS, KEYS)
        rows = [tiles.attend(q, k, v, schedule, tiles.past if causal else None, mask=mask)]
        if learned:
            rows.append(over_learned(params, q))
        return tiles.merge(*rows)[0]

    def over_learned(params, q):
        keys, values = (
            jnp.repeat(params[n][None].astype(q.dtype), len(q), 0) for n in ("keys", "values")
        )
        schedule = tiles.everything(q.shape[1], learned, False, ROWS, KEYS)
        return tiles.attend(q, keys, values, schedule, None)

    def near(T, causal):
        """The band without what is global in it."""

        def sees(i, j):
            seen = in_band(i, j) & ~is_global(jnp.clip(j, 0, T - 1), T)
            return seen & (j <= i) if causal else seen

        return sees

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        """The global tokens' q, k and v are on every device, and their rows a sum over devices."""
        n, N = q.shape[1], q.shape[1] * jax.lax.axis_size(axis)
        here = positions[positions < N]
        (q, k, v), of_rows = halves(q, k, v)
        parts = []
        if window is not None:
            sides = left, 0 if causal else right
            parts.append(halo.attend(q, k, v, near(N, causal), sides, axis=axis, mask=mask))
        if len(here):
            parts.append(
                reduced.columns(q, k, v, here, ROWS, KEYS, axis=axis, mask=mask, causal=causal)
            )
        if learned:
            parts.append(over_learned(params, q))
        out, _ = tiles.merge(*parts)
        if len(here):
            q, k, v = of_rows
            q = reduced.pick(q, here, axis)
            schedule = tiles.everything(len(here), n, False, ROWS, KEYS)
            rows = [reduced.rows(q, k, v, schedule, axis=axis, mask=mask, causal=causal)]
            if learned:
                rows.append(over_learned(params, q))
            out = reduced.put(out, tiles.merge(*rows)[0], here, axis)
        return out.astype(v.dtype)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        moved = reduced.both_traffic(dims, P, int((positions < dims.q_len).sum()), masked)
        if window is None:
            return moved
        return moved + halo.traffic_of(dims, P, (left, 0 if causal else right), masked)

    def halves(*arrays):
        """What local and what global rows read."""
        if not separate:
            return arrays, arrays
        H = arrays[0].shape[2] // 2
        return [x[:, :, :H] for x in arrays], [x[:, :, H:] for x in arrays]

    def reference(params, q, k, v, *, mask=None, causal=False):
        B, T = q.shape[:2]
        chosen = jnp.isin(jnp.arange(T), positions)

        def pattern(i, j):
            return in_band(i, j) | chosen[j] | chosen[i]

        allowed = ops.visible(T, T, mask, causal, pattern)
        allowed = jnp.pad(allowed, ((0, 0), (0, 0), (0, 0), (learned, 0)), constant_values=True)

        def dense(q, k, v):
            if learned:
                k = jnp.concatenate([jnp.repeat(params["keys"][None].astype(k.dtype), B, 0), k], 1)
                v = jnp.concatenate(
                    [jnp.repeat(params["values"][None].astype(v.dtype), B, 0), v], 1
                )
            return ops.weigh(ops.softmax(ops.dot(q, k) * q.shape[-1] ** -0.5, allowed), v)

        local, globals_ = (dense(*half) for half in halves(q, k, v))
        return jnp.where(chosen[None, :, None, None], globals_, local)

    def held_by(dims, parts, here):
        """Numbers alive at once, forward and with gradients."""
        T, D, E = dims.q_len, dims.head_dim, dims.value_dim
        lanes = dims.batch * dims.heads
        out, grads = lanes * T * E, (lanes * T * D, lanes * T * D, lanes * T * E)
        # rows of global tokens, and of learned ones
        beside = (here > 0) * (1 + (learned > 0))
        parts, beside = parts[: len(parts) - beside], parts[len(parts) - beside :]
        by_groups = any(not part.once for part in beside)
        if T <= KEYS:
            # a single tile of keys is put heads first when its turn comes
            beside = [dataclasses.replace(part, once=False) for part in beside]
        held, train_held = tile_memory.merged(parts, out, grads, beside)
        if separate:
            # halves that are read by groups of heads; the gradients of both
            halves = (window is not None and not parts[0].once) * sum(grads)
            halves += by_groups * (grads[1] + grads[2])
            if window is None:
                halves += (not parts[0].once) * grads[0]
            held += halves
            train_held += halves + sum(grads)
            train_held -= sum(tile_memory.fitting(2 * x, out, grads[0]) for x in grads)
        elif all(part.once for part in parts):
            train_held -= out  # it stands where that of v will
        # the output's gradient without the rows of global tokens
        return held, train_held + out * (here > 0)

    def cost(dims: Dims, *, causal=False):
        T, ahead = dims.q_len, 0 if causal else right
        here = int((positions < T).sum())
        parts, helds = [], []
        if window is not None:
            band = tiles.band(T, left, ahead)
            parts.append(band.cost(dims, ideal_pairs=T * min(left + ahead + 1, T)))
            helds.append(band.held(dims))
        for rows, keys in ((T, here), (T, learned), (here, T), (here, learned)):
            if rows and keys:
                schedule = tiles.everything(rows, keys, False, ROWS, KEYS)
                sizes = Dims(dims.batch, rows, keys, dims.heads, dims.head_dim, dims.value_dim)
                parts.append(schedule.cost(sizes, ideal_pairs=rows * keys))
                helds.append(schedule.held(sizes))
        held, train_held = held_by(dims, helds, here)
        return Cost(
            sum(part.flops for part in parts),
            train_flops=sum(part.train_flops for part in parts),
            ideal_flops=sum(part.ideal_flops for part in parts),
            bytes=4 * held,
            train_bytes=4 * train_held,
            state_bytes=cache.state_bytes(slots(dims), doubled(dims)),
        )

    # decode: the global tokens first, then a ring as wide as the window
    def slots(dims):
        return min(len(positions) + left + 1, dims.kv_len)

    def slot(i, C):
        ring = max(C - len(positions), 0)
        return jnp.where(i < len(positions), i, len(positions) + i % ring if ring else C)

    def doubled(dims):
        heads = dims.heads * (1 + separate)
        return dataclasses.replace(dims, heads=heads)

    def sees(i, j):
        return (j < len(positions)) | (i < len(positions)) | (i - j <= left)

    def decode():
        inner = cache.cached(apply, slots, slot, sees)
        if not separate:
            return inner

        def init(params, dims, dtype=jnp.float32):
            return inner.init(params, doubled(dims), dtype)

        def step(params, state, q, k, v, *, mask=None):
            i = state["length"] + jnp.arange(q.shape[1])
            out, state = inner.step(params, state, q, k, v, mask=mask)
            (local,), (globals_,) = halves(out)
            return jnp.where((i < len(positions))[:, None, None], globals_, local), state

        return Decode(init, inner.prefill, step)

    return Mechanism(
        "global",
        apply,
        reference,
        cost,
        citation="2004.05150; 2004.08483",
        formula="(d+d')N(2g+window)",
        init=init,
        decode=decode() if exact else None,
        parallel=Parallel(sharded, sent, "global tokens and rows summed; halo of the window"),
        projections=1 + separate,
        causal=exact,
        cross=False,
        reasons={
            "causal": "only leading global tokens (tokens=COUNT, learned=0) have a causal form"
        },
    )
