"""The BibTeX of a table or figure, and the commands that make it again.

    python -m experiments.cite results/scaling/DEVICE/report/scaling.csv
    python -m experiments.cite scaling --where label=local n=4096 mode=forward

prints an entry for this software, for every mechanism and data set in it and for what others
published beside it; the records it is made of; and what to type, with the kernels of then where
they are others now. With --where only of the rows with these values, by columns of the table or
fields of a record: it is how one number is cited, and measured again.
"""

import argparse
import difflib
import functools
import re
import signal
import sys
from pathlib import Path

import pandas as pd
import yaml

import attention_zoo as zoo
from experiments.analysis import formats, frames, published, reading, references
from experiments.analysis.frames import Section
from experiments.measuring import environment
from experiments.measuring.environment import ROOT
from experiments.reporting import overviews
from experiments.running.configuration import literal

SUFFIXES = (".csv", ".md", ".tex", ".png", ".svg", ".pdf")
AGAIN = "out/again"
# a checkout of its own for the kernels of then, so that nothing here is touched
THEN = "out/then"
KERNELS = "attention_zoo"
# ids that are worth naming in a line
FEW = 40


def main(arguments: list[str] | None = None) -> int:
    try:
        options = parser().parse_args(arguments)
        file = find(options.table)
        found = reading.read([home(file)])
        is_of(file, found.frame)
        cited, unknown = text(file, found.frame, dict(options.where))
    except ValueError as error:
        print(f"experiments.cite: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for note in (*found.notes, *unknown):
        print(note, file=sys.stderr)
    print(cited)
    return 0


def text(file: Path, frame: pd.DataFrame, where: dict) -> tuple[str, list[str]]:
    """Of the table among these records; and a line for every mechanism without an entry."""
    section, ids = of_table(file, frame, where)
    rows = section.frame[section.frame.id.isin(ids)]
    entries, unknown = cited(rows)
    parts = [f"% {shown(file)}: {facts(rows)}", "", software(rows), *entries]
    whole = set(rows.id) == set(frame.id)
    commands = "\n".join(f"    {line}" for line in reproduce(file, rows, whole=whole))
    parts.append(f"% to make it again:\n{commands}")
    return "\n\n".join(parts).replace("\n\n\n", "\n\n"), unknown


def find(table: str) -> Path:
    """The file of a table or figure by its path, or by its name below results/."""
    path = Path(table)
    if path.is_file() and path.suffix in SUFFIXES:
        return path
    known = {}
    for file in sorted((ROOT / "results").rglob("report/*")):
        if file.suffix in SUFFIXES and file.stem != "records":
            known.setdefault(file.stem, {}).setdefault(file.parent, file)
    name = path.stem if path.suffix in SUFFIXES else path.name
    files = list(known.get(name, {}).values())
    if len(files) > 1:
        raise ValueError(f"several are named {name!r}: {', '.join(map(shown, files))}")
    if not files:
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.3)
        raise ValueError(f"no table or figure {table!r}; near it are {', '.join(close) or 'none'}")
    return files[0]


def home(file: Path) -> Path:
    """The nearest folder above that has records, or whose folders, one a device, have."""
    for folder in file.resolve().parents:
        if any(any(folder.glob(name)) for name in ("records.jsonl", "*/records.jsonl", "points")):
            return folder
    raise ValueError(f"no records.jsonl in a folder above {file}")


def is_of(file: Path, frame: pd.DataFrame) -> None:
    """ValueError where the report has a record that is not among these: it was made elsewhere."""
    beside = file.with_name("records.csv")
    if beside.is_file() and not frame.empty:
        keys = ["id", frames.DEVICE]
        had = pd.read_csv(beside, usecols=keys, dtype=str)
        if set(had[keys].itertuples(index=False)) - set(frame[keys].itertuples(index=False)):
            raise ValueError(
                f"{file} is of other records than those in {shown(home(file))}; cite a report that "
                "stands in the folder of its records"
            )


def of_table(file: Path, frame: pd.DataFrame, where: dict) -> tuple[Section, set[str]]:
    """The section that the table is of, and the ids of its records."""
    if frame.empty:
        raise ValueError(f"no records to cite {file} by")
    sections = frames.sections(frame)
    sections = overviews.with_overviews(sections)
    mine = [s for s in sections if file.stem == s.name or file.stem.startswith(f"{s.name}-")]
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


def facts(rows: pd.DataFrame) -> str:
    parts = ["1 record" if len(rows) == 1 else f"{len(rows)} records"]
    for words, name in (("of", "device"), ("commit", "commit"), ("jax", "jax")):
        parts.append(f"{words} {', '.join(_values(rows, f'env.{name}'))}")
    days = sorted({date[:10] for date in _values(rows, "env.date")})
    parts.append(" to ".join(dict.fromkeys((days[0], days[-1]))) if days else "undated")
    few = rows.id if len(rows) <= FEW else ()
    return ", ".join(parts) + (f"; {' '.join(sorted(few))}" if len(few) else "")


