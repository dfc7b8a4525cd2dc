"""The two ways to run a schedule: from tile to tile, as a CPU does, and in batches."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_zoo import tile_batches, tile_walk, tiles
from attention_zoo.types import Dims
from tests.cases import assert_close

B, H, D, E = 2, 3, 5, 4


def random_blocks(rows, blocks):
    """A schedule of its own in every head, whose first row sees all: several tiles of one row."""

    def columns(head):
        rng = np.random.default_rng(head)
        return [range(blocks), *(rng.choice(blocks, 1 + row % 2, False) for row in range(1, rows))]

    return tiles.per_head([tiles.schedule(4, columns(head), width=2) for head in range(H)])


SCHEDULES = {
    "band": (37, 37, tiles.band(37, 5, 3, 4), lambda i, j: (i - j <= 5) & (j - i <= 3)),
    "band, leading": (
        37,
        40,
        tiles.band(37, 5, 3, 4, (3, 0), key_block=2, leading=3),
        lambda i, j: (j < 3) | ((i + 3 - j <= 5) & (j - i - 3 <= 3)),
    ),
    "causal": (37, 37, tiles.everything(37, 37, True, 4, 8), tiles.past),
    "cross": (19, 37, tiles.everything(19, 37, False, 4, 8), None),
    "random": (36, 36, random_blocks(9, 9), None),
    "gaps": (16, 16, tiles.schedule(4, [[0], [0, 1, 3], [2, 3], [1]]), None),
}


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("budget", [1, 1000, 2**20], ids=["one", "some", "all"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_batches_equal_the_walk(name, budget, masked, monkeypatch):
    T, S, schedule, sees = SCHEDULES[name]
    keys = jax.random.split(jax.random.key(0), 5)
    q, k, v, d_out, d_lse = (
        jax.random.normal(key, shape)
        for key, shape in zip(
            keys, [(B, T, H, D), (B, S, H, D), (B, S, H, E), (B, T, H, E), (B, T, H)], strict=True
        )
    )
    # a sequence of which nothing is shown, and one of a few
    mask = jnp.arange(S) < jnp.array([[0], [S - 9]]) if masked else None

    def run(kernel):
        monkeypatch.setattr(tiles, "KERNELS", {jax.default_backend(): kernel})

        def call(q, k, v):
            out, lse = tiles.attend(q, k, v, schedule, sees, mask=mask)
            return out, jnp.maximum(lse, -100.0)

        out, pull = jax.vjp(call, q, k, v)
        return jax.jit(lambda: (out, pull((d_out, d_lse))))()

    monkeypatch.setattr(tile_batches, "BUDGET", budget)
    assert_close(run(tile_batches), run(tile_walk))


@pytest.mark.parametrize("leading", [0, 1, 5, 37])
@pytest.mark.parametrize(("left", "right"), [(5, 3), (0, 0), (40, 40)])
def test_a_band_holds_each_of_its_pairs_and_of_the_leading_ones_once(left, right, leading):
    T = 37
    band = tiles.band(T, left, right, 8, key_block=2, leading=leading)
    times = np.zeros((5 * 8, 19 * 2), int)
    for row, cols in zip(band.rows, band.cols, strict=True):
        for col in cols[cols >= 0]:
            times[row * 8 : row * 8 + 8, col * 2 : col * 2 + 2] += 1
    i, j = np.arange(T)[:, None], np.arange(T)
    needed = (j < leading) | ((i - j <= left) & (j - i <= right))
    assert times.max() == 1
    assert times[:T, :T][needed].all()
    assert len(band.runs) <= 2


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(37, 37, 4, 8), (37, 19, 8, 4), (19, 37, 5, 7), (3, 2, 8, 9)])
def test_counted_tiles_cost_what_all_of_them_do(sizes, causal):
    T, S, block, key_block = sizes
    asked = T, S, causal, block, key_block
    one, all_of_them = (make(*asked) for make in (tiles.counted, tiles.everything))
    dims = Dims(batch=B, q_len=T, kv_len=S, heads=H, head_dim=D, value_dim=E)
    assert len(one.rows) == len(all_of_them.rows)
    assert one.cost(dims, ideal_pairs=7) == all_of_them.cost(dims, ideal_pairs=7)


def test_counting_tiles_lists_none():
    N = 2**20
    tracemalloc.start()
    tiles.counted(N, N, True, 512, 1024).cost(Dims(q_len=N, kv_len=N), ideal_pairs=N * N)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
