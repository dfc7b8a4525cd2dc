"""No mechanism does more FLOPs, or holds more scratch, than when tests/guard.json was made."""

import functools
import json

import pytest

from tests import guard

ACCEPTED = json.loads(guard.FILE.read_text()) if guard.FILE.exists() else {"cells": {}}
AGAIN = "if that is meant, run python -m tests.guard and commit what it writes"
SLACK = 1.02


@functools.lru_cache(1)
def lowered(name):
    return guard.lower(guard.points()[name])


def test_the_file_holds_every_mechanism_and_mode():
    assert sorted(ACCEPTED["cells"]) == sorted(guard.points()), AGAIN


@pytest.mark.parametrize("name", ACCEPTED["cells"])
def test_flops_do_not_rise(name):
    assert lowered(name)[0] <= ACCEPTED["cells"][name]["flops"], AGAIN


@pytest.mark.parametrize("name", ACCEPTED["cells"])
def test_compiled_memory_does_not_rise(name):
    if guard.compiler() != ACCEPTED["compiler"]:
        pytest.skip(f"bytes were compiled by {ACCEPTED['compiler']}")
    assert guard.temporaries(lowered(name)[1]) <= SLACK * ACCEPTED["cells"][name]["bytes"], AGAIN
