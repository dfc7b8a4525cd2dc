"""A table or figure -> its file, the records that its report was made of, and those it shows.

They lie in the folder that its report stands in; of a report that stands elsewhere, such as one of
many folders, in `results/`.
"""

import dataclasses
import difflib
import functools
import os
from pathlib import Path

import pandas as pd

from experiments.analysis import frames, reading
from experiments.analysis.frames import Section
from experiments.analysis.reading import Records
from experiments.measuring.environment import ROOT
from experiments.reporting import overviews
from experiments.running.configuration import literal

RESULTS = ROOT / "results"
SUFFIXES = (".csv", ".md", ".tex", ".png", ".svg", ".pdf")
KEY = ["id", frames.DEVICE]
# what makes the records that have tables of their own
ELSEWHERE = ("make bench", "make peers PEERS=../shared/peers")


def find(table: str, device: str | None = None) -> Path:
    """The file of a table or figure by its path, or by its name below `results/`; of several of
    that name the one of this device."""
    path = Path(table)
    if path.is_file() and path.suffix in SUFFIXES:
        return path
    known = {}
    for file in sorted(RESULTS.rglob("report/*")):
        if file.suffix in SUFFIXES and file.stem != "records":
            known.setdefault(file.stem, {}).setdefault(file.parent, file)
    name = (path.stem if path.suffix in SUFFIXES else path.name).removeprefix("tab:")
    files = list(known.get(name, {}).values()) or _beside_others(name, known)
    if not files:
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.3)
        raise ValueError(f"no table or figure {table!r}; near it are {', '.join(close) or 'none'}")
    chosen = files
    if len(files) > 1 and device:
        chosen = [file for file in files if device in devices(file.parent)]
    if len(chosen) == 1:
        return chosen[0]
    listed = ", ".join(map(shown, chosen or files))
    said = f"several are named {name!r}: {listed}" if chosen else f"none is of {device}: {listed}"
    others = sorted({one for file in files for one in devices(file.parent)})
    options = " or ".join(f"--where device={one}" for one in others)
    raise ValueError(f"{said}; name one by its path, or add {options}")


def _beside_others(name, known):
    """The files that a report of several devices names after their device too."""
    reports = sorted({report for files in known.values() for report in files})
    named = [(report, device) for report in reports for device in devices(report)]
    files = [known.get(alone(name, device), {}).get(report) for report, device in named]
    return list(filter(None, files))


def alone(name: str, device: str) -> str:
    """What a table is called in a report of its device alone."""
    return name.replace(f"-{device}", "", 1)


@functools.cache
def devices(report: Path) -> frozenset[str]:
    """Those whose records a report is of."""
    file = report / "records.csv"
    rows = pd.read_csv(file, usecols=[frames.DEVICE]) if file.is_file() else {frames.DEVICE: ()}
    return frozenset(rows[frames.DEVICE])


def read(file: Path) -> Records:
    """Those records alone that the report of this file was made of."""
    had, above = _had(file), _above(file)
    places = [folder for folder in (above, RESULTS if len(had) else None) if folder]
    for folder in places:
        found = reading.read([folder] if folder == RESULTS else _with_records(folder))
        if found.frame.empty:
            continue
        wanted, mine = (_keys(rows, list(had)) for rows in (had, found.frame))
        if set(wanted) <= set(mine):
            frame = found.frame
            if frames.DEVICE in had:
                kept = set(wanted)
                frame = frame[[key in kept for key in mine]].reset_index(drop=True)
            return dataclasses.replace(found, frame=frame)
    where = " or ".join(map(shown, places)) or "a folder above it"
    raise ValueError(
        f"the records of {file} are not in {where}; cite a report that stands in the folder of "
        "its records"
    )


def _had(file):
    """Of the records of its report ids and devices; else ids, of those that the table names."""
    beside = file.with_name("records.csv")
    if beside.is_file():
        return pd.read_csv(beside, usecols=KEY, dtype=str)[KEY]
    return pd.DataFrame({"id": sorted(named(of_records(file)))})


