"""What the cells of a section say: fitted exponents, crossings."""

import pandas as pd

from experiments import fits, frames
from experiments.frames import Section

MODES = ("forward", "train")
# key, words, the formula whose slope is the expected one
QUANTITIES = (
    ("flops_counted", "FLOPs counted", "flops_ideal"),
    ("bytes_compiled", "memory compiled", "bytes_formula"),
    ("bytes_measured", "memory measured", "bytes_formula"),
    ("seconds", "time", "flops_ideal"),
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
        for key, words, formula in QUANTITIES:
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
            growth = not key.startswith("bytes")
            if growth and fits.has_log(mechanism):
                log = fits.exponent(curve.n, curve[key], octaves=octaves, start=start, per_log=True)
                row["exponent_per_log"] = log and log.exponent
            # the formula of a forward call has the slope of a training step too
            same = cells[(cells.label == label) & cells.n.between(fit.low, fit.high)]
            known = same.assign(y=column(same, formula)).dropna(subset="y").drop_duplicates("n")
            expected = fits.exponent(known.n, known.y, start=fit.low)
            row["formula"] = expected and expected.exponent
            row["theory"] = fits.THEORY.get(mechanism, "") if growth else ""
            rows.append(row)
    return rows


def crossings(cells: pd.DataFrame) -> list[dict]:
    rows = []
    baseline = baseline_label(cells)
    for label, mode, _ in curves(cells):
        if baseline is None or label == baseline:
            continue
        for key, words, _ in QUANTITIES:
            met = meeting(cells, label, mode, key)
            if met is not None:
                rows.append(
                    {
                        "label": label,
                        "mode": mode,
                        "quantity": words,
                        "crossing_n": met.at,
                        "from_n": met.low,
                        "to_n": met.high,
                        "verdict": met.text,
                        "records": _of_meeting(cells, (label, baseline), mode, met),
                    }
                )
    return rows


def _of_meeting(cells, labels, mode, met):
    """The points beside the crossing, or all where there is none."""
    rows = cells[(cells["mode"] == mode) & cells.label.isin(labels)]
    return frames.sources(
        rows.records if met.at is None else rows.records[rows.n.isin([met.low, met.high])]
    )


def meeting(cells: pd.DataFrame, label: str, mode: str, key: str) -> fits.Crossing | None:
    """Where `label` becomes cheaper than full; None where one of them has no such number."""
    baseline = baseline_label(cells)
    of_mode = cells[cells["mode"] == mode]
    mine = of_mode[of_mode.label == label].set_index("n")
    full = of_mode[of_mode.label == baseline].set_index("n")
    if column(mine, key).isna().all() or column(full, key).isna().all():
        return None
    both = mine.index.intersection(full.index)
    return fits.crossing(both, mine.loc[both, key], full.loc[both, key])


def baseline_label(cells: pd.DataFrame) -> str | None:
    """The label that others are compared with: "full", or the first of that mechanism."""
    labels = list(cells.label[cells.mechanism == "full"])
    return "full" if "full" in labels else next(iter(labels), None)


def curves(cells: pd.DataFrame):
    """(label, mode, rows by N), forward before train, full before the others."""
    baseline = baseline_label(cells)
    labels = sorted(cells.label.unique(), key=lambda label: (label != baseline, label))
    for mode in MODES:
        for label in labels:
            curve = cells[(cells.label == label) & (cells["mode"] == mode)]
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
