"""A call of a kernel -> the command that measures it, by configs/scaling.py."""

import shlex
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.running import configuration

CONFIG = "scaling"
SIZES = ("batch", "heads", "head_dim", "value_dim", "dtype")
# the variant of a call that is none of the config's
OTHER = "asked"


def command(point: Mapping[str, Any], out: str) -> str:
    """What is as the config has it is left out."""
    module, config = configuration.load(CONFIG)
    usual = config.to_dict()
    key = _key(module, config, point)
    settings = {"mechanisms": key or OTHER, "lengths": point["n"], "modes": point["mode"]}
    settings |= {"causal": True} if point["causal"] else {}
    settings |= {name: point[name] for name in SIZES if point[name] != usual[name]}
    if usual["longest"].get(key, point["n"]) < point["n"]:
        settings[f"longest.{key}"] = point["n"]
    if key is None:
        made = {"label": point["label"], "mechanism": point["mechanism"], **point["hparams"]}
        settings |= {f"variants.{OTHER}.{name}": value for name, value in made.items()}
    words = [f"--config.{name}={_typed(value)}" for name, value in settings.items()]
    run = ["python", "-m", "experiments.run", "--config", f"configs/{CONFIG}.py"]
    return shlex.join([*run, *words, "--out", out])


def _key(module, config, point):
    """The variant of the config that is this very call, if one is."""
    config.lengths, config.modes, config.causal = (point["n"],), (point["mode"],), (False,)
    config.longest = ConfigDict()
    # then a point a key
    for key, made in zip(config.mechanisms, module.get_sweep(config), strict=True):
        if all(
            _same(made[name]) == _same(point[name]) for name in ("label", "mechanism", "hparams")
        ):
            return key
    return None


def _same(value):
    if isinstance(value, Mapping):
        return {name: configuration.hashable(item) for name, item in value.items()}
    return value


def _typed(value):
    if isinstance(value, list | tuple):
        return "".join(f"{item}," for item in value)
    # words that would be read as something else in quotes
    return str(value) if configuration.literal(str(value)) == value else repr(value)
