"""Linformer: softmax(q (E k)ᵀ / sqrt(D)) (F v): keys and values projected to R slots.

arXiv:2006.04768. E and F are [R, length] with R = `slots`; `length` None takes the length given to
`init`. A shorter sequence uses their leading columns, so it behaves as if padded; a longer one is
refused. Hidden keys and values are 0 before the projection. `sharing`: "none" (E and F a head),
"head" (E and F for all heads), "kv" (one matrix for both). The paper's fourth, one matrix for all
layers, is "kv" with the same params handed to every layer. `start`: what E and F are drawn as,
"normal", or "means" of as many runs of neighbours (the paper's pooling).
"""

import dataclasses

import jax
import jax.numpy as jnp

from attention_zoo import ops, tile_memory, tiles
from attention_zoo.parallel import traffic
from attention_zoo.types import Cost, Dims, Mechanism, Parallel

SHARING = ("none", "head", "kv")
STARTS = ("normal", "means")
ROWS, KEYS = 512, 1024  # the tile of queries by slots


def make(
    slots: int = 256, length: int | None = None, sharing: str = "head", start: str = "normal"
) -> Mechanism:
    ops.positive(slots=slots)
    if length is not None:
        ops.positive(length=length)
    if sharing == "layer":
        raise ValueError(
            "sharing='layer' joins several layers: take 'kv' and hand each of them the same params"
        )
    if sharing not in SHARING:
        raise ValueError(f"sharing must be one of {', '.join(SHARING)}, got {sharing!r}")
    if start not in STARTS:
        raise ValueError(f"start must be one of {', '.join(STARTS)}, got {start!r}")

    def init(rng, dims: Dims):
        S = length or dims.kv_len
        shape = (dims.heads, slots, S) if sharing == "none" else (slots, S)

        def matrix(rng):
            if start == "normal":
                return jax.random.normal(rng, shape) * S**-0.5
            run = jnp.arange(S) * slots // S == jnp.arange(slots)[:, None]
            return jnp.broadcast_to(ops.safe_divide(1.0, run.sum(1, keepdims=True)) * run, shape)

        keys, values = jax.random.split(rng)
        return {"keys": matrix(keys)} | ({} if sharing == "kv" else {"values": matrix(values)})

    def projections(params, S):
        """E and F [H or 1, R, S]."""
        longest = params["keys"].shape[-1]
        if longest < S:
            raise ValueError(
                f"linformer: parameters are sized for length {longest}, got {S} keys; "
                f"make it with length={S} or more, or init with such kv_len"
            )
        both = params["keys"], params.get("values", params["keys"])
        return [x.reshape(-1, slots, longest)[..., :S] for x in both]

    def apply(params, q, k, v, *, mask=None, causal=False, axis=None):
        k, v = ops.hide(k, mask), ops.hide(v, mask)
        k, v = (
            project(matrix, x, axis)
            for matrix, x in zip(projections(params, k.shape[1]), (k, v), strict=True)
        )
        out, _ = tiles.attend(q, k, v, layout(q.shape[1]), None)
        return out.astype(v.dtype)

    def layout(T):
        return tiles.everything(T, slots, False, ROWS, KEYS)

    def reference(params, q, k, v, *, mask=None, causal=False):
        E, F = (jnp.repeat(x, q.shape[2] // len(x), 0) for x in projections(params, k.shape[1]))
        shown = ops.visible(1, k.shape[1], mask)[:, :, 0, :]
        logits = jnp.einsum("bhts,hrs->bhtr", jnp.where(shown[:, :, None], ops.dot(q, k), 0), E)
        weights = jax.nn.softmax(logits * q.shape[-1] ** -0.5)
        matrix = jnp.einsum("bhtr,hrs->bhts", weights, F)
        return ops.weigh(jnp.where(shown[:, :, None], matrix, 0), v)

    def sent(dims: Dims, P: int, *, causal=False, masked=False):
        width = dims.head_dim + dims.value_dim
        return traffic.reduce(P, traffic.FLOAT * dims.batch * dims.heads * slots * width)

    def cost(dims: Dims, *, causal=False):
        T, S, D, E = dims.q_len, dims.kv_len, dims.head_dim, dims.value_dim
        width, lanes = D + E, dims.batch * dims.heads
        marks = lanes * slots * width
        few = dataclasses.replace(dims, kv_len=slots)
        inner = layout(T).cost(few, ideal_pairs=T * slots)
        projection = 2 * S * marks
        # numbers of k and of v, of the output, of a group's queries and of a tile's
        keys, values, out = lanes * S * D, lanes * S * E, lanes * T * E
        held = layout(T).held(few)
        queries, rows = held.copies[0] // D, held.logits // layout(T).keys
        # k and v are turned around first, unless all heads of one sequence share the product
        several = dims.batch > 1
        turned = keys + values if several or sharing == "none" else 0
        projected = turned and turned + lanes * slots * max(D, E)
        projected += turned and (queries * width if held.once else out)
        # in training too: they stay through the tiles where XLA does not turn them again; and in
        # the end the gradients of both are turned, then those of k copied
        kept = turned * (several != held.once)
        last = turned and 2 * keys + values * (E > D)
        # slots, their gradients, sums of rows, a group's queries, the gradients of these and of
        # its output, all of the output and a tile's: some stand in the places of later results
        walk = [lanes * slots * D, lanes * slots * E] * 2 + [held.rows] * 2
        walk += [queries * D, queries * D, queries * E, *held.copies[1:], out]
        walk += [rows * D, rows * E, *3 * [held.logits]]
        matrix = slots * S * (dims.heads if sharing == "none" else 1)
        places = [keys, values, matrix, matrix]
        if held.once:
            walk.append(queries * E)
        else:
            places.append(lanes * T * D)
        stand = kept + tile_memory.left_over(walk, places)
        return Cost(
            inner.flops + projection,
            train_flops=inner.train_flops + 3 * projection,
            ideal_flops=inner.ideal_flops + projection,
            bytes=max(4 * projected, inner.bytes + 4 * marks),
            train_bytes=4 * (lanes * T * D + keys + values + 2 * matrix + max(last, stand)),
        )

    return Mechanism(
        "linformer",
        apply,
        reference,
        cost,
        citation="2006.04768",
        formula="(d+d')N·slots",
        init=init,
        parallel=Parallel(apply, sent, "a sum of slots", by_position={"keys": -1, "values": -1}),
        causal=False,
        fixed_length=length,
        reasons={"causal": "a slot mixes keys of all positions, so it has no causal form"},
    )


def project(matrix, x, axis=None):
    """[B, S, H, D] -> [B, R, H, D] by a matrix [H or 1, R, S], in x's dtype; summed over the
    devices of a mesh axis, which have a part of the columns and positions each."""
    matrix = matrix.astype(x.dtype)
    if len(matrix) == 1:
        slots = ops.over_positions(matrix[0], x)
    else:
        slots = jnp.einsum("hrs,bshd->brhd", matrix, x, preferred_element_type=jnp.float32)
    return (slots if axis is None else jax.lax.psum(slots, axis)).astype(x.dtype)
