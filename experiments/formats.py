"""A table as CSV (exact numbers), Markdown and LaTeX booktabs (rounded)."""

import dataclasses
import math
from collections.abc import Iterable

import pandas as pd

# more rows than fit a page go to longtable
PAGE_ROWS = 40


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
    """`frame` has the exact values; `columns` are what people read of it, `bold` (row, key)."""

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
        return cls(name, title, caption, shown, pd.DataFrame(rows, columns=keys), frozenset(bold))

    def text(self) -> list[list[str]]:
        """Cells as people read them."""
        records = self.frame.to_dict("records")
        return [[self._cell(row, column) for column in self.columns] for row in records]

    def emphatic(self, row: int, column: int) -> bool:
        return (row, self.columns[column].key) in self.bold

    def numeric(self, column: Column) -> bool:
        return column.digits is not None or column.decimals is not None

    def _cell(self, row, column):
        text = cell(row[column.key], column)
        if column.beside is None:
            return text
        error, seeds, word = (row[key] for key in column.beside)
        if not text:
            return "" if missing(word) else str(word)
        text += "" if missing(error) else f" ± {cell(error, column)}"
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


def markdown(table: Table) -> str:
    """The caption, then a pipe table."""
    marks = ["---:" if table.numeric(column) else "---" for column in table.columns]
    heads = [_markdown(column.header) for column in table.columns]
    lines = [heads, marks, *_emphasised(table, _markdown, "**{}**")]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"**{table.title}.** {table.caption}\n\n{body}\n"


def latex(table: Table) -> str:
    """Needs booktabs, and longtable where the rows do not fit a page."""
    align = "".join("r" if table.numeric(column) else "l" for column in table.columns)
    head = " & ".join(_latex(column.header) for column in table.columns) + r" \\"
    lines = _emphasised(table, _latex, r"\textbf{{{}}}")
    rows = [" & ".join(line) + r" \\" for line in lines]
    caption = rf"\caption{{{_latex(f'{table.title}. {table.caption}')}}}"
    label = rf"\label{{tab:{table.name}}}"
    small = [r"\scriptsize", r"\setlength{\tabcolsep}{3pt}"]
    if len(rows) > PAGE_ROWS:
        lines = [
            "% needs booktabs and longtable", "{", *small, rf"\begin{{longtable}}{{{align}}}",
            caption + label + r" \\", r"\toprule", head, r"\midrule", r"\endfirsthead",
            r"\toprule", head, r"\midrule", r"\endhead", *rows,
            r"\bottomrule", r"\end{longtable}", "}",
        ]  # fmt: skip
    else:
        lines = [
            "% needs booktabs", r"\begin{table}", r"\centering", *small, caption, label,
            rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule", *rows,
            r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "√": r"$\sqrt{}$",
    "±": r"$\pm$",
    "φ": r"$\phi$",
    "ᵀ": r"$^\top$",
    "²": r"$^2$",
    "\n": " ",
}


def _emphasised(table, escape, mark):
    """The escaped cells, row by row, the bold ones within the mark."""
    for i, line in enumerate(table.text()):
        marks = [mark if table.emphatic(i, j) else "{}" for j in range(len(line))]
        yield [of.format(escape(text)) for of, text in zip(marks, line, strict=True)]


def _latex(text):
    return "".join(LATEX.get(character, character) for character in text)


def _markdown(text):
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
