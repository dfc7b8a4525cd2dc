"""Bags as the accuracy configs train them: the class is a function of what there is, not where."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from configs import accuracy
from configs.accuracy import splice
from experiments.tasks import labelled
from experiments.training import fields, networks

CONFIG = splice.get_config()
N, VOCAB, REAL = 60, 8, 47
GENERATOR = np.random.default_rng(0)
TEXT = GENERATOR.integers(VOCAB, size=N)
# two stretches that begin with 1 and end with 4 change places: the same pairs in all
LEFT, RIGHT = [1, 0, 6, 6, 2, 3, 4], [1, 7, 5, 0, 2, 4]
TEXT[5 : 5 + len(LEFT)], TEXT[20 : 20 + len(RIGHT)] = LEFT, RIGHT
SWAPPED = np.concatenate([TEXT[:5], RIGHT, TEXT[12:20], LEFT, TEXT[26:]])
SHUFFLED = np.concatenate([GENERATOR.permutation(TEXT[:REAL]), TEXT[REAL:]])
OTHER = np.where(np.arange(N) == 9, (TEXT + 1) % VOCAB, TEXT)


@pytest.fixture(scope="module", params=[*accuracy.BAGS, "recurrent"])
def changes(request):
    """(the config's key, how far the logits of a changed text are from those of TEXT)."""
    only = {"mechanisms": (request.param,), "seeds": (0,)}
    (point,) = splice.get_sweep(accuracy.changed(CONFIG, only))
    form = labelled.Form(vocab=VOCAB)
    task = labelled.classification(N, "made up", None, None, 3, form, rules={}, facts={})
    network = networks.make(
        networks.config_of({**fields.OPTIONAL, **point}, task), rngs=nnx.Rngs(0)
    )
    # what stands behind the end is not the same, and hidden
    texts = np.stack([TEXT, SWAPPED, SHUFFLED, OTHER])
    texts[1:, REAL:] = 0
    mask = jnp.broadcast_to(jnp.arange(N) < REAL, texts.shape)
    graph, variables = nnx.split(network)
    logits = jax.jit(lambda v: nnx.merge(graph, v)(jnp.asarray(texts), mask=mask))(variables)
    far = np.abs(logits[1:] - logits[0]).max(-1) / np.abs(logits[0]).max()
    return request.param, dict(zip(("swapped", "shuffled", "other"), far, strict=True))


def pairs(text):
    return sorted(itertools.pairwise(text[:REAL]))


def test_the_texts_are_what_they_are_called():
    assert pairs(TEXT) == pairs(SWAPPED) != pairs(SHUFFLED)
    assert sorted(TEXT) == sorted(SWAPPED) == sorted(SHUFFLED) != sorted(OTHER)
    assert (TEXT != SWAPPED).any()
    assert TEXT[REAL - 1] == SWAPPED[REAL - 1]


def test_a_bag_tells_counts_alone(changes):
    key, far = changes
    same = {"unigrams": {"swapped", "shuffled"}, "bigrams": {"swapped"}, "recurrent": set()}[key]
    assert {what for what, distance in far.items() if distance < 1e-5} == same
    assert all(distance > 1e-3 for what, distance in far.items() if what not in same), far
