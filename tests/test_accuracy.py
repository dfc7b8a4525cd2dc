"""The accuracy configs are fair: what differs between the mechanisms of one (task, N)."""

import functools
import importlib
import pkgutil
import types

import pytest
from flax import nnx

import attention_zoo as zoo
from attention_zoo import model
from configs import accuracy
from experiments import tasks, train
from experiments.running import configuration
from experiments.training import choice, networks

CONFIGS = sorted(module.name for module in pkgutil.iter_modules(accuracy.__path__))
SIZES = ("small", "medium", "full")
EACH = [(name, size) for name in CONFIGS for size in SIZES]
each = pytest.mark.parametrize(("name", "size"), EACH)
sized = pytest.mark.parametrize(
    ("name", "size"),
    [pytest.param(*pair, marks=[] if "small" in pair else pytest.mark.slow) for pair in EACH],
)
BAGS = {fields["label"] for fields in accuracy.BAGS.values()}
# what a mechanism is, how wide it has to be for its parameters, the text model that is frozen
OWN = {"label", "mechanism", "hparams", "model", "lr", "seed", "pretrain"}


@functools.cache
def loaded(name, size):
    """(config, its points with those that they require, unchecked, the final points)."""
    module = importlib.import_module(f"configs.accuracy.{name}")
    config = module.get_config(size)
    listed = [configuration._plain(point) for point in module.get_sweep(config)]
    return config, listed


def without(point, names):
    return {name: value for name, value in point.items() if name not in names}


@each
def test_mechanisms_differ_in_nothing_else(name, size):
    config, points = loaded(name, size)
    first = {}
    for point in points:
        model = without(point["model"], {"ff", "attention", "form", "decomposition", "activation"})
        if point["label"] in BAGS:
            assert model.items() >= accuracy.BAG.items()
            model |= {name: config.model[name] for name in accuracy.BAG}
        fixed = without(point, OWN) | {"model": model}
        architecture = point["model"].get("architecture")
        key = point["experiment"], point["n"], point["model"].get("width"), architecture
        assert fixed == first.setdefault(key, fixed)
    lengths = {(point["label"], point["n"]) for point in points}
    labels = {label for label, _ in lengths}
    assert lengths >= {(label, n) for label in labels for n in config.lengths}


@each
def test_rates_are_chosen_alike(name, size):
    config, points = loaded(name, size)
    assert len(config.lrs) >= 3
    grids = {}
    for point in points:
        grid = choice.grid_of(point)
        assert [other["lr"] for other in grid] == list(config.lrs)
        for other in grid:
            assert other["role"] == "grid"
            assert other["seed"] == config.seeds[0]
            # colour has its own length, and so has each data set of series
            alone = {"colour", "dataset"} & set(other["task_args"])
            assert other["n"] == (point["n"] if alone else config.lr_length)
        label = point["label"], point["model"].get("width"), str(point["task_args"])
        # all lengths and seeds of a mechanism read the same records
        assert grids.setdefault(label, grid) == grid
    steps = {grid[0]["steps"] for grid in grids.values()}
    assert len(steps) == 1


@each
def test_few_seeds_are_said(name, size):
    config, points = loaded(name, size)
    seeds = {}
    for point in points:
        seeds.setdefault((point["label"], point["n"]), set()).add(point["seed"])
    said = importlib.import_module(f"configs.accuracy.{name}").__doc__
    assert all(len(found) >= 3 for found in seeds.values()) or "one seed" in " ".join(said.split())
    assert len({len(found) for (_, n), found in seeds.items() if n == config.lengths[0]}) == 1


def bytes_of(classes, vocab=257):
    return {"kind": "encoder", "inputs": "tokens", "vocab": vocab, "classes": classes}


# what real data decide of a model, so that none need be read
READ = {
    "tinyshakespeare": {"kind": "decoder", "inputs": "tokens", "vocab": 256},
    "imdb": bytes_of(2),
    "sst2": bytes_of(2),
    "cifar10": bytes_of(10, 256),
    "mnist": bytes_of(10, 256),
    "splice": bytes_of(3, 8),
    "ucr": {"kind": "encoder", "inputs": "continuous", "features": 1, "classes": 6},
    "forecast": {"kind": "encoder", "features": 1, "outputs": "flat", "classes": 96},
    "fsdd": {"kind": "encoder", "inputs": "continuous", "features": 1, "classes": 10},
    "multi30k": {
        **{"kind": "encoder_decoder", "inputs": "tokens", "vocab": 4000, "target_vocab": 4000},
    },
}


def resolved(point):
    """The point, and the model that its task makes of it."""
    task, n = point["task"], point["n"]
    fields = READ.get(task) or tasks.make(task, n, **point["task_args"]).model
    if point["task_args"].get("continuous"):
        fields = {"kind": "encoder", "inputs": "continuous", "features": 1, "classes": 10}
    if "vocab" in point["task_args"]:
        fields = fields | dict.fromkeys(("vocab", "target_vocab"), point["task_args"]["vocab"])
    c = {**train.OPTIONAL, **point}
    return c, networks.config_of(c, types.SimpleNamespace(model=fields))


def able(c, config):
    return not any(zoo.objections(m, dims, **call) for m, dims, call in networks.calls(c, config))


def parameters(config):
    counted = model.num_params(nnx.eval_shape(lambda: networks.make(config, rngs=nnx.Rngs(0))))
    return counted["total"] - counted["by_length"]


@sized
def test_parameters_are_within_a_tenth_of_full_attention(name, size):
    config, points = loaded(name, size)
    found = {}
    for point in points:
        known = (point["label"], point["model"].get("width")) in found
        if not known and (point["seed"], point["n"]) == (config.seeds[0], config.lengths[0]):
            c, made = resolved(point)
            if able(c, made):
                found[point["label"], getattr(made, "width", None)] = parameters(made)
    first = next(iter(found))
    reference = first[0]
    assert reference.startswith("full")
    # what is no transformer has a width of its own
    like = {key: found.get((reference, key[1]), found[first]) for key in found}
    ratios = {key: count / like[key] for key, count in found.items()}
    unequal = {label for (label, _), ratio in ratios.items() if not 0.9 <= ratio <= 1.1}
    assert unequal == set(config.unequal), ratios


@each
def test_every_mechanism_is_there(name, size):
    _, points = loaded(name, size)
    if name not in ("duplicate", "forecast_mixed", "fsdd", "translation"):
        assert {point["mechanism"] for point in points} == set(zoo.names())


def test_a_size_that_is_none_names_those_there_are():
    with pytest.raises(ValueError, match="size must be one of small, medium, full, got 'huge'"):
        importlib.import_module("configs.accuracy.mqar").get_config("huge")
