"""Padding of the archives' unequal series changes nothing in the models that the config trains."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attention_zoo as zoo
from configs import accuracy, base
from configs.accuracy import ucr
from experiments import tasks
from experiments.training import fields, networks
from tests.test_real_tasks import folder, real

__all__ = ["folder"]
CONFIG = ucr.get_config()
# set: (steps that hold the series looked at, the set's own length)
SETS = {"JapaneseVowels": (19, 29), "PLAID": (700, 1344)}
SERIES = 5


def mechanism(key):
    made = base.variant(CONFIG, key, 29)
    return zoo.make(made["mechanism"], **made["hparams"])


class Noise(nnx.Module):
    """An embedding that leaves large noise in hidden positions of all but the first SERIES rows."""

    def __init__(self, embed):
        self.embed = embed

    def __call__(self, x, mask, *, key=None):
        h, seen = self.embed(x, mask, key=key)
        noise = 1e3 * jax.random.normal(jax.random.key(1), h.shape)
        hidden = ~seen & (jnp.arange(len(h)) >= SERIES)[:, None]
        return jnp.where(hidden[..., None], noise, h), seen


@functools.cache
def logits(name, key):
    """Of series cut after their steps, padded to their set, and with noise in the padding."""
    short, n = SETS[name]
    chosen = {"sets": (name,), "mechanisms": (key,), "seeds": (0,)}
    (point,) = ucr.get_sweep(accuracy.changed(CONFIG, chosen))
    task = tasks.make("ucr", n, **point["task_args"])
    config = networks.config_of({**fields.OPTIONAL, **point}, task)
    # one block compiles, but for an output that is shorter
    config = dataclasses.replace(config, scan=point["mechanism"] != "query_reduction")
    network = networks.make(config, rngs=nnx.Rngs(0))
    network.embed = Noise(network.embed)
    graph, variables = nnx.split(network)
    call = jax.jit(lambda v, x, mask: nnx.merge(graph, v)(x, mask=mask))
    batch = next(task.held_out("test", 64))
    rows = np.flatnonzero(batch["mask"].sum(1) <= short)[:SERIES]
    inputs, mask = batch["inputs"][rows], batch["mask"][rows]
    noise = 1e3 * np.random.default_rng(0).normal(size=inputs.shape).astype(np.float32)
    noisy = np.where(mask[..., None], inputs, noise)
    both = call(variables, np.concatenate([inputs, noisy]), np.concatenate([mask, mask]))
    return call(variables, inputs[:, :short], mask[:, :short]), *np.split(both, 2)


every = pytest.mark.parametrize(
    "name", ["JapaneseVowels", pytest.param("PLAID", marks=pytest.mark.slow)]
)
each = pytest.mark.parametrize("key", [key for key in CONFIG.mechanisms if mechanism(key).mask])


@real
@every
@each
def test_what_stands_in_the_padding_is_invisible(folder, name, key):
    _, padded, noisy = logits(name, key)
    # a row may be rounded otherwise in another place of the batch
    np.testing.assert_allclose(noisy, padded, rtol=1e-5, atol=1e-6)


@real
@every
@each
def test_more_padding_changes_nothing_but_where_it_says_so(folder, name, key):
    cut, padded, _ = logits(name, key)
    far = np.abs(cut - padded).max() / np.abs(padded).max()
    assert (far > 1e-5) == bool(mechanism(key).by_length), far
