"""Pure pieces that mechanisms share: who sees whom, a softmax that survives empty rows, padding."""

import functools
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

# a finite stand-in for minus infinity: -inf minus an -inf peak is NaN
LOWEST = float(jnp.finfo(jnp.float32).min)


def visible(T: int, S: int, mask=None, causal: bool = False, pattern=None):
    """[B or 1, 1, T, S] bool: query i may see key j.

    `pattern(i, j)` narrows it, given positions i [T, 1] and j [1, S].
    """
    i, j = jnp.arange(T)[:, None], jnp.arange(S)[None, :]
    allowed = jnp.ones((1, 1, T, S), bool)
    if causal:
        allowed &= j <= i
    if pattern is not None:
        allowed &= pattern(i, j)
    if mask is not None:
        allowed &= mask[:, None, None, :]
    return allowed


def softmax(logits, allowed=None):
    """Softmax over the last axis among the allowed, or all (None), float32; a row of none is 0,
    gradient 0."""
    if allowed is None:
        return jax.nn.softmax(logits.astype(jnp.float32))
    logits = jnp.where(allowed, logits.astype(jnp.float32), LOWEST)
    peak = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    weights = jnp.where(allowed, jnp.exp(logits - peak), 0.0)
    return safe_divide(weights, weights.sum(-1, keepdims=True))


def safe_divide(numerator, denominator):
    """numerator / denominator, and 0 with 0 gradient where the denominator is 0."""
    empty = denominator == 0
    return jnp.where(empty, 0.0, numerator / jnp.where(empty, 1.0, denominator))


def dot(q, k):
    """q . k for every pair of positions, float32: [B, H, T, S]."""
    return jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=jnp.float32)


def weigh(weights, v):
    """Weighted sums of values, in v's dtype: [B, T, H, E]."""
    # the weights' own order first: for an einsum to another XLA turns them around
    return jnp.einsum("bhts,bshe->bhte", weights.astype(v.dtype), v).swapaxes(1, 2)


# the output of `attend`, and a policy of `jax.checkpoint` that does not compute it again
ATTENDED = "attended"
KEPT = jax.checkpoint_policies.save_only_these_names(ATTENDED)


@jax.custom_vjp
def attend(logits, allowed, v):
    """softmax(logits) v of logits [B, H, T, S] among the allowed, or all (None): [B, T, H, E].

    As `weigh(softmax(logits, allowed), v)`, but the backward pass takes a row's mean gradient from
    its output, as arXiv:2205.14135, and so sums up E products a row and not S. For logits in
    float32 that are not one for the batch.
    """
    return weigh(softmax(logits, allowed), v)


def _attend_kept(logits, allowed, v):
    weights = softmax(logits, allowed)
    rounded = weights.astype(v.dtype)
    out = jnp.einsum("bhts,bshe->bhte", rounded, v, preferred_element_type=jnp.float32)
    out = checkpoint_name(out, ATTENDED)
    return out.swapaxes(1, 2).astype(v.dtype), (weights, v, out)


def _attend_gradients(residuals, d_out):
    weights, v, out = residuals
    rows = d_out.swapaxes(1, 2)
    d_weights = jnp.einsum("bhte,bshe->bhts", rows, v, preferred_element_type=jnp.float32)
    d_logits = weights * (d_weights - add_up(rows * out)[..., None])
    # features in front: twice as fast on a CPU
    d_v = jnp.einsum("bhte,bhts->bhes", rows, weights.astype(v.dtype))
    return d_logits, None, jnp.moveaxis(d_v, 3, 1)


attend.defvjp(_attend_kept, _attend_gradients)


def over_rows(x, y, over: Iterable[int] = (-2,)):
    """xᵀ y, float32, summed over these axes: [..., D, F] of x [..., T, D] and y [..., T, F].

    On a CPU the fewer features stand in front, and a barrier keeps them there: twice as fast.
    """
    f32 = {"preferred_element_type": jnp.float32}
    over = sorted({axis % x.ndim for axis in over})
    batch = [axis for axis in range(x.ndim - 1) if axis not in over]
    if jax.default_backend() != "cpu":
        return jax.lax.dot_general(x, y, ((over, over), (batch, batch)), **f32)
    rows = [a.transpose(*batch, *over, -1) for a in (x, y)]
    x, y = (a.reshape(*a.shape[: len(batch)], -1, a.shape[-1]) for a in rows)
    if x.shape[-1] <= y.shape[-1]:
        return jax.lax.optimization_barrier(jnp.matmul(x.mT, y, **f32))
    return jax.lax.optimization_barrier(jnp.matmul(y.mT, x, **f32)).mT


@jax.custom_vjp
def product(x, matrices):
    """x [..., T, D] times [D, F], or x [B, H, T, D] times each head's own of [H, D, F].

    A plain product, for where matrices lack the batch an einsum puts them first and turns the
    result around; `over_rows` does their gradient.
    """
    return x @ matrices


def _product_kept(x, matrices):
    # constant matrices have no gradient, so x is not kept for it
    kept = x.value if matrices.perturbed else None
    return x.value @ matrices.value, (kept, matrices.value)


def _product_gradients(residuals, d_out):
    x, matrices = residuals
    d_matrices = None
    if x is not None:
        # all axes that the matrices lack
        over = [*range(x.ndim - matrices.ndim), x.ndim - 2]
        d_matrices = over_rows(x, d_out, over).astype(matrices.dtype)
    return d_out @ matrices.mT, d_matrices


