"""Two folders of records -> which points moved by more than noise: a table, a plot, an exit code.

    python -m experiments.compare results/scaling/DEVICE out/again --ratio 1.2

A and B may be two commits, devices or versions; points are the same where their configs are, and
noise is what `analysis.moves` says. Exit code 1: something got slower in B by more than the
ratio, does not come through any more, or was not measured; 0: not so; 2: nothing to compare. A
score that moved is told and is no alarm; of a training with a single seed in both the noise is not
known, so that it never counts as moved. With --allow_missing B may be a part of A. Imports no jax.
"""

import argparse
import collections
import math
import signal
import sys
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from experiments import command
from experiments.analysis import formats, frames, moves, reading
from experiments.analysis.formats import Column, Table
from experiments.analysis.frames import Section
from experiments.figures import canvas, palette
from experiments.figures.canvas import Drawing
from experiments.figures.palette import MUTED

COLUMNS = (
    Column("label", "mechanism"),
    Column("what", "point"),
    Column("n", "N", 12),
    Column("quantity", "quantity"),
    Column("unit", "unit"),
    Column("a", "A", 4),
    Column("b", "B", 4),
    Column("ratio", "B / A", 4),
    Column("noise", "noise of it", 2),
    Column("verdict", "verdict"),
)


# missing points that are worth naming in a line
FEW = 5


def main(arguments: list[str] | None = None) -> int:
    try:
        options = parser().parse_args(arguments)
    except ValueError as error:
        return command.mistake("compare", error)
    both = []
    for folder in (options.a, options.b):
        found = reading.read([folder])
        for note in found.notes:
            print(note, file=sys.stderr)
        both.append(found.frame)
    try:
        found = moves.between(*both, ratio=options.ratio, ignore=options.ignore)
    except ValueError as error:
        return command.mistake("compare", f"{options.a} and {options.b}: {error}")
    made, drawing = table(found, options), draw(found.rows, options)
    try:
        written = save(options.out, made, drawing)
    except OSError as error:
        print(f"cannot write to {options.out}: {error.strerror or error}", file=sys.stderr)
        return 2
    print(formats.markdown(made))
    print(f"{summary(found)}\nwritten: {', '.join(map(str, written))}")
    lacking = bool(found.missing) and not options.allow_missing
    if lacking:
        print(f"experiments.compare: {lacks(found)}; --allow_missing lets it", file=sys.stderr)
    return int(lacking or any(row["guarded"] for row in found.rows))


def table(found: moves.Moves, options: argparse.Namespace) -> Table:
    """What moved, or all, the most first."""
    moved = [row for row in found.rows if row["moved"] or options.all]
    moved.sort(key=lambda row: -abs(math.log(row["ratio"])) if row["ratio"] > 0 else -math.inf)
    text = f"A: {options.a}. B: {options.b}. {summary(found)}"
    title = "Points of both" if options.all else "Points that moved by more than noise"
    return Table.of("compare", title, text, COLUMNS, moved)


def summary(found: moves.Moves) -> str:
    verdicts = {}
    for row in (row for row in found.rows if row["moved"]):
        verdicts.setdefault(row["quantity"], collections.Counter())[row["verdict"]] += 1
    words = [
        f"{quantity}: " + ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
        for quantity, counts in verdicts.items()
    ]
    alarms = sum(row["guarded"] for row in found.rows)
    parts = [f"{found.again} of {found.measured} points of A measured in both"]
    parts += ["; ".join(words) or "none moved", f"{alarms} beyond the ratio or lost"]
    if found.bare:
        parts.append(f"no quantity to compare in {found.bare}")
    unsure = sum(row["quantity"] != "status" and math.isnan(row["noise"]) for row in found.rows)
    if unsure:
        parts.append(f"{unsure} values of a single run, of unknown noise, never count as moved")
    parts += [lacks(found)] if found.missing else []
    return ". ".join(parts) + "."


