"""Recurrent cells and convolutions over more positions than a chunk has, and what they leave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention_zoo import cells, taps

B, C, R = 2, 5, 4


def by_position(cell, backwards, weights, state, x, shown):
    """`cells.walk` a position at a time, for autodiff."""
    (W, U, b), hs = weights, [None] * x.shape[1]
    for t in reversed(range(x.shape[1])) if backwards else range(x.shape[1]):
        moved = cells.move(cell, x[:, t] @ W + state[0] @ U + b, state[1])
        state = [jnp.where(shown[:, t, None], *pair) for pair in zip(moved, state, strict=True)]
        hs[t] = state[0]
    return jnp.stack(hs, 1), tuple(state)


def drawn(cell, N):
    G = cells.GATES[cell]
    shapes = [(C, G * R), (R, G * R), (G * R,), (B, R), (B, R), (B, N, C), (B, N, R), (B, R)]
    keys = jax.random.split(jax.random.key(N), len(shapes))
    W, U, b, h, c, x, d_hs, d_c = map(jax.random.normal, keys, shapes)
    shown = jax.random.bernoulli(keys[0], 0.8, (B, N)).at[:, -1].set(False)
    return ((W, U, b), (h, c), x), shown, (d_hs, d_c)


# one chunk, whole chunks, and chunks of which the last is padded
@pytest.mark.parametrize("N", [3, 6, 8, 10])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cell", cells.GATES)
def test_chunks_are_the_walk_and_its_gradients(monkeypatch, cell, backwards, N):
    monkeypatch.setattr(cells, "ROWS", 4)
    arrays, shown, (d_hs, d_c) = drawn(cell, N)

    def loss(walk):
        def of(weights, state, x):
            hs, (h, c) = walk(cell, backwards, weights, state, x, shown)
            return (hs * d_hs).sum() + (h * d_c).sum() + (c * d_c).sum()

        return jax.jit(jax.value_and_grad(of, (0, 1, 2)))(*arrays)

    found, expected = (jax.tree.leaves(loss(walk)) for walk in (cells.walk, by_position))
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("width", "dilation"), [(1, 1), (2, 3), (3, 1), (5, 2), (3, 9)])
@pytest.mark.parametrize("N", [7, 16, 21])
def test_chunks_are_the_convolution_and_its_gradients(monkeypatch, N, width, dilation, causal):
    monkeypatch.setattr(taps, "ROWS", 8)
    keys = jax.random.split(jax.random.key(N), 4)
    shapes = (B, N, C), (width, C, C), (C,), (B, N, C)
    x, kernel, bias, cotangent = map(jax.random.normal, keys, shapes)

    def plain(x, kernel, bias):
        return jax.nn.relu(taps.summed(x, kernel, dilation, causal) + bias)

    def chunked(x, kernel, bias):
        return taps.rectified(x, kernel, bias, dilation, causal)

    def loss(convolve):
        of = jax.value_and_grad(lambda *arrays: (convolve(*arrays) * cotangent).sum(), (0, 1, 2))
        return jax.tree.leaves(jax.jit(of)(x, kernel, bias))

    for got, wanted in zip(loss(chunked), loss(plain), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-5)


def kept(program, *arrays):
    """Entries of what the backward pass of a program of these arrays keeps."""
    residuals = jax.eval_shape(lambda *a: jax.vjp(program, *a)[1], *arrays)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(residuals))


def test_the_backward_pass_keeps_states_alone():
    """x, h and c of every position, not the gates; of a convolution x and a byte an entry."""
    N, wide = 512, 64
    weights = jnp.zeros((wide, 4 * wide)), jnp.zeros((wide, 4 * wide)), jnp.zeros(4 * wide)
    state, x = (jnp.zeros((1, wide)),) * 2, jnp.zeros((1, N, wide))
    shown = jnp.ones((1, N), bool)
    held = kept(lambda w, s, x: cells.walk("lstm", False, w, s, x, shown), weights, state, x)
    assert held < 4 * 3.3 * x.size + 4 * sum(w.size for w in weights)
    kernel, bias = jnp.zeros((3, wide, wide)), jnp.zeros(wide)
    held = kept(taps.rectified, x, kernel, bias)
    assert held < 4 * 1.3 * x.size + 4 * kernel.size
