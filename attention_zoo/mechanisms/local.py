"""Local attention: query i sees keys j with i - left <= j <= i + right (and j <= i if causal).

Also called sliding-window or truncated attention; the window part of Longformer, arXiv:2004.05150.
Differs from Longformer: no dilation. Queries are taken in blocks that see the whole key blocks
their windows touch, so a window of w computes 3 blocks of w where the band is 2w + 1 wide; time
and memory of other `block`s are in results/options.
"""

from attention_zoo import cache, ops, tiles
from attention_zoo.parallel import halo
from attention_zoo.types import Dims, Mechanism, Parallel


def make(window: int | tuple[int, int] = 128, block: int | None = None) -> Mechanism:
    left, right = ops.window_sides(window)
    if block is not None:
        ops.positive(block=block)

    def apply(params, q, k, v, *, mask=None, causal=False):
        schedule = tiles.band(q.shape[1], left, 0 if causal else right, block)
        out, _ = tiles.attend(q, k, v, schedule, sees(causal), mask=mask)
        return out.astype(v.dtype)

    def reference(params, q, k, v, *, mask=None, causal=False):
        def pattern(i, j):
            return (i - j <= left) & (j - i <= right)

        allowed = ops.visible(q.shape[1], k.shape[1], mask, causal, pattern)
        return ops.weigh(ops.softmax(ops.dot(q, k) * q.shape[-1] ** -0.5, allowed), v)

    def sees(causal):
        return lambda i, j: (i - j <= left) & (j - i <= (0 if causal else right))

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        out, _ = halo.attend(q, k, v, sees(causal), sides(causal), axis=axis, mask=mask)
        return out.astype(v.dtype)

    def sides(causal):
        return left, 0 if causal else right

    def traffic(dims: Dims, P: int, *, causal=False, masked=False):
        return halo.traffic_of(dims, P, sides(causal), masked)

    def cost(dims: Dims, *, causal=False):
        ahead = 0 if causal else right
        schedule = tiles.band(dims.q_len, left, ahead, block)
        return schedule.cost(
            dims,
            ideal_pairs=dims.q_len * min(left + ahead + 1, dims.q_len),
            state_bytes=cache.state_bytes(min(left + 1, dims.kv_len), dims),
        )

    return Mechanism(
        "local",
        apply,
        reference,
        cost,
        citation="2004.05150",
        formula="(d+d')N(left+right+1)",
        decode=cache.cached(
            apply,
            lambda dims: min(left + 1, dims.kv_len),
            lambda i, C: i % C,
            lambda i, j: i - j <= left,
        ),
        parallel=Parallel(sharded, traffic, "halo of the window"),
        cross=False,
    )
