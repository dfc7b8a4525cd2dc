"""Counts of programs small enough to count by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.sharding import PartitionSpec

from experiments.measuring import flops

A = jax.ShapeDtypeStruct((3, 5), jnp.float32)
B = jax.ShapeDtypeStruct((5, 7), jnp.float32)
SQUARE = jax.ShapeDtypeStruct((4, 4), jnp.float32)
PRODUCT = 2 * 4 * 4 * 4


def test_a_matrix_product():
    assert flops.count(jnp.matmul, A, B).matmul == 2 * 3 * 5 * 7


def test_a_batched_contraction_over_two_axes():
    x = jax.ShapeDtypeStruct((2, 3, 5, 7), jnp.float32)
    y = jax.ShapeDtypeStruct((2, 11, 5, 7), jnp.float32)
    counts = flops.count(lambda x, y: jnp.einsum("bthd,bshd->bts", x, y), x, y)
    assert counts.flops == 2 * (2 * 3 * 11) * (5 * 7)
    assert counts.multiply_adds == 2 * 3 * 11 * 5 * 7


def test_a_complex_product_is_four_real_ones():
    x = jax.ShapeDtypeStruct((4, 4), jnp.complex64)
    assert flops.count(jnp.matmul, x, x).flops == 4 * PRODUCT


def test_gradient_of_a_product_in_both_arguments_is_three_products():
    counts = flops.count(jax.grad(lambda a, b: (a @ b).sum() ** 2, (0, 1)), A, B)
    assert counts.matmul == 3 * 2 * 3 * 5 * 7


def test_scan_counts_length_times():
    def loop(x):
        return jax.lax.scan(lambda c, _: (c @ c, None), x, length=6)[0]

    assert flops.count(loop, SQUARE).flops == 6 * PRODUCT


def test_nested_scans_multiply():
    def inner(x):
        return jax.lax.scan(lambda c, _: (c @ c, None), x, length=6)[0]

    def outer(x):
        return jax.lax.scan(lambda c, _: (jnp.exp(inner(c)) @ c, None), x, length=5)[0]

    counts = flops.count(outer, SQUARE)
    assert counts.flops == 5 * (6 + 1) * PRODUCT
    assert counts.transcendental == 5 * 16


def test_gradient_through_a_checkpointed_scan_is_four_products_a_step():
    step = jax.checkpoint(lambda c, x: (jnp.tanh(c @ x), None))

    def loop(c, xs):
        return jax.lax.scan(step, c, xs)[0].sum()

    xs = jax.ShapeDtypeStruct((6, 4, 4), jnp.float32)
    assert flops.count(jax.grad(loop, (0, 1)), SQUARE, xs).flops == 6 * 4 * PRODUCT


def halve_until_small(x):
    return jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x @ x, x)


def test_while_says_that_its_trips_are_unknown():
    counts = flops.count(halve_until_small, SQUARE)
    assert (counts.unknown_loops, counts.flops) == (1, PRODUCT)


def test_while_with_given_trips_tests_once_more():
    counts = flops.count(halve_until_small, SQUARE, trips=7)
    assert (counts.unknown_loops, counts.flops, counts.reduction) == (0, 7 * PRODUCT, 8 * 16)


def test_each_while_takes_its_own_trips():
    def two(x):
        return halve_until_small(halve_until_small(x))

    assert flops.count(two, SQUARE, trips=(2, 3)).flops == 5 * PRODUCT
    with pytest.raises(ValueError, match="trips has 1 numbers"):
        flops.count(two, SQUARE, trips=(2,))
    with pytest.raises(ValueError, match="trips has 3 numbers"):
        flops.count(two, SQUARE, trips=(2, 3, 4))


def test_cond_counts_the_dearest_branch():
    def branch(x):
        return jax.lax.cond(x.sum() > 0, lambda x: x @ x @ x, lambda x: x + jnp.exp(x), x)

    counts = flops.count(branch, SQUARE)
    assert (counts.flops, counts.transcendental) == (2 * PRODUCT, 0)


@jax.custom_vjp
def thrifty(x):
    return x @ x


thrifty.defvjp(lambda x: (x @ x, x), lambda x, g: (g @ x.T + x.T @ g + jnp.sin(x @ x),))


def test_custom_vjp_counts_the_forward_alone_and_the_given_backward():
    assert flops.count(thrifty, SQUARE).flops == PRODUCT
    assert flops.count(jax.grad(lambda x: thrifty(x).sum() ** 2), SQUARE).flops == 4 * PRODUCT


def test_custom_jvp_jit_and_remat_are_entered_once():
    @jax.custom_jvp
    def f(x):
        return x @ x

    f.defjvp(lambda x, t: (f(x[0]), t[0] @ x[0]))
    counts = flops.count(lambda x: jax.checkpoint(jax.jit(f))(x), SQUARE)
    assert counts.flops == PRODUCT


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_counts_its_group(groups):
    x = jax.ShapeDtypeStruct((2, 6, 11), jnp.float32)
    kernel = jax.ShapeDtypeStruct((10, 6 // groups, 3), jnp.float32)

    def conv(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1,), "VALID", feature_group_count=groups)

    assert flops.count(conv, x, kernel).conv == 2 * (2 * 10 * 9) * (3 * 6 // groups)


def test_fourier_transforms_count_five_n_log_n_and_half_for_real_input():
    x = jax.ShapeDtypeStruct((3, 16), jnp.float32)
    assert flops.count(jnp.fft.rfft, x).fft == 3 * 2.5 * 16 * 4
    z = jax.ShapeDtypeStruct((3, 16), jnp.complex64)
    assert flops.count(jnp.fft.fft, z).fft == 3 * 5 * 16 * 4
    half = jax.ShapeDtypeStruct((3, 9), jnp.complex64)
    assert flops.count(jnp.fft.irfft, half).fft == 3 * 2.5 * 16 * 4
    assert flops.count(jnp.fft.fft2, jax.ShapeDtypeStruct((4, 16), jnp.complex64)).fft == 5 * 64 * 6


def test_columns_count_elements():
    def f(x):
        y = jnp.sort(jnp.exp(x) * 2.0, axis=-1)
        return y[jnp.array([0, 2])].sum(), x.at[jnp.array([0, 2])].add(1.0)

    counts = flops.count(f, SQUARE)
    assert (counts.transcendental, counts.sort) == (16, 16)
    assert counts.reduction == 8
    assert counts.gather == 8 + 8
    assert counts.flops == 0


def test_a_decomposition_is_named_as_uncounted():
    counts = flops.count(jnp.linalg.cholesky, SQUARE)
    assert counts.uncounted == {"cholesky"}


def test_shard_map_counts_every_device():
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    abstract = jax.sharding.AbstractMesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = PartitionSpec("x", None)
    for m, per_device in ((mesh, 4), (abstract, 1)):
        f = jax.shard_map(
            lambda x, y: x @ y, mesh=m, in_specs=(rows, PartitionSpec()), out_specs=rows
        )
        assert flops.count(f, SQUARE, SQUARE).flops == PRODUCT, per_device


def test_pallas_counts_every_grid_step():
    def kernel(x_ref, o_ref):
        o_ref[...] = x_ref[...] @ x_ref[...]

    call = pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct((12, 4), jnp.float32),
        grid=(3,),
        in_specs=[pl.BlockSpec((4, 4), lambda i: (i, 0))],
        out_specs=pl.BlockSpec((4, 4), lambda i: (i, 0)),
        interpret=True,
    )
    assert flops.count(call, jax.ShapeDtypeStruct((12, 4), jnp.float32)).flops == 3 * PRODUCT


def test_largest_array_looks_into_loops():
    def f(x):
        return jax.lax.map(lambda row: jnp.outer(row, jnp.ones(9)).sum(), x)

    assert flops.largest_array(f, A) == 5 * 9


def test_a_pair_array_is_found_wherever_it_hides():
    T, S = 13, 17
    q, k = (jax.ShapeDtypeStruct((n, 3), jnp.float32) for n in (T, S))

    def dense(q, k):
        return jax.lax.map(lambda _: (q @ k.T).sum(), jnp.arange(2))

    def flat(q, k):
        return (q @ k.T).reshape(-1).sum()

    def thin(q, k):
        return q @ (k.T @ k)

    assert flops.has_shape_product(dense, q, k, sizes=(T, S))
    assert flops.has_shape_product(flat, q, k, sizes=(T, S))
    assert not flops.has_shape_product(thin, q, k, sizes=(T, S))
