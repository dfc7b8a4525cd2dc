"""A table as LaTeX: booktabs rules, numbers in siunitx columns, longtable past a page.

It is set in the largest of LAYOUTS that its width fits, estimated from the characters of its cells;
in the last one text is broken into narrower lines. Where that is not enough it is set in panels.
"""

import dataclasses
import re
import textwrap
import unicodedata

from experiments.analysis.formats import Column, Table, missing, pair

# text of more characters is broken into lines, down to so few where room is short
LINE, SHORTEST = 26, 8
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
    "\xa0": "~",
}
# what is printable before it is set whatever the font
LATIN = "\u0180"
# numbers not set at their decimal point: doing so would need so many characters more
RAGGED = 3
# characters that a sign with its spaces takes, and an exponent
PLUS_MINUS, EXPONENT = 2, 4


@dataclasses.dataclass(frozen=True)
class Layout:
    """Widths in points of a page of LaTeX's article; `lines` of a table that fit on it."""

    size: str
    gap: int
    character: float
    room: float
    lines: int
    sideways: bool = False


LAYOUTS = (
    Layout(r"\scriptsize", 3, 4.0, 345, 40),
    Layout(r"\tiny", 2, 3.4, 345, 55),
    Layout(r"\scriptsize", 3, 4.0, 550, 28, sideways=True),
    Layout(r"\tiny", 2, 3.4, 550, 38, sideways=True),
    Layout(r"\tiny", 1, 3.4, 550, 38, sideways=True),
)


@dataclasses.dataclass(frozen=True)
class Part:
    """A column: what its preamble says (of text None), its heading, its cells, and the characters
    that it is wide, or narrow where text is broken. `texts` are its cells as people read them."""

    spec: str | None
    heading: str
    cells: list[str]
    wide: float
    narrow: float
    texts: list[str]


SETUP = (
    r"\sisetup{separate-uncertainty, detect-weight, table-number-alignment = right, "
    "table-text-alignment = right, output-exponent-marker = e}",
)


def latex(table: Table) -> str:
    """Its first line says which packages it needs; what does not fit a page is a longtable.

    Standard errors follow their number within the cell; the count of seeds has a column beside it.
    Columns that no layout has room for follow in panels, each with the rows' names again. A row's
    comment names its records.
    """
    rows, texts = table.frame.to_dict("records"), table.text()
    parts = [
        _column(table, j, column, rows, [row[j] for row in texts])
        for j, column in enumerate(table.columns)
    ]
    names = 1 + (len(parts) > 1 and table.columns[1].key == "n")
    panels = list(_panels(parts, names))
    comments = [f" % {' '.join(ids)}" if ids else "" for ids in table.sources()]
    caption = rf"\caption{{{escape(f'{table.title}. {table.caption}')}}}"
    label = rf"\label{{tab:{table.name}}}"
    packages, lines = ["booktabs", "siunitx"], []
    for i, panel in enumerate(panels):
        said = rf"\caption*{{{escape(table.title)}, continued.}}" if i else caption + label
        needed, found = _set(panel, said, comments, long=len(panels) > 1)
        packages += [name for name in needed if name not in packages]
        lines += found
    return "\n".join([f"% needs {', '.join(packages)}", *lines, ""])


def _panels(parts, names):
    """All columns if a layout has room for them, else the names with as many others as fit."""
    head, rest = parts[:names], parts[names:]
    while rest:
        count = len(rest)
        while count > 1 and not _layout(head + rest[:count])[2]:
            count -= 1
        yield head + rest[:count]
        rest = rest[count:]
    if len(parts) == names:
        yield head


