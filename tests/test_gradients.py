"""Pieces whose gradients are written for speed, against what they are by definition."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from attention_zoo import buckets, dense, ops, recurrence
from experiments.measuring import flops


def plain_rows(x, total):
    return ops.safe_divide(x, total[..., None])


def plain_spread(x):
    return jnp.broadcast_to(x[:, :, None], (*x.shape[:2], 11, x.shape[2]))


# a row of this sees nothing
SEEN = jnp.arange(5)[:, None] > jnp.arange(7)


def plain_attend(logits, v):
    return ops.weigh(ops.softmax(logits, SEEN), v)


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
    "attend": (
        lambda logits, v: ops.attend(logits, SEEN, v),
        plain_attend,
        [(2, 3, 5, 7), (2, 7, 3, 4)],
    ),
    "attend to all": (
        lambda logits, v: ops.attend(logits, None, v),
        lambda logits, v: ops.weigh(ops.softmax(logits), v),
        [(2, 3, 5, 7), (2, 7, 3, 4)],
    ),
    "few over rows": (ops.over_rows, lambda x, y: x.mT @ y, [(2, 9, 3), (2, 9, 5)]),
    "many over rows": (ops.over_rows, lambda x, y: x.mT @ y, [(2, 9, 5), (2, 9, 3)]),
    "product": (ops.product, lambda x, w: jnp.einsum("btd,df->btf", x, w), [(2, 6, 5), (5, 3)]),
    "per head": (
        ops.product,
        lambda x, w: jnp.einsum("bhtd,hdf->bhtf", x, w),
        [(2, 3, 6, 5), (3, 5, 7)],
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


def test_what_attend_is_computed_again_for_keeps_its_output():
    logits, v = (jax.random.normal(jax.random.key(0), s) for s in ((1, 1, 5, 7), (1, 7, 1, 4)))

    def products(policy):
        call = jax.checkpoint(lambda *xs: ops.attend(xs[0], SEEN, xs[1]), policy=policy)
        traced = jax.jit(jax.grad(lambda *xs: call(*xs).sum(), (0, 1))).trace(logits, v)
        return flops.count_jaxpr(traced.jaxpr).flops // (2 * 5 * 7 * 4)

    assert (products(None), products(ops.KEPT)) == (4, 3)


def test_a_linear_layer_is_one_of_flax():
    x, d_out = (jax.random.normal(jax.random.key(n), (2, 5, n)) for n in (4, 7))

    def run(kind):
        graph, params = nnx.split(kind(4, 7, rngs=nnx.Rngs(3)))
        loss = jax.grad(lambda params, x: (nnx.merge(graph, params)(x) * d_out).sum(), (0, 1))
        return jax.tree.leaves(loss(params, x)), str(jax.make_jaxpr(loss)(params, x))

    (ours, turned), (theirs, plain) = run(dense.Linear), run(nnx.Linear)
    for a, b in zip(ours, theirs, strict=True):
        assert jnp.allclose(a, b, rtol=1e-5, atol=1e-6)
    assert "optimization_barrier" in turned
    assert "optimization_barrier" not in plain


def test_a_constant_matrix_has_no_gradient_to_count():
    x, matrix = jnp.ones((6, 5)), jnp.ones((5, 3))

    def products(by):
        traced = jax.jit(jax.grad(lambda *xs: ops.product(*xs).sum(), by)).trace(x, matrix)
        return flops.count_jaxpr(traced.jaxpr).flops // (2 * 6 * 5 * 3)

    assert (products(0), products((0, 1))) == (2, 3)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_gradients_in_bfloat16_are_near(monkeypatch, backend):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    keys = (jax.random.key(n) for n in range(9))
    logits = jax.random.normal(next(keys), (2, 3, 5, 7))
    v = jax.random.normal(next(keys), (2, 7, 3, 4)).astype(jnp.bfloat16)
    x, w = (jax.random.normal(next(keys), s).astype(jnp.bfloat16) for s in ((2, 6, 5), (5, 3)))

    def both(fast, plain, *arrays):
        wide = [a.astype(jnp.float32) for a in arrays]
        for call, of in ((fast, arrays), (plain, wide)):
            yield jax.grad(lambda *xs, call=call: (call(*xs) ** 2.0).sum(), (0, 1))(*of)

    attend = both(lambda a, b: ops.attend(a, SEEN, b), plain_attend, logits, v)
    for found in (attend, both(ops.product, jnp.matmul, x, w)):
        for ours, theirs in zip(*found, strict=True):
            assert jnp.allclose(ours, theirs, rtol=0.05, atol=0.05 * jnp.abs(theirs).max())


def test_where_there_is_no_cpu_a_sum_is_a_sum(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    steps = {eqn.primitive.name for eqn in jax.make_jaxpr(ops.add_up)(jnp.ones((3, 4))).eqns}
    assert steps == {"reduce_sum"}
