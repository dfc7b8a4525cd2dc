"""Sections of records -> tables. Failures are rows; what could not be had is an empty cell."""

import pandas as pd

from experiments.analysis import findings, formats, frames
from experiments.analysis.formats import Column, Table
from experiments.analysis.frames import Section
from experiments.reporting import (
    bounds,
    chips,
    closing,
    contribution,
    crossovers,
    decoding_report,
    errors,
    growth,
    horizons,
    lookback,
    messages,
    pivots,
    quality_tables,
    shares,
    trade_offs,
)

LABEL, MODE, STATUS = (
    Column("label", "mechanism"),
    Column("mode", "mode"),
    Column("status", "status"),
)
N = Column("n", "N", 12)

SCALING = (
    LABEL,
    MODE,
    N,
    Column("flops_formula", "GFLOP formula", 4, 1e9),
    Column("flops_counted", "GFLOP counted", 4, 1e9),
    Column("flops_xla", "GFLOP XLA", 4, 1e9),
    Column("waste", "counted / ideal", 3),
    Column("bytes_formula", "MB formula", 4, 1e6),
    Column("bytes_compiled", "MB compiled", 4, 1e6),
    Column("bytes_measured", "MB measured", 4, 1e6),
    Column("time_ms", "ms", 4),
    Column("time_ms_q1", "ms q1", 4),
    Column("time_ms_q3", "ms q3", 4),
    Column("gemm_ratio", "time / gemm", 3),
    Column("compile_seconds", "compile s", 3),
    STATUS,
)
REORDER_CROSSINGS = (
    Column("feature_map", "feature map"),
    Column("head_dim", "d", 12),
    Column("value_dim", "d'", 12),
    Column("predicted_n", "N* predicted", 4),
    Column("flops_n", "N* multiply-adds", 4),
    Column("exact", "count = formula"),
    Column("time_n", "N* time", 4),
    Column("time_from_n", "from N", 12),
    Column("time_to_n", "to N", 12),
    Column("verdict", "q(kv) faster"),
    Column("last_n", "at N", 12),
    Column("speedup", "speed-up there", 3),
)
REORDER_POINTS = (
    Column("feature_map", "feature map"),
    Column("head_dim", "d", 12),
    Column("value_dim", "d'", 12),
    N,
    Column("order", "order"),
    Column("multiply_adds_formula", "multiply-adds a head, formula", 12),
    Column("multiply_adds", "counted", 12),
    Column("bytes_compiled", "MB compiled", 4, 1e6),
    Column("bytes_measured", "MB measured", 4, 1e6),
    Column("time_ms", "ms", 4),
    Column("time_ms_q1", "ms q1", 4),
    Column("time_ms_q3", "ms q3", 4),
    Column("gemm_ratio", "time / gemm", 3),
    STATUS,
)
FAILURES = (
    Column("experiment", "experiment"),
    Column("device", "device"),
    LABEL,
    MODE,
    N,
    Column("seed", "seed"),
    Column("status", "status"),
    Column("reason", "reason"),
)
# facts of a caption that the columns do not have
OF_FAILURES = ("dtype", "commit", "jax", "date")


def build(section: Section, *, octaves: float = 3, start: int | None = None) -> list[Table]:
    """Every table of a section."""
    text = caption(section)
    if section.kind in FITTED:
        return FITTED[section.kind](section, text, octaves=octaves, start=start)
    return TABLES[section.kind](section, text)


def scaling(section: Section, text: str, **fit) -> list[Table]:
    cells = frames.cells(section)
    return [
        *pivots.tables(section, cells, text),
        Table.of(section.name, section.title, text, SCALING, findings.scaling(cells)),
        growth.table(section, text, **fit),
        *bounds.tables(section, text),
        *crossovers.tables(section, text),
    ]


def steps(section: Section, text: str, **fit) -> list[Table]:
    return [*shares.tables(section, text), growth.table(section, text, **fit)]


def reordering(section: Section, text: str) -> list[Table]:
    cells = findings.reorder_cells(section)
    return [
        Table.of(
            f"{section.name}-crossings",
            f"{section.title}: where the orders cost the same",
            f"N* = 2dd'/(d+d') predicted. {text}",
            REORDER_CROSSINGS,
            findings.reorder_crossings(cells),
        ),
        Table.of(section.name, section.title, text, REORDER_POINTS, findings.timed(cells)),
    ]


