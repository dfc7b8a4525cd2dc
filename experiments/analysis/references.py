"""The BibTeX of `references.bib`: by arXiv number, and of data sets by the task that reads them.

An entry's field `tasks` names the tasks; it is not printed. Imports no jax.
"""

import dataclasses
import functools
import re
from pathlib import Path

FILE = Path(__file__).with_name("references.bib")
ARXIV = re.compile(r"\d{4}\.\d{4,5}")


@dataclasses.dataclass(frozen=True)
class Entry:
    key: str
    arxiv: str
    tasks: tuple[str, ...]
    text: str


@functools.cache
def entries() -> list[Entry]:
    found = []
    for text in re.split(r"\n(?=@)", FILE.read_text().strip()):
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", text, re.MULTILINE))
        tasks = tuple(filter(None, fields.get("tasks", "").split(", ")))
        printed = re.sub(r"^  tasks = .*\n", "", text.strip(), flags=re.MULTILINE)
        key = re.match(r"@\w+\{(\S+),", text)[1]
        found.append(Entry(key, fields.get("eprint", ""), tasks, printed))
    return found


def of_papers(citation: str) -> list[Entry]:
    """Of the arXiv numbers in a text, in its order. ValueError names one that is not there."""
    by_number = {entry.arxiv: entry for entry in entries()}
    numbers = list(dict.fromkeys(ARXIV.findall(citation)))
    for number in numbers:
        if number not in by_number:
            raise ValueError(f"{FILE.name} has no entry with eprint {number}")
    return [by_number[number] for number in numbers]


def of_task(task: str) -> list[Entry]:
    """Where a task's data come from."""
    found = [entry for entry in entries() if task in entry.tasks]
    if not found:
        raise ValueError(f"{FILE.name} has no entry with tasks {task}")
    return found
