"""All-to-all: a device trades its positions of all heads for all positions of its heads, and back.

What happens inside a head is then the call of one device, whatever it sorts. Every token moves
twice; the devices must share the heads evenly. arXiv:2309.14509.
"""

import functools
from collections.abc import Callable

import jax

from attention_zoo.parallel import traffic
from attention_zoo.types import Dims, Parallel, Traffic

PATTERN = "all-to-all over heads"


def by_heads(
    name: str, apply: Callable, streams: str, why: str, *, tables: bool = True
) -> Parallel:
    """`why` a head cannot be split; `tables`: whether parameters have an axis of heads in front."""

    def run(params, q, k, v, *, axis, mask=None, causal=False):
        there = functools.partial(jax.lax.all_to_all, axis_name=axis, tiled=True)
        arrays = {"q": q, "k": k, "v": v}
        q, k, v = (
            there(x, split_axis=2, concat_axis=1) if letter in streams else None
            for letter, x in arrays.items()
        )
        if mask is not None:
            mask = jax.lax.all_gather(mask, axis, axis=1, tiled=True)
        out = apply(params, q, k, v, mask=mask, causal=causal)
        return there(out, split_axis=1, concat_axis=2)

    def traffic_of(dims: Dims, P: int, *, causal=False, masked=False) -> Traffic:
        T, S, D, E = dims.q_len, dims.kv_len, dims.head_dim, dims.value_dim
        numbers = {"q": T * D, "k": S * D, "v": S * E}
        each = (sum(numbers[letter] for letter in streams) + T * E) // P
        moved = traffic.transpose(P, dims.batch * dims.heads * each * dims.itemsize)
        return moved + traffic.gather(P, dims.batch * S // P * masked, gradient=False)

    def objections(dims: Dims, P: int, *, causal=False) -> list[str]:
        if dims.heads % P == 0:
            return []
        return [f"{name}: {why}, so devices must share the {dims.heads} heads evenly (got {P})"]

    return Parallel(run, traffic_of, PATTERN, objections, by_head=tables)