# of what exponents are fitted
FITTED = {"kernel": scaling, "step": steps}
TABLES = {
    "reorder": reordering,
    "train": quality_tables.tables,
    "grid": quality_tables.grid,
    "arena": closing.tables,
    "horizons": horizons.tables,
    "lookback": lookback.tables,
    "contribution": contribution.tables,
    "decoding": decoding_report.tables,
    "compiled": chips.tables,
    **errors.TABLES,
    **messages.TABLES,
    **trade_offs.TABLES,
}


def caption(section: Section) -> str:
    """Where the numbers come from, generated from the records."""
    return "; ".join(f"{word} {value}" for word, value in _facts(section.frame)) + "."


def _facts(frame):
    """(word, value) of what is known."""

    def values(column):
        found = frame[column].dropna().map(frames.plain).unique() if column in frame else []
        return ", ".join(sorted(found, key=lambda v: (len(v), v)))

    sizes = (
        ("batch", "config.batch"),
        ("heads", "config.heads"),
        ("head size", "config.head_dim"),
        ("value size", "config.value_dim"),
        ("width", "config.model.width"),
        ("depth", "config.model.depth"),
        ("heads", "config.model.heads"),
    )
    commits = sorted(
        {
            f"{str(commit)[:10]}{' (dirty)' if dirty is True else ''}"
            for commit, dirty in frame.reindex(columns=["env.commit", "env.dirty"])
            .drop_duplicates()
            .to_numpy()
            if not formats.missing(commit)
        }
    )
    dates = sorted(str(date)[:10] for date in findings.column(frame, "env.date").dropna())
    load = pd.to_numeric(findings.column(frame, "env.load")).max()
    repeats = _span(frame, "metrics.repeats") or _span(frame, "config.repeats")
    facts = [
        ("device", values("env.device")),
        ("data", values("metrics.note")),
        ("dtype", values("config.dtype")),
        *((word, values(column)) for word, column in sizes),
        ("commit", ", ".join(commits)),
        ("jax", values("env.jax")),
        ("seeds", values("config.seed")),
        ("test examples", values("metrics.test_examples")),
        ("date", " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else ""),
        ("repeats", f"median of {repeats}" if repeats else ""),
        # of a machine that did nothing else it is the cores at most
        ("load", f"up to {load:.1f}" if load > 0 else ""),
    ]
    return [(word, value) for word, value in facts if value]


def _span(frame, column):
    found = pd.to_numeric(findings.column(frame, column)).dropna()
    ends = (found.min(), found.max()) if len(found) else ()
    return " to ".join(dict.fromkeys(f"{end:g}" for end in ends))


def failures(frame: pd.DataFrame) -> Table:
    frame = frames.counted(frame)
    bad = frame[frame.status != "ok"]
    rows = pd.DataFrame(
        {
            "experiment": bad["config.experiment"],
            "device": bad["env.device"],
            "label": [_what(row) for row in bad.to_dict("records")],
            "mode": bad["config.mode"],
            "n": bad["config.n"],
            "seed": bad["config.seed"],
            "status": bad["status"],
            "reason": bad["reason"],
            "records": bad["id"],
        }
    )
    counts = ", ".join(
        f"{count} {word}" for word, count in sorted(bad.status.value_counts().items())
    )
    text = "None."
    if len(bad):
        known = [f"{word} {value}" for word, value in _facts(bad) if word in OF_FAILURES]
        text = "; ".join([f"{len(bad)} of {len(frame)} points ({counts})", *known]) + "."
    return Table.of("failures", "Points that gave no measurement", text, FAILURES, rows)


def _what(row):
    """The label, and what else tells a point from its neighbours."""
    for module in (errors, messages, trade_offs):
        if row["config.kind"] in module.TABLES:
            return module.name(row)
    if row["config.kind"] != "reorder":
        return row["config.label"]
    d, e = row["config.head_dim"], row["config.value_dim"]
    return f"{row['config.label']} {row['config.feature_map']}, d = {d:g}, d' = {e:g}"
