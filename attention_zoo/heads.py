"""A few heads at a time: their arrays are put heads first, [B, g, length, D], in copies of g heads.

Contiguous heads halve the time of slices and products on a CPU, where fresh memory also costs more
than work (about 1 ms a MB), so copies of all heads at once would cost twice; an accelerator takes
all heads of most calls in one group.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from attention_zoo import ops

# numbers of one intermediate that a group of heads, or a chunk of positions, may hold: so many stay
# in one core's cache on a CPU, and fill an accelerator elsewhere
BUDGET = {"cpu": 2**16}
BUDGET_ACCELERATOR = 2**25
# how often `each`, and chunks.py, do a product in training: forward, again in the backward pass,
# and there for the gradients of both operands
TRAIN_PRODUCTS = 4


def group_size(B: int, H: int, numbers: int) -> int:
    """How many heads to take at once, each with so many numbers a sequence."""
    fits = (g for g in range(1, H + 1) if H % g == 0 and g * B * numbers <= budget())
    return max(fits, default=1)


def budget() -> int:
    return BUDGET.get(jax.default_backend(), BUDGET_ACCELERATOR)


def first(x, head, group: int):
    """[B, N, H, ...] to [B, group, N, ...] from `head` on; what is one for all heads stays one."""
    if x.shape[2] in (1, group):
        return jnp.moveaxis(x, 2, 1)
    # one by one: several are sliced in the order that they have, and turned in a second copy
    each = (jax.lax.dynamic_slice_in_dim(x, head + n, 1, 2) for n in range(group))
    return jnp.concatenate([jnp.moveaxis(part, 2, 1) for part in each], 1)


def put(x, part, head):
    """x [B, N, H, ...] with the group [B, g, N, ...] from `head` on replaced."""
    return jax.lax.dynamic_update_slice_in_dim(x, jnp.moveaxis(part, 1, 2).astype(x.dtype), head, 2)


def each(call: Callable, group: int, arrays, fixed, tables=()):
    """call(fixed, *arrays, *tables) for `group` heads at a time, recomputed in the backward pass.

    `arrays` are [B, N, H, ...] and reach `call` heads first, `tables` [H, ...] as [g, ...]; `fixed`
    (a mask [B, N], or what else has no gradient) as it is. call gives [B, g, T, E], and all
    together [B, T, H, E].
    """
    H = arrays[0].shape[2]
    starts = np.arange(0, H, group, dtype=np.int32)

    def part(arrays, head):
        return ops.in_memory(lambda: [first(x, head, group) for x in arrays], head >= 0)

    def rows_of(tables, head):
        return [jax.lax.dynamic_slice_in_dim(x, head, group, 0) for x in tables]

    @jax.custom_vjp
    def run(fixed, arrays, tables):
        shape = jax.eval_shape(lambda: call(fixed, *part(arrays, 0), *rows_of(tables, 0)))
        B, _, T, E = shape.shape

        def step(out, head):
            return put(out, call(fixed, *part(arrays, head), *rows_of(tables, head)), head), None

        return jax.lax.scan(step, jnp.zeros((B, T, H, E), shape.dtype), starts)[0]

    def backward(residuals, d_out):
        fixed, arrays, tables = residuals

        def step(grads, head):
            *own, d_own = part([*arrays, d_out], head)
            _, pull = jax.vjp(lambda *xs: call(fixed, *xs), *own, *rows_of(tables, head))
            found = pull(d_own)
            d_arrays, d_tables = found[: len(arrays)], found[len(arrays) :]
            moved = [put(x, rows, head) for x, rows in zip(grads[0], d_arrays, strict=True)]
            rows = [
                jax.lax.dynamic_update_slice_in_dim(x, row, head, 0)
                for x, row in zip(grads[1], d_tables, strict=True)
            ]
            return (moved, rows), None

        zeros = jax.tree.map(jnp.zeros_like, (list(arrays), list(tables)))
        (d_arrays, d_tables), _ = jax.lax.scan(step, zeros, starts)
        return None, d_arrays, d_tables

    run.defvjp(lambda *xs: (run(*xs), xs), backward)
    return run(fixed, list(arrays), list(tables))
