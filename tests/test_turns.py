"""Kernels that sort take a few chunks or clusters a turn: several turns give what one does.

Sequences of the other tests fit one turn.
"""

import pytest

from attention_zoo import buckets, heads
from tests.cases import CASES, LENGTH, MODES, able, assert_close, compiled, inputs, padding

# numbers that a turn may hold: those of one chunk, or of the two sequences' next two chunks
ONE, TWO = 1, {"lsh": 2 * 2 * 2 * 5**2, "lsh-rounds": 2 * 2 * 2 * 4**2}
NAMES = ("lsh", "lsh-rounds", "lsh-circular", "routing", "routing-paper", "routing-memory")


@pytest.mark.parametrize(
    ("name", "mode", "budget"),
    [
        pytest.param(name, mode, budget, marks=pytest.mark.xdist_group(name))
        for name in NAMES
        for mode, causal in MODES.items()
        if able(CASES[name], causal)
        for budget in (ONE, TWO.get(name))
        if budget
    ],
)
def test_several_turns_are_as_exact(name, mode, budget, monkeypatch):
    args = inputs(CASES[name], LENGTH)
    call = (*args[:4], padding(LENGTH), args[4])
    monkeypatch.setattr(heads, "budget", lambda: budget)
    if name in TWO:
        block = CASES[name].hparams["block"]
        assert buckets.chunks_at_once(LENGTH, block, 2) == 1 + (budget > ONE)
    # not the program of the other tests
    found = compiled.__wrapped__(name, mode)(*call)
    assert_close(found, compiled(name, mode, "reference")(*call), floor=CASES[name].floor)
