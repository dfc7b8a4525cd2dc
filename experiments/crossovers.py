"""From which N a mechanism beats the best exact attention of its device: measured, predicted.

The best exact one is, at each N, the cheapest full attention of scaled dot products that came
through. The prediction is the cost model's that `experiments.advise` uses, with the N on both sides
of the measured crossing held out, so that its error is that of a crossing nobody measured. Imports
no jax: formulas are those in the records, a power of N between and beyond them.
"""

import functools
import statistics

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments import analysis, canvas, estimates, fits, frames, palette
from experiments.canvas import Drawing
from experiments.estimates import Point
from experiments.fits import Crossing
from experiments.formats import Column, Table, missing
from experiments.frames import Section
from experiments.palette import MUTED

EXACT, USUAL_SCORE = "full", "scaled_dot"
# a prediction looks no further, in steps of a quarter of an octave
FARTHEST, STEPS = 2**24, 4
COLUMNS = (
    Column("label", "mechanism"),
    Column("mode", "mode"),
    Column("quantity", "quantity"),
    Column("crossing_n", "N", 4),
    Column("from_n", "from N", 12),
    Column("to_n", "to N", 12),
    Column("exact", "best exact there"),
    Column("verdict", "cheaper than the best exact attention"),
    Column("predicted_n", "N predicted", 4),
    Column("error", "its error", decimals=2),
    Column("prediction", "predicted"),
    Column("agrees", "agrees"),
)
# what an exact mechanism failed by tells of the quantity that it lacked
WANTING = {"seconds": ("oom", "timeout"), "bytes": ("oom",)}


def rows(section: Section) -> list[dict]:
    """A row a mechanism, mode and quantity; `error` is predicted over measured less 1, `agrees`
    whether one says what the other does where there is no crossing to compare."""
    exact = exact_labels(section)
    cells = frames.cells(section)
    ids = section.frame.groupby(["label", "config.mode"])["id"].agg(" ".join)
    model = functools.cache(functools.partial(_model, cells))
    found = []
    for label, mode, curve in analysis.curves(cells):
        baseline = cells[(cells["mode"] == mode) & cells.label.isin(exact)]
        if label in exact or baseline.empty:
            continue
        for quantity, key in quantities(cells).items():
            row = _row(curve, baseline, key, model)
            if row:
                used = [ids.get((name, mode), "") for name in (label, *exact)]
                row |= {"label": label, "mode": mode, "quantity": quantity, "key": key}
                found.append(row | {"records": " ".join(sorted(" ".join(used).split()))})
    return found


def quantities(cells: pd.DataFrame) -> dict[str, str]:
    """Words and key; memory is the measured peak where every point has it."""
    ok = cells[cells.word == "ok"]
    measured = analysis.column(ok, "bytes_measured").notna().all()
    return {"time": "seconds", "memory": "bytes_measured" if measured else "bytes_compiled"}


def exact_labels(section: Section) -> list[str]:
    frame = section.frame
    score = analysis.column(frame, "config.hparams.score")
    usual = score.isna() | (score == USUAL_SCORE)
    return sorted(frame.label[(frame["config.mechanism"] == EXACT) & usual].unique())


def _row(mine, baseline, key, model):
    curve = _curve(mine, key)
    best = baseline.assign(y=analysis.column(baseline, key)).dropna(subset="y")
    if curve.empty or best.empty:
        return None
    lowest = best.loc[best.groupby("n").y.idxmin()].set_index("n")
    met = measured(curve, lowest.y, baseline, key)
    mode, held_out = mine["mode"].iloc[0], (met.low, met.high) if met.at else ()
    candidate = model(mine.label.iloc[0], mode, key, held_out)
    exact = [model(label, mode, key, held_out) for label in sorted(baseline.label.unique())]
    exact = [values for values in exact if values is not None]
    row = {
        "crossing_n": met.at,
        "from_n": met.low,
        "to_n": met.high,
        "exact": lowest.label[met.low if met.low in lowest.index else lowest.index.max()],
        "verdict": met.text,
    }
    if candidate is None or not exact:
        return row
    predicted = fits.crossing(candidate.index, candidate, np.min(exact, axis=0))
    row["predicted_n"] = predicted.at
    row["prediction"] = "" if predicted.at else predicted.text
    if met.at and predicted.at:
        row["error"] = predicted.at / met.at - 1
    else:
        last = curve.index.intersection(lowest.index).max()
        row["agrees"] = "yes" if _says(met, last) == _says(predicted, last) else "no"
    return row


def measured(
    curve: pd.Series, lowest: pd.Series, baseline: pd.DataFrame, key: str = "seconds"
) -> Crossing:
    """Of values by N. Where the curve was never cheaper but went on where every exact one failed
    for want of it, the crossing lies in between."""
    both = curve.index.intersection(lowest.index)
    met = fits.crossing(both, curve[both], lowest[both])
    beyond = curve.index[curve.index > lowest.index.max()]
    if met.at is None and met.text.startswith("never") and len(beyond):
        low, high = int(both.max()), int(beyond.min())
        failed = baseline[baseline.n == high]
        if len(failed) and failed.word.isin(WANTING[key.split("_")[0]]).all():
            words = ", ".join(f"{row.label} {row.word}" for row in failed.itertuples())
            return Crossing(None, low, high, f"between {low:,} and {high:,}: there {words}")
    return met


