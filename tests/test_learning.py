"""Every mechanism learns a tiny real task in the shared transformer: whose bytes are these?"""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import attention_zoo as zoo
from attention_zoo.layers import Buffer
from attention_zoo.model import TransformerConfig
from tests.test_model import HPARAMS

# modules of the standard library with manners of their own
SOURCES = ("argparse", "decimal", "mailbox", "this")
N, BATCH, STEPS = 64, 32, 30
# as many as there are positions, or fewer: programs of more take ten seconds to compile
FEW = {
    "linformer": {"slots": 16},
    "nystrom": {"landmarks": 8},
    "performer": {"features": 16},
    "rfa": {"features": 16},
}


def windows(seed: int):
    """[STEPS, BATCH, N] bytes and [STEPS, BATCH] labels: which module they are from."""
    texts = [
        np.frombuffer(Path(importlib.util.find_spec(name).origin).read_bytes(), np.uint8)
        for name in SOURCES
    ]
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(texts), size=(STEPS, BATCH))
    starts = rng.random((STEPS, BATCH))
    cuts = [
        texts[label][int(start * (len(texts[label]) - N)) :][:N]
        for label, start in zip(labels.ravel(), starts.ravel(), strict=True)
    ]
    return jnp.asarray(np.stack(cuts).reshape(STEPS, BATCH, N), jnp.int32), jnp.asarray(labels)


@pytest.mark.parametrize("name", zoo.names())
def test_the_loss_falls(name):
    # FNet's unnormalised transform outgrows the residual unless it is normalised after
    config = TransformerConfig(
        vocab=256,
        classes=len(SOURCES),
        width=32,
        depth=1,
        heads=4,
        ff=64,
        max_len=N,
        norm="post" if name == "fourier" else "pre",
        mechanism=name,
        hparams=(FEW | HPARAMS).get(name, {}),
    )
    graph, params, buffers, rest = nnx.split(
        zoo.Transformer(config, rngs=nnx.Rngs(0)), nnx.Param, Buffer, ...
    )
    optimiser = optax.adam(6e-3)

    def step(state, batch):
        params, buffers, moments = state
        tokens, labels, key = batch

        def objective(params):
            model = nnx.merge(graph, params, buffers, rest, copy=True)
            logits = model(tokens, train=True, rngs=key)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), nnx.state(model, Buffer)

        (loss, buffers), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        updates, moments = optimiser.update(gradient, moments)
        return (optax.apply_updates(params, updates), buffers, moments), loss

    @jax.jit
    def train(params, buffers, tokens, labels):
        keys = jax.random.split(jax.random.key(1), STEPS)
        state = (params, buffers, optimiser.init(params))
        return jax.lax.scan(step, state, (tokens, labels, keys))[1]

    losses = np.asarray(train(params, buffers, *windows(0)))
    assert np.isfinite(losses).all()
    assert losses[-5:].mean() < 0.8 * losses[:5].mean()
