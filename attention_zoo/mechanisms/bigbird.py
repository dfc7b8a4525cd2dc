"""BigBird: window blocks + global blocks + random blocks a row of blocks. arXiv:2007.14062.

Query block u sees key blocks u - window .. u + window, the global blocks and `random_blocks`
others; a block that would count twice counts once. Query blocks that are global see everything.
`global_blocks` is a count (leading) or (leading, trailing). The random blocks of (seed, head, row)
are drawn by a hash of just those, never from the data: the same on every machine. A causal call
draws them from earlier blocks and has no trailing globals, so a longer sequence keeps the table of
a shorter one. `table[head][u]` lists them instead where given; those past the end or, if causal, in
the future drop out. Bidirectional, hidden blocks are drawn too and may be the trailing ones, so
more padding changes the output. Differs from the paper: no extra tokens (its "extended" form is
`global` with `learned`).
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import cache, ops, tiles
from attention_zoo.parallel import blocks as moving
from attention_zoo.parallel import halo, reduced
from attention_zoo.types import Dims, Mechanism, Parallel

# up to so many rows of blocks in all heads the random blocks are counted, beyond estimated
COUNTED = 2**17


def make(
    block: int = 64,
    window: int = 1,
    global_blocks: int | tuple[int, int] = (1, 1),
    random_blocks: int = 3,
    seed: int = 0,
    table: Sequence[Sequence[Sequence[int]]] | None = None,
) -> Mechanism:
    ops.positive(block=block)
    first, last = (global_blocks, 0) if isinstance(global_blocks, int) else global_blocks
    counts = {"window": window, "leading": first, "trailing": last, "random_blocks": random_blocks}
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name} must be a count of blocks from 0 up, got {count}")

    if table is not None:
        random_blocks = most_listed(table)

    def edges(blocks, causal):
        """The blocks that are global."""
        trailing = 0 if causal else last
        return set(range(min(first, blocks))) | set(range(max(blocks - trailing, 0), blocks))

    def pattern(blocks, head, u, causal):
        """(the window's and the global blocks, the other ones) that block u of queries sees."""
        edge, end = edges(blocks, causal), u + 1 if causal else blocks
        if u in edge:
            return set(range(end)), set()
        known = set(range(max(u - window, 0), min(u + window + 1, end)))
        known |= {b for b in edge if b < end}
        pool = u if causal else blocks
        if table is not None:
            return known, {b for b in table[head][u] if b < pool} - known
        return known, set(draw(seed, head, u, pool, known, random_blocks))

    @functools.lru_cache(16)
    def layout(T, H, causal):
        """A schedule with a table of its own in every head."""
        size = min(block, T)
        blocks = -(-T // size)
        if table is not None:
            check_table(table, H, blocks)
        width = 2 * window + 1 - window * causal + first + (0 if causal else last) + random_blocks

        def row(head, u):
            return set.union(*pattern(blocks, head, u, causal))

        patterns = [[row(head, u) for u in range(blocks)] for head in range(H)]
        return tiles.per_head(
            [tiles.schedule(size, rows, width=min(width, blocks)) for rows in patterns]
        )

    def apply(params, q, k, v, *, mask=None, causal=False):
        schedule = layout(q.shape[1], q.shape[2], causal)
        out, _ = tiles.attend(q, k, v, schedule, tiles.past if causal else None, mask=mask)
        return out.astype(v.dtype)

    @functools.lru_cache(16)
    def routes(N, H, P, causal):
        """How the blocks outside of the windows and the global ones move."""
        blocks = N // block
        if table is not None:
            check_table(table, H, blocks)
        return moving.routes(
            [[pattern(blocks, head, u, causal)[1] for u in range(blocks)] for head in range(H)], P
        )

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        n, H, P = *q.shape[1:3], jax.lax.axis_size(axis)
        rows, blocks, where = n // block, n * P // block, {"axis": axis, "mask": mask}
        edge = sorted(edges(blocks, causal))

        def near(i, j):
            u, b = i // block, j // block
            is_edge = (b[..., None] == jnp.array(edge, int)).any(-1)
            return (abs(u - b) <= window) & ~is_edge & ((j <= i) | (not causal))

        sides = window * block, 0 if causal else window * block
        seen = (range(u, u + 1 + sum(sides) // block) for u in range(rows))
        parts = [halo.attend(q, k, v, near, sides, schedule=tiles.schedule(block, seen), **where)]
        plan = routes(n * P, H, P, causal)
        if plan.takes.shape[-1]:
            parts.append(moving.attend(q, k, v, plan, block, axis, mask=mask))
        if not edge:
            return tiles.merge(*parts)[0].astype(v.dtype)
        where["causal"] = causal
        tokens = (np.array(edge)[:, None] * block + np.arange(block)).reshape(-1)
        parts.append(reduced.columns(q, k, v, tokens, block, len(tokens), **where))
        out, _ = tiles.merge(*parts)
        schedule = tiles.everything(len(tokens), n, False, block, n)
        of_edge, _ = reduced.rows(reduced.pick(q, tokens, axis), k, v, schedule, **where)
        return reduced.put(out, of_edge, tokens, axis).astype(v.dtype)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        blocks, side = dims.q_len // block, window * block
        if dims.heads * blocks <= COUNTED:
            moved = routes(dims.q_len, dims.heads, P, causal).moved
        else:
            moved = expected_moves(random_blocks, dims.heads * blocks // P, P, causal)
        total = moving.traffic_of(dims, moved, block, masked)
        total += halo.traffic_of(dims, P, (side, 0 if causal else side), masked)
        tokens = len(edges(blocks, causal)) * block
        return total + reduced.both_traffic(dims, P, tokens, masked)

    def objections(dims: Dims, P: int, *, causal=False):
        n = dims.q_len // P
        if n % block == 0:
            return []
        return [f"bigbird: block={block} must divide the {n} positions of each device"]

    def reference(params, q, k, v, *, mask=None, causal=False):
        T, H = q.shape[1:3]
        allowed = ops.visible(T, T, mask, causal) & block_mask(T, H, causal)
        return ops.weigh(ops.softmax(ops.dot(q, k) * q.shape[-1] ** -0.5, allowed), v)

    def block_mask(T, H, causal):
        """[H, T, T]: which pairs the pattern holds."""
        table = layout(T, H, causal)
        blocks = -(-T // table.block)
        mask = np.zeros((H, blocks, blocks + 1), bool)
        mask[np.arange(H)[:, None, None], table.rows[:, None], table.cols] = (
            True  # -1: the spare last column
        )
        return mask[:, :, :-1].repeat(table.block, 1).repeat(table.block, 2)[:, :T, :T]

    def cost(dims: Dims, *, causal=False):
        blocks_seen = 2 * window + 1 - window * causal + 2 * first + 2 * last + random_blocks
        return layout(dims.q_len, dims.heads, causal).cost(
            dims,
            ideal_pairs=dims.q_len * min(block * blocks_seen, dims.q_len),
            state_bytes=cache.state_bytes(dims.kv_len, dims),
        )

    def reads(i, C, H):
        table = layout(C, H, True)
        # a causal row is one tile: its global blocks are among the leading ones
        cols = jnp.asarray(table.cols)[:, i // table.block]
        j = cols[..., None] * table.block + jnp.arange(table.block)
        return jnp.where(cols[..., None] < 0, -1, j).reshape(H, -1).T

    return Mechanism(
        "bigbird",
        apply,
        reference,
        cost,
        citation="2007.14062",
        formula="(d+d')N·block(3+2g+r)",
        decode=cache.cached(
            apply, lambda dims: dims.kv_len, lambda i, C: i, lambda i, j: j <= i, reads=reads
        ),
        parallel=Parallel(
            sharded, sent, "halo of the window; global sums; random blocks moved", objections
        ),
        cross=False,
        by_length="random and trailing blocks are those of all positions"
        if last or (random_blocks and table is None)
        else "",
    )


def most_listed(table) -> int:
    """The most blocks that a row of the table lists."""
    rows = [row for head in table for row in head]
    if not rows or any(b < 0 for row in rows for b in row):
        raise ValueError(f"table must list blocks from 0 up for every head and row, got {table!r}")
    return max(len(set(row)) for row in rows)


def check_table(table, H, blocks):
    if len(table) != H or min(map(len, table)) < blocks:
        rows = [len(head) for head in table]
        raise ValueError(
            f"table must have {H} heads of {blocks} or more rows, got heads of {rows} rows"
        )


def draw(seed: int, head: int, row: int, pool: int, known: set[int], count: int) -> list[int]:
    """`count` distinct blocks below `pool` outside `known` (all of them where there are fewer)."""
    free = pool - sum(block < pool for block in known)
    if free <= count:
        return [block for block in range(pool) if block not in known]
    drawn = []
    state = hash_of(hash_of(hash_of(seed) ^ head) ^ row)
    while len(drawn) < count:
        state = hash_of(state)
        block = state % pool
        if block not in known and block not in drawn:
            drawn.append(block)
    return drawn


def expected_moves(count: int, rows: int, P: int, causal: bool) -> int:
    """How many of its `rows` blocks a device sends to others, where a row draws `count`: in hop s
    all but those that no row there has drawn. Rows draw from earlier blocks if causal, and then the
    first device has most to send."""
    missed = ((hop / (hop + 1)) ** count if causal else math.exp(-count / P) for hop in range(1, P))
    return round(rows * sum(1 - share for share in missed))


def hash_of(state: int) -> int:
    """splitmix64: a step of a well-known 64-bit generator in plain integers."""
    state = (state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return state ^ (state >> 31)
