"""Global attention: chosen tokens attend everywhere and are attended by all. arXiv:2004.05150.

Form 1, `tokens`: positions of the sequence itself, the first so many or a tuple of positions. Form
2, `learned`: extra learned tokens beside the sequence; their own rows are dropped from the output,
so only their keys and values are parameters. With `window`, every query also sees its local band:
Longformer. With `separate`, global tokens have projections of their own, as there: q, k and v then
carry 2H heads, the second H for the rows of global tokens. Tiles of the band hold the global keys
too: leading ones where they stand, others put in front. Differs from Longformer: no dilation.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import cache, ops, tile_memory, tiles
from attention_zoo.parallel import halo, reduced
from attention_zoo.types import Cost, Decode, Dims, Mechanism, Parallel

ROWS, KEYS = 128, 1024  # the tile of a part that is dense on one side
BAND_ROWS, BAND_KEYS = 64, 16  # the block of queries of a band, and the block of keys


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
        if leading:
            return i < tokens
        return jnp.asarray(np.isin(np.arange(T), positions))[jnp.clip(i, 0, T - 1)]

    def in_band(i, j):
        # with no window both sides are -1
        return (i - j <= left) & (j - i <= right)

    def near(i, j, T):
        """The band without what is global in it."""
        return in_band(i, j) & ~is_global(j, T)

    def apply(params, q, k, v, *, mask=None, causal=False):
        T = q.shape[1]
        here = positions[positions < T]
        (q, k, v), of_rows = halves(q, k, v)
        schedule, ahead, before = layout(T, causal)
        # what a causal global token sees are leading keys, which all queries see
        rows_apart = len(here) > 0 and (separate or not causal)

        def sees(i, j):
            seen = (j < ahead) | near(i, j - before, T)
            if rows_apart:
                seen &= ~is_global(i, T)
            return seen & (j <= i) if causal else seen

        k, v, shown = in_front(params, k, v, mask, here[: before - learned], window is not None)
        out, _ = tiles.attend(q, k, v, schedule, sees, mask=shown)
        if rows_apart:
            rows = global_rows(params, *of_rows, mask, here, causal)
            # a sum with what saw nothing: the gradient of both is that of the sum, with no copy
            out = out.at[:, index(here)].add(rows)
        return out.astype(v.dtype)

    def layout(T, causal):
        """(tiles, how many keys in front all queries see, how many stand before position 0)."""
        ahead = learned + int((positions < T).sum())
        if window is None:
            if not ahead:
                raise ValueError(f"tokens must have one below N={T}, got {tokens!r}")
            return tiles.everything(T, ahead, False, ROWS, KEYS), ahead, ahead
        before = 0 if exact else ahead
        ways = {"halo": (before, 0), "leading": ahead, "key_block": BAND_KEYS}
        return tiles.band(T, left, 0 if causal else right, BAND_ROWS, **ways), ahead, before

    def in_front(params, k, v, mask, here, rest):
        """k, v and mask of the learned tokens, those `here` and, with `rest`, all of them."""

        def joined(x, extra):
            parts = [x[:, index(here)]] * (len(here) > 0) + [x] * rest
            if learned:
                parts.insert(0, jnp.broadcast_to(extra, (len(x), *extra.shape)).astype(x.dtype))
            return jnp.concatenate(parts, 1) if len(parts) > 1 else parts[0]

        k, v = joined(k, params.get("keys")), joined(v, params.get("values"))
        return k, v, None if mask is None else joined(mask, jnp.ones(learned, bool))

    # slices where they serve: the gradients of a gather and a scatter are slow and hold more
    def index(here):
        return slice(len(here)) if leading else here

    def global_rows(params, q, k, v, mask, here, causal):
        """The rows of the global tokens: the learned keys and all; causal, the leading ones."""
        k, v, mask = in_front(params, k, v, mask, here if causal else here[:0], not causal)
        schedule = tiles.everything(len(here), k.shape[1], False, ROWS, KEYS)
        sees = tiles.past if causal else None
        return tiles.attend(q[:, index(here)], k, v, schedule, sees, mask=mask)[0]

    def over_learned(params, q, k, v):
        k, v, _ = in_front(params, k, v, None, positions[:0], False)
        schedule = tiles.everything(q.shape[1], learned, False, ROWS, KEYS)
        return tiles.attend(q, k, v, schedule, None)

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        """The global tokens' q, k and v are on every device, and their rows a sum over devices."""
        n, N = q.shape[1], q.shape[1] * jax.lax.axis_size(axis)
        here = positions[positions < N]
        (q, k, v), of_rows = halves(q, k, v)
        parts = []

        def sees(i, j):
            return near(i, j, N) & ((j <= i) | (not causal))

        if window is not None:
            sides = left, 0 if causal else right
            parts.append(halo.attend(q, k, v, sees, sides, axis=axis, mask=mask))
        if len(here):
            parts.append(
                reduced.columns(q, k, v, here, ROWS, KEYS, axis=axis, mask=mask, causal=causal)
            )
        if learned:
            parts.append(over_learned(params, q, k, v))
        out, _ = tiles.merge(*parts)
        if len(here):
            q, k, v = of_rows
            q = reduced.pick(q, here, axis)
            schedule = tiles.everything(len(here), n, False, ROWS, KEYS)
            rows = [reduced.rows(q, k, v, schedule, axis=axis, mask=mask, causal=causal)]
            if learned:
                rows.append(over_learned(params, q, k, v))
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

    def passes(dims, causal):
        """(tiles, sizes, pairs that one head needs) of every `attend` of a call."""
        T, here = dims.q_len, int((positions < dims.q_len).sum())
        schedule, ahead, before = layout(T, causal)
        band = 0 if window is None else min(left + (0 if causal else right) + 1, T)
        keys = before + (window is not None) * T
        found = [(schedule, dataclasses.replace(dims, kv_len=keys), T * (band + ahead))]
        if here and (separate or not causal):
            keys = here if causal else learned + T
            sizes = dataclasses.replace(dims, q_len=here, kv_len=keys)
            found.append((tiles.everything(here, keys, False, ROWS, KEYS), sizes, here * keys))
        return found

    def cost(dims: Dims, *, causal=False):
        found = passes(dims, causal)
        parts = [schedule.cost(sizes, ideal_pairs=pairs) for schedule, sizes, pairs in found]
        helds = [schedule.held(sizes) for schedule, sizes, _ in found]
        held, train_held = held_by(dims, helds, causal)
        return Cost(
            sum(part.flops for part in parts),
            train_flops=sum(part.train_flops for part in parts),
            ideal_flops=sum(part.ideal_flops for part in parts),
            bytes=4 * held,
            train_bytes=4 * train_held,
            state_bytes=cache.state_bytes(slots(dims), doubled(dims)),
        )

    def held_by(dims, parts, causal):
        """Numbers alive at once, forward and with gradients."""
        T, D, E = dims.q_len, dims.head_dim, dims.value_dim
        lanes, bare = dims.batch * dims.heads, window is None
        of_q, of_keys = lanes * T * D, lanes * T * (D + E)
        local, *rows = parts
        held, train_held = local.alone(), local.alone_in_training()
        if causal and bare:
            # gradients of all keys, whose places take what comes before them
            if not local.once:
                train_held = local.grads + 2 * local.rows + local.sums + local.forward
                train_held += separate * local.out
            elif not separate:
                train_held -= 2 * tile_memory.fitting(of_q, local.sums)
            train_held += of_keys
        for part in () if causal else rows:
            train_held += 2 * sum(part.copies) if part.once and T > KEYS else part.grads
            train_held += local.once * of_q if bare else (not part.once) * local.out
            if bare and local.once and part.once and not separate:
                train_held += 2 * (local.out - tile_memory.fitting(of_q, local.out))
            if T <= KEYS:
                # a single tile of keys is put heads first in its turn: its logits stand then
                part = dataclasses.replace(part, copies=(0, part.forward, part.copies[2]))
            again = local.once and not (part.once or separate)
            held = max(held, sum(tile_memory.side_by_side([local, part])) + again * local.out)
        by_groups = any(not part.once for part in rows)
        if separate:
            # halves that are read by groups of heads; the gradients of both
            halves = (not local.once) * (of_q + (not bare) * of_keys)
            halves += (not causal) * by_groups * of_keys
            held += halves
            train_held += halves + of_q + of_keys - local.once * (1 + bare) * of_q
            train_held += bare * (not causal) * of_keys // 2 - bare * local.out // 2
        elif not exact:
            # keys and values with others in front, for the band and for rows
            copies = ((not bare) + (learned > 0) * by_groups) * of_keys
            held += copies
            train_held += copies + of_keys // 3
        return held, train_held

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
