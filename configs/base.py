"""What configs share. A config is data: it imports no project code but configs.

`get_config()` returns numbers to read and override, `get_sweep(config)` the points made of them.
"""

from typing import Any

from ml_collections import ConfigDict


def settings(experiment: str, **fields: Any) -> ConfigDict:
    """A config with what every experiment has; what it means is said in experiments/sweep.py."""
    common = {
        "experiment": experiment,
        # devices along each axis; -1 for all that are left
        "mesh": {"data": -1, "sequence": 1, "model": 1},
        "isolate": "point",
        "time_limit": 600.0,
        "memory_limit_gb": 0.0,
        "seed": 0,
    }
    return ConfigDict(common | fields)


def check_seeds(seeds: tuple[int, ...]) -> None:
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds must be whole numbers from 0 up, one or more, got {tuple(seeds)}")


def powers(first: int, last: int) -> tuple[int, ...]:
    """Powers of two from first to last."""
    return tuple(2**e for e in range(first.bit_length() - 1, last.bit_length()) if 2**e >= first)


def variant(config: ConfigDict, key: str, n: int) -> dict:
    """label, mechanism and hparams of a key of `config.variants`, or of a mechanism by its name.

    The hyperparameter value "sqrt" is the whole number nearest to the square root of n, "n/8" that
    share of it.
    """
    fields = dict(config.variants.get(key, {}))
    label, mechanism = fields.pop("label", key), fields.pop("mechanism", key)
    hparams = {name: _by_length(value, n) for name, value in fields.items()}
    return {"label": label, "mechanism": mechanism, "hparams": hparams}


def _by_length(value, n):
    if value == "sqrt":
        return round(n**0.5)
    if isinstance(value, str) and value.startswith("n/"):
        return n // int(value.removeprefix("n/"))
    return value
