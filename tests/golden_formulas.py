"""Dense formulas in float64 of what other implementations do, with their faults and without."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.golden import File, stated, weighted


def bigbird_counts(file: File):
    """[H, N, N]: how often query i meets key j when a repeated random block counts again."""
    size, table = file.settings["block"], file.fixed["i_rand_attn"]
    H, inner, _ = table.shape
    blocks = inner + 2
    counts = np.zeros((H, blocks, blocks), int)
    counts[:, [0, -1]] = 1
    for u in range(1, blocks - 1):
        counts[:, u, [0, u - 1, u, u + 1, blocks - 1]] = 1
        for head in range(H):
            np.add.at(counts[head, u], table[head, u - 1], 1)
    return counts.repeat(size, 1).repeat(size, 2)


def bigbird(repeats: bool):
    """Its dense definition, where a repeated block counts again or once."""

    def formula(a, file):
        counts = bigbird_counts(file)
        logits = jnp.einsum("bhtd,bhsd->bhts", a["q"], a["k"]) * a["q"].shape[-1] ** -0.5
        peak = jnp.where(counts > 0, logits, -jnp.inf).max(-1, keepdims=True)
        seen = counts if repeats else np.minimum(counts, 1)
        return weighted(a["v"], seen * jnp.exp(logits - peak))

    return stated(formula)


def efficient_causal(blind: bool):
    """A query sees the earlier tokens, or only those of earlier buckets."""

    def formula(a, file):
        N = a["q"].shape[2]
        bucket = jnp.arange(N) // (file.settings["bucket_size"] if blind else 1)
        seen = bucket[:, None] > bucket if blind else bucket[:, None] >= bucket
        q, k = jax.nn.softmax(a["q"]) * a["q"].shape[-1] ** -0.5, jnp.exp(a["k"])
        weights = jnp.where(seen, jnp.einsum("bhtd,bhsd->bhts", q, k), 0.0)
        total = jnp.maximum(weights.sum(-1, keepdims=True), file.settings["eps"])
        return jnp.einsum("bhts,bhse->bhte", weights / total, a["v"])

    return stated(formula)


def favor_causal(stabilised: bool):
    """Both features divided by exp(their largest |x'|²) before eps is added to a row's sum."""

    def formula(a, file):
        s = file.settings

        def features(x):
            x = x * x.shape[-1] ** -0.25
            u = jnp.einsum("bhnd,dr->bhnr", x, file.fixed["x_omega"])
            square = (x * x).sum(-1, keepdims=True)
            offset = square / 2 + jnp.log(s["n_dims"]) / 2
            if stabilised:
                offset = offset + square.max(2, keepdims=True)
            return jnp.exp(jnp.concatenate([u, -u], -1) - offset)

        weights = jnp.einsum("bhtr,bhsr->bhts", features(a["q"]), features(a["k"]))
        weights = weights * jnp.tri(weights.shape[-1])
        total = weights.sum(-1, keepdims=True) + stabilised * s["eps"]
        return jnp.einsum("bhts,bhse->bhte", weights / total, a["v"])

    return stated(formula)
