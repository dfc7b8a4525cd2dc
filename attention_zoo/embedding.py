"""What goes into a model: tokens, continuous steps or patches of steps, and where they stand."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attention_zoo import ops


def sinusoids(length: int, width: int):
    """[length, width]: sines and cosines, wavelengths 2 pi to 10,000 x 2 pi. arXiv:1706.03762."""
    half = -(-width // 2)
    angles = np.arange(length)[:, None] * 1e4 ** (-np.arange(half) / half)
    return np.concatenate([np.sin(angles), np.cos(angles)], -1)[:, :width].astype(np.float32)


class Embedding(nnx.Module):
    """Inputs to [B, T, width] at unit scale, positions added, dropout."""

    def __init__(
        self,
        inputs: str,
        width: int,
        max_len: int,
        *,
        vocab: int | None = None,
        features: int | None = None,
        patch: int = 1,
        patch_stride: int | None = None,
        positions: str = "learned",
        dropout: float = 0.0,
        dtype="float32",
        rngs: nnx.Rngs,
    ):
        self.inputs, self.width, self.max_len = inputs, width, max_len
        self.features, self.sinusoidal, self.dtype = features, positions == "sinusoidal", dtype
        self.patch = patch if inputs == "patches" else 1
        self.stride = (patch_stride or patch) if inputs == "patches" else 1
        if inputs == "tokens":
            self.table = nnx.Embed(vocab, width, rngs=rngs)
        else:
            self.linear = nnx.Linear(features * self.patch, width, rngs=rngs)
        self.learned = positions == "learned"
        if self.learned:
            table = jax.random.normal(rngs.params(), (max_len, width))
            self.positions = nnx.Param(table * width**-0.5)
        self.dropout = nnx.Dropout(dropout)

    def __call__(self, x, mask, *, start=0, key=None):
        """(embedded, mask), a position a token, step or patch; the first has number `start`."""
        check_inputs(x, mask, self.inputs, self.features)
        if self.inputs == "tokens":
            x = self.table(x) * self.width**0.5
        else:
            x, mask = fold(ops.hide(x, mask), mask, self.patch, self.stride)
            x = self.linear(x)
        return self.place(x, start=start, key=key), mask

    def place(self, x, *, start=0, key=None):
        """What is embedded, [B, T, width], with its positions, the first of number `start`."""
        T = x.shape[1]
        if self.max_len < T:
            raise ValueError(f"a sequence has {T} positions, longer than max_len={self.max_len}")
        table = sinusoids(self.max_len, self.width) if self.sinusoidal else None
        if self.learned:
            table = self.positions[...] * self.width**0.5
        if table is not None:
            x = x + jax.lax.dynamic_slice_in_dim(jnp.asarray(table), start, T)
        x = self.dropout(x, deterministic=key is None, rngs=key)
        return x.astype(self.dtype)


def check_inputs(x, mask, inputs, features):
    if inputs == "tokens" and (x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.integer)):
        raise ValueError(f"tokens must be whole numbers [B, T], got {x.dtype} {x.shape}")
    if inputs != "tokens" and (x.ndim != 3 or x.shape[-1] != features):
        raise ValueError(f"{inputs} inputs must be [B, T, {features}], got {x.shape}")
    if mask is not None and (mask.shape != x.shape[:2] or mask.dtype != bool):
        raise ValueError(f"mask must be bool {x.shape[:2]}, got {mask.dtype} {mask.shape}")


def fold(x, mask, patch: int, stride: int):
    """[B, T, F] to [B, patches, patch * F], one every `stride` steps, the last one padded; a patch
    is seen if any of its steps is."""

    def pieces_of(y):
        if stride == patch:
            return ops.blocks(y, patch)
        starts = stride * np.arange(patches_of(y.shape[1], patch, stride))
        return ops.pad_to(y, starts[-1] + patch, 1)[:, starts[:, None] + np.arange(patch)]

    pieces, seen = (None if y is None else pieces_of(y) for y in (x, mask))
    return pieces.reshape(*pieces.shape[:2], -1), None if seen is None else seen.any(-1)


def patches_of(steps: int, patch: int, stride: int) -> int:
    """How many patches hold so many steps."""
    return 1 + max(0, -(-(steps - patch) // stride))
