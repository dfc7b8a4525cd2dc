"""No mechanism does more FLOPs, or holds more scratch, than when tests/guard.json was made."""

import json

import pytest

from configs import scaling
from experiments.kinds import kernel
from tests import guard

ACCEPTED = json.loads(guard.FILE.read_text())
SLACK = 1.02
# scratch over q, k and v at most, where a mechanism is not quadratic or is walked in tiles
LONG, MOST = 16384, {"forward": 1, "causal": 1, "train": 3}
AGAIN = "if that is meant, run python -m tests.guard and commit what it writes"


def test_the_file_holds_every_mechanism_and_mode():
    assert sorted(ACCEPTED["cells"]) == sorted(guard.points()), AGAIN


@pytest.mark.parametrize("name", ACCEPTED["cells"])
def test_neither_flops_nor_memory_rise(name):
    accepted, traced = ACCEPTED["cells"][name], kernel.trace(guard.points()[name])
    assert guard.counted(traced) <= accepted["flops"], AGAIN
    if guard.compiler() != ACCEPTED["compiler"]:
        pytest.skip(f"bytes were compiled by {ACCEPTED['compiler']}")
    assert guard.temporaries(traced) <= SLACK * accepted["bytes"], AGAIN


def long():
    """The points at LONG that are held to MOST, by name."""
    quadratic = set(scaling.QUADRATIC) - {"full_chunked"}
    labels = {scaling.get_config().variants[key].get("label", key) for key in quadratic}
    return {name: p for name, p in guard.points(LONG).items() if p["label"] not in labels}


@pytest.mark.slow
@pytest.mark.parametrize("name", long())
def test_scratch_is_no_larger_than_its_inputs(name):
    """Forward than q, k and v; in training, three times."""
    point = long()[name]
    read = 4 * LONG * point["heads"] * (2 * point["head_dim"] + point["value_dim"])
    assert guard.temporaries(kernel.trace(point)) <= MOST[name.split(", ")[-1]] * read
