"""The accuracy configs are fair: what differs between the mechanisms of one (task, N)."""

import functools
import importlib
import pkgutil
import re
import types

import pytest
from flax import nnx

import attention_zoo as zoo
from attention_zoo import model
from configs import accuracy
from experiments import tasks, train
from experiments.analysis import published, quality
from experiments.running import configuration
from experiments.training import choice, fields, networks, pretraining

CONFIGS = sorted(module.name for module in pkgutil.iter_modules(accuracy.__path__))
SIZES = ("small", "medium", "full")
EACH = [*((name, size) for name in CONFIGS for size in SIZES), ("mqar", "long")]
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
            alone = {"colour", "dataset"} & set(other["task_args"]) or config.lr_length is None
            assert other["n"] == (point["n"] if alone else config.lr_length)
        label = point["label"], point["model"].get("width"), str(point["task_args"]), grid[0]["n"]
        # all lengths and seeds of a mechanism read the same records
        assert grids.setdefault(label, grid) == grid
    steps = {(grid[0]["n"], grid[0]["steps"]) for grid in grids.values()}
    assert len(steps) == len({n for n, _ in steps})


def said_of(name, size):
    """What a config's docstring says of a size: from its name and a colon to the next one's."""
    words = " ".join(importlib.import_module(f"configs.accuracy.{name}").__doc__.split())
    sizes = [size for of, size in EACH if of == name]
    _, *parts = re.split(rf"\b({'|'.join(sizes)}): ", words)
    said = dict(zip(parts[::2], parts[1::2], strict=True))
    assert len(said) == len(parts) / 2 == len(sizes)
    return said[size]


@each
def test_seeds_of_a_size_are_said(name, size):
    _, points = loaded(name, size)
    seeds = {}
    for point in points:
        cell = point["experiment"], point["label"], point["model"].get("width"), point["n"]
        seeds.setdefault(cell, set()).add(point["seed"])
    said, counts = said_of(name, size), {len(found) for found in seeds.values()}
    assert counts <= {1, 3}
    assert ("one seed" in said) == (1 in counts), said
    assert ("3 seeds" in said or "as medium" in said) == (3 in counts), said
    assert size in ("small", "long") or counts == {3}


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
    of_data = READ.get(task) or tasks.make(task, n, **point["task_args"]).model
    if point["task_args"].get("continuous"):
        of_data = {"kind": "encoder", "inputs": "continuous", "features": 1, "classes": 10}
    if "vocab" in point["task_args"]:
        of_data = of_data | dict.fromkeys(("vocab", "target_vocab"), point["task_args"]["vocab"])
    c = {**fields.OPTIONAL, **point}
    return c, networks.config_of(c, types.SimpleNamespace(model=of_data))


def able(c, config):
    return not any(zoo.objections(m, dims, **call) for m, dims, call in networks.calls(c, config))


def parameters(config):
    counted = model.num_params(nnx.eval_shape(lambda: networks.make(config, rngs=nnx.Rngs(0))))
    return counted["total"] - counted["by_length"]


@sized
def test_parameters_are_within_a_tenth_of_full_attention(name, size):
    config, points = loaded(name, size)
    found = {}
    own = {config.lengths[0], *map(int, config.by_length)}
    shown = own | {pick(point["n"] for point in points) for pick in (min, max)}
    for point in points:
        at = found.setdefault(point["n"], {})
        key = point["label"], point["model"].get("width")
        if point["n"] in shown and key not in at and point["seed"] == config.seeds[0]:
            c, made = resolved(point)
            if able(c, made):
                at[key] = parameters(made)
    for n, counts in found.items():
        # where only what is cheap runs, full attention of the shortest
        known = found[config.lengths[0]] | counts
        (reference, _), first = next(iter(known.items()))
        assert reference.startswith("full")
        # what is no transformer has a width of its own
        ratios = {key: x / known.get((reference, key[1]), first) for key, x in counts.items()}
        low, high = quality.EVEN
        unequal = {label for (label, _), ratio in ratios.items() if not low <= ratio <= high}
        said = set(accuracy.at_length(config, n).unequal) & {label for label, _ in counts}
        assert unequal == said, (n, ratios)


@each
def test_every_mechanism_is_there(name, size):
    _, points = loaded(name, size)
    if name not in ("duplicate", "forecast_mixed", "fsdd", "translation"):
        assert {point["mechanism"] for point in points} == set(zoo.names())


