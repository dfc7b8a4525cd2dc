"""Sections over others: a benchmark's tasks, horizons and look-backs, what attention adds."""

from experiments.analysis.frames import Section
from experiments.reporting import closing, contribution, horizons, lookback


def with_overviews(sections: list[Section]) -> list[Section]:
    kinds = (closing, horizons, lookback, contribution)
    return [*sections, *(made for kind in kinds for made in kind.sections(sections))]
