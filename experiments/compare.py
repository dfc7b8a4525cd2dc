"""Two folders of records -> which points moved by more than noise: a table, a plot, an exit code.

    python -m experiments.compare results/scaling/DEVICE out/again --ratio 1.2

A and B may be two commits, devices or versions; points are the same where their configs are. Exit
code 1: something got slower in B by more than the ratio, or does not come through any more; 0: not
so; 2: nothing to compare. Imports no jax.

A time moved where the quartile ranges lie apart and the medians differ by more than two standard
errors of their difference, estimated from quartiles and repeats; a score or an error where means
over seeds do; FLOPs and compiled memory, which do not jitter, by a thousandth.
"""

import argparse
import dataclasses
import math
import sys
from pathlib import Path

import matplotlib
import pandas as pd

from experiments import canvas, fits, formats, frames, palette, reading
from experiments.analysis import column
from experiments.canvas import Drawing
from experiments.formats import Column, Table
from experiments.frames import Section
from experiments.palette import MUTED

SETTLED = ("config.seed", "config.repeats", "config.budget", "config.eval_every")
# of a normal distribution: quartile range over standard deviation, error of a median over a mean's
QUARTILE_RANGE, MEDIAN = 1.349, 1.2533
SLACK = 1e-3
COLUMNS = (
    Column("label", "mechanism"),
    Column("what", "point"),
    Column("n", "N", 12),
    Column("quantity", "quantity"),
    Column("a", "A", 4),
    Column("b", "B", 4),
    Column("ratio", "B / A", 4),
    Column("noise", "noise of it", 2),
    Column("verdict", "verdict"),
)


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A metric; `words` are its verdicts where B has less and more of it."""

    key: str
    header: str
    words: tuple[str, str]


QUANTITIES = (
    Quantity("seconds", "s", ("faster", "slower")),
    Quantity("seconds_per_step", "s a step", ("faster", "slower")),
    Quantity("flops_counted", "FLOPs", ("fewer", "more")),
    Quantity("bytes_compiled", "bytes compiled", ("less", "more")),
    Quantity("error", "error", ("better", "worse")),
    Quantity("test_accuracy", "accuracy", ("worse", "better")),
    Quantity("test_bpb", "bits per byte", ("better", "worse")),
)


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    both = []
    for folder in (options.a, options.b):
        found = reading.read([folder])
        for note in found.notes:
            print(note, file=sys.stderr)
        both.append(found.frame)
    try:
        rows = compare(*both, ratio=options.ratio, ignore=options.ignore)
    except ValueError as error:
        print(f"experiments.compare: {options.a} and {options.b}: {error}", file=sys.stderr)
        return 2
    made, drawing = table(rows, options), draw(rows, options)
    try:
        save(options.out, made, drawing)
    except OSError as error:
        print(f"cannot write to {options.out}: {error.strerror or error}", file=sys.stderr)
        return 2
    print(formats.markdown(made))
    print(f"{summary(rows)}\ntable and plot: {options.out.resolve()}/compare.*")
    return int(any(row["guarded"] for row in rows))


def compare(
    a: pd.DataFrame, b: pd.DataFrame, *, ratio: float, ignore: tuple[str, ...] = ()
) -> list[dict]:
    """A row a point and quantity that both have; `moved`, and `guarded` where that is an alarm."""
    if a.empty or b.empty:
        raise ValueError(f"no records in {'A' if a.empty else 'B'}")
    apart = max(frame["env.device"].nunique() for frame in (a, b)) > 1
    groups = [_points(frame, ignore, apart) for frame in (a, b)]
    shared = [key for key in groups[0] if key in groups[1]]
    if not shared:
        differ = [c for c in ("config.experiment", "config.dtype", "config.n") if c in a and c in b]
        had = "; ".join(f"{c}: {_values(a[c])} in A, {_values(b[c])} in B" for c in differ)
        raise ValueError(f"no point is in both; {had}")
    rows = []
    for key in shared:
        rows += _rows(groups[0][key], groups[1][key], ratio)
    return rows


def _points(frame, ignore, apart):
    left_out = {*SETTLED, *(f"config.{field}" for field in ignore)}
    columns = [c for c in frame if c.startswith("config.") and c not in left_out]
    columns += ["env.device"] * apart
    keys = [
        tuple((c, _same(v)) for c, v in zip(columns, values, strict=True) if not formats.missing(v))
        for values in frame[columns].itertuples(index=False, name=None)
    ]
    keys = [tuple(sorted(key)) for key in keys]
    return {key: group for key, group in frame.groupby(pd.Series(keys, frame.index), sort=False)}


def _same(value):
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else str(value)


def _values(found):
    values = sorted(set(found.dropna().map(frames.plain)), key=lambda v: (len(v), v))
    return ", ".join(values[:4]) + (", ..." if len(values) > 4 else "")


def _rows(a, b, ratio):
    first = a.iloc[0]
    point = {"label": first.get("config.label"), "mechanism": first.get("config.mechanism")}
    named = ("config.experiment", "config.task", "config.mode", "config.order", "config.inputs")
    words = [str(first[c]) for c in named if c in a and not formats.missing(first[c])]
    words += ["causal"] if first.get("config.causal") is True else []
    point |= {"what": " ".join(words), "n": first["config.n"]}
    came = [bool((frame.status == "ok").any()) for frame in (a, b)]
    if came[0] != came[1]:
        status = [frame.status.iloc[0] for frame in (a, b)]
        lost = {"a": math.nan, "b": math.nan, "ratio": math.nan, "noise": math.nan}
        point |= lost | {"quantity": "status", "verdict": " -> ".join(status)}
        return [point | {"moved": True, "guarded": came[0]}]
    found = []
    for quantity in QUANTITIES:
        before, after = (_value(frame[frame.status == "ok"], quantity.key) for frame in (a, b))
        if before and after:
            found.append(point | _verdict(before, after, quantity, ratio))
    return found


@dataclasses.dataclass(frozen=True)
class Value:
    """`error` its standard error, None where that is not known; low to high its quartiles."""

    value: float
    error: float | None
    low: float
    high: float


def _value(rows, key):
    values = pd.to_numeric(column(rows, f"metrics.{key}"), errors="coerce").dropna()
    if values.empty or not values.mean() > 0:
        return None
    mean, error = float(values.mean()), fits.standard_error(values)
    low, high = (
        float(pd.to_numeric(column(rows, f"metrics.{key}_{name}"), errors="coerce").mean())
        for name in ("q1", "q3")
    )
    if math.isnan(low) or math.isnan(high):
        return Value(mean, error, mean, mean)
    samples = pd.to_numeric(column(rows, "metrics.repeats")).fillna(1).sum()
    of_median = MEDIAN * (high - low) / QUARTILE_RANGE / math.sqrt(samples)
    return Value(mean, max(of_median, error or 0.0), low, high)


def _verdict(before, after, quantity, ratio):
    change = after.value / before.value
    known = [v.error / v.value for v in (before, after) if v.error is not None]
    jitters = not quantity.key.startswith(("flops", "bytes"))
    noise = 2 * math.hypot(*known) if jitters else SLACK
    apart = after.low > before.high or after.high < before.low
    # one run of each says nothing of its noise
    moved = apart and abs(change - 1) > noise and bool(known or not jitters)
    slower = quantity.key.startswith("seconds") and moved and change > ratio
    return {
        "quantity": quantity.header,
        "a": before.value,
        "b": after.value,
        "ratio": change,
        "noise": noise if known or not jitters else math.nan,
        "verdict": quantity.words[change > 1] if moved else "",
        "moved": moved,
        "guarded": slower,
    }


def table(rows: list[dict], options: argparse.Namespace) -> Table:
    """What moved, the most first."""
    moved = [row for row in rows if row["moved"]]
    moved.sort(key=lambda row: -abs(math.log(row["ratio"])) if row["ratio"] > 0 else -math.inf)
    text = f"A: {options.a}. B: {options.b}. {summary(rows)}"
    return Table.of("compare", "Points that moved by more than noise", text, COLUMNS, moved)


def summary(rows: list[dict]) -> str:
    points = len({(row["label"], row["what"], row["n"]) for row in rows})
    counts = pd.Series([f"{row['quantity']} {row['verdict']}" for row in rows if row["moved"]])
    words = ", ".join(f"{count} {word}" for word, count in sorted(counts.value_counts().items()))
    alarms = sum(row["guarded"] for row in rows)
    return f"{points} points in both: {words or 'none moved'}; {alarms} beyond the ratio or lost."


def draw(rows: list[dict], options: argparse.Namespace) -> Drawing | None:
    """B over A of the times against N; hollow and grey what did not move."""
    times = pd.DataFrame([row for row in rows if row["quantity"] in ("s", "s a step")])
    if times.empty:
        return None
    with matplotlib.rc_context(canvas.RC):
        return _figure(times, options)


def _figure(times, options):
    look = palette.styles(times)
    whats = sorted(times.what.unique())
    moved = sorted(times.label[times.moved].unique())
    section = Section("compare", "compare", f"B {options.b} over A {options.a}", times)
    handles = [matplotlib.lines.Line2D([], [], **look[x].plot(), label=x) for x in moved]
    figure, grid = canvas.panels(section, "Time of B over A", whats, handles=handles)
    for ax, what in zip(grid[0], whats, strict=True):
        here = times[times.what == what]
        for label, curve in here.sort_values("n").groupby("label"):
            ax.plot(curve.n, curve.ratio, color=MUTED, lw=0.6, zorder=1)
            still, went = curve[~curve.moved], curve[curve.moved]
            ax.plot(still.n, still.ratio, "o", ms=3, color=MUTED, mfc="none", zorder=2)
            bars = {"yerr": went.noise.fillna(0), "lw": 1, "zorder": 3}
            ax.errorbar(went.n, went.ratio, **(look[label].plot() | bars | {"linestyle": ""}))
        canvas.axes(ax, times.n, None, ticks=5)
        ax.axhline(1, color=MUTED, lw=1, zorder=1)
        ax.axhline(options.ratio, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
        ax.set_yscale("log", base=2)
        ax.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda y, _: f"{y:g}"))
    text = "Time of B over that of A against N; grey: not more than noise; dashed: the ratio."
    return Drawing("compare", text, figure)


def save(out: Path, made: Table, drawing: Drawing | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.csv").write_text(formats.csv(made.frame))
    (out / "compare.md").write_text(formats.markdown(made))
    for suffix in ("svg", "png") if drawing else ():
        (out / f"compare.{suffix}").write_bytes(drawing.save(suffix))


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        print(f"experiments.compare: {message}", file=sys.stderr)
        raise SystemExit(2)


def parser() -> argparse.ArgumentParser:
    p = _Parser(
        prog="python -m experiments.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("a", metavar="A", type=Path, help="a folder of records")
    p.add_argument("b", metavar="B", type=Path, help="another")
    p.add_argument("--ratio", type=_ratio, default=1.2, help="slower by more is an alarm (1.2)")
    p.add_argument("--out", type=Path, default=Path("out/compare"), help="folder of table and plot")
    p.add_argument(
        "--ignore", type=lambda text: tuple(text.split(",")), default=(), metavar="FIELDS",
        help="of the configs, such as dtype, that may differ",
    )  # fmt: skip
    return p


def _ratio(text):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number from 1 up, got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
