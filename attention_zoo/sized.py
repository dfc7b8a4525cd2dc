"""Parameters sized by length: which length, and one refusal of longer input."""

import jax
import jax.numpy as jnp

from attention_zoo import ops
from attention_zoo.types import Dims


def check(length: int | None) -> None:
    if length is not None:
        ops.positive(length=length)


def choose(name: str, length: int | None, dims: Dims) -> int:
    """The length that parameters are drawn for: `length`, or that of the call at hand."""
    longest = max(dims.q_len, dims.kv_len)
    if length is not None:
        fits(name, length, longest)
    return longest if length is None else length


def fits(name: str, length: int, longest: int) -> None:
    """ValueError where a sequence is longer than the parameters."""
    if longest > length:
        raise ValueError(
            f"{name}: parameters are sized for length {length}, got {longest}; "
            f"make it with length={longest} or more"
        )


def layer_norm(x, gain, shift):
    """Over the channels [H, E] of each position, float32: [B, N, H, E]."""
    mean = x.mean((2, 3), keepdims=True)
    variance = jnp.square(x - mean).mean((2, 3), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * gain + shift
