"""Honest randomness: buffers and tables follow from the seed, not from process, length or data."""

import hashlib
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import attention_zoo as zoo
from attention_zoo.mechanisms import bigbird
from tests.cases import CASES, EXTRA, LENGTH, dims

DRAWN = [name for name, case in CASES.items() if case.m.frozen and name not in EXTRA]
# a buffer of these has an entry a position, or a block of them
SIZED = {"synthesizer", "sinkhorn"}


def buffers(name: str, seed: int = 0, N: int = LENGTH) -> dict:
    m = CASES[name].m
    params = m.init(jax.random.key(seed), dims(N))
    return {key: np.asarray(params[key]) for key in sorted(m.frozen)}


def matrix(T: int, causal: bool) -> np.ndarray:
    """[H, T, T]: which keys a query of BigBird weighs."""
    m = zoo.make("bigbird", block=2, random_blocks=2, seed=3)
    zeros, values = np.zeros((1, T, 4, 1), np.float32), np.eye(T, dtype=np.float32)
    values = np.broadcast_to(values[None, :, None], (1, T, 4, T))
    return np.asarray(m.reference({}, zeros, zeros, values, causal=causal))[0].swapaxes(0, 1) > 0


def digest() -> str:
    """Of every buffer, and of BigBird's table."""
    found = hashlib.sha256(matrix(40, causal=False).tobytes())
    for name in DRAWN:
        for array in buffers(name).values():
            found.update(array.tobytes())
    return found.hexdigest()


@pytest.mark.parametrize("name", DRAWN)
def test_the_seed_alone_decides(name):
    first, again, other = buffers(name), buffers(name), buffers(name, seed=1)
    for key, array in first.items():
        np.testing.assert_array_equal(array, again[key])
        assert (array != other[key]).any()


@pytest.mark.parametrize("name", [name for name in DRAWN if CASES[name].name not in SIZED])
def test_length_does_not_matter(name):
    for key, array in buffers(name).items():
        np.testing.assert_array_equal(array, buffers(name, N=3 * LENGTH)[key])


def test_a_longer_causal_table_begins_with_a_shorter_one():
    assert (matrix(64, causal=True)[:, :40, :40] == matrix(40, causal=True)).all()


def test_heads_and_seeds_have_tables_of_their_own():
    table = matrix(64, causal=False)
    assert all((table[0] != table[h]).any() for h in (1, 2, 3))


def test_another_process_draws_the_same():
    code = "from tests.test_randomness import digest; print(digest())"
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.stdout.strip() == digest(), run.stderr


def test_the_numbers_are_those_of_every_platform():
    """Written down once: integers exactly, floats but for a platform's rounding."""
    assert bigbird.draw(0, 0, 5, 16, {0, 4, 5, 6, 15}, 3) == [7, 12, 11]
    assert bigbird.draw(7, 3, 1, 1000, {0, 1, 2}, 4) == [810, 564, 528, 649]
    first = {"performer": 1.2922899, "rfa": 1.0040143, "lsh": 1.6226422}
    for name, number in first.items():
        (array,) = buffers(name).values()
        np.testing.assert_allclose(array.ravel()[0], number, rtol=1e-5)