def _set(parts, caption, comments, *, long) -> tuple[list[str], list[str]]:
    """The packages besides and the lines of one panel."""
    layout, widths, _ = _layout(parts)
    align = "".join(
        part.spec or _text(part, width, layout) for part, width in zip(parts, widths, strict=True)
    )
    end = r" \tabularnewline"
    setup = (layout.size, rf"\setlength{{\tabcolsep}}{{{layout.gap}pt}}", *SETUP)
    head = " & ".join(part.heading for part in parts) + end
    cells = zip(*(part.cells for part in parts), strict=True)
    rows = [" & ".join(c) + end + comment for c, comment in zip(cells, comments, strict=True)]
    packages = []
    if long or _lines(parts, widths) > layout.lines:
        packages.append("longtable")
        lines = [
            "{", *setup, rf"\begin{{longtable}}{{{align}}}", caption + r" \\",
            r"\toprule", head, r"\midrule", r"\endfirsthead",
            r"\toprule", head, r"\midrule", r"\endhead", *rows,
            r"\bottomrule", r"\end{longtable}", "}",
        ]  # fmt: skip
    else:
        lines = [
            r"\begin{table}", r"\centering", *setup, caption,
            rf"\begin{{tabular}}{{{align}}}", r"\toprule", head, r"\midrule", *rows,
            r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
    if layout.sideways:
        packages.append("pdflscape")
        lines = [r"\begin{landscape}", *lines, r"\end{landscape}"]
    return packages, lines


def _layout(parts) -> tuple[Layout, list[float], bool]:
    """The first one that the columns fit in, or the last; the characters that each is wide there,
    and whether they fit."""
    for layout in LAYOUTS:
        room = layout.room / layout.character
        gaps = 2 * layout.gap / layout.character * len(parts)
        lines = range(LINE, SHORTEST - 1, -1) if layout == LAYOUTS[-1] else (LINE,)
        for line in lines:
            widths = [min(part.wide, max(part.narrow, line)) for part in parts]
            if sum(widths) + gaps <= room:
                return layout, widths, True
    return layout, widths, False


def _lines(parts, widths):
    """Of all rows, their text broken."""
    rows = zip(*(part.texts for part in parts), strict=True)
    return sum(
        max(len(textwrap.wrap(t, max(1, int(w)))) for t, w in zip(row, widths, strict=True)) or 1
        for row in rows
    )


def _text(part, width, layout):
    if part.wide <= width:
        return "l"
    return rf">{{\raggedright}}p{{{layout.character * width:.0f}pt}}"


def escape(text: str) -> str:
    """What LaTeX has no sign for is spelled out."""
    return "".join(ESCAPES.get(character) or _sign(character) for character in text)


def _sign(character):
    if character < LATIN and character.isprintable():
        return character
    return f"[{unicodedata.name(character, 'a sign').lower()}]"


def _column(table, j, column: Column, rows, texts) -> Part:
    bold = [table.emphatic(i, j) for i in range(len(rows))]
    if not table.numeric(column):
        marks = [r"\textbf{{{}}}" if of else "{}" for of in bold]
        cells = [mark.format(escape(text)) for mark, text in zip(marks, texts, strict=True)]
        wide = max(map(len, texts), default=0)
        heading, least = _heading(column, min(wide, LINE))
        words = [len(word) for text in texts for word in text.split()]
        return Part(None, heading, cells, max(wide, least), max([least, *words]), texts)
    errors, counts = [""] * len(rows), [""] * len(rows)
    if column.beside:
        error, seeds, _ = column.beside
        pairs = [pair(row[column.key], row[error], column) for row in rows]
        errors = [error.replace(",", "") for _, error in pairs]
        counts = ["" if missing(row[seeds]) else f"({row[seeds]:g})" for row in rows]
        texts = [number or text for (number, _), text in zip(pairs, texts, strict=True)]
    numbers = [text.replace(",", "") for text in texts]
    found = [*map(NUMBER.fullmatch, numbers)]
    widest = (
        max(
            _printed(number) + (PLUS_MINUS + _printed(error) if error else 0)
            if match
            else len(text)
            for match, number, error, text in zip(found, numbers, errors, texts, strict=True)
        )
        if rows
        else 0
    )
    form, aligned = _format(numbers, errors)
    ragged = aligned > widest + RAGGED
    cells = [
        _number(number, error, of, ragged) if match else f"{{{escape(text)}}}"
        for match, number, text, error, of in zip(found, numbers, texts, errors, bold, strict=True)
    ]
    spec = "r" if ragged else f"S[table-format = {form}]"
    width = widest if ragged else max(aligned, widest)
    beside = max(map(len, counts), default=0)
    heading, least = _heading(column, width + beside)
    width = max(width + beside, least)
    if not beside:
        return Part(spec, f"{{{heading}}}", cells, width, width, texts)
    cells = [f"{text} & {count}" for text, count in zip(cells, counts, strict=True)]
    heading = rf"\multicolumn{{2}}{{c}}{{{heading}}}"
    return Part(spec + r"@{\,}l", heading, cells, width, width, texts)


def _heading(column, width) -> tuple[str, int]:
    """In lines as wide as the cells, or two of several words; the characters that they take."""
    words = column.header.split(" ")
    lines = textwrap.wrap(column.header, max(int(width), *map(len, words), 6)) or [""]
    least = max(map(len, lines))
    text = r"\\".join(map(escape, lines))
    return (rf"\shortstack{{{text}}}" if len(lines) > 1 else text), least


def _printed(number):
    """Characters of a number, with the spaces that group its digits."""
    mantissa, _, exponent = number.partition("e")
    return len(mantissa) + 0.25 * (len(mantissa) // 4) + (EXPONENT if exponent else 0)


def _number(text, error, bold, ragged):
    text += rf" \pm {error}" if error else ""
    return (r"\bfseries " if bold else "") + (rf"\num{{{text}}}" if ragged else text)


def _format(numbers, errors) -> tuple[str, float]:
    """Digits before and after the point, of the standard error and of the exponent; and the
    characters that they take."""
    found = [match for match in map(NUMBER.fullmatch, numbers) if match]
    whole = max((len(match[1]) for match in found), default=1)
    decimals = max((len(match[2] or "") for match in found), default=0)
    exponent = max((len(match[3].lstrip("+")) for match in found if match[3]), default=0)
    sign = "-" if any(match[0].startswith("-") for match in found) else ""
    digits = f"{sign}{whole}" + (f".{decimals}" if decimals else "")
    power = f"e-{exponent - 1 or 1}" if exponent else ""
    width = _printed("0" * (len(sign) + whole + bool(decimals) + decimals) + power)
    if any(errors):
        of_errors, more = _format(errors, [])
        digits, width = rf"{digits} \pm {of_errors}", width + PLUS_MINUS + more
    return digits + power, width