def test_duplicate_is_evaluated_as_published():
    _, points = loaded("duplicate", "full")
    published_as = set(published.of("duplicate", "accuracy").setting.dropna())
    assert published_as
    for point in points:
        assert set(point["eval_hparams"]) >= published_as


def test_a_size_that_is_none_names_those_there_are():
    with pytest.raises(ValueError, match="must be one of small, long, medium, full, got 'huge'"):
        importlib.import_module("configs.accuracy.mqar").get_config("huge")


# a field that a point has only where it is asked for, as typed, and its value
ASKED = {
    "pretrain.objective": "masked",
    "pretrain.steps": 20,
    "microbatches": 4,
    "model.remat": True,
    "model.dropout": 0.1,
    "checkpoint_every": 7,
    "keep_checkpoints": True,
    "final_lr": 0.0,
    "beta2": 0.98,
}


def asked_of(name, **fields):
    """The final points of a small config that is asked for these by the command line."""
    module, config = configuration.load(f"accuracy/{name}:small")
    configuration.override(config, [(key, str(value)) for key, value in fields.items()])
    return [configuration._plain(point) for point in module.get_sweep(config)]


def test_what_is_asked_for_is_in_every_point():
    pretrain = {"objective": "masked", "steps": 20}
    for point in asked_of("listops", **ASKED):
        for each in (point, *choice.grid_of(point)):
            found = {**each, **{f"model.{name}": value for name, value in each["model"].items()}}
            for name, value in ASKED.items():
                assert name.startswith("pretrain.") or found[name] == value, name
            assert each["pretrain"] == pretrain
            train.check_point(each)


@pytest.mark.parametrize("asked", [{"microbatches": 1}, {"final_lr": 0.1}, {"model.remat": False}])
def test_what_is_so_anyway_is_in_no_point(asked):
    for point in asked_of("listops", **asked):
        assert not accuracy.UNSAID.keys() & point.keys()
        assert not accuracy.UNSAID_MODEL.keys() & point["model"].keys()


def test_what_a_point_leaves_out_is_what_training_takes():
    assert accuracy.UNSAID.items() <= fields.OPTIONAL.items()
    config = model.TransformerConfig(vocab=2, classes=2)
    assert {name: getattr(config, name) for name in accuracy.UNSAID_MODEL} == accuracy.UNSAID_MODEL
    assert set(accuracy.PRETRAIN) < pretraining.FIELDS


def test_an_n_may_have_fields_of_its_own():
    config = accuracy.changed(
        loaded("listops", "small")[0],
        {"mechanisms": ("full",), "by_length": {"128": {"microbatches": 2, "model": {"width": 8}}}},
    )
    points = accuracy.sweep(config)
    found = {p["n"]: (p["microbatches"], p["model"]["width"], p["model"]["depth"]) for p in points}
    assert found == {64: (1, 64, 2), 128: (2, 8, 2)}
    # what a rate is chosen from knows nothing of it
    grids = [choice.grid_of(point) for point in points]
    assert grids == [grids[0]] * len(points)


def test_the_short_form_of_language_names_seeds_below_0():
    module, config = configuration.load("language")
    config.seeds = (0, -1)
    with pytest.raises(ValueError, match="seeds must be whole numbers from 0 up"):
        module.get_sweep(config)


def test_each_n_may_choose_its_own_rate():
    config = accuracy.changed(loaded("listops", "small")[0], {"lr_length": None})
    for point in accuracy.sweep(config):
        assert {other["n"] for other in choice.grid_of(point)} == {point["n"]}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"evals": 0}, "evals must be from 1 up, got 0"),
        ({"seeds": -1}, r"seeds must be whole numbers from 0 up, one or more, got \(-1,\)"),
        ({"seeds": ""}, r"seeds must be whole numbers from 0 up, one or more, got \(\)"),
    ],
)
def test_counts_below_the_least_are_named(asked, message):
    with pytest.raises(ValueError, match=message):
        asked_of("listops", **asked)


@pytest.mark.parametrize("text", ["wikitext2", "stdlib"])
def test_language_takes_other_texts_by_the_same_rules(text):
    shakespeare = loaded("language", "small")[1]
    for point, other in zip(asked_of("language", task=text), shakespeare, strict=True):
        assert point == {**other, "task": text}