def software(rows: pd.DataFrame) -> str:
    """Of CITATION.cff, with the commits of the records."""
    known = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    authors = " and ".join(_author(author) for author in known["authors"])
    commits = ", ".join(commit[:10] for commit in _values(rows, "env.commit"))
    fields = {
        "title": f"{{{known['title']}}}",
        "author": authors,
        "year": str(known["date-released"])[:4],
        "version": str(known["version"]),
        "note": f"Commit {commits}" if commits else None,
        "url": known.get("repository-code") or known.get("url"),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join(["@software{attention_zoo,", *lines, "}"])


def _author(author):
    if "name" in author:
        return f"{{{author['name']}}}"
    return f"{author['family-names']}, {author['given-names']}"


def cited(rows: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The entries of the mechanisms, the data sets, and what others published of them; and why
    there are none of mechanisms that are not in this code any more."""
    found, unknown = [], []
    for name, hparams in _mechanisms(rows):
        try:
            found += references.of_papers(zoo.make(name, **hparams).citation)
        except ValueError as error:
            unknown.append(f"no entry for a mechanism of the records: {error}")
    for task in _values(rows, "config.task"):
        found += references.of_task(task)
        others = published.figures()
        found += references.of_papers(" ".join(others.source[others.task == task]))
    return [entry.text for entry in dict.fromkeys(found)], unknown


def _mechanisms(rows):
    """(name, hyperparameters) of each, once a citation could differ: words choose it."""
    found = {}
    prefix = "config.hparams."
    words = [c for c in rows if c.startswith(prefix) and rows[c].map(type).eq(str).any()]
    for row in rows.to_dict("records"):
        names = row.get("config.mechanism")
        if formats.missing(names):
            continue
        listed = literal(names) if names.startswith("[") else (names,)
        chosen = {c.removeprefix(prefix): row[c] for c in words if isinstance(row[c], str)}
        for name in listed:
            known = zoo.defaults(name) if name in zoo.names() else ()
            hparams = {k: v for k, v in chosen.items() if k in known and not v.startswith("[")}
            found.setdefault((name, tuple(sorted(hparams.items()))), hparams)
    return [(name, hparams) for (name, _), hparams in sorted(found.items())]


def reproduce(file: Path, rows: pd.DataFrame, *, whole: bool) -> list[str]:
    """To measure the records again, draw the table of them, and see what moved.

    `whole`: they are all of their folder's. Each by the kernels of its commit.
    """
    folder, commits = shown(home(file)), _values(rows, "env.commit")
    others = [commit for commit in commits if environment.differs(commit, KERNELS)]
    now = rows if not others else rows[~rows["env.commit"].isin(others)]
    lines = [f"# measured at {', '.join(commits)}"] if commits else []
    lines += [_run(folder, now, AGAIN, whole=whole and not others)] if len(now) else []
    lines += [f"git worktree add --detach {THEN} HEAD"] if others else []
    for commit in others:
        of_then = rows[rows["env.commit"] == commit]
        up = folder if Path(folder).is_absolute() else f"../../{folder}"
        run = _run(up, of_then, f"../../{AGAIN}", whole=whole and len(of_then) == len(rows))
        lines += [f"git -C {THEN} checkout {commit} -- {KERNELS}", f"(cd {THEN} && {run})"]
    return [
        *lines,
        f"python -m experiments.report {AGAIN} --out {AGAIN}/report  # {file.stem}.csv in it",
        f"python -m experiments.compare {folder} {AGAIN} --all" + " --allow_missing" * (not whole),
    ]


def _run(folder, rows, out, *, whole):
    ids = "" if whole else f" --ids {','.join(sorted(rows.id))}"
    return f"python -m experiments.run --again {folder}{ids} --out {out}"


def shown(path: Path) -> str:
    """From the root of the project, where it is in it."""
    path = path.resolve()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _values(rows, column):
    found = rows[column].dropna().map(str).unique() if column in rows else []
    return sorted(found)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(message)


def parser() -> argparse.ArgumentParser:
    p = _Parser(
        prog="python -m experiments.cite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("table", metavar="TABLE", help="a file of a report, or its name")
    p.add_argument(
        "--where", nargs="+", type=_pair, default=[], metavar="NAME=VALUE", help="only these rows"
    )
    return p


def _pair(text):
    found = re.fullmatch(r"([\w.]+)=(.+)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"must be such as label=local, got {text!r}")
    return found.groups()


if __name__ == "__main__":
    # a reader that has seen enough, such as head, ends it quietly
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
