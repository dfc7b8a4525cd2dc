"""Who uses a longer past, and at what cost: a forecast's look-backs, a row a model.

The look-back is chosen as a user would choose it, on the validation split. Imports no jax.
"""

import itertools

from experiments.analysis import findings, frames, quality
from experiments.analysis.formats import Column, Table, missing
from experiments.analysis.frames import Section
from experiments.figures.canvas import Drawing
from experiments.reporting import quality_cells
from experiments.reporting.contribution import difference
from experiments.reporting.quality_cells import mean_cell, mean_column

# fewer look-backs are no series of them
LEAST = 3
COSTS = {"flops_per_step": "GFLOP a step, times", "seconds_per_step": "s a step, times"}
RATE_AT = "config.lr.at.n"


def sections(found: list[Section]) -> list[Section]:
    """One for each forecast of which a model has `LEAST` look-backs."""
    kept = [s for s in found if s.kind == "train" and s.frame["config.task"].iloc[0] == "forecast"]
    return [
        Section("lookback", f"{s.name}-lookback", f"{s.title}: look-backs", s.frame)
        for s in kept
        if s.frame.groupby("label")["config.n"].nunique().max() >= LEAST and lines(s)
    ]


def tables(section: Section, text: str) -> list[Table]:
    """The best by its own choice first."""
    metric, rows = quality.metric_of(section), lines(section)
    columns = (
        Column("label", metric.header),
        Column("n_shortest", "shortest look-back", 12),
        mean_column("shortest", "there", metric),
        Column("n_chosen", "chosen", 12),
        mean_column("chosen", "there", metric),
        mean_column("gain", "better by", metric),
        *(Column(f"{key}_chosen", words, 3) for key, words in COSTS.items()),
        Column("n_longest", "longest", 12),
        mean_column("longest", "there", metric),
        *(Column(f"{key}_longest", words, 3) for key, words in COSTS.items()),
        *quality_cells.SOURCE,
    )
    how = (
        f"Of the test split. {quality_cells.MEAN} Chosen: the look-back of the least error on "
        "validation; better by: than at the shortest. Times: there over at the shortest."
    )
    at = findings.column(section.frame, RATE_AT).dropna().unique()
    if len(at) == 1:
        how += f" All look-backs have the rate that was chosen at {at[0]:,.0f}"
        apart = [row["label"] for row in rows if isinstance(row["lr"], str)]
        how += f"; of {', '.join(apart)} each device chose its own." if apart else "."
    columns = quality_cells.used(section, columns, rows)
    return [Table.of(section.name, section.title, f"{how} {text}", columns, rows)]


def draw(section: Section, curves: dict) -> list[Drawing]:
    """The picture is the section's own, by N."""
    return []


def headlines(section: Section):
    """(figure, words, records): how many models choose more than the shortest look-back."""
    rows = lines(section)
    more = [row for row in rows if row["n_chosen"] > row["n_shortest"]]
    lengths = sorted({row["n_chosen"] for row in more})
    if more:
        chosen = " to ".join(f"{n:,}" for n in dict.fromkeys((lengths[0], lengths[-1])))
        words = f"models whose validation asks for a longer look-back than the shortest: {chosen}"
        ids = frames.sources(row["records"] for row in rows)
        yield f"{len(more)} of {len(rows)}", words, ids


def lines(section: Section) -> list[dict]:
    """A row a model with a score at `LEAST` look-backs or more."""
    metric, found = quality.metric_of(section), {}
    for row in quality.variants(section, metric):
        if not missing(row.get("score")) and not missing(row.get("val")):
            found.setdefault(row["label"], []).append(row)
    rows = [_line(label, of, metric) for label, of in found.items() if len(of) >= LEAST]
    return sorted(rows, key=lambda row: -metric.sign * row["chosen"])


def _line(label, rows, metric):
    rows = sorted(rows, key=lambda row: row["n"])
    at = {
        "shortest": rows[0],
        "chosen": max(rows, key=lambda row: metric.sign * row["val"]),
        "longest": rows[-1],
    }
    line = {"label": label, **quality_cells.spans(rows)}
    for key, row in at.items():
        line |= {f"n_{key}": row["n"], **mean_cell(key, row)}
    if at["chosen"] is not rows[0]:
        gain, error = difference(at["chosen"], rows[0], metric.sign)
        sources = frames.sources(row["records"] for row in (at["chosen"], rows[0]))
        line |= mean_cell("gain", {"score": gain, "stderr": error, "records": sources})
    for place, key in itertools.product(("chosen", "longest"), COSTS):
        alike = key != "seconds_per_step" or rows[0]["device"] == at[place]["device"]
        if alike and not missing(rows[0].get(key)) and not missing(at[place].get(key)):
            line[f"{key}_{place}"] = at[place][key] / rows[0][key]
    return line | {"records": frames.sources(row["records"] for row in rows)}
