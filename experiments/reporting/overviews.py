"""Sections over several others: a benchmark's tasks, a series' horizons, what attention adds."""

from experiments.analysis.frames import Section
from experiments.reporting import closing, contribution, horizons


def with_overviews(sections: list[Section]) -> list[Section]:
    kinds = (closing, horizons, contribution)
    return [*sections, *(made for kind in kinds for made in kind.sections(sections))]
