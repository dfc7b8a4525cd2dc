"""Points of kind "reorder": (q kᵀ) v against q (kᵀ v), equal by associativity without softmax.

Multiply-adds a head: (d + d') N² against 2 d d' N; they cross at N* = 2 d d' / (d + d'). A feature
map puts positive weights and their normaliser back, in either order (arXiv:2006.16236).
"""

from pathlib import Path

import jax
import jax.numpy as jnp

from experiments.measure import measure
from experiments.measuring import flops

ORDERS = ("qk_v", "q_kv")
FEATURE_MAPS = {
    "identity": lambda x: x,
    "elu": lambda x: jax.nn.elu(x) + 1,
    "relu": jax.nn.relu,
    "exp": jnp.exp,
}
SIZES = ("n", "heads", "batch", "head_dim", "value_dim", "repeats")


def check_point(point: dict) -> None:
    """ValueError names the field that is wrong."""
    for name, choices in (("order", ORDERS), ("feature_map", FEATURE_MAPS)):
        if point[name] not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {point[name]!r}")
    for name in SIZES:
        if not isinstance(point[name], int) or point[name] < 1:
            raise ValueError(f"{name} must be a whole number from 1 up, got {point[name]!r}")


def objections(point: dict) -> list[str]:
    most, held = point.get("max_bytes"), predict(point)["bytes"]
    if most is None or held <= most:
        return []
    return [f"{point['order']} at n={point['n']} holds {held:,} bytes, max_bytes is {most:,}"]


def predict(point: dict) -> dict:
    """{"flops", "bytes"} of all heads: bytes of the output and of what stands before it."""
    N, D, E = point["n"], point["head_dim"], point["value_dim"]
    elements = N * E + (N**2 if point["order"] == "qk_v" else D * E)
    heads = point["heads"] * point["batch"]
    itemsize = jnp.dtype(point["dtype"]).itemsize
    return {"flops": 2 * heads * multiply_adds(point), "bytes": heads * elements * itemsize}


def multiply_adds(point: dict) -> int:
    """Of one head, by the formula."""
    N, D, E = point["n"], point["head_dim"], point["value_dim"]
    if point["order"] == "qk_v":
        return (D + E) * N**2
    normaliser = 0 if point["feature_map"] == "identity" else D * N
    return 2 * D * E * N + normaliser


def trace_point(point: dict) -> dict:
    """What is known without running a point: its multiply-adds a head by formula and by count."""
    counts = flops.count(product(point["order"], point["feature_map"]), *_shapes(point))
    heads = point["heads"] * point["batch"]
    D, E = point["head_dim"], point["value_dim"]
    return {
        "multiply_adds": counts.multiply_adds // heads,
        "multiply_adds_formula": multiply_adds(point),
        "crossing_n": 2 * D * E / (D + E),
        "flops_formula": predict(point)["flops"],
        "bytes_formula": predict(point)["bytes"],
    }


def run_point(point: dict, out: Path) -> dict:
    keys = jax.random.split(jax.random.key(point["seed"]), 3)
    args = tuple(
        jax.random.normal(key, shape.shape, shape.dtype)
        for key, shape in zip(keys, _shapes(point), strict=True)
    )
    fn = product(point["order"], point["feature_map"])
    measured = measure(fn, args, repeats=point["repeats"], budget=point.get("budget", 10.0))
    return {**trace_point(point), **measured}


def product(order: str, feature_map: str):
    """fn(q, k, v) in that order; with a feature map, normalised."""
    phi = FEATURE_MAPS[feature_map]
    normalised = feature_map != "identity"

    def qk_v(q, k, v):
        weights = jnp.einsum("bthd,bshd->bhts", phi(q), phi(k))
        if normalised:
            weights = weights / weights.sum(-1, keepdims=True)
        return jnp.einsum("bhts,bshe->bthe", weights, v)

    def q_kv(q, k, v):
        q, k = phi(q), phi(k)
        summary = jnp.einsum("bshd,bshe->bhde", k, v)
        out = jnp.einsum("bthd,bhde->bthe", q, summary)
        return out / jnp.einsum("bthd,bhd->bth", q, k.sum(1))[..., None] if normalised else out

    return {"qk_v": qk_v, "q_kv": q_kv}[order]


def _shapes(point):
    B, N, H = point["batch"], point["n"], point["heads"]
    D, E = point["head_dim"], point["value_dim"]
    widths = (D, D, E)
    return tuple(jax.ShapeDtypeStruct((B, N, H, width), point["dtype"]) for width in widths)
