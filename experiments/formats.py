"""A table as CSV (exact numbers), Markdown and LaTeX booktabs (rounded)."""

import dataclasses
import math
from collections.abc import Iterable

import pandas as pd

# more rows than fit a page go to longtable
PAGE_ROWS = 40


@dataclasses.dataclass(frozen=True)
class Column:
    """`scale` divides and `digits` are significant, for people; CSV keeps the number as it is."""

    key: str
    header: str
    digits: int | None = None
    scale: float = 1.0
    decimals: int | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    frame: pd.DataFrame

    @classmethod
    def of(cls, name: str, title: str, caption: str, columns: Iterable[Column], rows) -> "Table":
        columns = tuple(columns)
        frame = pd.DataFrame(rows, columns=[column.key for column in columns])
        return cls(name, title, caption, columns, frame)

    def text(self) -> list[list[str]]:
        """Cells as people read them."""
        return [
            [cell(value, column) for value, column in zip(row, self.columns, strict=True)]
            for row in self.frame.itertuples(index=False)
        ]

    def numeric(self, column: Column) -> bool:
        return column.digits is not None or column.decimals is not None


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
    lines = [[column.header for column in table.columns], marks, *table.text()]
    body = "\n".join("| " + " | ".join(map(_markdown, line)) + " |" for line in lines)
    return f"**{table.title}.** {table.caption}\n\n{body}\n"


def latex(table: Table) -> str:
    """Needs booktabs, and longtable where the rows do not fit a page."""
    align = "".join("r" if table.numeric(column) else "l" for column in table.columns)
    head = " & ".join(_latex(column.header) for column in table.columns) + r" \\"
    rows = [" & ".join(map(_latex, line)) + r" \\" for line in table.text()]
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


def _latex(text):
    return "".join(LATEX.get(character, character) for character in text)


def _markdown(text):
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
