"""Steps ahead of a sequence: positions that hold nothing, and are read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_zoo.model import Transformer, TransformerConfig
from experiments import tasks
from experiments.training import networks

B, N, F, AHEAD = 2, 11, 3, 4
X = jax.random.normal(jax.random.key(0), (B, N, F))


def build(**changes):
    fields = {"inputs": "continuous", "features": F, "classes": 2, "width": 16, "depth": 2}
    fields |= {"heads": 2, "ff": 20, "max_len": N + AHEAD}
    fields |= {"outputs": "ahead", "ahead": AHEAD} | changes
    return Transformer(TransformerConfig(**fields), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("mechanism", ["full", "probsparse", "fourier_enhanced"])
def test_they_are_the_last_steps_of_a_sequence_that_ends_in_zeros(mechanism):
    longer = build(outputs="value", ahead=0, mechanism=mechanism)
    whole = longer(jnp.pad(X, ((0, 0), (0, AHEAD), (0, 0))))
    found = build(mechanism=mechanism)(X)
    assert found.shape == (B, AHEAD, 2)
    np.testing.assert_allclose(found, whole[:, N:], rtol=1e-6, atol=1e-6)
    assert np.abs(np.diff(np.asarray(found), axis=1)).max() > 1e-3


def test_they_read_what_came_before_and_nothing_hidden():
    network = build()
    mask = jnp.arange(N) < jnp.array([[7], [N]])
    found = network(X, mask=mask)
    noise = jnp.where(mask[..., None], X, 9.0)
    np.testing.assert_array_equal(found, network(noise, mask=mask))
    moved = network(X.at[:, 3].add(1.0), mask=mask)
    assert (np.abs(moved - found).max((1, 2)) > 1e-4).all()


def test_a_point_has_positions_for_them():
    point = {"n": 24, "batch": 2, "dtype": "float32", "mechanism": "full", "hparams": {}}
    point["model"] = {"inputs": "continuous", "width": 16, "depth": 1, "heads": 2}
    config = networks.config_of(point, _task())
    assert config.max_len == 24 + AHEAD
    ((_, dims, asked),) = networks.calls(point, config)
    assert (dims.q_len, asked["per_position"]) == (24 + AHEAD, True)


def _task():
    model = {"kind": "encoder", "features": F, "classes": F, "outputs": "ahead", "ahead": AHEAD}
    return tasks.Task("t", 24, model, None, None, None, None, "mse", None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ahead": 0}, "go together, got 'ahead' and 0"),
        ({"outputs": "value"}, "go together, got 'value' and 4"),
        ({"ahead": -1}, "ahead must be a whole number from 1 up"),
        ({"inputs": "patches"}, "continuous inputs, got 'encoder' of 'patches'"),
    ],
)
def test_what_has_nothing_ahead_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        build(**changes)
