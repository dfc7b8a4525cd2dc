"""What the cells of a section say: fitted exponents, where curves meet.

A mechanism is compared with the best exact attention of its device: at each N the cheapest full
attention of scaled dot products that came through.
"""

import functools
from collections.abc import Iterable

import pandas as pd

from experiments.analysis import fits, frames
from experiments.analysis.frames import Section

MODES = ("forward", "train")
EXACT, USUAL_SCORE = "full", "scaled_dot"
# what an exact mechanism failed by tells of the quantity that it lacked
WANTING = {"seconds": ("oom", "timeout"), "bytes": ("oom",), "flops": ()}
# key, words, the formula whose slope is the expected one, and how far from it is as expected; the
# time to compile may not grow
QUANTITIES = (
    ("flops_counted", "FLOPs counted", "flops_ideal", 0.02),
    ("bytes_compiled", "memory compiled", "bytes_formula", 0.02),
    ("bytes_measured", "memory measured", "bytes_formula", 0.02),
    ("seconds", "time", "flops_ideal", 0.15),
    ("compile_seconds", "compile time", None, 0.15),
)


def scaling(cells: pd.DataFrame) -> pd.DataFrame:
    rows = timed(cells)
    forward = rows["mode"] == "forward"
    rows["waste"] = (column(rows, "flops_counted") / column(rows, "flops_ideal")).where(forward)
    return rows