product.defvjp(_product_kept, _product_gradients, symbolic_zeros=True)


@jax.custom_vjp
def over_positions(matrix, x):
    """matrix [M, N] times x [B, N, ...] over positions, float32: [B, M, ...].

    As plain products, in its gradients too: for an einsum XLA may turn x, or the result, around.
    """
    columns = x.reshape(*x.shape[:2], -1)
    made = jnp.matmul(matrix, columns, preferred_element_type=jnp.float32)
    return made.reshape(len(x), -1, *x.shape[2:])


def _over_positions_kept(matrix, x):
    # a constant matrix has no gradient, so x is not kept for it
    kept = x.value if matrix.perturbed else None
    made = over_positions(matrix.value, x.value)
    return made, (matrix.value, kept, jnp.zeros(0, x.value.dtype))


def _over_positions_gradients(residuals, d_out):
    matrix, x, like = residuals
    d_out, turned = d_out.astype(like.dtype), matrix.T
    if like.dtype != jnp.float32:
        # XLA has no product of a turned bfloat16 matrix on a CPU
        turned = jax.lax.optimization_barrier(turned)
    d_matrix = None
    if x is not None:
        d_rows, rows = (jnp.moveaxis(y, 1, 0).reshape(y.shape[1], -1) for y in (d_out, x))
        d_matrix = jnp.matmul(d_rows, rows.T, preferred_element_type=jnp.float32)
        d_matrix = d_matrix.astype(matrix.dtype)
    return d_matrix, over_positions(turned, d_out).astype(like.dtype)


over_positions.defvjp(_over_positions_kept, _over_positions_gradients, symbolic_zeros=True)


def pad_to(x, length: int, axis: int):
    """Zeros (False for masks) after the end of `axis` up to `length`."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, length - x.shape[axis])
    return jnp.pad(x, widths)


def blocks(x, size: int):
    """[B, N, ...] to [B, ceil(N / size), size, ...], the last one padded as by `pad_to`."""
    x = pad_to(x, ceil_to(x.shape[1], size), 1)
    return x.reshape(len(x), -1, size, *x.shape[2:])


def strided_conv(x, kernel):
    """[B, N, H, D] to [B, ceil(N / c), H, F], float32: a head's kernel [c, D, F] on every block."""
    kernel = kernel.astype(x.dtype)
    f32 = {"preferred_element_type": jnp.float32}
    return jnp.einsum("bmchd,hcdf->bmhf", blocks(x, kernel.shape[1]), kernel, **f32)


def in_memory(make: Callable, true):
    """make(), of which arrays are in memory before anything reads them; `true` is a bool scalar
    that always holds and that XLA does not know to.

    On a CPU it fuses slices and reshapes into each of their readers, which then work out an index
    a number, at six times the time of a copy, and optimization_barrier is gone before that. Into
    the branch of a condition it does not reach.
    """
    if jax.default_backend() != "cpu":
        return make()

    def never():
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(make))

    return jax.lax.cond(true, make, never)


def add_up(x, axis: int = -1):
    """x.sum(axis), by halves: where x is worked out on the way, as a product, XLA's own sum takes
    ten times as long on a CPU."""
    if jax.default_backend() != "cpu":
        return x.sum(axis)
    rest = 0.0
    while (n := x.shape[axis]) > 1:
        first, second, odd = jnp.split(x, (n // 2, n - n % 2), axis)
        x, rest = first + second, rest + odd.sum(axis)
    return x.squeeze(axis) + rest


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def spread(x, length: int):
    """x [B, H, D] at `length` positions, [B, H, length, D]; `add_up` does its gradient."""
    return jnp.broadcast_to(x[:, :, None], (*x.shape[:2], length, x.shape[2]))


spread.defvjp(
    lambda x, length: (spread(x, length), None), lambda length, _, d_out: (add_up(d_out, 2),)
)


@jax.custom_vjp
def divide_rows(x, total):
    """x [..., E] / total [...], 0 where that is 0; `add_up` does the gradient of total."""
    return safe_divide(x, total[..., None])


def _divide_rows_gradients(residuals, d_out):
    out, total = residuals
    d_x = safe_divide(d_out, total[..., None])
    return d_x, -add_up(d_x * out)


def _divide_rows_kept(x, total):
    out = divide_rows(x, total)
    return out, (out, total)


divide_rows.defvjp(_divide_rows_kept, _divide_rows_gradients)


def ceil_to(n: int, multiple: int) -> int:
    """The least multiple of `multiple` that is at least n."""
    return -(-n // multiple) * multiple


def even(n: int, most: int) -> int:
    """The size of blocks that n falls into, as few of at most `most` as there can be and alike."""
    return -(-n // -(-n // most))


def hide(x, mask):
    """x [B, S, ...] with hidden positions set to 0, whatever they held."""
    if mask is None:
        return x
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - 2)), x, 0)


def window_sides(window: int | tuple[int, int]) -> tuple[int, int]:
    """(left, right) of a window; an int means both sides."""
    sides = tuple(window) if isinstance(window, tuple | list) else (window, window)
    if len(sides) != 2 or any(
        isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in sides
    ):
        raise ValueError(f"window must be a whole number from 0 up, or two of them, got {window!r}")
    return sides


def positive(**sizes: int) -> None:
    """ValueError unless every named size is a whole number from 1 up."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a whole number from 1 up, got {size!r}")