def lacks(found: moves.Moves) -> str:
    """Which points B was not asked for, or did not come to."""
    named = [
        f"{point['label']} {point['what']} n={frames.plain(point['n'])}"
        for point in found.missing[:FEW]
    ]
    more = len(found.missing) - len(named)
    named += [f"and {more} more"] if more else []
    return f"B has no record of {len(found.missing)} of them: {', '.join(named)}"


def draw(rows: list[dict], options: argparse.Namespace) -> Drawing | None:
    """B over A of the times against N; hollow and grey what did not move."""
    timed = [row for row in rows if row["quantity"] in moves.TIMES]
    times = pd.DataFrame([row for row in timed if not formats.missing(row["n"])])
    if times.empty:
        return None
    if times.quantity.nunique() > 1:
        times["what"] += ", " + times.quantity
    with matplotlib.rc_context(canvas.RC):
        return _figure(times, options)


def _figure(times, options):
    look = palette.styles(times)
    whats = sorted(times.what.unique())
    moved = sorted(times.label[times.moved].unique())
    section = Section("compare", "compare", f"B {options.b} over A {options.a}", times)
    handles = [Line2D([], [], **look[x].plot(), label=x) for x in moved]
    figure, grid = canvas.panels(section, "Time of B over A", whats, handles=handles)
    for ax, what in zip(grid[0], whats, strict=True):
        here = times[times.what == what]
        for label, curve in here.sort_values("n").groupby("label"):
            ax.plot(curve.n, curve.ratio, color=MUTED, lw=0.6, zorder=1)
            still, went = curve[~curve.moved], curve[curve.moved]
            ax.plot(still.n, still.ratio, "o", ms=3, color=MUTED, mfc="none", zorder=2)
            bars = {
                "yerr": (went.noise * went.ratio).fillna(0),
                "elinewidth": 1,
                "linestyle": "",
                "zorder": 3,
            }
            ax.errorbar(went.n, went.ratio, **(look[label].plot() | bars))
        canvas.axes(ax, times.n, None, ticks=5)
        ax.axhline(1, color=MUTED, lw=1, zorder=1)
        ax.axhline(options.ratio, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    text = "Time of B over that of A against N; grey: not more than noise; dashed: the ratio."
    return Drawing("compare", text, figure)


def save(out: Path, made: Table, drawing: Drawing | None) -> list[Path]:
    """The files; a plot of other folders does not stay beside a table of these."""
    out.mkdir(parents=True, exist_ok=True)
    files = {suffix: out.resolve() / f"compare.{suffix}" for suffix in ("csv", "md", "svg", "png")}
    files["csv"].write_text(formats.csv(made.frame))
    files["md"].write_text(formats.markdown(made, "compare.csv"))
    for suffix in ("svg", "png"):
        files[suffix].unlink(missing_ok=True)
        if drawing:
            files[suffix].write_bytes(drawing.save(suffix))
    return [file for file in files.values() if file.exists()]


def parser() -> argparse.ArgumentParser:
    p = command.Parser(
        prog="python -m experiments.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("a", metavar="A", type=Path, help="a folder of records")
    p.add_argument("b", metavar="B", type=Path, help="another")
    p.add_argument(
        "--ratio", type=command.from_1, default=1.2, help="slower by more is an alarm (1.2)"
    )
    p.add_argument("--out", type=Path, default=Path("out/compare"), help="folder of table and plot")
    p.add_argument("--all", action="store_true", help="in the table also what did not move")
    p.add_argument("--allow_missing", action="store_true", help="B may lack points of A")
    p.add_argument(
        "--ignore", type=lambda text: tuple(text.split(",")), default=(), metavar="FIELDS",
        help="of the configs, such as dtype, that may differ",
    )  # fmt: skip
    return p


if __name__ == "__main__":
    # a reader that has seen enough, such as head, ends it quietly
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