def timed(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells with times in milliseconds and over those of a matrix product of as many FLOPs."""
    rows = cells.copy()
    for key, source in (
        ("time_ms", "seconds"),
        ("time_ms_q1", "seconds_q1"),
        ("time_ms_q3", "seconds_q3"),
    ):
        rows[key] = column(rows, source) * 1e3
    rows["gemm_ratio"] = column(rows, "seconds") / column(rows, "gemm_seconds")
    return rows


def exponents(cells: pd.DataFrame, *, octaves: float = 3, start: int | None = None) -> list[dict]:
    rows = []
    for label, mode, curve in curves(cells):
        mechanism = curve["mechanism"].iloc[0]
        for key, words, formula, near in QUANTITIES:
            fit = fits.exponent(curve.n, column(curve, key), octaves=octaves, start=start)
            if fit is None:
                continue
            row = {
                "label": label,
                "mode": mode,
                "quantity": words,
                "exponent": fit.exponent,
                "stderr": fit.stderr,
                "from_n": fit.low,
                "to_n": fit.high,
                "points": fit.points,
                "records": frames.sources(curve.records[curve.n.between(fit.low, fit.high)]),
            }
            growth = key in ("flops_counted", "seconds")
            if growth and mode and fits.has_log(mechanism):
                log = fits.exponent(curve.n, curve[key], octaves=octaves, start=start, per_log=True)
                row["exponent_per_log"] = log and log.exponent
            slope = formula and _expected(cells[cells.label == label], mode, formula, fit)
            row["formula"] = slope
            # of a call, not of a step with projections and feed-forward around it
            if mode and not (formula and slope is None):
                off = abs(fit.exponent - slope) if formula else fit.exponent
                row["as_expected"] = "yes" if off <= near else "no"
            row["theory"] = fits.THEORY.get(mechanism, "") if growth and mode else ""
            rows.append(row)
    return rows


def _expected(cells, mode, formula, fit):
    """The slope of a formula over a fit's lengths; a paper's FLOPs are of a forward call, whose
    slope is that of training too."""
    inside = cells[cells.n.between(fit.low, fit.high)]
    of_both = formula == "flops_ideal"
    inside = inside if of_both else of_pass(inside, mode)
    known = inside.assign(y=column(inside, formula)).dropna(subset="y").drop_duplicates("n")
    expected = fits.exponent(known.n, known.y, start=fit.low)
    return expected and expected.exponent


def meeting(section: Section, label: str, mode: str | None, key: str) -> fits.Crossing | None:
    """Where `label` becomes cheaper than the best exact attention; None where one of them has no
    such number.

    Where it was never cheaper but went on where every exact one failed for want of `key`, the
    crossing lies in between.
    """
    curve, best = cheapest_of(section, (label,), mode, key).y, best_exact(section, mode, key).y
    if curve.empty or best.empty:
        return None
    both = curve.index.intersection(best.index)
    met = fits.crossing(both, curve[both], best[both])
    beyond = curve.index[curve.index > best.index.max()]
    if met.at is None and met.text.startswith("never") and len(beyond):
        low, high = int(both.max()), int(beyond.min())
        rivals = rows_of(section, exact_labels(section), mode)
        failed = rivals[rivals.n == high]
        if len(failed) and failed.word.isin(WANTING[key.split("_")[0]]).all():
            words = ", ".join(f"{row.label} {row.word}" for row in failed.itertuples())
            return fits.Crossing(None, low, high, f"between {low:,} and {high:,}: there {words}")
    return met


def passes(cells: pd.DataFrame) -> list[str | None]:
    """The passes that there are; of what has none, as a training step, [None]."""
    if "mode" not in cells:
        return [None]
    return [mode for mode in MODES if (cells["mode"] == mode).any()]


def of_pass(cells: pd.DataFrame, mode: str | None) -> pd.DataFrame:
    return cells if mode is None else cells[cells["mode"] == mode]


def rows_of(section: Section, labels: Iterable[str], mode: str | None) -> pd.DataFrame:
    """Their cells of a pass."""
    cells = of_pass(section.cells, mode)
    return cells[cells.label.isin(labels)]


def best_exact(section: Section, mode: str | None, key: str) -> pd.DataFrame:
    """At each N the cheapest exact attention."""
    return cheapest_of(section, tuple(exact_labels(section)), mode, key)


# every mechanism is held against the exact ones, in tables, figures and headlines
@functools.lru_cache(512)
def cheapest_of(section: Section, labels: tuple, mode: str | None, key: str) -> pd.DataFrame:
    """`cheapest` of these labels' cells of a pass: to be read, not changed."""
    return cheapest(rows_of(section, labels, mode), key)


def cheapest(cells: pd.DataFrame, key: str) -> pd.DataFrame:
    """The cell with the least of `key`, its `y`, by N ascending; no row where none has it."""
    rows = cells.assign(y=quantity(cells, key))
    rows = rows[rows.y > 0]
    return rows.loc[rows.groupby("n").y.idxmin()].set_index("n")


def quantity(cells: pd.DataFrame, key: str) -> pd.Series:
    """The column as it is compared: of memory measured at least what was compiled, for a process
    grows by the pages it touches, which of a few MB are not all."""
    values = column(cells, key)
    return values.clip(lower=column(cells, "bytes_compiled")) if key == "bytes_measured" else values


@functools.lru_cache(64)
def exact_labels(section: Section) -> list[str]:
    """Full attention of scaled dot products, by whatever implementation, between all N, not between
    patches of them."""
    frame = section.frame
    score = column(frame, "config.hparams.score")
    usual = score.isna() | (score == USUAL_SCORE)
    usual &= column(frame, "config.model.inputs") != "patches"
    return sorted(frame.label[(column(frame, "config.mechanism") == EXACT) & usual].unique())


def baseline_label(cells: pd.DataFrame) -> str | None:
    """The label that stands first: "full", or the first of that mechanism."""
    labels = list(cells.label[cells.mechanism == "full"])
    return "full" if "full" in labels else next(iter(labels), None)


def curves(cells: pd.DataFrame):
    """(label, pass, rows by N), forward before train, full before the others."""
    baseline = baseline_label(cells)
    labels = sorted(cells.label.unique(), key=lambda label: (label != baseline, label))
    for mode in passes(cells):
        for label in labels:
            curve = of_pass(cells[cells.label == label], mode)
            if len(curve):
                yield label, mode, curve.sort_values("n")


def reorder_cells(section: Section) -> pd.DataFrame:
    """Cells with multiply-adds a head; the identity first, then feature maps by name."""
    cells = frames.cells(section)
    frame = section.frame
    heads = frame["config.heads"].fillna(1).iloc[0] * frame["config.batch"].fillna(1).iloc[0]
    counted = column(cells, "flops_counted") / 2 / heads
    cells["multiply_adds"] = column(cells, "multiply_adds").fillna(counted)
    d, e = cells.head_dim, cells.value_dim
    by_formula = ((d + e) * cells.n**2).where(cells.order == "qk_v", 2 * d * e * cells.n)
    cells["multiply_adds_formula"] = column(cells, "multiply_adds_formula").fillna(by_formula)
    cells["first"] = cells.feature_map != "identity"
    return cells.sort_values(["first", "feature_map", "head_dim", "value_dim", "n", "order"])


def reorder_panels(cells: pd.DataFrame):
    """((feature map, d, d'), cells) in the order to draw."""
    keys = ["first", "feature_map", "head_dim", "value_dim"]
    for (_, feature_map, d, e), panel in cells.groupby(keys, sort=True):
        yield (feature_map, int(d), int(e)), panel


def pair(panel: pd.DataFrame, key: str) -> pd.DataFrame:
    """Columns qk_v and q_kv of one quantity by N, where both were had."""
    table = panel.assign(y=column(panel, key)).pivot_table(index="n", columns="order", values="y")
    return table.reindex(columns=["qk_v", "q_kv"]).dropna()


def reorder_crossings(cells: pd.DataFrame) -> list[dict]:
    rows = []
    for (feature_map, d, e), panel in reorder_panels(cells):
        adds, seconds = pair(panel, "multiply_adds"), pair(panel, "seconds")
        work = fits.crossing(adds.index, adds.q_kv, adds.qk_v)
        time = fits.crossing(seconds.index, seconds.q_kv, seconds.qk_v)
        counted = panel.dropna(subset="multiply_adds")
        exact = bool((counted.multiply_adds == counted.multiply_adds_formula).all())
        last = seconds.iloc[-1] if len(seconds) else None
        rows.append(
            {
                "feature_map": feature_map,
                "head_dim": d,
                "value_dim": e,
                "predicted_n": 2 * d * e / (d + e),
                "flops_n": work.at,
                "exact": "" if counted.empty else "yes" if exact else "no",
                "time_n": time.at,
                "time_from_n": time.low,
                "time_to_n": time.high,
                "verdict": time.text,
                "last_n": None if last is None else int(seconds.index[-1]),
                "speedup": None if last is None else last.qk_v / last.q_kv,
                "records": frames.sources(panel.records),
            }
        )
    return rows


def column(frame: pd.DataFrame, key: str) -> pd.Series:
    """The column, or as many missing numbers."""
    if key in frame:
        return frame[key]
    return pd.Series(float("nan"), index=frame.index, dtype=float)
