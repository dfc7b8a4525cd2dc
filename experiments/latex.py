"""A table as LaTeX: booktabs rules, numbers in siunitx columns, longtable past a page."""

import re

from experiments.formats import Column, Table, missing, pair

# more rows than fit a page go to longtable; text that is longer is broken into lines
PAGE_ROWS, LINE = 40, 26
NUMBER = re.compile(r"-?(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?")
ESCAPES = {
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
    "—": "---",
    "\n": " ",
}
# tables of more columns than these are set smaller, and sideways
WIDE, SIDEWAYS = 9, 14
SIZES = {False: (r"\scriptsize", "3pt"), True: (r"\tiny", "2pt")}
SETUP = (
    r"\sisetup{separate-uncertainty, detect-weight, table-number-alignment = right, "
    "table-text-alignment = right}",
)


def latex(table: Table) -> str:
    """Its first line says which packages it needs; what does not fit a page is a longtable.

    Standard errors follow their number within the cell; the count of seeds has a column beside it.
    """
    columns = [_column(table, j, column) for j, column in enumerate(table.columns)]
    align = "".join(of for of, _, _ in columns)
    end = r" \tabularnewline"
    size, gap = SIZES[len(columns) > WIDE]
    setup = (size, rf"\setlength{{\tabcolsep}}{{{gap}}}", *SETUP)
    head = " & ".join(header for _, header, _ in columns) + end
    rows = [" & ".join(line) + end for line in zip(*(of for *_, of in columns), strict=True)]
    caption = rf"\caption{{{escape(f'{table.title}. {table.caption}')}}}"
    label = rf"\label{{tab:{table.name}}}"
    packages = ["booktabs", "siunitx"]
    if len(rows) > PAGE_ROWS:
        packages.append("longtable")
        lines = [
            "{", *setup, rf"\begin{{longtable}}{{{align}}}", caption + label + r" \\",
            r"\toprule", head, r"\midrule", r"\endfirsthead",
            r"\toprule", head, r"\midrule", r"\endhead", *rows,
            r"\bottomrule", r"\end{longtable}", "}",
        ]  # fmt: skip
    else:
        lines = [
            r"\begin{table}", r"\centering", *setup, caption, label,
            rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule", *rows,
            r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
    if len(columns) > SIDEWAYS:
        packages.append("pdflscape")
        lines = [r"\begin{landscape}", *lines, r"\end{landscape}"]
    return "\n".join([f"% needs {', '.join(packages)}", *lines, ""])


def escape(text: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in text)


def _column(table, j, column: Column):
    """(its letters of the preamble, its heading, its cells)."""
    rows, texts = table.frame.to_dict("records"), [line[j] for line in table.text()]
    bold = [table.emphatic(i, j) for i in range(len(rows))]
    if not table.numeric(column):
        marks = [r"\textbf{{{}}}" if of else "{}" for of in bold]
        cells = [mark.format(escape(text)) for mark, text in zip(marks, texts, strict=True)]
        long = max(map(len, texts), default=0) > LINE
        return r">{\raggedright}p{10em}" if long else "l", _heading(column), cells
    errors = [""] * len(rows)
    counts = [None] * len(rows)
    if column.beside:
        error, seeds, _ = column.beside
        pairs = [pair(row[column.key], row[error], column) for row in rows]
        errors = [error for _, error in pairs]
        counts = [None if missing(row[seeds]) else f"{row[seeds]:g}" for row in rows]
        texts = [number or text for (number, _), text in zip(pairs, texts, strict=True)]
    numbers = [text.replace(",", "") for text in texts]
    cells = [
        _number(number, error, of) if NUMBER.fullmatch(number) else f"{{{escape(text)}}}"
        for number, text, error, of in zip(numbers, texts, errors, bold, strict=True)
    ]
    spec = f"S[table-format = {_format(numbers, errors)}]"
    if not any(counts):
        return spec, f"{{{_heading(column)}}}", cells
    counts = [f"({count})" if count else "" for count in counts]
    beside = [f"{text} & {count}" for text, count in zip(cells, counts, strict=True)]
    header = rf"\multicolumn{{2}}{{c}}{{{_heading(column)}}}"
    return spec + r"@{\,}l", header, beside


def _heading(column):
    """In two lines where it has several words."""
    words = escape(column.header).split(" ")
    if len(words) == 1:
        return words[0]
    half = min(
        range(1, len(words)), key=lambda i: abs(2 * len(" ".join(words[:i])) - len(column.header))
    )
    return rf"\shortstack{{{' '.join(words[:half])}\\{' '.join(words[half:])}}}"


def _number(text, error, bold):
    return (
        (r"\bfseries " if bold else "")
        + text
        + (rf" \pm {error.replace(',', '')}" if error else "")
    )


def _format(numbers, errors):
    """Digits before and after the point, of the standard error and of the exponent."""
    found = [match for match in map(NUMBER.fullmatch, numbers) if match]
    whole = max((len(match[1]) for match in found), default=1)
    decimals = max((len(match[2] or "") for match in found), default=0)
    exponent = max((len(match[3].lstrip("+")) for match in found if match[3]), default=0)
    sign = "-" if any(match[0].startswith("-") for match in found) else ""
    digits = f"{sign}{whole}" + (f".{decimals}" if decimals else "")
    if any(errors):
        digits += rf" \pm {_format([text.replace(',', '') for text in errors], [])}"
    return digits + (f"e-{exponent - 1 or 1}" if exponent else "")
