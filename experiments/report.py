"""Records -> CSV, Markdown, LaTeX, figures and one self-contained HTML page. Imports no jax.

python -m experiments.report FOLDER ... --out DIR [--fit-from N] [--figures LIST]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments import command, page, plots
from experiments.analysis import formats, frames, reading
from experiments.reporting import latex, overviews, tables

FIGURE_FORMATS = ("svg", "png", "pdf")


def main(arguments: list[str] | None = None) -> int:
    """0; 2 where nothing could be reported."""
    try:
        options = parser().parse_args(arguments)
    except ValueError as error:
        return command.mistake("report", error)
    records = reading.read(options.folders)
    for note in records.notes:
        print(note, file=sys.stderr)
    if records.frame.empty:
        where = ", ".join(map(str, options.folders))
        print(f"no records to report in {where}; experiments.run writes them", file=sys.stderr)
        return 2
    out = Path(options.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        home = write(
            records, out, octaves=options.octaves, start=options.fit_from, figures=options.figures
        )
    except OSError as error:
        print(f"cannot write to {out}: {error.strerror or error}", file=sys.stderr)
        return 2
    print(f"{len(records.frame)} records reported: {home.resolve()}")
    return 0


def parser() -> argparse.ArgumentParser:
    p = command.Parser(prog="python -m experiments.report", description=__doc__.split("\n")[0])
    p.add_argument("folders", nargs="+", metavar="FOLDER", help="searched for records, recursively")
    p.add_argument(
        "--out", required=True, metavar="DIR", help="written: index.html and all it shows"
    )
    p.add_argument(
        "--octaves", type=command.above_0, default=3.0, help="exponents over the top so many (3)"
    )
    p.add_argument(
        "--fit-from", type=command.count, metavar="N", help="exponents over this N and up instead"
    )
    p.add_argument(
        "--figures",
        type=_formats,
        default=FIGURE_FORMATS,
        metavar="LIST",
        help=f"some of {','.join(FIGURE_FORMATS)} (all); none: --figures=",
    )
    return p


def write(
    records: reading.Records,
    out: Path,
    *,
    octaves: float = 3,
    start: int | None = None,
    figures: Sequence[str] = FIGURE_FORMATS,
) -> Path:
    """Every file of the report; the page's path."""
    _save(out / "records.csv", formats.csv(records.frame))
    parts = []
    sections = frames.sections(records.frame)
    for section in overviews.with_overviews(sections):
        found = tables.build(section, octaves=octaves, start=start)
        drawings = plots.draw(section, records.curves, octaves=octaves, start=start)
        for table in found:
            _save_table(out, table)
        for drawing in drawings:
            for suffix in figures:
                content = drawing.svg if suffix == "svg" else drawing.save(suffix)
                _save(out / f"{drawing.name}.{suffix}", content)
        parts.append(page.Part(section, tables=found, drawings=drawings))
    failed = tables.failures(records.frame)
    _save_table(out, failed)
    home = out / "index.html"
    _save(home, page.render(records, parts, failed, figures, octaves=octaves, start=start))
    return home


def _save_table(out, table):
    _save(out / f"{table.name}.csv", formats.csv(table.frame))
    _save(out / f"{table.name}.md", formats.markdown(table, f"{table.name}.csv"))
    _save(out / f"{table.name}.tex", latex.latex(table))


def _save(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _formats(text):
    chosen = tuple(filter(None, text.split(",")))
    for suffix in chosen:
        if suffix not in FIGURE_FORMATS:
            known = ", ".join(FIGURE_FORMATS)
            raise argparse.ArgumentTypeError(f"{suffix!r} is not one of {known}")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
