"""The command that measures a call: as the runner reads it, that very call."""

import shlex

import pytest

from experiments.running import arguments, asked, configuration


@pytest.mark.parametrize(
    "changes",
    [
        {"label": "full chunked", "mechanism": "full", "hparams": {"implementation": "chunked"}},
        {"label": "strided", "mechanism": "strided", "hparams": {"stride": 181}},
        {"label": "strided", "mechanism": "strided", "hparams": {"stride": 64}},
        {"label": "all, masked", "mechanism": "local", "hparams": {"window": [5, 7]}},
        {"label": "one", "mechanism": "linear", "hparams": {"x": [3], "y": True, "z": None}},
        {"label": "mixed", "mechanism": "mixed", "hparams": {}, "dtype": "bfloat16"},
    ],
    ids=str,
)
def test_any_call_has_a_command(changes):
    point = {"n": 32768, "mode": "train", "causal": True, "batch": 3, "heads": 8, "head_dim": 64}
    point |= {"value_dim": 64, "dtype": "float32", **changes}
    assert points(asked.command(point, "out")) == [point]


def points(command):
    """The calls that a command of the runner measures."""
    options, assignments, _ = arguments.parse(shlex.split(command)[3:], "")
    module, config = configuration.load(options.config)
    configuration.override(config, assignments)
    found = configuration.points(module, config, checked=False)
    run = ("experiment", "kind", "repeats", "budget", "seed")
    return [{name: of[name] for name in of if name not in run} for of in found]
