"""From which N a mechanism beats the best exact attention of its device: measured, predicted.

The prediction is a cost model's like that of `experiments.advise`, but for its regimes of padding,
with the N on both sides of the measured crossing held out, so that its error is that of a crossing
nobody measured. Imports no jax: formulas are those in the records, a power of N between and beyond.
"""

import functools
import statistics

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from experiments.analysis import estimates, findings, fits, frames
from experiments.analysis.estimates import Point
from experiments.analysis.formats import Column, Table, missing, significant
from experiments.analysis.frames import Section
from experiments.figures import canvas, palette
from experiments.figures.canvas import Drawing
from experiments.figures.palette import MUTED

# a prediction looks no further, in steps of a quarter of an octave
FARTHEST, STEPS = 2**24, 4
# times the longest N: predictions beyond are not drawn
DRAWN = 4
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
    Column("ratio", "predicted / measured", 3),
    Column("prediction", "predicted"),
    Column("agrees", "agrees"),
)


# for the tables and the figure
@functools.lru_cache(16)
def rows(section: Section) -> list[dict]:
    """A row a mechanism, mode and quantity; `ratio` is predicted over measured, `agrees` whether
    one says what the other does where there are no two crossings to compare, `last_n` the longest
    N that both were measured at."""
    exact = findings.exact_labels(section)
    cells = frames.cells(section)
    ids = section.frame.groupby(["label", "config.mode"])["id"].agg(" ".join)
    model = functools.cache(functools.partial(_model, cells))
    found = []
    for label, mode, _ in findings.curves(cells):
        if label in exact:
            continue
        for quantity, key in quantities(cells).items():
            row = _row(section, label, mode, key, model)
            if row:
                used = [ids.get((name, mode), "") for name in (label, *exact)]
                row |= {"label": label, "mode": mode, "quantity": quantity, "key": key}
                found.append(row | {"records": " ".join(sorted(" ".join(used).split()))})
    return found


def quantities(cells: pd.DataFrame) -> dict[str, str]:
    """Words and key; memory is the measured peak where every point has it."""
    ok = cells[cells.word == "ok"]
    measured = findings.column(ok, "bytes_measured").notna().all()
    return {"time": "seconds", "memory": "bytes_measured" if measured else "bytes_compiled"}


def _row(section, label, mode, key, model):
    met = findings.meeting(section, label, mode, key)
    if met is None:
        return None
    best = findings.best_exact(section, mode, key)
    curve = findings.cheapest_of(section, (label,), mode, key)
    both = curve.index.intersection(best.index)
    row = {
        "crossing_n": met.at,
        "from_n": met.low,
        "to_n": met.high,
        "last_n": both.max(),
        "exact": best.label[met.low if met.low in best.index else best.index.max()],
        "verdict": met.text,
    }
    held_out = (met.low, met.high) if met.at else ()
    candidate = model(label, mode, key, held_out)
    rivals = [model(name, mode, key, held_out) for name in findings.exact_labels(section)]
    rivals = [values for values in rivals if values is not None]
    if candidate is None or not rivals:
        return row
    predicted = _predicted(candidate, np.min(rivals, axis=0), both)
    row["predicted_n"] = predicted.at
    row["prediction"] = "" if predicted.at else predicted.text
    if met.at and predicted.at:
        row["ratio"] = predicted.at / met.at
    else:
        said = {_says(of, both.max()) for of in (met, predicted)}
        row["agrees"] = "yes" if len(said) == 1 else "no"
    return row


def _predicted(candidate, best, both):
    """Over the N that were measured for both, as is the crossing it is held against; beyond them
    only where it is still dearer at the last."""
    n = candidate.index
    for last in (both.max(), FARTHEST):
        at = (n >= both.min()) & (n <= last)
        found = fits.crossing(n[at], candidate[at], best[at])
        if not found.text.startswith("never"):
            break
    return found


def _says(crossing, last):
    """Whether up to the last N of both it is cheaper from the first N on, a later one, or never."""
    low = crossing.at or crossing.low
    if low:
        return "never" if low >= last else "later"
    return crossing.text.split()[0]


