"""A table, as CSV (exact numbers) and as Markdown (rounded)."""

import dataclasses
import itertools
import math
from collections.abc import Iterable

import pandas as pd


@dataclasses.dataclass(frozen=True)
class Column:
    """`scale` divides and `digits` are significant, for people; CSV keeps the number as it is.

    `beside` are keys of the standard error, the number of seeds and the word instead of a number
    that people read in the same cell; a column that is not `shown` is in the CSV only.
    """

    key: str
    header: str
    digits: int | None = None
    scale: float = 1.0
    decimals: int | None = None
    beside: tuple[str, str, str] | None = None
    shown: bool = True


@dataclasses.dataclass(frozen=True)
class Table:
    """`frame` has the exact values; `columns` are what people read of it, `bold` (row, key).

    Its column `records` has the ids of the records that a row is made of, `KEY_records` those of
    one cell of it.
    """

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    frame: pd.DataFrame
    bold: frozenset[tuple[int, str]] = frozenset()

    @classmethod
    def of(
        cls, name: str, title: str, caption: str, columns: Iterable[Column], rows, bold=()
    ) -> "Table":
        columns = tuple(columns)
        keys = [key for column in columns for key in (column.key, *(column.beside or ()))]
        shown = tuple(column for column in columns if column.shown)
        frame = pd.DataFrame(rows)
        sources = [f"{key}_records" for key in keys] + ["records"]
        frame = frame.reindex(columns=keys + [key for key in sources if key in frame])
        return cls(name, title, caption, shown, frame, frozenset(bold))

    def text(self) -> list[list[str]]:
        """Cells as people read them."""
        records = self.frame.to_dict("records")
        return [[self._cell(row, column) for column in self.columns] for row in records]

    def records(self) -> list[list[str]]:
        """Of each cell the ids of its records, separated by spaces; "" where it has none."""
        found = []
        for row in self.frame.to_dict("records"):
            whole = row.get("records")
            ids = [row.get(f"{column.key}_records", whole) for column in self.columns]
            found.append(["" if missing(of) else of for of in ids])
        return found

    def sources(self) -> list[list[str]]:
        """Of each row the ids of all records behind its cells, each once."""
        return [list(dict.fromkeys(" ".join(cells).split())) for cells in self.records()]

    def emphatic(self, row: int, column: int) -> bool:
        return (row, self.columns[column].key) in self.bold

    def numeric(self, column: Column) -> bool:
        return column.digits is not None or column.decimals is not None

    def _cell(self, row, column):
        if column.beside is None:
            return cell(row[column.key], column)
        error, seeds, word = (row[key] for key in column.beside)
        text, error = pair(row[column.key], error, column)
        if not text:
            return "" if missing(word) else str(word)
        text += f" ± {error}" if error else ""
        return text if missing(seeds) else f"{text} ({seeds:g})"


def cell(value, column: Column) -> str:
    if missing(value):
        return ""
    if isinstance(value, str) or (column.digits is None and column.decimals is None):
        return str(value)
    value = value / column.scale
    if column.decimals is not None:
        return f"{value:.{column.decimals}f}"
    return significant(value, column.digits)


def pair(value, error, column: Column) -> tuple[str, str]:
    """A number and its standard error in the column's unit.

    Of an error the first digit is enough, and of the number those before and at it, unless the
    column says how many decimals.
    """
    text = cell(value, column)
    if not text or missing(error) or column.decimals is not None:
        return text, cell(error, column)
    value, error = value / column.scale, error / column.scale
    if error > 0 and value:
        kept = column.digits - 1 - math.floor(math.log10(abs(value)))
        decimals = min(-math.floor(math.log10(float(f"{error:.0e}"))), kept)
        text = f"{round(value, decimals):,.{max(decimals, 0)}f}"
    return text, significant(error, 1)


def significant(value: float, digits: int) -> str:
    """Rounded to `digits` significant digits, commas, no exponent between 1e-5 and 1e12."""
    if float(value).is_integer() and abs(value) < 1e12 and digits >= 9:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -5 <= magnitude < 12:
        return f"{value:.{digits - 1}e}"
    decimals = digits - 1 - magnitude
    value = round(value, decimals)
    # 9.9999 rounds to 10.00
    decimals -= abs(value) >= 10 ** (magnitude + 1)
    return f"{value:,.{max(decimals, 0)}f}"


def missing(value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA


def csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def markdown(table: Table, exact: str | None = None) -> str:
    """The caption, then a pipe table.

    `exact` is the file of `csv(table.frame)`: a row's first cell links to its line there, which has
    the numbers as they are and names their records.
    """
    marks = ["---:" if table.numeric(column) else "---" for column in table.columns]
    heads = [_markdown(column.header) for column in table.columns]
    lines = [heads, marks]
    at = _lines(table.frame)
    for i, (line, sources) in enumerate(zip(table.text(), table.sources(), strict=True)):
        cells = enumerate(map(_markdown, line))
        cells = [f"**{text}**" if table.emphatic(i, j) else text for j, text in cells]
        if exact and sources:
            cells[0] = f"[{cells[0] or '·'}]({exact}#L{at[i]})"
        lines.append(cells)
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"**{table.title}.** {table.caption}\n\n{body}\n"


def _lines(frame):
    """The line that each row begins at in its CSV: a quoted cell may have several."""
    rows = frame.itertuples(index=False)
    taken = [1 + sum(str(value).count("\n") for value in row) for row in rows]
    return list(itertools.accumulate(taken[:-1], initial=2))


def _markdown(text):
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
