"""Options of `make bench`, and its records: one a benchmark, written as soon as it is had."""

import os
from pathlib import Path

import pytest


def pytest_addoption(parser):
    group = parser.getgroup("attention_zoo")
    group.addoption("--length", type=int, default=16384, help="N, 16384 unless told")
    group.addoption("--cores", type=int, default=1, help="CPU cores to use, 1 unless told")
    group.addoption("--rounds", type=int, default=7, help="rounds a benchmark, 7 unless told")
    group.addoption("--out", type=Path, help="folder of the records: results/benchmarks/DEVICE")


def pytest_configure(config):
    for name, least in (("--length", 1), ("--rounds", 2)):
        if (given := config.getoption(name)) < least:
            # quartiles want two rounds
            raise pytest.UsageError(f"{name} must be from {least} up, got {given}")
    cores = config.getoption("--cores")
    if not hasattr(os, "sched_setaffinity"):
        return
    allowed = sorted(os.sched_getaffinity(0))
    if not 1 <= cores <= len(allowed):
        raise pytest.UsageError(f"--cores must be from 1 to {len(allowed)} here, got {cores}")
    # before jax starts, whose threads are as many as the cores that it may use
    os.sched_setaffinity(0, allowed[:cores])


@pytest.fixture(scope="session")
def store(request):
    from benchmarks import table
    from experiments import records
    from experiments.measuring import environment

    env = environment.facts()
    folder = request.config.getoption("--out") or Path("results") / "benchmarks" / env["device"]
    store = records.Store(folder)
    yield store, env
    store.merge()
    store.close()
    request.config.stash[TABLE] = table.write(folder)


TABLE = pytest.StashKey()


def pytest_terminal_summary(terminalreporter, config):
    if TABLE in config.stash:
        terminalreporter.write_line(f"table: {config.stash[TABLE]}")
