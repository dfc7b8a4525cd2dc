"""Chunks of positions: what all at once gives, in value and gradient, and no array copied."""

import jax
import jax.numpy as jnp
import pytest

from attention_zoo.chunks import over_chunks
from experiments import measure
from tests.cases import assert_close

H, D = 3, 5


def inputs(B, N):
    x, y = jax.random.normal(jax.random.key(0), (2, B, N, H, D))
    table = jax.random.normal(jax.random.key(1), (H, D))
    state = jax.random.normal(jax.random.key(2), (B, H, D))
    return state, x, y, table


def run(state, x, y, table, mask, size):
    """Each position takes the sum of x * table over what is shown up to it, times y."""

    def step(table, state, x, y, mask):
        x = x * table[:, None]
        shown = x if mask is None else jnp.where(mask[:, None, :, None], x, 0.0)
        sums = state[:, :, None] + shown.cumsum(2)
        return sums[:, :, -1], sums * y

    return over_chunks(step, table, state, (x, y), mask, size)


def at_once(state, x, y, table, mask):
    x = x * table if mask is None else jnp.where(mask[..., None, None], x * table, 0.0)
    sums = state[:, None] + x.cumsum(1)
    return sums * y, sums[:, -1]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("B", "N"), [(1, 8), (2, 8), (1, 10), (2, 9), (2, 3), (1, 1)])
def test_chunks_are_the_whole_in_value_and_gradient(B, N, masked):
    given = inputs(B, N)
    mask = jax.random.bernoulli(jax.random.key(4), 0.6, (B, N)) if masked else None

    def loss(run, *given):
        out, state = run(*given)
        return (jnp.sin(out) * 1.0).sum() + (state**2).sum()

    def chunked(*given):
        return run(*given, mask, 4)

    def whole(*given):
        return at_once(*given, mask)

    assert_close(chunked(*given), whole(*given))
    gradients = jax.grad(loss, argnums=(1, 2, 3, 4))
    assert_close(gradients(chunked, *given), gradients(whole, *given))


def test_nothing_may_leave():
    state, x, _, _ = inputs(2, 7)

    def step(_, state, x, mask):
        return state + jnp.where(mask[:, None, :, None], x, 0.0).sum(2), None

    mean, total = over_chunks(step, None, state, (x,), None, 4)
    assert mean is None
    assert_close(total, state + x.sum(1))


@pytest.mark.parametrize(("B", "N"), [(1, 1024), (2, 1024), (2, 1001)])
def test_no_array_is_copied(B, N):
    given = inputs(B, N)
    lowered = jax.jit(lambda *given: run(*given, None, 16)).trace(*given).lower()
    assert measure.memory_of(lowered).temp_size_in_bytes < given[1].nbytes / 2


def test_arrays_of_two_lengths_are_refused():
    state, x, y, table = inputs(1, 8)
    with pytest.raises(ValueError, match=r"of one length, got lengths \[8, 7\]"):
        run(state, x, y[:, :7], table, None, 4)
