"""No mechanism does more FLOPs, or holds more scratch, than when tests/guard.json was made."""

import json

import pytest

from experiments.kinds import kernel
from tests import guard

ACCEPTED = json.loads(guard.FILE.read_text())
SLACK = 1.02
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
