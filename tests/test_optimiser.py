"""A single step: what decays, what is frozen, what is moved, and the rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import attention_zoo as zoo
from attention_zoo.layers import Buffer
from experiments import train
from experiments.training import fields, networks, steps
from tests.alphabet import POINT, alphabet


def test_schedules_rise_and_fall():
    point = {"warmup": 4, "steps": 100, "final_lr": 0.1}
    for name, last in (("cosine", 0.1), ("rsqrt", 0.2)):
        share = steps.SCHEDULES[name](point)
        assert [float(share(step)) for step in (0, 2, 4)] == pytest.approx([0.0, 0.5, 1.0])
        assert float(share(100)) == pytest.approx(last)
        assert float(steps.SCHEDULES[name](point | {"warmup": 0})(0)) == 1.0


def one_step(weights=None, **changes):
    """(state before, state after, loss) of a step on a fresh model."""
    point = {**fields.OPTIONAL, **POINT, **changes}
    point["model"] = {**point["model"], "dropout": 0.0}
    task = alphabet(point["n"])
    model = zoo.Transformer(networks.config_of(point, task), rngs=nnx.Rngs(0))
    graph, optimiser, state = steps.start(model, point)
    batch = task.batch(0, 0, point["batch"])
    if weights is not None:
        batch |= {"weights": batch["weights"] & weights}
    step = jax.jit(steps.train_step(graph, task, optimiser, point["microbatches"]))
    return state, *step(state, batch, jnp.int32(0))


# so that it binds, and so that it does not
@pytest.mark.parametrize("clip", [0.01, 1e9])
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_microbatches_add_up_to_the_batch(parts, clip):
    """Whose parts have some many targets, some few."""
    few = np.arange(13) < np.array([1, 2, 13, 3, 1, 12])[:, None]
    _, whole, loss = one_step(few, warmup=0, clip=clip)
    _, pieces, loss_of_pieces = one_step(few, warmup=0, clip=clip, microbatches=parts)
    assert float(loss_of_pieces) == pytest.approx(float(loss), rel=1e-6)
    moments = [jax.tree.leaves(state["optimiser"]) for state in (whole, pieces)]
    for x, y in zip(*moments, strict=True):
        # second moments are squares; biases of keys have no gradient but rounding
        near = max(1e-4 * np.abs(y).max(), 1e-9)
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=min(near, 1e-6))


@pytest.mark.parametrize("scan", [False, True])
def test_only_matrices_decay(scan):
    task = alphabet(13)
    point = {**fields.OPTIONAL, **POINT, "warmup": 0, "lr": 0.5, "weight_decay": 0.5}
    point["model"] = {**point["model"], "scan": scan}
    model = zoo.Transformer(networks.config_of(point, task), rngs=nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    # biases start at zero, where a decay would not show
    params = jax.tree.map(lambda x: x + 1.0, params)
    optimiser = steps.make_optimiser(point, scan=scan)
    still = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(optimiser.update)(still, optimiser.init(params), params)
    for path, update in jax.tree.leaves_with_path(updates):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        decayed = bool((update != 0).all())
        assert decayed == name.endswith((".kernel.value", ".embedding.value", "positions.value"))
        assert decayed or not update.any()


def test_buffers_get_no_gradient_and_no_decay(monkeypatch):
    frozen = {"noise": jnp.full(3, 7.0)}
    full = zoo.make("full")

    def apply(params, q, k, v, **kwargs):
        return full.apply({}, q, k, v, **kwargs) * params["noise"].sum()

    fake = train.dataclasses.replace(
        full, init=lambda rng, dims: frozen, apply=apply, frozen=frozenset(frozen)
    )
    monkeypatch.setattr(zoo.registry, "make", lambda name, **hparams: fake)
    before, after, _ = one_step(warmup=0)
    assert jax.tree.leaves(before["buffers"])
    for x, y in zip(*(jax.tree.leaves(s["buffers"]) for s in (before, after)), strict=True):
        np.testing.assert_array_equal(x, y)
    moments = jax.tree.leaves(nnx.state(after["optimiser"], Buffer))
    assert not moments


def test_a_moved_buffer_is_kept(monkeypatch):
    full = zoo.make("full")
    fake = train.dataclasses.replace(
        full,
        init=lambda rng, dims: {"count": jnp.zeros(())},
        refresh=lambda rng, params, q, k, mask: {"count": params["count"] + 1},
        frozen=frozenset({"count"}),
        apply=lambda params, *arrays, **kwargs: full.apply({}, *arrays, **kwargs),
    )
    monkeypatch.setattr(zoo.registry, "make", lambda name, **hparams: fake)
    for parts, moves in ((1, 1.0), (3, 3.0)):
        _, after, _ = one_step(microbatches=parts)
        assert [float(x) for x in jax.tree.leaves(after["buffers"])] == [moves]
