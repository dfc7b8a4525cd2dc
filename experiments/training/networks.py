"""The network of a training point: of the architecture that its model names, on a task's data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

import attention_zoo as zoo
from attention_zoo import model_config
from attention_zoo.linear_forecaster import LinearConfig, LinearForecaster
from attention_zoo.recurrent_translator import READER, RecurrentConfig, RecurrentTranslator
from attention_zoo.reprogrammed import ReprogrammedConfig, ReprogrammedForecaster
from attention_zoo.types import Dims, Mechanism
from experiments.tasks import Task

ARCHITECTURES = {
    "transformer": (model_config.TransformerConfig, zoo.Transformer),
    # its encoder is the mechanism "recurrent"; its decoder has none
    "recurrent": (RecurrentConfig, RecurrentTranslator),
    "linear": (LinearConfig, LinearForecaster),
    "reprogrammed": (ReprogrammedConfig, ReprogrammedForecaster),
}


def check_model(point: Mapping) -> None:
    """ValueError names an architecture or a field of the model that there is not; needs no data."""
    name = point["model"].get("architecture", "transformer")
    if name not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"model.architecture must be one of {known}, got {name!r}")
    fields = _fields(name)
    for field in point["model"]:
        if field not in fields | {"architecture"}:
            raise ValueError(f"model has no field {field!r}; it has {', '.join(sorted(fields))}")


def _fields(architecture):
    kind, _ = ARCHITECTURES[architecture]
    return {field.name for field in dataclasses.fields(kind)}


def config_of(point: Mapping, task: Task) -> Any:
    """What the point asks for, on the inputs and outputs of the task."""
    check_model(point)
    asked = _hashable(point["model"])
    architecture = asked.pop("architecture", "transformer")
    (kind, _), fields = ARCHITECTURES[architecture], _fields(architecture)
    point_says = {name: _hashable(point[name]) for name in ("dtype", "mechanism", "hparams")}
    given = {"max_len": point["n"], **asked, **task.model, **point_says}
    if (asked.get("inputs"), given.get("inputs")) == ("patches", "continuous"):
        # a series stays one when it is cut
        given["inputs"] = "patches"
    if "text" in asked:
        given["text"] = model_config.TransformerConfig(kind="decoder", vocab=256, **asked["text"])
    config = kind(**{name: value for name, value in given.items() if name in fields})
    if "dtype" not in fields and point["dtype"] != "float32":
        raise ValueError(f"architecture {architecture!r} takes float32, got {point['dtype']!r}")
    if "max_len" in asked or architecture != "transformer":
        return config
    return dataclasses.replace(config, max_len=config.positions_of(point["n"]))


def make(config, *, rngs: nnx.Rngs):
    (network,) = (made for kind, made in ARCHITECTURES.values() if isinstance(config, kind))
    return network(config, rngs=rngs)


def calls(point: Mapping, config, *, masked: bool = False) -> list[tuple[Mechanism, Dims, dict]]:
    """(mechanism, dims, what else is asked of it) of each layer, a decoder's own and cross ones
    too; none where no mechanism is."""
    if isinstance(config, RecurrentConfig):
        whole = {"causal": False, "per_position": True, "masked": masked}
        dims = Dims(point["batch"], point["n"], point["n"], 1, config.width)
        return [(READER, dims, whole)]
    if not isinstance(config, model_config.TransformerConfig):
        return []
    N = config.positions_of(point["n"])
    layers = model_config.mechanisms_of(config.mechanism, config.hparams, config.depth)
    lengths = model_config.lengths_of(layers, N)
    asked = {"causal": config.kind == "decoder", "per_position": config.per_position}
    found = [
        (m, _dims(point, config, n, n), {**asked, "masked": masked})
        for m, n in zip(layers, lengths, strict=True)
    ]
    if config.kind == "encoder_decoder":
        # what the last layer leaves
        read = model_config.lengths_of([*layers, layers[-1]], N)[-1]
        layers, cross = model_config.decoder_mechanisms(config)
        # the target's padding is at its end, where causality hides it
        own = {"causal": True, "per_position": True, "masked": False}
        found += [(m, _dims(point, config, N, N), own) for m in layers]
        beside = {"causal": False, "per_position": True, "by_query": True, "masked": masked}
        found += [(cross, _dims(point, config, N, read), beside) for _ in layers]
    return found


def _dims(point, config, q_len, kv_len):
    head_dim, itemsize = config.width // config.heads, jnp.dtype(config.dtype).itemsize
    return Dims(point["batch"], q_len, kv_len, config.heads, head_dim, itemsize=itemsize)


def _hashable(value):
    if isinstance(value, Mapping):
        return {name: _hashable(item) for name, item in value.items()}
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
