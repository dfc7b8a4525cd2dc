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


def by_heads(name: str, apply: Callable, streams: str, why: str) -> Parallel:
    """`why` a head cannot be split."""

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
        widths = {"q": dims.head_dim, "k": dims.head_dim, "v": dims.value_dim}
        width = sum(widths[letter] for letter in streams) + dims.value_dim
        tokens = dims.batch * dims.q_len // P
        moved = traffic.transpose(P, tokens * dims.heads * width * dims.itemsize)
        return moved + traffic.gather(P, tokens * masked, gradient=False)

    def objections(dims: Dims, P: int, *, causal=False) -> list[str]:
        if dims.heads % P == 0:
            return []
        return [f"{name}: {why}, so devices must share the {dims.heads} heads evenly (got {P})"]

    return Parallel(run, traffic_of, PATTERN, objections, by_head=True)