def _model(cells, label, mode, key, held_out):
    """The calibrated model's values of a curve by N, from the least measured to the farthest; None
    where too few points are left."""
    of_label = cells[cells.label == label]
    curve = findings.cheapest(of_label[of_label["mode"] == mode], key).y
    curve = curve.drop(list(held_out), errors="ignore")
    if len(curve) < 2:
        return None
    octaves = np.log2(FARTHEST / cells.n.min())
    grid = np.round(cells.n.min() * 2 ** (np.arange(octaves * STEPS + 1) / STEPS))
    forward = of_label[of_label["mode"] == "forward"]
    flops = findings.cheapest(forward, "flops_formula").y
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
    memory = "as bytes compiled"
    if quantities(frames.cells(section))["memory"] == "bytes_measured":
        memory = "growth of the process, or what was compiled where that is more"
    what = (
        "The best exact attention: the cheapest full attention at each N. N is interpolated in "
        f"log-log in its bracket; memory is {memory}. Predicted: by the cost model calibrated on "
        "the device's records, those of the bracket held out, over the N measured for both and "
        f"beyond where never in them. {_accuracy(found)}{text}"
    )
    title = f"{section.title}: from which N cheaper than the best exact attention"
    return [Table.of(f"{section.name}-crossovers", title, what, COLUMNS, found)]


def _accuracy(found):
    """Words on how far predictions were off, of all of them."""
    crossed = sorted(
        (estimates.off(row["ratio"]) + 1, _named(row)) for row in found if "ratio" in row
    )
    words = [row["agrees"] for row in found if "agrees" in row]
    text = ""
    if crossed:
        middle, (worst, name) = statistics.median(off for off, _ in crossed), crossed[-1]
        text = f"Off by a factor of {middle:.2f} in the median of {len(crossed)} crossings, of "
        text += f"{significant(worst, 3)} at worst ({name}). "
    if words:
        text += f"Of {len(words)} others, where one of them sees no crossing, "
        text += f"{words.count('no')} disagree. "
    return text


def _named(row):
    return f"{row['label']}, {row['mode']}, {row['quantity']}"


def draw(section: Section) -> list[Drawing]:
    """A panel a mode and quantity, a line a mechanism: bracket, crossing and prediction."""
    found = pd.DataFrame(rows(section))
    if found.empty:
        return []
    frame = section.frame.rename(columns={"config.mechanism": "mechanism"})
    look, lengths = palette.styles(frame), sorted(frame["config.n"].unique())
    labels = sorted(found.label.unique(), reverse=True)
    groups = list(found.groupby(["quantity", "mode"], sort=False))
    tall, title = 0.19 * len(labels) + 1.85, "From which N cheaper than the best exact attention"
    figure = canvas.headed(section, title, 2.6 * len(groups) + 1.4, tall)
    grid = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for ax, ((quantity, mode), panel) in zip(grid, groups, strict=True):
        ax.set_title(f"{quantity}, {mode}")
        canvas.axes(ax, lengths, None, ticks=3)
        ax.set_xlim(lengths[0] / 1.6, lengths[-1] * DRAWN)
        ax.axvline(lengths[-1], color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
        for row in panel.to_dict("records"):
            _mark(ax, row, labels.index(row["label"]), look[row["label"]].color, lengths)
    grid[0].set_yticks(range(len(labels)), labels)
    kinds = {
        "measured": "D",
        "predicted": "o",
        "cheaper from the least N": "<",
        "never up to there": ">",
    }
    handles = [
        Line2D([], [], color=MUTED, marker=marker, ls="", mfc="none", label=words)
        for words, marker in kinds.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    text = (
        "N from which a mechanism is cheaper than the best exact attention: ◇ measured, with the "
        "bracket it lies in, ○ as the cost model predicts it; ▷ never up to the last N measured "
        "for both; the upright line is the longest N."
    )
    far = found[findings.column(found, "predicted_n") > lengths[-1] * DRAWN]
    if len(far):
        far = [f"{_named(row)}: {row['predicted_n']:,.0f}" for row in far.to_dict("records")]
        text += f" Too far off to draw: {'; '.join(far)}."
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
        ax.plot(row["last_n"] * 1.3, y, ">", ms=6, **spot)
    if not missing(row.get("predicted_n")) and row["predicted_n"] <= lengths[-1] * DRAWN:
        ax.plot(row["predicted_n"], y, "o", ms=4, **spot)
