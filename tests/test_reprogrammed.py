"""Time-LLM's forecaster: a text model that is adopted, read through, and never moved."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from attention_zoo.layers import Buffer
from attention_zoo.model import Transformer, TransformerConfig
from attention_zoo.reprogrammed import ReprogrammedConfig, ReprogrammedForecaster
from experiments import tasks, train
from experiments.tasks import data
from experiments.training import fields, networks, pretraining, steps

N, HORIZON = 40, 3
TEXT = TransformerConfig(kind="decoder", vocab=11, width=16, depth=1, heads=2, ff=24, max_len=9)
CONFIG = ReprogrammedConfig(N, HORIZON, TEXT, patch=8, patch_stride=4, prototypes=5)
X = jax.random.normal(jax.random.key(0), (2, N, 1))


def build():
    return ReprogrammedForecaster(CONFIG, rngs=nnx.Rngs(0))


def adopted(seed=7):
    network, text = build(), Transformer(TEXT, rngs=nnx.Rngs(seed))
    network.adopt(nnx.split(text)[1])
    return network, text


def test_the_text_model_is_read_with_what_was_adopted():
    network, text = adopted()
    table = text.embed.table.embedding[...] * 4.0
    prototypes = jnp.broadcast_to(network.mix[...] @ table, (2, 5, 16))
    h = network.cross(network.embed(X, None)[0], prototypes)
    assert h.shape == (2, CONFIG.positions_of(N), 16) == (2, 9, 16)
    h = h + text.embed.positions[...][:9] * 4.0
    h = text.norm(text.stack.blocks[0](h))
    np.testing.assert_allclose(network(X), network.head(h.reshape(2, -1)), rtol=1e-5, atol=1e-5)
    assert np.abs(network(X) - build()(X)).max() > 1e-4


def test_only_what_is_around_it_is_trained():
    network, _ = adopted()
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    assert set(params) == {"embed", "mix", "cross", "head"}
    assert jax.tree.leaves(nnx.split(network, Buffer, ...)[1])
    grads = jax.grad(lambda p: (nnx.merge(graph, p, rest, copy=True)(X) ** 2).sum())(params)
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads["mix"]))


def test_another_text_model_is_refused():
    for change in ({"depth": 2}, {"ff": 32}):
        other = Transformer(dataclasses.replace(TEXT, **change), rngs=nnx.Rngs(0))
        with pytest.raises(ValueError, match="is another than the config's text"):
            build().adopt(nnx.split(other)[1])
    with pytest.raises(ValueError, match=r"text\.max_len must be at least the 19 patches of 80"):
        ReprogrammedConfig(80, HORIZON, TEXT, patch=8, patch_stride=4)
    encoder = TransformerConfig(vocab=11, classes=2)
    with pytest.raises(ValueError, match="text must be a decoder, got a encoder"):
        ReprogrammedConfig(N, HORIZON, encoder)


@pytest.mark.parametrize(
    ("shape", "more", "words"),
    [
        ((2, 36, 1), {}, r"takes \[B, 40, 1\], got \(2, 36, 1\)"),
        ((2, N, 3), {}, r"takes \[B, 40, 1\], got \(2, 40, 3\)"),
        ((2, N, 1), {"train": True}, r"train=True with dropout needs rngs \(nnx.Rngs or a key\)"),
    ],
)
def test_what_it_cannot_take_is_named(shape, more, words):
    config = dataclasses.replace(CONFIG, dropout=0.5)
    network = ReprogrammedForecaster(config, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=words):
        network(jnp.zeros(shape), **more)


@pytest.fixture
def small_data(monkeypatch):
    """A wave to forecast, and the alphabet to read."""
    text = bytes(range(97, 123)) * 400
    monkeypatch.setattr(data, "read", lambda *_: text)
    monkeypatch.setattr(
        tasks,
        "make",
        lambda name, n, **args: tasks.Task(
            name="wave",
            n=n,
            model={"kind": "encoder", "features": 1, "outputs": "flat", "classes": HORIZON},
            batch=lambda seed, step, size: wave(size, n, seed * 1000 + step),
            held_out=lambda split, size: iter([wave(size, n, 10**6)]),
            sums=squares,
            score=lambda totals: totals["loss"] / totals["count"],
            metric="mse",
            oracles=dict,
        ),
    )


def wave(size, n, seed):
    begin = np.random.default_rng(seed).uniform(0, 6, (size, 1))
    x = np.sin(begin + np.arange(n + HORIZON) / 3).astype(np.float32)
    weights = np.ones(size, bool)
    return {"inputs": x[:, :n, None], "targets": x[:, n:], "weights": weights,
            "mask": np.ones((size, n), bool)}  # fmt: skip


def squares(outputs, batch):
    return {"loss": ((outputs - batch["targets"]) ** 2).sum(), "count": outputs.size * 1.0}


POINT = {
    **{"experiment": "wave", "kind": "train", "label": "Time-LLM", "mechanism": "full"},
    **{"hparams": {}, "task": "wave", "task_args": {}, "n": N, "seed": 0, "batch": 8},
    **{"steps": 40, "eval_every": 20, "lr": 3e-3},
    "model": {
        **{"architecture": "reprogrammed", "patch": 8, "patch_stride": 4, "prototypes": 5},
        "text": {"width": 16, "depth": 1, "heads": 2, "ff": 24, "max_len": 32},
    },
    "pretrain": {"objective": "text", "steps": 30, "text_n": 32, "text_batch": 8},
}


def test_a_point_trains_the_text_model_first(small_data, tmp_path):
    train.check_point(POINT)
    found = train.run_point(POINT, tmp_path)
    # bits a byte, of which untrained ones are 8
    assert found["pretrain_bpb"] < 8
    assert found["test_mse"] < 0.4


def test_training_reads_the_trained_text_model_and_moves_all_but_it(small_data):
    stages = pretraining.stages({**fields.OPTIONAL, **POINT}, tasks.make("wave", N))
    _, (_, task) = stages
    built = [
        steps.start(networks.make(networks.config_of(c, t), rngs=nnx.Rngs(seed)), c)
        for seed, (c, t) in zip((3, 0), stages, strict=True)
    ]
    (text_graph, _, trained), (graph, optimiser, state) = built
    state = pretraining.transfer(trained, state)
    step = jax.jit(steps.train_step(graph, task, optimiser))
    after, _ = step(state, wave(8, N, 0), 0)
    for name in ("mix", "cross", "head"):
        for old, new in zip(
            *(jax.tree.leaves(s["params"][name]) for s in (state, after)), strict=True
        ):
            assert np.abs(new - old).max() > 0, name
    tokens = jnp.arange(20)[None] + 97
    text = nnx.merge(text_graph, trained["params"], trained["buffers"])
    held = nnx.merge(graph, after["params"], after["buffers"])._text()
    np.testing.assert_array_equal(held(tokens), text(tokens))


def test_text_as_long_as_the_text_model_takes(small_data):
    point = POINT | {"pretrain": POINT["pretrain"] | {"text_n": 33}}
    with pytest.raises(ValueError, match=r"text_n must be at most model\.text\.max_len=32, got 33"):
        train.check_point(point)


def test_text_pretraining_needs_a_text_model(small_data):
    point = POINT | {"model": {"width": 16}}
    with pytest.raises(ValueError, match="is of a model with a text model in it"):
        train.check_point(point)