def _says(crossing, last):
    """Whether up to the last N of both it is cheaper from the first N on, a later one, or never."""
    low = crossing.at or crossing.low
    if low:
        return "never" if low >= last else "later"
    return crossing.text.split()[0]


def _curve(rows, key):
    found = rows.assign(y=analysis.column(rows, key)).dropna(subset="y").set_index("n").y
    return found[found > 0].sort_index()


def _model(cells, label, mode, key, held_out):
    """The calibrated model's values of a curve by N, from the least measured to the farthest; None
    where too few points are left."""
    of_label = cells[cells.label == label]
    curve = _curve(of_label[of_label["mode"] == mode], key).drop(list(held_out), errors="ignore")
    if len(curve) < 2:
        return None
    octaves = np.log2(FARTHEST / cells.n.min())
    grid = np.round(cells.n.min() * 2 ** (np.arange(octaves * STEPS + 1) / STEPS))
    forward = of_label[of_label["mode"] == "forward"]
    flops = _curve(forward, "flops_formula")
    known = np.array(curve.index, float)
    both = (known, grid)
    if key == "seconds" and len(flops) > 1:
        terms = [np.stack([np.ones(len(n)), _power(flops, n)], 1) for n in both]
    else:
        terms = [n[:, None] ** np.array([0.0, 1.0, 1.5, 2.0]) for n in both]
    points = [Point(*point) for point in zip(known, terms[0], curve, strict=True)]
    values = [estimates.fit(points, Point(*at)) for at in zip(grid, terms[1], strict=True)]
    return pd.Series(values, grid)


def _power(form, n):
    """A formula at N: a power of N between its neighbours, and on beyond them."""
    x, y = np.log(form.index.to_numpy(float)), np.log(form.to_numpy(float))
    right = np.clip(np.searchsorted(x, np.log(n)), 1, len(x) - 1)
    slope = (y[right] - y[right - 1]) / (x[right] - x[right - 1])
    return np.exp(y[right] + slope * (np.log(n) - x[right]))


def tables(section: Section, text: str) -> list[Table]:
    found = rows(section)
    if not found:
        return []
    errors = [abs(row["error"]) for row in found if "error" in row]
    off = f"Off by {statistics.median(errors):.0%} (median of {len(errors)}). " if errors else ""
    words = [row["agrees"] for row in found if "agrees" in row]
    off += (
        f"Where one of them sees no crossing they agree in {words.count('yes')} of {len(words)}. "
    )
    memory = quantities(frames.cells(section))["memory"].replace("_", " ")
    what = (
        "The best exact attention: the cheapest full attention at each N. N is interpolated in "
        f"log-log in its bracket; memory is as {memory}. Predicted: by the cost model calibrated "
        f"on the device's records, those of the bracket held out. {off}{text}"
    )
    title = f"{section.title}: from which N cheaper than the best exact attention"
    return [Table.of(f"{section.name}-crossovers", title, what, COLUMNS, found)]


def draw(section: Section) -> list[Drawing]:
    """A panel a mode and quantity, a line a mechanism: bracket, crossing and prediction."""
    found = pd.DataFrame(rows(section))
    if found.empty:
        return []
    frame = section.frame.rename(columns={"config.mechanism": "mechanism"})
    look, lengths = palette.styles(frame), sorted(frame["config.n"].unique())
    labels = sorted(found.label.unique(), reverse=True)
    groups = list(found.groupby(["quantity", "mode"], sort=False))
    tall = 0.19 * len(labels) + 1.5
    figure = Figure(figsize=(2.6 * len(groups) + 1.4, tall), layout="constrained")
    grid = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for ax, ((quantity, mode), panel) in zip(grid, groups, strict=True):
        ax.set_title(f"{quantity}, {mode}")
        canvas.axes(ax, lengths, None, ticks=5)
        ax.set_xlim(lengths[0] / 1.6, lengths[-1] * 4)
        ax.axvline(lengths[-1], color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
        for row in panel.to_dict("records"):
            _mark(ax, row, labels.index(row["label"]), look[row["label"]].color, lengths)
    grid[0].set_yticks(range(len(labels)), labels)
    figure.suptitle(section.title, fontsize=8, color=MUTED, x=0.01, ha="left")
    kinds = {"measured": "D", "predicted": "o", "cheaper from the least N": "<", "never": ">"}
    handles = [
        Line2D([], [], color=MUTED, marker=marker, ls="", mfc="none", label=words)
        for words, marker in kinds.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    text = (
        "N from which a mechanism is cheaper than the best exact attention: ◇ measured, with the "
        "bracket it lies in, ○ as the cost model predicts it; the upright line is the longest N."
    )
    return [Drawing(f"{section.name}-crossovers", text, figure)]


def _mark(ax, row, y, color, lengths):
    spot = {"color": color, "mfc": "none", "ls": "", "clip_on": False}
    if not missing(row["from_n"]):
        ax.hlines(y, row["from_n"], row["to_n"], color=color, lw=3, alpha=0.35)
    if not missing(row["crossing_n"]):
        ax.plot(row["crossing_n"], y, "D", ms=6, **spot)
    elif row["verdict"].startswith("cheaper"):
        ax.plot(lengths[0] / 1.3, y, "<", ms=6, **spot)
    elif row["verdict"].startswith("never"):
        ax.plot(lengths[-1] * 1.3, y, ">", ms=6, **spot)
    if not missing(row.get("predicted_n")) and row["predicted_n"] < lengths[-1] * 4:
        ax.plot(row["predicted_n"], y, "o", ms=4, **spot)
