"""Tables and charts -> one HTML page that needs nothing else: Plotly and the records are in it."""

import base64
import dataclasses
import functools
import gzip
import json
import math
import urllib.parse
from pathlib import Path

import jinja2
from plotly.offline import get_plotlyjs

from experiments.analysis import findings, formats, frames
from experiments.analysis.formats import Table
from experiments.analysis.frames import Section
from experiments.analysis.reading import Records
from experiments.figures import palette
from experiments.figures.canvas import Drawing
from experiments.page import charts
from experiments.reporting import (
    chips,
    contribution,
    decoding_report,
    errors,
    latex,
    lookback,
    messages,
    quality_tables,
    shares,
    trade_offs,
)

HERE = Path(__file__).parent
SCRIPTS = ("tables.js", "plots.js", "page.js")
PROVENANCE = (
    "device",
    "platform",
    "cores",
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "python",
    "xla_flags",
    "glibc_tunables",
)
# the columns of all records that are shown at first
LEADING = (
    *("id", "config.experiment", "env.device", "config.label", "config.mode", "config.n"),
    *("config.seed", "status", "metrics.seconds", "metrics.bytes_compiled"),
    *("metrics.bytes_measured", "metrics.flops_counted", "metrics.error", "metrics.test_accuracy"),
    *("metrics.test_bpb", "config.dtype"),
)
UNITS = {
    "metrics.seconds": ("ms", 1e-3),
    "metrics.bytes_compiled": ("MB", 1e6),
    "metrics.bytes_measured": ("MB", 1e6),
    "metrics.flops_counted": ("GFLOP", 1e9),
}


@dataclasses.dataclass(frozen=True)
class Part:
    """A section and what was made of it."""

    section: Section
    tables: list[Table]
    drawings: list[Drawing]


def render(
    records: Records,
    parts: list[Part],
    failed: Table,
    figures=(),
    *,
    octaves: float = 3,
    start: int | None = None,
) -> str:
    """The page; `figures` are the suffixes of the files that stand beside it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    markup = jinja2.filters.Markup
    cards = json.loads((HERE / "cards.json").read_text())
    sections, fit = [part.section for part in parts], {"octaves": octaves, "start": start}
    found = charts.build(sections, records.curves, **fit)
    table, same = _records(records.frame)
    table |= {"same": same, "spare": _spare(records.frame)}
    data = {"charts": found, "records": table, "tables": _tables(parts, failed)}
    data["outlines"] = {name: palette.outline(of) for of, name in palette.SYMBOLS.items()}
    mechanisms = findings.column(records.frame, "config.mechanism").value_counts()
    return environment.get_template("page.html").render(
        css=markup((HERE / "page.css").read_text() + _colors()),
        script=markup("".join((HERE / name).read_text() for name in SCRIPTS)),
        data=_packed(json.dumps(data, default=_plain, separators=(",", ":"), allow_nan=False)),
        plotly=_packed(get_plotlyjs()),
        headlines=[line for section in sections for line in headlines(section, **fit)],
        charts=found,
        parts=parts,
        figures=figures,
        cards=cards,
        colors={c["name"]: charts.COLORS[palette.style(c["name"]).color] for c in cards},
        rows={name: int(count) for name, count in mechanisms.items()},
        failed=failed,
        notes=records.notes,
        same=same,
        provenance=_provenance(records.frame),
        counts=dict(sorted(records.frame.status.value_counts().items())),
        total=len(records.frame),
    )


def _packed(text: str) -> str:
    """Compressed, in letters; the same text gives the same ones."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _plain(value):
    """What numpy has of a number, for JSON."""
    return value.item()


def _tables(parts, failed) -> dict[str, dict]:
    found = {failed.name: _table(failed, "")}
    for part in parts:
        found |= {table.name: _table(table, part.section.device) for table in part.tables}
    return found


def _table(table, device):
    """As people read it, what to sort by, where each number is from, and to be copied."""
    rows = table.frame.to_dict("records")
    sources = [ids[0] if len({*ids}) == 1 else ids for ids in table.records()]
    return {
        "title": table.title,
        "device": device,
        "columns": [{"header": c.header, "numeric": table.numeric(c)} for c in table.columns],
        "rows": table.text(),
        "values": [[_number(row[column.key]) for column in table.columns] for row in rows],
        "records": sources,
        "bold": [
            (i, j)
            for i in range(len(rows))
            for j in range(len(table.columns))
            if table.emphatic(i, j)
        ],
        "latex": latex.latex(table),
        "markdown": formats.markdown(table),
        "csv": formats.csv(table.frame),
    }


def _number(value):
    """None for what is no finite number, and for flags."""
    if isinstance(value, str | bool) or formats.missing(value) or not math.isfinite(value):
        return None
    return value


