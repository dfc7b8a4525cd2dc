"""Performer: softmax(q kᵀ / sqrt(D)) v by positive random features, FAVOR+. arXiv:2009.14794.

With x' = x D^-1/4 and R random rows w, E[φ(q)·φ(k)] = exp(q·k / sqrt(D)); the error falls as
R^-1/2. Kernels: "softmax" exp(w·x' - |x'|²/2) / sqrt(R); "hyperbolic" the same for w and -w, half
as many rows, a smaller variance; "relu" relu(w·x') + feature_eps, of another similarity
(generalised attention). Rows of blocks of D are orthogonal, with the norms of independent Gaussian
rows; `refresh` redraws them.

Features stay logarithms until a chunk is taken relative to a maximum that neither hidden nor later
keys reach, so a row's sum is never 0 and nothing is added to the features. `feature_eps` (1e-3 for
relu) and `sum_eps` (added to each feature of the keys' sum) are performer-pytorch's; the softmax
kernels' maximum then runs over all positions as there, so that later keys scale feature_eps: the
causal form leaks. `normalise=False` leaves out the division. What a longer `chunk` of the causal
form takes and holds: results/options.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from attention_zoo import exponential, ops, recurrence
from attention_zoo.chunks import over_chunks
from attention_zoo.parallel import states
from attention_zoo.types import Dims, Mechanism

KERNELS = ("softmax", "hyperbolic", "relu")


def make(
    features: int = 256,
    kernel: str = "softmax",
    orthogonal: bool = True,
    normalise: bool = True,
    feature_eps: float | None = None,
    sum_eps: float = 0.0,
    chunk: int = 64,
) -> Mechanism:
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")
    ops.positive(features=features, chunk=chunk)
    if kernel == "hyperbolic" and features % 2:
        raise ValueError(f"features must be even for kernel='hyperbolic', got {features}")
    floor = (1e-3 if kernel == "relu" else 0.0) if feature_eps is None else feature_eps
    if floor < 0 or sum_eps < 0 or (kernel == "relu" and floor == 0):
        raise ValueError(
            f"feature_eps and sum_eps must be 0 or more, and feature_eps above 0 for relu; "
            f"got {feature_eps} and {sum_eps}"
        )
    rows = features // 2 if kernel == "hyperbolic" else features
    leaks = kernel != "relu" and floor > 0
    options = {
        "normaliser": "row" if normalise else None,
        "chunk": chunk,
        "extra": sum_eps,
    }

    def init(rng, dims: Dims):
        return {"projection": draw(rng, dims.heads, rows, dims.head_dim, orthogonal)}

    def refresh(rng, params, q, k, *, mask=None):
        heads, _, width = params["projection"].shape
        return {**params, "projection": draw(rng, heads, rows, width, orthogonal)}

    def projected(projection, x):
        """w·x', and |x'|²/2 where the kernel takes it off: [B, H, c, rows], [B, H, c, 1]."""
        x = x.astype(jnp.float32) * x.shape[-1] ** -0.25
        # a plain product: an einsum would put the projection first and turn the result around
        u = x @ jax.lax.stop_gradient(projection).mT
        if kernel == "hyperbolic":
            u = jnp.concatenate([u, -u], -1)
        return u, jnp.square(x).sum(-1, keepdims=True) / 2

    def logs(projection, peak):
        """Logarithms of the features; `peak(u)` is taken off before feature_eps is added."""

        def run(x):
            u, half_norm = projected(projection, x)
            if kernel == "relu":
                return jnp.log(jax.nn.relu(u) + floor)
            if floor:
                scaled = jnp.exp(u - half_norm - jax.lax.stop_gradient(peak(u)))
                return jnp.log(scaled + floor) - math.log(features) / 2
            return u - half_norm - math.log(features) / 2

        return run

    def maps(params):
        """Logarithms of q's and of k's features."""
        peaks = (lambda u: u.max(-1, keepdims=True), lambda u: params["highest"][..., None, None])
        return tuple(logs(params["projection"], peak) for peak in peaks)

    def ranged(params, k, mask):
        """With the highest projection of visible keys, a head: [B, H]."""
        if not leaks:
            return params

        def step(projection, peak, k, mask):
            u, _ = projected(projection, k)
            shown = True if mask is None else mask[:, None, :, None]
            return jnp.maximum(peak, jnp.where(shown, u, ops.LOWEST).max((2, 3))), None

        (B, S, H, _), lowest = k.shape, jnp.float32(ops.LOWEST)
        size = recurrence.rows_of(B * H * features, S)
        given = jax.lax.stop_gradient((params["projection"], jnp.full((B, H), lowest), (k,)))
        _, highest = over_chunks(step, *given, mask, size)
        return {**params, "highest": jnp.where(highest == lowest, 0.0, highest)}

    def apply(params, q, k, v, *, mask=None, causal=False):
        params = ranged(params, k, mask)
        return exponential.run(maps, params, features, q, k, v, mask, causal=causal, **options)

    def reference(params, q, k, v, *, mask=None, causal=False):
        of_q, of_k = maps(ranged(params, k, mask))
        q, k = (jnp.einsum("bthd->bhtd", x) for x in (q, k))
        allowed = ops.visible(q.shape[2], k.shape[2], mask, causal)
        return exponential.reference(of_q(q), of_k(k), v, allowed, options["normaliser"], sum_eps)

    def cost(dims: Dims, *, causal=False):
        each = rows * dims.head_dim
        cost = exponential.cost(dims, features, each, causal=causal, **options)
        # the maximum has no gradient
        lanes, S = dims.batch * dims.heads, dims.kv_len
        padded = ops.ceil_to(S, recurrence.rows_of(lanes * features, S))
        whole = 2 * lanes * padded * each if leaks else 0
        return dataclasses.replace(
            cost, flops=cost.flops + whole, train_flops=cost.train_flops + whole
        )

    sharded = states.parallel(states.PEAKED, maps, lambda dims: features, **options)
    decode = exponential.decode(maps, lambda dims: features, **options)

    return Mechanism(
        "performer",
        apply,
        reference,
        cost,
        citation="2009.14794",
        formula="2(d+d')N·features",
        init=init,
        decode=None if leaks else decode,
        parallel=None if leaks else sharded,
        refresh=refresh,
        leaks=leaks,
        frozen=frozenset({"projection"}),
        reasons={"parallel": "feature_eps is relative to a maximum over the keys of all devices"},
    )


def draw(rng, heads: int, rows: int, width: int, orthogonal: bool):
    """Gaussian rows [heads, rows, width], those of each block of `width` orthogonal on request."""
    direction_key, norm_key = jax.random.split(rng)
    blocks = -(-rows // width)
    gaussian = jax.random.normal(direction_key, (heads, blocks, width, width))
    if not orthogonal:
        return gaussian.reshape(heads, -1, width)[:, :rows]
    # columns by the signs of R: the factorisation's own signs are no uniform draw
    directions, triangle = jnp.linalg.qr(gaussian)
    signs = jnp.where(jnp.diagonal(triangle, axis1=2, axis2=3) < 0, -1.0, 1.0)
    directions = directions * signs[:, :, None]
    directions = jnp.swapaxes(directions, 2, 3).reshape(heads, -1, width)[:, :rows]
    norms = jnp.linalg.norm(jax.random.normal(norm_key, (heads, rows, width)), axis=-1)
    return directions * norms[..., None]
