"""Sections over several others: of the tasks of a benchmark, of the horizons of a series."""

from experiments import closing, horizons
from experiments.frames import Section


def with_overviews(sections: list[Section]) -> list[Section]:
    return [*sections, *closing.sections(sections), *horizons.sections(sections)]