def _records(frame) -> tuple[dict, dict]:
    """Every record, without the columns that say the same for all; those apart."""
    same, columns = {}, []
    for column in frame:
        values = frame[column].dropna()
        if column in ("id", "status", "reason", *LEADING):
            columns.append(column)
        elif len(values) == len(frame) and values.map(str).nunique() == 1 and len(frame) > 1:
            same[column] = _whole(values.iloc[0])
        elif len(values):
            columns.append(column)
    rows = frame[columns].astype(object)
    rows = rows.where(rows.notna(), None).to_numpy().tolist()
    rows = [[_whole(value) for value in row] for row in rows]
    leading = [column for column in LEADING if column in columns]
    return {"columns": columns, "rows": rows, "leading": leading, "units": UNITS}, same


def _spare(frame) -> list[int]:
    """Which rows are of points that another device's record stands for."""
    counted = set(frames.counted(frame).index)
    return [i for i, label in enumerate(frame.index) if label not in counted]


def _whole(value):
    """Whole numbers that a column with gaps holds as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def headlines(section: Section, *, octaves: float = 3, start: int | None = None) -> list[dict]:
    """The few figures a reader came for: {"figure", "words", "where", "target"}, which is their
    records."""
    found = {
        "kernel": functools.partial(_scaling_lines, octaves=octaves, start=start),
        "option": trade_offs.lines,
        "reorder": _reorder_lines,
        "train": quality_tables.headlines,
        "arena": lambda section: (),
        "horizons": lambda section: (),
        "lookback": lookback.headlines,
        "contribution": contribution.headlines,
        "grid": lambda section: (),
        "step": shares.lines,
        "decoding": decoding_report.lines,
        "fidelity": errors.fidelity_lines,
        "numbers": errors.numbers_lines,
        "compiled": chips.lines,
        "sharding": messages.sharding_lines,
        "plan": messages.plan_lines,
    }
    target = functools.partial(_link, device=section.device)
    return [
        {"figure": figure, "words": words, "where": section.title, "target": target(ids)}
        for figure, words, ids in found[section.kind](section)
    ]


def _link(ids: str, device: str) -> str:
    """As tables.js has it."""
    return f"records={','.join(ids.split())}@{urllib.parse.quote(device)}"


def _scaling_lines(section, octaves, start):
    cells, exact = frames.cells(section), findings.exact_labels(section)
    for mode in findings.MODES:
        best = findings.best_exact(section, mode, "seconds")
        if best.empty:
            continue
        n, best = best.index[-1], best.iloc[-1]
        others = cells[(cells.n == n) & (cells["mode"] == mode) & ~cells.label.isin(exact)]
        for quickest in findings.cheapest(others, "seconds").itertuples():
            words = f"{quickest.label} against the best exact attention ({best.label})"
            both = frames.sources([best.records, quickest.records])
            ratio = formats.significant(best.y / quickest.y, 3)
            yield f"{ratio}x", f"{words}, {mode} at N = {n:,}", both
    baseline = findings.baseline_label(cells)
    for row in findings.exponents(cells, octaves=octaves, start=start):
        wanted = row["quantity"] == "FLOPs counted" and row["mode"] == "forward"
        if wanted and row["label"] == baseline:
            yield (
                f"exponent {row['exponent']:.2f}",
                f"FLOPs of {baseline}, N = {row['from_n']:,} to {row['to_n']:,}",
                row["records"],
            )


def _reorder_lines(section):
    for row in findings.reorder_crossings(findings.reorder_cells(section)):
        if row["feature_map"] == "identity":
            size = f"d = {row['head_dim']}, d' = {row['value_dim']}"
            counted = "not reached" if row["flops_n"] is None else f"{row['flops_n']:.4g}"
            words = f"(qk)v = q(kv) in multiply-adds, {size}; predicted {row['predicted_n']:.4g}"
            yield f"N* = {counted}", f"{words}. In time: {row['verdict']}", row["records"]


def _provenance(frame):
    rows = []
    for key in PROVENANCE:
        values = findings.column(frame, f"env.{key}").dropna().map(frames.plain).unique()
        if any(values):
            rows.append((key, ", ".join(sorted(filter(None, values)))))
    commits = frame.reindex(columns=["env.commit", "env.dirty"]).drop_duplicates().to_numpy()
    names = sorted(f"{c}{' with uncommitted changes' if d is True else ''}" for c, d in commits)
    dates = sorted(map(str, frame["env.date"].dropna()))
    rows.append(("commit", ", ".join(names)))
    rows.append(("measured", f"{dates[0]} to {dates[-1]}" if dates else "not recorded"))
    return rows


def _colors():
    shades = palette.COLORS | palette.SURFACES
    light, dark = ("".join(f"--{k}:{pair[i]};" for k, pair in shades.items()) for i in (0, 1))
    light, dark = f"{light}color-scheme:light", f"{dark}color-scheme:dark"
    return (
        f":root{{{light}}}"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}"
        f":root[data-theme=dark]{{{dark}}}"
        f"@media print{{:root{{{light}}}}}\n"
    )
