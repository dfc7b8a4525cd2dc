"""Nyström attention: softmax(s q lₖᵀ) softmax(s l lₖᵀ)⁺ softmax(s l kᵀ) v, s = 1/sqrt(D).

arXiv:2102.03902. l and lₖ are landmarks of queries and keys: the visible tokens in order, cut into
min(landmarks, tokens) segments whose lengths differ by at most one, and averaged. So any length
goes, landmarks = N is exact up to the inverse, and no amount of padding changes anything.
The inverse is `iterations` steps of z (13 I - a z (15 I - a z (7 I - a z))) / 4 from
aᵀ / (largest row sum x largest column sum) of each matrix; `batch_wide` takes both over the whole
batch and all heads, as the authors' code does, which makes a sequence depend on its neighbours.
`conv`, an odd width, adds a depthwise convolution of the values over positions.
"""

import jax
import jax.numpy as jnp

from attention_zoo import heads, ops, tiles
from attention_zoo.parallel import halo, reduced, traffic
from attention_zoo.types import Cost, Dims, Mechanism, Parallel

ROWS, KEYS = 512, 1024  # a tile of tokens by landmarks, and the other way round
F32 = {"preferred_element_type": jnp.float32, "precision": jax.lax.Precision.HIGHEST}


def make(
    landmarks: int = 256, iterations: int = 6, conv: int | None = None, batch_wide: bool = False
) -> Mechanism:
    ops.positive(landmarks=landmarks, iterations=iterations)
    if conv is not None:
        ops.positive(conv=conv)
        if conv % 2 == 0:
            raise ValueError(f"conv must be an odd width, got {conv}")

    def init(rng, dims: Dims):
        return {} if conv is None else {"conv": jax.random.normal(rng, (dims.heads, conv)) / conv}

    def apply(params, q, k, v, *, mask=None, causal=False):
        N, L = q.shape[1], min(landmarks, q.shape[1])
        q_marks, k_marks = (segment_means(x, L, mask) for x in (q, k))
        there = None if mask is None else jnp.arange(L) < mask.sum(1, keepdims=True)
        inverse = pinv(middle(q_marks, k_marks, there), iterations, batch_wide)
        summaries, _ = tiles.attend(q_marks, k, v, layout(L, N), None, mask=mask)
        values = jnp.einsum("bhlm,bmhe->blhe", inverse, summaries, **F32)
        out, _ = tiles.attend(q, k_marks, values, layout(N, L), None, mask=there)
        if conv is not None:
            out = out + convolve(params["conv"], ops.hide(v, mask))
        return out.astype(v.dtype)

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        B, n = q.shape[:2]
        start, N = jax.lax.axis_index(axis) * n, n * jax.lax.axis_size(axis)
        L = min(landmarks, N)
        rank, count = start + jnp.arange(n)[None], jnp.full((B, 1), N)
        if mask is not None:
            counts = jax.lax.all_gather(mask.sum(1), axis)
            earlier = jnp.arange(len(counts)) < jax.lax.axis_index(axis)
            before = jnp.where(earlier[:, None], counts, 0).sum(0)
            rank, count = before[:, None] + jnp.cumsum(mask, 1) - 1, counts.sum(0)[:, None]
        owner = jnp.broadcast_to(segment_of(rank, count, L), (B, n))
        there = jnp.arange(L) < count
        size = jnp.where(there, count // jnp.clip(count, 1, L), 0)
        size += jnp.arange(L) < count % jnp.clip(count, 1, L)
        both = ops.hide(jnp.concatenate([q, k], -1).astype(jnp.float32), mask)
        total = jnp.zeros((B, L, *both.shape[2:])).at[jnp.arange(B)[:, None], owner].add(both)
        means = ops.safe_divide(jax.lax.psum(total, axis), (size * 1.0)[..., None, None])
        q_marks, k_marks = jnp.split(means, 2, -1)
        there = None if mask is None else there
        inverse = pinv(middle(q_marks, k_marks, there), iterations, batch_wide)
        summaries, _ = reduced.rows(q_marks, k, v, layout(L, n), axis=axis, mask=mask)
        values = jnp.einsum("bhlm,bmhe->blhe", inverse, summaries, **F32)
        out, _ = tiles.attend(q, k_marks, values, layout(n, L), None, mask=there)
        if conv is not None:
            side = conv // 2
            near = halo.exchange(ops.hide(v, mask), side, side, axis)
            out = out + convolve(params["conv"], near)[:, side : side + n]
        return out.astype(v.dtype)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        L, n = min(landmarks, dims.q_len), dims.q_len // P
        marks = 2 * dims.head_dim * dims.heads * L
        moved = traffic.reduce(P, traffic.FLOAT * dims.batch * marks)
        moved += traffic.gather(P, 4 * dims.batch * masked, gradient=False)
        moved += reduced.merge_traffic(dims, P, L)
        side = min((conv or 0) // 2, dims.q_len - n)
        near = 2 * side * dims.heads * dims.value_dim
        return moved + traffic.permute(dims.batch * near * dims.itemsize)

    def reference(params, q, k, v, *, mask=None, causal=False):
        B, N, _, D = q.shape
        q, k, L = q.astype(jnp.float32), k.astype(jnp.float32), min(landmarks, N)
        shown = jnp.ones((B, N), bool) if mask is None else mask
        owner = segments(shown, L)
        average = (owner[:, None] == jnp.arange(L)[:, None]) & shown[:, None]
        there = average.any(-1)
        average = ops.safe_divide(average * 1.0, average.sum(-1, keepdims=True))
        q_marks, k_marks = (jnp.einsum("bln,bnhd->blhd", average, x) for x in (q, k))

        def weights(q, k, seen):
            return ops.softmax(ops.dot(q, k) * D**-0.5, seen[:, None, None])

        inverse = pinv(middle(q_marks, k_marks, there), iterations, batch_wide)
        matrix = weights(q, k_marks, there) @ inverse @ weights(q_marks, k, shown)
        if conv is not None:
            offset = jnp.arange(N) - jnp.arange(N)[:, None] + conv // 2
            taps = params["conv"][:, jnp.clip(offset, 0, conv - 1)]
            near = (offset >= 0) & (offset < conv) & shown[:, None, None]
            matrix = matrix + jnp.where(near, taps, 0)
        return ops.weigh(matrix, v)

    def cost(dims: Dims, *, causal=False):
        N, D, E = dims.q_len, dims.head_dim, dims.value_dim
        lanes, L = dims.batch * dims.heads, min(landmarks, dims.q_len)
        marks = Dims(dims.batch, L, N, dims.heads, D, E)
        parts = [
            layout(L, N).cost(marks, ideal_pairs=L * N),
            layout(N, L).cost(dims, ideal_pairs=L * N),
        ]
        square = 2 * lanes * L * L * (D + E + 4 * iterations * L)
        block, halo = (0, 0) if conv is None else conv_block(N, conv)
        mixed = 2 * lanes * ops.ceil_to(N, block or 1) * (block + halo) * E
        bytes_held, train_bytes_held = held(dims, L, iterations, block, halo)
        return Cost(
            sum(part.flops for part in parts) + square + mixed,
            train_flops=sum(part.train_flops for part in parts) + 3 * (square + mixed),
            ideal_flops=sum(part.ideal_flops for part in parts)
            + square
            + 2 * lanes * N * (conv or 0) * E,
            bytes=bytes_held,
            train_bytes=train_bytes_held,
        )

    return Mechanism(
        "nystrom",
        apply,
        reference,
        cost,
        citation="2102.03902",
        formula="(d+d')N·landmarks",
        init=init,
        parallel=None if batch_wide else Parallel(sharded, sent, "sums of landmarks and summaries"),
        causal=False,
        cross=False,
        batch_wide=batch_wide,
        reasons={
            "causal": "a landmark averages past and future tokens, so it has no causal form",
            "parallel": "batch_wide takes maxima over a batch, which may be split too",
            "cross": "the landmarks of queries and keys are those of one sequence",
        },
    )


def layout(T: int, S: int) -> tiles.Schedule:
    return tiles.everything(T, S, False, ROWS, KEYS)


def held(dims: Dims, L: int, iterations: int, block: int, halo: int) -> tuple[int, int]:
    """Bytes alive at the widest moment, forward and with gradients."""
    B, N, H, D, E = dims.batch, dims.q_len, dims.heads, dims.head_dim, dims.value_dim
    out, grads, square = B * H * N * E, B * H * N * (2 * D + E), B * H * L * L
    # a group's keys and values to the landmarks, or its queries and output; those of a single
    # group stand from the start
    marks = B * H * L * (2 * D + E)
    whole = walk = walk_back = 0
    for part, length in ((layout(L, N), KEYS), (layout(N, L), ROWS)):
        group = heads.group_size(B, H, max(part.block * part.keys, N + L))
        copies = B * group * ops.ceil_to(N, min(length, N)) * (D + E)
        logits = B * group * part.block * part.keys
        if group == H:
            whole, copies = whole + copies, 0
        walk = max(walk, copies + 2 * logits)
        walk_back = max(walk_back, 2 * copies + logits + 3 * marks)
    # segments of two lengths are sliced; an inverse's next step takes five matrices
    slices = 2 * B * H * N * D * (N % L > 0) + 2 * marks
    forward, backward = max(slices, out + max(5 * square + marks, walk)), max(out, walk_back)
    if block:
        windows = B * H * ops.ceil_to(N, block) * (block + halo) // block * E
        forward = max(forward + out, 2 * out + windows + 2 * marks)
        backward = 5 * out + windows
    # of each step of the inverse its three products and the two differences between them
    backward += grads + (5 * iterations + 7) * square + whole
    return 4 * (forward + whole), 4 * (backward + whole)


def segments(shown, L: int):
    """[B, N]: the segment of each visible token among min(L, tokens), the longer ones first."""
    return segment_of(jnp.cumsum(shown, 1) - 1, shown.sum(1, keepdims=True), L)


def segment_of(rank, count, L: int):
    """The segment of the token of this rank among `count` visible ones."""
    length = count // jnp.clip(count, 1, L)
    longer = count - length * jnp.clip(count, 1, L)
    edge = longer * (length + 1)
    return jnp.where(
        rank < edge, rank // (length + 1), longer + (rank - edge) // jnp.maximum(length, 1)
    )


def segment_means(x, L: int, mask):
    """Float32 means [B, L, H, D] of the segments of x [B, N, H, D]; 0 where none is left."""
    B, N = x.shape[:2]
    length, longer = divmod(N, L)
    if mask is None:
        head, tail = jnp.split(x, [longer * (length + 1)], 1)
        means = [
            part.reshape(B, -1, size, *x.shape[2:]).mean(2, dtype=jnp.float32)
            for part, size in ((head, length + 1), (tail, length))
        ]
        return jnp.concatenate(means, 1)
    # visible tokens first, then the ranks of every segment's own
    order = jnp.argsort(~mask, 1, stable=True)
    count = mask.sum(1)[:, None]
    length, longer = jnp.divmod(count, jnp.clip(count, 1, L))
    segment, rank = jnp.arange(L)[:, None], jnp.arange(-(-N // L))
    size = length + (longer > segment.T)
    start = segment.T * length + jnp.minimum(segment.T, longer)
    inside = (rank < size[..., None]) & (segment < count[..., None])
    token = jnp.where(inside, start[..., None] + rank, 0).reshape(B, -1)
    rows = jnp.take_along_axis(order, token, 1)
    taken = jnp.take_along_axis(x, rows[..., None, None], 1).reshape(
        B, *inside.shape[1:], *x.shape[2:]
    )
    total = jnp.where(inside[..., None, None], taken, 0).sum(2, dtype=jnp.float32)
    return ops.safe_divide(total, (inside.sum(2) * 1.0)[..., None, None])


def middle(q, k, there):
    """softmax(s q̃ k̃ᵀ) [B, H, L, L], 0 in the rows and columns of missing landmarks."""
    logits = jnp.einsum("blhd,bmhd->bhlm", q, k, **F32) * q.shape[-1] ** -0.5
    if there is None:
        return ops.softmax(logits, True)
    return ops.softmax(logits, (there[:, :, None] & there[:, None])[:, None])


def pinv(a, iterations: int, batch_wide: bool):
    """The Moore-Penrose inverse of a [B, H, L, L] by Razavi's iteration."""
    sums = a.sum(-1, keepdims=True), a.sum(-2, keepdims=True)
    over = None if batch_wide else (-2, -1)
    bound = sums[0].max(over, keepdims=True) * sums[1].max(over, keepdims=True)
    eye = jnp.eye(a.shape[-1])

    def matmul(x, y):
        return jnp.einsum("bhij,bhjk->bhik", x, y, **F32)

    z = ops.safe_divide(jnp.swapaxes(a, -1, -2), bound)
    for _ in range(iterations):
        az = matmul(a, z)
        z = matmul(z, 13 * eye - matmul(az, 15 * eye - matmul(az, 7 * eye - az))) / 4
    return z


def conv_block(N: int, taps: int) -> tuple[int, int]:
    """Positions that one matrix product convolves, and how many more it reads."""
    return max(taps - 1, min(64, N)), taps - 1


def convolve(kernel, v):
    """Σ_j kernel[h, j] v[t + j - taps // 2], as a banded matrix product a block.

    A depthwise convolution took 15 times as long on a CPU.
    """
    B, N, H, E = v.shape
    taps = kernel.shape[1]
    block, halo = conv_block(N, taps)
    padded = ops.ceil_to(N, block) + block
    v = jnp.pad(v, ((0, 0), (taps // 2, padded - N - taps // 2), (0, 0), (0, 0)))
    v = v.reshape(B, -1, block, H, E)
    reads = jnp.concatenate([v[:, :-1], v[:, 1:, :halo]], 2)
    offset = jnp.arange(block + halo) - jnp.arange(block)[:, None]
    band = (offset >= 0) & (offset < taps)
    matrix = jnp.where(band, kernel[:, jnp.clip(offset, 0, taps - 1)], 0).astype(v.dtype)
    out = jnp.einsum("hts,bnshe->bnthe", matrix, reads, preferred_element_type=jnp.float32)
    return out.reshape(B, -1, H, E)[:, :N]
