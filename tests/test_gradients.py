"""Pieces whose gradients are written for speed, against what they are by definition."""

import jax
import jax.numpy as jnp
import pytest

from attention_zoo import buckets, ops, recurrence


def plain_rows(x, total):
    return ops.safe_divide(x, total[..., None])


def plain_spread(x):
    return jnp.broadcast_to(x[:, :, None], (*x.shape[:2], 11, x.shape[2]))


PIECES = {
    "last axis": (ops.add_up, lambda x: x.sum(-1), [(3, 5, 40)]),
    "another axis": (lambda x: ops.add_up(x, 1), lambda x: x.sum(1), [(3, 7, 4)]),
    "one number": (ops.add_up, lambda x: x.sum(-1), [(3, 1)]),
    "spread": (lambda x: ops.spread(x, 11), plain_spread, [(2, 3, 5)]),
    "rows": (ops.divide_rows, plain_rows, [(2, 6, 7), (2, 6)]),
    "dot": (
        buckets.dot,
        lambda q, k: jnp.einsum("mqd,mkd->mqk", q, k),
        [(3, 5, 4), (3, 7, 4)],
    ),
    "weigh": (
        buckets.weigh,
        lambda w, v: jnp.einsum("mqk,mke->mqe", w, v),
        [(3, 5, 7), (3, 7, 4)],
    ),
    "outer sum": (
        recurrence.outer_sum,
        lambda v, k: jnp.einsum("bhse,bhsr->bher", v, k),
        [(2, 3, 7, 4), (2, 3, 7, 6)],
    ),
}


@pytest.mark.parametrize("name", PIECES)
def test_values_and_gradients_are_those_of_the_definition(name):
    fast, plain, shapes = PIECES[name]
    arrays = [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]
    if name == "rows":
        # of a row without anything the gradient is 0, not NaN
        arrays[1] = arrays[1].at[0, :2].set(0.0)
    weights = jax.random.normal(jax.random.key(9), jax.eval_shape(plain, *arrays).shape)

    def loss(call):
        return lambda *xs: (call(*xs) * weights).sum()

    both = (jax.jit(jax.value_and_grad(loss(f), range(len(arrays)))) for f in (fast, plain))
    for ours, theirs in zip(*(jax.tree.leaves(f(*arrays)) for f in both), strict=True):
        assert jnp.allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_where_there_is_no_cpu_a_sum_is_a_sum(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    steps = {eqn.primitive.name for eqn in jax.make_jaxpr(ops.add_up)(jnp.ones((3, 4))).eqns}
    assert steps == {"reduce_sum"}