def _keys(rows, columns):
    return list(rows[columns].itertuples(index=False, name=None))


def _above(file):
    """The nearest folder above that has records, or whose folders, one a device, have."""
    return next(filter(_with_records, file.resolve().parents), None)


def _with_records(folder):
    """Itself, or else its own folders, of which whatever else may be far below is no part."""
    if any(any(folder.glob(name)) for name in ("records.jsonl", "points")):
        return [folder]
    found = [*folder.glob("*/records.jsonl")]
    return sorted({file.parent for file in (*found, *(folder.glob("*/points") if found else ()))})


def folder(rows: pd.DataFrame, found: Records) -> tuple[Path, bool]:
    """The folder that all these records are in, and whether they are all that it has."""
    bases = {key: base.resolve() for key, base in found.folders.items()}
    home = Path(os.path.commonpath([bases[key] for key in _keys(rows, KEY)]))
    everything = {id for (id, _), base in bases.items() if base.is_relative_to(home)}
    return home, set(rows.id) == everything


def sections(frame: pd.DataFrame) -> list[Section]:
    """All that a report of these records has tables of."""
    return overviews.with_overviews(frames.sections(frame))


def of_table(file: Path, sections: list[Section], where: dict) -> tuple[Section, set[str]]:
    """The section that the table is of, and the ids of its records."""
    mine = [s for s in sections if file.stem == s.name or file.stem.startswith(f"{s.name}-")]
    if not sections:
        raise ValueError(
            f"{shown(file)} is of records that no report has tables of; what measures and writes "
            f"them again is {' or '.join(ELSEWHERE)}"
        )
    if not mine:
        names = ", ".join(section.name for section in sections)
        raise ValueError(f"{file.stem} is of no section of its records; there are {names}")
    section = max(mine, key=lambda section: len(section.name))
    table = of_records(file)
    fields = {name: column for name in where if (column := _field(section.frame, name))}
    for name in where:
        if name not in table and name not in fields:
            known = {c.removeprefix("config.") for c in section.frame if c.startswith("config.")}
            known = sorted({*table, *known} - {"label", *_naming(table)})
            raise ValueError(f"--where knows no {name!r}; there are label, {', '.join(known)}")
    rows = section.frame
    for name in where:
        if name in table:
            table = selected(table, name, name, where[name])
        else:
            rows = selected(rows, fields[name], name, where[name])
    return section, set(rows.id) & (named(table) or set(rows.id))


def _field(frame, name):
    """The column of records that a config's or an environment's field of this name is in."""
    return next((c for c in (name, f"config.{name}", f"env.{name}") if c in frame), None)


def selected(frame: pd.DataFrame, column: str, name: str, value: str) -> pd.DataFrame:
    """The rows with this value, typed as that of `name`."""
    found = frame[column].map(functools.partial(_equal, value=value))
    if not found.any():
        known = sorted(set(frame[column].dropna().map(frames.plain)) - {""})
        raise ValueError(f"--where {name}={value}: no such row; there are {', '.join(known)}")
    return frame[found]


def _equal(had, value):
    number = literal(had) if isinstance(had, str) else had
    return frames.plain(number) == frames.plain(literal(value)) or str(had) == value


def of_records(file: Path) -> pd.DataFrame:
    """The table's own rows as text, where they name records; else none."""
    table = file.with_suffix(".csv")
    rows = pd.read_csv(table, dtype=str, keep_default_na=False) if table.is_file() else None
    return pd.DataFrame() if rows is None or not named(rows) else rows


def named(table: pd.DataFrame) -> set[str]:
    """The ids of the records that the rows name."""
    return {id for column in _naming(table) for cell in table[column] for id in cell.split()}


def _naming(table):
    return [c for c in table if c == "records" or c.endswith("_records")]


def shown(path: Path) -> str:
    """From the root of the project, where it is in it."""
    path = path.resolve()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
