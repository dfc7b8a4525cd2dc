"""The BibTeX of a table or figure, and the commands that make it again.

    python -m experiments.cite results/scaling/DEVICE/report/scaling.csv
    python -m experiments.cite scaling --where device=DEVICE label=local n=4096 mode=forward

prints an entry for this software, for every mechanism and data set in it and for what others
published beside it; the records it is made of; and what to type, with the kernels of then where
they are others now. With --where only of the rows with these values, by columns of the table or
fields of a record: it is how one number is cited, and measured again.
"""

import argparse
import json
import re
import signal
import sys
from pathlib import Path

import pandas as pd
import yaml

import attention_zoo as zoo
from experiments import command, origins
from experiments.analysis import findings, formats, frames, published, references
from experiments.analysis.frames import Section
from experiments.analysis.reading import Records
from experiments.measuring import environment
from experiments.measuring.environment import ROOT
from experiments.origins import shown
from experiments.running.configuration import literal

AGAIN = "out/again"
# a checkout of its own for the kernels of then, so that nothing here is touched
THEN = "out/then"
KERNELS = "attention_zoo"
# ids that are worth naming in a line
FEW = 40


def main(arguments: list[str] | None = None) -> int:
    try:
        options = parser().parse_args(arguments)
        where = dict(options.where)
        file = origins.find(options.table, where.get("device"))
        found = origins.read(file)
        cited, unknown = text(file, found, where)
    except ValueError as error:
        return command.mistake("cite", error)
    for note in (*found.notes, *unknown):
        print(note, file=sys.stderr)
    print(cited)
    return 0


def text(file: Path, found: Records, where: dict) -> tuple[str, list[str]]:
    """Of the table among these records; and a line for every mechanism without an entry."""
    section, ids = origins.of_table(file, origins.sections(found.frame), where)
    rows = section.frame[section.frame.id.isin(ids)]
    entries, unknown = cited(rows)
    parts = [f"% {shown(file)}: {facts(rows)}", "", software(rows), *entries]
    folder, whole = origins.folder(rows, found)
    name = alone(file.stem, section, rows)
    commands = "\n".join(f"    {line}" for line in reproduce(name, rows, folder, whole=whole))
    parts.append(f"% to make it again:\n{commands}")
    return "\n\n".join(parts).replace("\n\n\n", "\n\n"), unknown


def facts(rows: pd.DataFrame) -> str:
    parts = ["1 record" if len(rows) == 1 else f"{len(rows)} records"]
    for words, name in (("of", "device"), ("commit", "commit"), ("jax", "jax")):
        parts.append(f"{words} {', '.join(_values(rows, f'env.{name}'))}")
    changed = int(findings.column(rows, "env.dirty").eq(True).sum())
    parts += [f"{changed} with changes that were not committed"] if changed else []
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
    return "\n".join(["@misc{attention_zoo,", *lines, "}"])


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
            known = zoo.defaults(name) if name in zoo.names() else {}
            hparams = {k: v for k, v in chosen.items() if k in known and not v.startswith("[")}
            parts = json.loads(chosen["parts"]) if "parts" in chosen else known.get("parts", ())
            for of, given in ((name, hparams), *parts):
                given = {k: v for k, v in given.items() if isinstance(v, str)}
                found.setdefault((of, tuple(sorted(given.items()))), given)
    return [(name, hparams) for (name, _), hparams in sorted(found.items())]


def alone(name: str, section: Section, rows: pd.DataFrame) -> str:
    """What a table of the section is called in a report of these of its rows alone."""
    own = [found for found in frames.sections(rows) if found.kind == section.kind]
    if len(own) == 1:
        return name.replace(section.name, own[0].name, 1)
    for device in _values(rows, "env.device"):
        name = origins.alone(name, device)
    return name


def reproduce(name: str, rows: pd.DataFrame, folder: Path, *, whole: bool) -> list[str]:
    """To measure the records again, draw the table of this name, and see what moved.

    `whole`: they are all of the folder's. Each by the kernels of its commit, where git has it.
    """
    folder, commits = shown(folder), _values(rows, "env.commit")
    others = [commit for commit in commits if environment.differs(commit, KERNELS)]
    lost = [commit for commit in commits if not environment.knows(commit)]
    now = rows if not others else rows[~rows["env.commit"].isin(others)]
    lines = [f"# measured at {', '.join(commits)}"] if commits else []
    if lost:
        said = f"{', '.join(lost)}: not in this clone, so that its kernels may have been others"
        lines.append(f"# {said}; these are those of now")
    lines += [_run(folder, now, AGAIN, whole=whole and not others)] if len(now) else []
    if others:
        lines.append(f"test ! -e {THEN}/.git || git worktree remove --force {THEN}")
        lines.append(f"git worktree add --force --detach {THEN} HEAD")
    for commit in others:
        of_then = rows[rows["env.commit"] == commit]
        up = folder if Path(folder).is_absolute() else f"../../{folder}"
        run = _run(up, of_then, f"../../{AGAIN}", whole=whole and len(of_then) == len(rows))
        checkout = f"git -C {THEN} checkout --no-overlay {commit} -- {KERNELS}"
        lines += [checkout, f"(cd {THEN} && {run})"]
    return [
        *lines,
        f"python -m experiments.report {AGAIN} --out {AGAIN}/report  # {name}.csv in it",
        f"python -m experiments.compare {folder} {AGAIN} --all" + " --allow_missing" * (not whole),
    ]


def _run(folder, rows, out, *, whole):
    ids = "" if whole else f" --ids {','.join(sorted(rows.id))}"
    return f"python -m experiments.run --again {folder}{ids} --out {out}"


def _values(rows, column):
    found = rows[column].dropna().map(str).unique() if column in rows else []
    return sorted(found)


def parser() -> argparse.ArgumentParser:
    p = command.Parser(
        prog="python -m experiments.cite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("table", metavar="TABLE", help="a file of a report, or its name")
    p.add_argument(
        "--where", nargs="+", action="extend", type=_pair, default=[], metavar="NAME=VALUE",
        help="only these rows; device=DEVICE also says whose table, where several have one",
    )  # fmt: skip
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
