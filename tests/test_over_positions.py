"""A matrix times positions: values and gradients as an einsum's, and none for a constant matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_zoo import ops
from experiments.measuring import flops

M, N, H, E = 7, 13, 2, 3


def drawn(batch, dtype):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = (M, N), (batch, N, H, E), (batch, M, H, E)
    return [jax.random.normal(key, s, dtype) for key, s in zip(keys, shapes, strict=True)]


def einsum(matrix, x):
    return jnp.einsum("mn,bnhe->bmhe", matrix, x, preferred_element_type=jnp.float32)


@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-5), ("bfloat16", 3e-2)])
@pytest.mark.parametrize("batch", [1, 2])
def test_values_and_gradients_are_an_einsums(batch, dtype, near):
    matrix, x, d_out = drawn(batch, dtype)
    d_out = d_out.astype(jnp.float32)
    exact, exact_pull = jax.vjp(einsum, matrix.astype(jnp.float32), x.astype(jnp.float32))
    out, pull = jax.vjp(jax.jit(ops.over_positions), matrix, x)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, exact, atol=near * 10)
    for found, wanted, array in zip(pull(d_out), exact_pull(d_out), (matrix, x), strict=True):
        assert found.dtype == array.dtype
        np.testing.assert_allclose(found.astype(jnp.float32), wanted, atol=near * 10)


def test_a_constant_matrix_costs_no_gradient():
    matrix, x, d_out = drawn(2, "float32")
    product = 2 * matrix.size * x[:, 0].size

    def of_x(x):
        return (ops.over_positions(np.asarray(matrix), x) * d_out).sum()

    def of_both(matrix, x):
        return (ops.over_positions(matrix, x) * d_out).sum()

    def counted(call, *arrays):
        return flops.count_jaxpr(jax.make_jaxpr(call)(*arrays)).flops

    assert counted(jax.grad(of_x), x) == 2 * product
    assert counted(jax.grad(of_both, (0, 1)), matrix, x) == 3 * product
