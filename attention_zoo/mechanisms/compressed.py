"""Memory-compressed attention: a strided convolution shortens keys and values. arXiv:1801.10198.

A head's kernel [stride, D, D] makes one key of every block of `stride` tokens, counted from the
first; another makes its value. Hidden tokens are 0 in it; a block with none visible is hidden.
Causal: query i sees the blocks before the one in which token i - window stands, and the tokens
from there to itself as they are: every past token once. With `window` None it sees no such tokens,
and the blocks that end at i or before. `learned` adds keys and values that all queries see, `bias`
a bias to the convolutions. `start`: kernels drawn "normal", or those that give "means" of blocks.
The cost N²/stride is less by a constant, and still quadratic.
Differs from the paper: there local attention is a layer of its own (`window` None beside `local`).
"""

import dataclasses

import jax
import jax.numpy as jnp

from attention_zoo import ops, tile_memory, tiles
from attention_zoo.parallel import halo, ring
from attention_zoo.types import Cost, Decode, Dims, Mechanism, Parallel

STARTS = ("normal", "means")
ROWS, KEYS = 512, 1024  # the tile of queries by blocks


def make(
    stride: int = 3,
    window: int | None = 0,
    learned: int = 0,
    bias: bool = False,
    start: str = "normal",
) -> Mechanism:
    ops.positive(stride=stride)
    for name, size in (("window", 0 if window is None else window), ("learned", learned)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise ValueError(f"{name} must be a whole number from 0 up, got {size!r}")
    if start not in STARTS:
        raise ValueError(f"start must be one of {', '.join(STARTS)}, got {start!r}")

    def init(rng, dims: Dims):
        H, widths = dims.heads, {"key": dims.head_dim, "value": dims.value_dim}
        params = {}
        for name, D in widths.items():
            rng, kernel, extra = jax.random.split(rng, 3)
            shape = (H, stride, D, D)
            drawn = jax.random.normal(kernel, shape) * (stride * D) ** -0.5
            means = jnp.broadcast_to(jnp.eye(D) / stride, shape)
            params[f"{name}_kernel"] = drawn if start == "normal" else means
            if bias:
                params[f"{name}_bias"] = jnp.zeros((H, D))
            if learned:
                params[f"learned_{name}s"] = jax.random.normal(extra, (learned, H, D))
        return params

    def compress(params, name, x):
        """[B, S, H, D] -> [B, S / stride, H, D] in x's dtype."""
        short = ops.strided_conv(x, params[f"{name}_kernel"])
        return (short + params[f"{name}_bias"] if bias else short).astype(x.dtype)

    def any_shown(mask):
        return ops.blocks(mask, stride).any(-1)

    def with_learned(params, name, x):
        """The learned tokens stand first."""
        if not learned:
            return x
        extra = jnp.broadcast_to(params[f"learned_{name}s"], (len(x), learned, *x.shape[2:]))
        return jnp.concatenate([extra.astype(x.dtype), x], 1)

    def end(i):
        """How many blocks query i sees when causal; below 0 as none."""
        return (i + 1 if window is None else i - window) // stride

    def is_far(i, m):
        return (m < learned) | (m - learned < end(i))

    def is_near(i, j):
        return (j >= end(i) * stride) & (j <= i)

    def apply(params, q, k, v, *, mask=None, causal=False):
        k, v = ops.hide(k, mask), ops.hide(v, mask)
        short = {
            name: with_learned(params, name, compress(params, name, x))
            for name, x in (("key", k), ("value", v))
        }
        shown = None
        if mask is not None:
            shown = jnp.pad(any_shown(mask), ((0, 0), (learned, 0)), constant_values=True)
        far, near = layouts(q.shape[1], k.shape[1], causal)
        sees = is_far if causal else (lambda i, m: (i >= 0) & (m >= 0))
        part = tiles.attend(q, short["key"], short["value"], far, sees, mask=shown)
        if near is not None:
            part = tiles.merge(part, tiles.attend(q, k, v, near, is_near, mask=mask))
        return part[0].astype(v.dtype)

    # on shards: a device makes the blocks that start in its part, whose ends may lie in the next

    def blocks_of(source, n):
        """(first block, the one after the last) that start among the n positions of a device."""
        return -(-source * n // stride), -(-(source + 1) * n // stride)

    def spilled(n, P):
        """How many positions of others a block may need."""
        return 0 if n % stride == 0 else min(stride - 1, (P - 1) * n)

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        n, P, here = q.shape[1], jax.lax.axis_size(axis), jax.lax.axis_index(axis)
        S = k.shape[1]
        k, v = ops.hide(k, mask), ops.hide(v, mask)
        M = -(-S // stride)

        def own_blocks(x):
            """[B, M * stride, ...] from the first block that starts here."""
            x = halo.exchange(x, 0, spilled(S, P), axis)
            x = ops.pad_to(x, (M + 1) * stride, 1)
            start = blocks_of(here, S)[0] * stride - here * S
            return jax.lax.dynamic_slice_in_dim(x, start, M * stride, 1)

        short = (compress(params, name, own_blocks(x)) for name, x in (("key", k), ("value", v)))
        shown = None if mask is None else any_shown(own_blocks(mask))

        def sees(source):
            def far(i, m):
                first, end_ = blocks_of(source, S)
                seen = (first + m < end_) & (i >= 0)
                if not causal:
                    return seen
                return seen & (first + m < end(i + jax.lax.axis_index(axis) * n))

            return far

        part = tiles.everything(n, M, False, ROWS, KEYS), sees
        ways = {"axis": axis, "own": part, "others": part, "causal": causal}
        parts = [ring.attend(q, *short, shown, **ways)]
        if learned:
            keys, values = (
                with_learned(params, name, x[:, :0]) for name, x in (("key", k), ("value", v))
            )
            all_of_them = tiles.everything(n, learned, False, ROWS, KEYS)
            parts.append(tiles.attend(q, keys, values, all_of_them, None))
        if causal and window is not None:
            sides = window + stride - 1, 0
            parts.append(halo.attend(q, k, v, is_near, sides, axis=axis, mask=mask))
        return tiles.merge(*parts)[0].astype(v.dtype)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        n = dims.kv_len // P
        moved = ring.traffic_of(dims, P, -(-n // stride), masked)
        moved += halo.traffic_of(dims, P, (0, spilled(n, P)), masked)
        if causal and window is not None:
            moved += halo.traffic_of(dims, P, (window + stride - 1, 0), masked)
        return moved

    def layouts(T, S, causal):
        """The tiles of queries by blocks (and learned tokens), and of the local tokens."""
        M = learned + -(-S // stride)
        if not causal:
            return tiles.everything(T, M, False, ROWS, KEYS), None
        block, key_block = min(ROWS, T), min(KEYS, M)
        last = (min(row + block, T) - 1 for row in range(0, T, block))
        ends = (learned + max(end(i), 0) for i in last)
        columns = (range(-(-e // key_block)) for e in ends)
        far = tiles.schedule(block, columns, width=1, key_block=key_block)
        return far, None if window is None else tiles.band(T, window + stride - 1, 0)

    def reference(params, q, k, v, *, mask=None, causal=False):
        B, S = k.shape[:2]
        T = q.shape[1]
        shown = jnp.ones((B, S), bool) if mask is None else mask
        i, m, j = jnp.arange(T)[:, None], jnp.arange(-(-S // stride)), jnp.arange(S)
        taps = (j // stride == m[:, None])[..., None] * jax.nn.one_hot(j % stride, stride)

        def conv(name, x):
            short = jnp.einsum(
                "mjc,bjhd,hcdf->bmhf", taps, ops.hide(x, mask), params[f"{name}_kernel"]
            )
            short = short + params[f"{name}_bias"] if bias else short
            extra = params[f"learned_{name}s"] if learned else jnp.zeros((0, *x.shape[2:]))
            return jnp.concatenate([jnp.stack([extra] * B), short, x], 1)

        blocks = jnp.einsum("bj,mjc->bm", shown, taps) > 0
        blocks = jnp.broadcast_to(blocks[:, None], (B, T, len(m)))
        tokens = jnp.zeros((B, T, S), bool)
        if causal:
            first = i + 1 if window is None else jnp.maximum(i - window, 0)
            first = first // stride * stride  # the first token not seen in a block
            blocks &= (m + 1) * stride <= first
            tokens = (j >= first) & (j <= i) & shown[:, None] & (window is not None)
        free = jnp.ones((B, T, learned), bool)
        allowed = jnp.concatenate([free, blocks, tokens], 2)[:, None]
        logits = ops.dot(q.astype(jnp.float32), conv("key", k)) * q.shape[-1] ** -0.5
        out = ops.weigh(ops.softmax(logits, allowed), conv("value", v))
        return out.astype(v.dtype)

    def held_by(dims, M, far, near):
        """Numbers alive at once, forward and with gradients."""
        T, S, D, E = dims.q_len, dims.kv_len, dims.head_dim, dims.value_dim
        lanes = dims.batch * dims.heads
        out, grads = lanes * T * E, (lanes * T * D, lanes * S * D, lanes * S * E)
        # blocks of keys and values, heads first, what becomes of them, and the convolutions
        blocks, short = lanes * M * stride * (D + E), lanes * (M + learned) * (D + E)
        kernels = dims.heads * stride * (D * D + E * E)
        by_blocks = far.held(dataclasses.replace(dims, kv_len=M + learned))
        conv = out + blocks + lanes * M * D + kernels
        padded = lanes * M * stride * max(D, E) * (S % stride > 0)
        train_conv = sum(grads) + 2 * blocks + padded + short
        if near is None:
            attend, train = by_blocks.alone(), by_blocks.alone_in_training()
            train += sum(grads) - by_blocks.grads
            train -= tile_memory.fitting(max(grads[1:]), by_blocks.logits)
        else:
            by_token = near.held(dims)
            attend, train = tile_memory.merged([by_blocks, by_token], out, grads)
            zeros = sum(by_token.copies) if by_token.once else by_token.grads
            train_conv += lanes * T * D + zeros
            if by_token.once:
                # padded copies are made before the blocks
                conv += (T % near.block > 0) * (sum(by_token.copies) + by_token.sums)
                train += sum(x - tile_memory.fitting(x, out) for x in grads[1:])
        # blocks are kept for the gradients of the kernels
        return max(conv, short + attend), max(train_conv, blocks + 2 * short + train)

    def cost(dims: Dims, *, causal=False):
        T, S, D, E = dims.q_len, dims.kv_len, dims.head_dim, dims.value_dim
        heads, M = dims.batch * dims.heads, -(-S // stride)
        far, near = layouts(T, S, causal)
        parts = [far.cost(dims, ideal_pairs=T * (M + learned))]
        if near is not None:
            parts.append(near.cost(dims, ideal_pairs=T * (window + stride)))
        conv = 2 * heads * M * stride * (D * D + E * E)
        held, train_held = held_by(dims, M, far, near)
        return Cost(
            sum(part.flops for part in parts) + conv,
            train_flops=sum(part.train_flops for part in parts) + 3 * conv,
            ideal_flops=sum(part.ideal_flops for part in parts) + conv,
            bytes=4 * held,
            train_bytes=4 * train_held,
            state_bytes=state_bytes(dims),
        )

    # decode: a ring of the last tokens, and every finished block
    def tail(dims):
        return min((window or 0) + stride, dims.kv_len)

    def slots(dims):
        return max(dims.kv_len // stride, 1)

    def state_bytes(dims: Dims) -> int:
        width = dims.heads * (dims.head_dim + dims.value_dim) * dims.itemsize
        return (tail(dims) + slots(dims)) * dims.batch * (width + 1) + 4

    def init_state(params, dims: Dims, dtype=jnp.float32):
        state = {"length": jnp.zeros((), jnp.int32)}
        for kind, C in (("token", tail(dims)), ("block", slots(dims))):
            for name, width in (("key", dims.head_dim), ("value", dims.value_dim)):
                shape = (dims.batch, C, dims.heads, width)
                state[f"{kind}_{name}"] = jnp.zeros(shape, dtype)
            state[f"{kind}_mask"] = jnp.zeros((dims.batch, C), bool)
        return state

    def prefill(params, state, q, k, v, *, mask=None):
        out = apply(params, q, k, v, mask=mask, causal=True)
        B, T = k.shape[:2]
        mask = jnp.ones((B, T), bool) if mask is None else mask
        C, M = state["token_mask"].shape[1], state["block_mask"].shape[1]
        held = (T - 1) - (T - 1 - jnp.arange(C)) % C
        tokens = {"key": ops.hide(k, mask), "value": ops.hide(v, mask), "mask": mask}
        for name, x in tokens.items():
            last = x[:, jnp.maximum(held, 0)]
            short = any_shown(x) if name == "mask" else compress(params, name, x)
            state = state | {
                f"token_{name}": last.astype(state[f"token_{name}"].dtype),
                f"block_{name}": ops.pad_to(short[:, : T // stride], M, 1).astype(
                    state[f"block_{name}"].dtype
                ),
            }
        return out, state | {"length": jnp.asarray(T, jnp.int32)}

    def step(params, state, q, k, v, *, mask=None):
        mask = jnp.ones(k.shape[:2], bool) if mask is None else mask
        xs = tuple(jnp.moveaxis(x, 1, 0) for x in (q, ops.hide(k, mask), ops.hide(v, mask), mask))
        state, out = jax.lax.scan(lambda state, token: one(params, state, *token), state, xs)
        return jnp.moveaxis(out, 0, 1), state

    def one(params, state, q, k, v, visible):
        i, C = state["length"], state["token_mask"].shape[1]
        M = state["block_mask"].shape[1]
        finished = jnp.where((i + 1) % stride == 0, i // stride, M)
        block = (i - stride + 1 + jnp.arange(stride)) % C
        state = state | {"length": i + 1}
        for name, x in (("key", k), ("value", v), ("mask", visible)):
            token, short = f"token_{name}", f"block_{name}"
            state[token] = state[token].at[:, i % C].set(x.astype(state[token].dtype))
            tail = state[token][:, block]
            new = any_shown(tail) if name == "mask" else compress(params, name, tail)
            state[short] = state[short].at[:, finished].set(new[:, 0], mode="drop")
        position = i - (i - jnp.arange(C)) % C
        near = (position >= 0) & is_near(i, position) & (window is not None)
        allowed = jnp.concatenate(
            [
                jnp.ones((len(q), learned), bool),
                state["block_mask"] & (jnp.arange(M) < end(i)),
                state["token_mask"] & near,
            ],
            1,
        )
        keys, values = (
            with_learned(params, n, jnp.concatenate([state[f"block_{n}"], state[f"token_{n}"]], 1))
            for n in ("key", "value")
        )
        logits = jnp.einsum("bhd,bchd->bhc", q, keys, preferred_element_type=jnp.float32)
        weights = ops.softmax(logits * q.shape[-1] ** -0.5, allowed[:, None])
        return state, jnp.einsum("bhc,bche->bhe", weights.astype(v.dtype), values.astype(v.dtype))

    return Mechanism(
        "compressed",
        apply,
        reference,
        cost,
        citation="1801.10198",
        formula="(d+d')N(N/stride+window)",
        init=init,
        decode=Decode(init_state, prefill, step),
        parallel=Parallel(sharded, sent, "ring of compressed keys; halo of the window"),
    )
