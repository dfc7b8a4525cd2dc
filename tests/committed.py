"""The folders of committed records that have a report, each read once by whoever tests it."""

import functools
from pathlib import Path

import pytest

from experiments import origins
from experiments.analysis import reading
from experiments.reporting import tables

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(report.parent for report in (ROOT / "results").rglob("report"))


def over_folders(name: str):
    """Parametrise by folder; all tests of one go to one worker, which keeps what it has read."""
    found = []
    for folder in FOLDERS:
        words = "-".join(folder.parts[-2:])
        found.append(pytest.param(folder, id=words, marks=pytest.mark.xdist_group(words)))
    return pytest.mark.parametrize(name, found)


@functools.lru_cache(2)
def read(folder: Path):
    """(records, their sections)."""
    records = reading.read([folder])
    return records, origins.sections(records.frame)


@functools.lru_cache(2)
def tables_of(folder: Path):
    """Every table of its records."""
    records, sections = read(folder)
    made = [table for section in sections for table in tables.build(section)]
    return [*made, tables.failures(records.frame)]
