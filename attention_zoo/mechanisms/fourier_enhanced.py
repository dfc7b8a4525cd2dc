"""Frequency-enhanced attention of FEDformer: a few Fourier modes, mixed by learned complex weights.

arXiv:2201.12740. `modes` frequencies are taken of a sequence: the lowest ones, those drawn once by
`seed`, or those that `select` lists, (of the queries, of the keys). Each is multiplied by a matrix
of its own a head, and goes back to its frequency (`placing="own"`) or, as released, to the lowest
ones. With X the kept modes:

    kind="self"    reads v:       Y[m] = X_v[m] W[m]
    kind="cross"   reads q, k, v: Y = σ(X_q X_kᵀ) X_v W, σ the complex tanh, or a softmax of |.|

Hidden positions count as 0, but the frequencies are those of all N, so more padding changes the
output. A kept mode is a product with its waves, so the cost is linear in N. A sequence of fewer
than 2 `modes` positions has N // 2 modes and uses the leading weights. Differs from the authors'
code: cross attention there takes the keys for the values (give k as v), and divides by both widths.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import ops, tile_memory
from attention_zoo.parallel import traffic
from attention_zoo.types import Cost, Dims, Mechanism, Parallel

OPTIONS = {
    "kind": ("self", "cross"),
    "select": ("random", "low"),
    "placing": ("own", "lowest"),
    "activation": ("tanh", "softmax"),
}


def make(
    modes: int = 64,
    kind: str = "self",
    select: str | tuple[Sequence[int], Sequence[int]] = "random",
    placing: str = "own",
    activation: str = "tanh",
    seed: int = 0,
) -> Mechanism:
    ops.positive(modes=modes)
    given = {"kind": kind, "select": select, "placing": placing, "activation": activation}
    for name, value in given.items():
        if isinstance(value, str) and value not in OPTIONS[name]:
            known = ", ".join(OPTIONS[name])
            raise ValueError(f"{name} must be one of {known}, got {value!r}")
    if not isinstance(select, str) and len(select[0]) > modes:
        raise ValueError(f"select must have at most modes={modes} frequencies, got {select[0]}")
    crossing = kind == "cross"

    def kept(N, side=0):
        """The frequencies taken of N positions of the queries, or (1) keys."""
        available = max(N // 2, 1)
        if not isinstance(select, str):
            found = np.array([f for f in select[side] if f < available], int)
            if not len(found):
                raise ValueError(
                    f"select must have a frequency below {available} for {N} positions, got "
                    f"{select[side]}"
                )
            return found
        if select == "low" or modes >= available:
            return np.arange(min(modes, available))
        lot = np.random.default_rng((seed, side, N))
        return np.sort(lot.choice(available, modes, replace=False))

    def slots(N):
        """Where they go."""
        return kept(N) if placing == "own" else np.arange(len(kept(N)))

    def init(rng, dims: Dims):
        shape = (dims.heads, dims.value_dim, dims.value_dim, modes)
        parts = jax.random.split(rng)
        return {
            name: jax.random.normal(key, shape) * (2 * dims.value_dim) ** -0.5
            for name, key in zip(("real", "imag"), parts, strict=True)
        }

    def mixed(spectra, weight, M):
        """The output's modes [B, M, H, E] of those of (v,) or (q, k, v)."""
        values = spectra[-1]
        if crossing:
            scores = jnp.einsum("bmhd,bnhd->bhmn", *spectra[:2])
            values = jnp.einsum("bhmn,bnhe->bmhe", activated(scores), values)
        return jnp.einsum("bmhd,hdem->bmhe", values, weight[..., :M])

    def activated(scores):
        if activation == "tanh":
            return jnp.tanh(scores)
        size = jnp.abs(jnp.where(scores == 0, 1.0, scores))
        return jax.nn.softmax(jnp.where(scores == 0, 0.0, size)).astype(scores.dtype)

    def read(q, k, v, mask):
        """(array, its frequencies) of what is read, float32, hidden positions as 0."""
        arrays = [(q, 0), (k, 1), (v, 1)] if crossing else [(ops.hide(v, mask), 0)]
        return [(x.astype(jnp.float32), kept(x.shape[1], side)) for x, side in arrays]

    def apply(params, q, k, v, *, mask=None, causal=False):
        T = q.shape[1] if crossing else v.shape[1]
        spectra = [spectrum(x, waves(x.shape[1], tuple(at))) for x, at in read(q, k, v, mask)]
        out = mixed(spectra, params["real"] + 1j * params["imag"], len(kept(T)))
        return positions(out, waves(T, tuple(slots(T))), slots(T), T).astype(v.dtype)

    def sharded(params, q, k, v, *, axis, mask=None, causal=False):
        """Modes are sums over devices; every wave starts where a device's positions do."""
        P, here = jax.lax.axis_size(axis), jax.lax.axis_index(axis)

        def whole(x, side):
            """All positions' modes, of the part of them that is here."""
            N, n = P * x.shape[1], x.shape[1]
            at = tuple(kept(N, side))
            part = spectrum(x.astype(jnp.float32), waves(N, at, n))
            turned = part * starts(N, at, P)[here].conj()[:, None, None]
            return jax.lax.psum(turned, axis)

        arrays = [(q, 0), (k, 1), (v, 1)] if crossing else [(ops.hide(v, mask), 0)]
        n = arrays[0][0].shape[1]
        T, at = P * n, slots(P * n)
        spectra = [whole(*named) for named in arrays]
        out = mixed(spectra, params["real"] + 1j * params["imag"], len(at))
        out = out * starts(T, tuple(at), P)[here][:, None, None]
        return positions(out, waves(T, tuple(at), n), at, T).astype(v.dtype)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        T, S, D, E = dims.q_len, dims.kv_len, dims.head_dim, dims.value_dim
        taken = len(kept(T)) * D + len(kept(S, 1)) * (D + E) if crossing else len(kept(S)) * E
        return traffic.reduce(P, 2 * traffic.FLOAT * dims.batch * dims.heads * taken)

    def reference(params, q, k, v, *, mask=None, causal=False):
        T = q.shape[1] if crossing else v.shape[1]
        spectra = [jnp.fft.rfft(x, axis=1)[:, at] for x, at in read(q, k, v, mask)]
        out = mixed(spectra, params["real"] + 1j * params["imag"], len(kept(T)))
        whole = jnp.zeros((len(out), T // 2 + 1, *out.shape[2:]), out.dtype)
        return jnp.fft.irfft(whole.at[:, slots(T)].set(out), T, axis=1).astype(v.dtype)

    def cost(dims: Dims, *, causal=False):
        T, S, D, E = dims.q_len, dims.kv_len, dims.head_dim, dims.value_dim
        heads = dims.batch * dims.heads
        M, R = len(kept(T)), len(kept(S, 1))
        if crossing:
            taken = T * M * D + S * R * (D + E)
            inside = 4 * M * R * (D + E)
        else:
            taken, inside = T * M * E, 0
        by_waves, by_modes = 2 * (taken + T * M * E), inside + 4 * M * E * E
        flops = 2 * heads * (by_waves + by_modes)
        train = 2 * heads * (2 * by_waves + 3 * by_modes)  # the waves do not learn
        # complex weights and modes; arrays of q and of v
        learned, spectra = 2 * dims.heads * E * E * modes, 2 * heads * M * E
        queries, values = crossing * heads * T * D, heads * T * E
        others = crossing * heads * (T + S) * D
        # of several sequences what is read is turned, and v in the room of the output; of one the
        # weights are there, if they fit
        if dims.batch > 1:
            held = values + max(values, learned + spectra + others)
        elif crossing:
            held = values + learned + 4 * heads * M * D + spectra
        else:
            held = values + max(2 * spectra, tile_memory.left_over([learned, spectra], [values]))
        # complex gradients of weights, which are turned, and of modes, in the room of those of what
        # is read; arrays of v, before and after
        turned = [learned, learned, spectra, spectra]
        if dims.batch > 1:
            turned = sum(turned) if crossing else 2 * learned + max(3 * spectra, values)
        elif crossing:
            turned = tile_memory.left_over(turned, [queries, others - queries])
        else:
            turned = tile_memory.left_over([*turned, learned // 2], [values])
        arrays = 2 * values + (dims.batch > 1) * queries
        grads = learned + values + others
        return Cost(
            flops,
            train_flops=train,
            ideal_flops=flops,
            bytes=4 * held,
            train_bytes=4 * (grads + max(turned, arrays)),
        )

    return Mechanism(
        "fourier_enhanced",
        apply,
        reference,
        cost,
        citation="2201.12740",
        formula="4d'N·modes",
        init=init,
        parallel=Parallel(sharded, sent, "a sum of modes"),
        streams="qkv" if crossing else "v",
        causal=False,
        cross=crossing,
        by_query=not crossing,
        mask=not crossing,
        by_length="waves are those of all positions",
        reasons={
            "causal": "a mode mixes all positions, the future too",
            "cross": 'kind="self" reads one sequence; kind="cross" reads two',
            "by_query": "a mode mixes all queries, and a decoder's later ones are its future",
            "mask": "a mode mixes all queries, and no mask says which of them are hidden",
        },
    )


@functools.lru_cache(16)
def waves(N: int, frequencies: tuple[int, ...], count: int | None = None):
    """cos and sin of 2π f n / N, [frequencies, N] float32, exact to rounding; or of the first
    `count` positions."""
    angles = 2 * np.pi * (np.outer(frequencies, np.arange(count or N)) % N) / N
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def starts(N: int, frequencies: tuple[int, ...], parts: int):
    """exp(2πi f n / N) [parts, frequencies] at the first position of each part of N."""
    cosine, sine = waves(parts, frequencies)
    return jnp.asarray((cosine + 1j * sine).T)


def spectrum(x, waves):
    """The complex modes [B, M, H, D] of x [B, N, H, D]."""
    cosine, sine = waves
    # one product: the gradients of two would be arrays of x's size
    parts = ops.over_positions(np.concatenate([cosine, -sine]), x)
    return jax.lax.complex(*jnp.split(parts, 2, 1))


def positions(modes, waves, slots, N: int):
    """The real sequence [B, N, H, E] whose spectrum has `modes` at `slots` and 0 elsewhere."""
    cosine, sine = waves
    # a mode stands for its mirror image too
    share = np.where((slots == 0) | (2 * slots == N), 1.0, 2.0).astype(np.float32) / N
    # one product: two would be arrays of the output's size
    parts = jnp.concatenate([modes.real, modes.imag], 1) * np.tile(share, 2)[:, None, None]
    return ops.over_positions(np.concatenate([cosine, -sine]).T, parts)
