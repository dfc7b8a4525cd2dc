"""`selection.largest` against a stable sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_zoo import ops, selection


def sorted_out(x, count):
    """Indices of the `count` largest of each row, of equal ones the first, ascending."""
    return np.sort(np.argsort(-np.asarray(x), -1, stable=True)[..., :count], -1)


def rows(N):
    """Without ties, with many, of one number, mostly hidden, extreme, zeros of both signs."""
    x = jax.random.normal(jax.random.key(N), (6, N))
    few = jax.random.bernoulli(jax.random.key(1), 0.02, (N,))
    wide = jnp.where(jnp.abs(x[4]) > 1, jnp.inf * x[4], jnp.finfo(jnp.float32).max * x[4])
    return jnp.stack(
        [x[0], jnp.round(2 * x[1]), jnp.ones(N), jnp.where(few, x[3], ops.LOWEST), wide, 0 * x[5]]
    )


@pytest.mark.parametrize(("N", "count"), [(1, 1), (7, 7), (5, 9), (33, 8), (200, 1), (1027, 13)])
@pytest.mark.parametrize("find", [selection.largest, selection.by_bisection])
def test_the_largest_are_those_that_a_sort_finds(find, N, count):
    """Of more than 4 * 16 numbers a chosen one by way of strips; more than there are is all."""
    x = rows(N)
    found = jax.jit(find, static_argnums=1)(
        x, count if find is selection.largest else min(count, N)
    )
    np.testing.assert_array_equal(found, sorted_out(x, count))


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_any_backend_finds_the_same(monkeypatch, backend):
    """Mapped over too; a GPU's form has another inner loop."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x = jnp.stack([rows(500), rows(500)[::-1]])
    found = jax.jit(jax.vmap(lambda x: selection.largest(x, 9)))(x)
    np.testing.assert_array_equal(found, sorted_out(x, 9))
