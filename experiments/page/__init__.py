"""Tables and drawings -> one HTML page that needs nothing else."""

import base64
import dataclasses
from pathlib import Path

import jinja2

from experiments import analysis, errors, formats, frames, messages, palette, quality_tables, shares
from experiments.canvas import Drawing
from experiments.formats import Column, Table
from experiments.frames import Section
from experiments.page import inline
from experiments.reading import Records

HERE = Path(__file__).parent
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


# of the columns of all records, these come first
LEADING = [
    *("id", "config.experiment", "env.device", "config.label", "config.mode", "config.n"),
    *("config.seed", "status", "reason", "metrics.flops_counted", "metrics.bytes_compiled"),
    *("metrics.seconds", "metrics.test_accuracy", "metrics.test_bpb"),
]


@dataclasses.dataclass(frozen=True)
class Part:
    """A section and what was made of it."""

    section: Section
    tables: list[Table]
    drawings: list[Drawing]


def render(records: Records, parts: list[Part], failed: Table) -> str:
    """The page; it holds its figures, styles, script and the CSV of all records."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["json_list"] = _numeric
    table, same = _records_table(records.frame)
    styles, shared, svgs = inline.figures(drawing for part in parts for drawing in part.drawings)
    return environment.get_template("page.html").render(
        css=jinja2.filters.Markup((HERE / "page.css").read_text() + styles + _colors()),
        script=jinja2.filters.Markup((HERE / "page.js").read_text()),
        headlines=[line for part in parts for line in headlines(part.section)],
        parts=parts,
        shared=shared,
        svgs=svgs,
        failed=failed,
        notes=records.notes,
        records=table,
        same=same,
        provenance=_provenance(records.frame),
        counts=dict(sorted(records.frame.status.value_counts().items())),
        total=len(records.frame),
        csv=base64.b64encode(formats.csv(records.frame).encode()).decode(),
    )


def headlines(section: Section) -> list[dict]:
    """The few figures a reader came for: {"figure", "words", "where"}."""
    found = {
        "kernel": _scaling_lines,
        "reorder": _reorder_lines,
        "train": quality_tables.headlines,
        "arena": lambda section: (),
        "grid": lambda section: (),
        "step": shares.lines,
        "fidelity": errors.fidelity_lines,
        "numbers": errors.numbers_lines,
        "sharding": messages.sharding_lines,
        "plan": messages.plan_lines,
    }
    return [
        {"figure": figure, "words": words, "where": section.title}
        for figure, words in found[section.kind](section)
    ]


def _scaling_lines(section):
    cells = frames.cells(section)
    baseline = analysis.baseline_label(cells)
    for mode in analysis.MODES:
        rows = cells[(cells["mode"] == mode) & (cells.status == "ok")]
        if baseline is None or not (rows.label == baseline).any():
            continue
        n = rows.n[rows.label == baseline].max()
        at = rows[rows.n == n].set_index("label").seconds.dropna()
        others = at.drop(baseline, errors="ignore")
        if baseline in at and len(others):
            quickest = others.idxmin()
            words = f"{quickest} against {baseline}, {mode} at N = {n:,}"
            yield f"{formats.significant(at[baseline] / at[quickest], 3)}x", words
    fitted = analysis.exponents(cells)
    for row in fitted:
        wanted = row["quantity"] == "FLOPs counted" and row["mode"] == "forward"
        if wanted and row["label"] == baseline:
            yield (
                f"exponent {row['exponent']:.2f}",
                f"FLOPs of {baseline}, N = {row['from_n']:,} to {row['to_n']:,}",
            )


def _reorder_lines(section):
    for row in analysis.reorder_crossings(analysis.reorder_cells(section)):
        if row["feature_map"] == "identity":
            size = f"d = {row['head_dim']}, d' = {row['value_dim']}"
            counted = "not reached" if row["flops_n"] is None else f"{row['flops_n']:.4g}"
            words = f"(qk)v = q(kv) in multiply-adds, {size}; predicted {row['predicted_n']:.4g}"
            yield f"N* = {counted}", f"{words}. In time: {row['verdict']}"


def _records_table(frame):
    """Every record, without the columns that say the same for all; those apart."""
    same, columns = {}, []
    for column in frame:
        values = frame[column].dropna()
        if column in ("id", "status", "reason"):
            columns.append(column)
        elif len(values) == len(frame) and values.map(str).nunique() == 1 and len(frame) > 1:
            same[column] = str(values.iloc[0])
        elif len(values):
            columns.append(column)
    columns.sort(key=lambda c: (c not in LEADING, LEADING.index(c) if c in LEADING else 0))
    spec = [_column(frame, c) for c in columns]
    return Table.of("records", "Every record", "", spec, frame), same


def _column(frame, key):
    values = frame[key].dropna()
    if (
        len(values)
        and values.map(lambda v: isinstance(v, int | float) and not isinstance(v, bool)).all()
    ):
        whole = (values == values.round()).all()
        return Column(key, key, 12 if whole else 4)
    return Column(key, key)


def _provenance(frame):
    rows = []
    for key in PROVENANCE:
        values = analysis.column(frame, f"env.{key}").dropna().map(frames.plain).unique()
        if any(values):
            rows.append((key, ", ".join(sorted(filter(None, values)))))
    commits = frame.reindex(columns=["env.commit", "env.dirty"]).drop_duplicates().to_numpy()
    names = sorted(f"{c}{' with uncommitted changes' if d is True else ''}" for c, d in commits)
    dates = sorted(map(str, frame["env.date"].dropna()))
    rows.append(("commit", ", ".join(names)))
    rows.append(("measured", f"{dates[0]} to {dates[-1]}" if dates else "not recorded"))
    return rows


def _numeric(table):
    return [table.numeric(column) for column in table.columns]


def _colors():
    shades = palette.COLORS | palette.SURFACES
    light, dark = ("".join(f"--{k}:{pair[i]};" for k, pair in shades.items()) for i in (0, 1))
    return (
        f":root{{{light}color-scheme:light dark}}"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"@media print{{:root{{{light}}}}}\n"
    )
