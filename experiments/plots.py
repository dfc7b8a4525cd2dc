"""Sections of records -> figures."""

import matplotlib

from experiments import analysis, canvas, fits, frames, palette
from experiments.canvas import Drawing
from experiments.frames import Section
from experiments.palette import INK, MUTED

SCALING = (
    ("flops_counted", "FLOPs counted"),
    ("bytes_compiled", "Memory, compiled"),
    ("bytes_measured", "Memory, measured peak"),
    ("seconds", "Time"),
)


def draw(
    section: Section, curves: dict, *, octaves: float = 3, start: int | None = None
) -> list[Drawing]:
    """Every figure of a section; one with no number to show is left out."""
    with matplotlib.rc_context(canvas.RC):
        if section.kind == "kernel":
            return scaling(section, octaves, start)
        if section.kind == "reorder":
            return reordering(section)
        return language(section, curves)


def scaling(section, octaves, start):
    cells = frames.cells(section)
    look = palette.styles(cells)
    drawings = []
    for mode in analysis.MODES:
        for key, words in SCALING:
            rows = cells[cells["mode"] == mode]
            if key not in rows or not (rows[key] > 0).any():
                continue
            figure, ax = canvas.page(section, f"{words}, {mode}")
            _scaling_panel(ax, cells, mode, key, look, octaves, start)
            name = f"{section.name}-{key.replace('_', '-')}-{mode}"
            text = (
                f"{words} of the {mode} pass against N, exponents fitted; ◇ marks where a curve "
                "meets full, x a failed point."
            )
            drawings.append(Drawing(name, f"{section.title}: {text}", figure))
    return drawings


def _scaling_panel(ax, cells, mode, key, look, octaves, start):
    ends, ranges, failed = [], [], []
    fitted = []
    for label, of_mode, curve in analysis.curves(cells):
        if of_mode != mode:
            continue
        y = curve[key].where((curve.status == "ok") | curve[key].notna())
        y = y.where(y > 0)
        failed += [(row.n, row.word, look[label]) for row in curve.itertuples() if row.word != "ok"]
        if not y.notna().any():
            continue
        ax.plot(curve.n, y, **look[label].plot(), zorder=3)
        if key == "seconds" and "seconds_q1" in curve:
            ax.vlines(
                curve.n, curve.seconds_q1, curve.seconds_q3, color=look[label].color, lw=1, zorder=2
            )
        fit = fits.exponent(curve.n, y, octaves=octaves, start=start)
        mechanism = curve.mechanism.iloc[0]
        per_log = None
        if fit and fits.has_log(mechanism) and not key.startswith("bytes"):
            per_log = fits.exponent(curve.n, y, octaves=octaves, start=start, per_log=True)
        met = None
        if label != analysis.baseline_label(cells):
            met = analysis.meeting(cells, label, mode, key)
        if met and met.at:
            height = fits.interpolate(curve.n, y, met.at)
            ax.plot(met.at, height, "D", ms=9, mfc="none", mec=look[label].color, zorder=4)
        ranges.append((fit.low, fit.high) if fit else None)
        last = y.last_valid_index()
        fitted.append((label, fit, per_log, met, (curve.n[last], y[last])))
    known = [found for found in ranges if found]
    common = max(set(known), key=lambda found: (known.count(found), found)) if known else None
    for label, fit, per_log, met, end in fitted:
        ends.append((*end, _end_text(label, fit, per_log, met, common), look[label].color))
    canvas.axes(ax, cells.n[cells["mode"] == mode], key)
    canvas.failures(ax, failed)
    heading = f"fit over N = {common[0]:,} to {common[1]:,}" if common else "too few points to fit"
    canvas.end_labels(ax, ends, heading)


def _end_text(label, fit, per_log, met, common):
    text = f"{label}  " + (rf"$N^{{{fit.exponent:.2f}}}$" if fit else "")
    if per_log:
        text += rf" or $N^{{{per_log.exponent:.2f}}}\log N$"
    if fit and (fit.low, fit.high) != common:
        text += f" ({fit.low:,} to {fit.high:,})"
    if met and met.at:
        text += f", ◇ {met.at:,.0f}"
    return text


def reordering(section):
    cells = analysis.reorder_cells(section)
    drawings = []
    for (feature_map, d, e), panel in analysis.reorder_panels(cells):
        words = "no softmax" if feature_map == "identity" else f"feature map {feature_map}"
        figure, (top, bottom) = canvas.page(section, f"{words}, d = {d}, d' = {e}", rows=2)
        predicted = 2 * d * e / (d + e)
        for ax, key, what in (
            (top, "multiply_adds", "multiply-adds a head"),
            (bottom, "seconds", "time"),
        ):
            _reorder_panel(ax, panel, key, what, predicted)
        top.tick_params(labelbottom=False)
        top.set_xlabel("")
        text = (
            f"{section.title}: (qk)v against q(kv), {words}, d = {d}, d' = {e}. The line is "
            f"N* = 2dd'/(d+d') = {predicted:.4g}; ◇ where the curves meet, counted and timed."
        )
        drawings.append(Drawing(f"{section.name}-{feature_map}-d{d}-e{e}", text, figure))
    return drawings


def _reorder_panel(ax, panel, key, what, predicted):
    ends, failed = [], []
    for order, words in (("qk_v", "(qk)v"), ("q_kv", "q(kv)")):
        curve = panel[panel.order == order].sort_values("n")
        look = palette.style(order)
        if key == "seconds":
            failed += [(row.n, row.word, look) for row in curve.itertuples() if row.word != "ok"]
        y = analysis.column(curve, key)
        if not (y > 0).any():
            continue
        ax.plot(curve.n, y, **look.plot(), zorder=3)
        if key == "seconds" and "seconds_q1" in curve:
            ax.vlines(curve.n, curve.seconds_q1, curve.seconds_q3, color=look.color, lw=1, zorder=2)
        last = y.last_valid_index()
        ends.append((curve.n[last], y[last], words, look.color))
    both = analysis.pair(panel, key)
    met = fits.crossing(both.index, both.q_kv, both.qk_v)
    if met.at:
        height = fits.interpolate(both.index, both.q_kv, met.at)
        ax.plot(met.at, height, "D", ms=10, mfc="none", mec=INK, zorder=4)
    ax.axvline(predicted, color=INK, lw=1, ls=(0, (4, 3)), zorder=1)
    canvas.axes(ax, panel.n, key)
    canvas.failures(ax, failed)
    ax.set_ylabel(what if key != "seconds" else "time")
    found = f"◇ {met.text}" if met.at else f"q(kv): {met.text}"
    canvas.end_labels(ax, ends, f"{what}\nN* = {predicted:.4g} by formula\n{_wrap(found)}")


def language(section, curves):
    frame, look = (
        section.frame,
        palette.styles(section.frame.rename(columns={"config.mechanism": "mechanism"})),
    )
    rows = analysis.language(section)
    drawings = []
    models = [row for row in rows if row.get("bpb") is not None and row["status"] != "no model"]
    if models:
        drawings.append(_bits_figure(section, rows, models, look))
    for n, of_n in frame.groupby("config.n"):
        drawing = _loss_figure(section, int(n), of_n, curves, look)
        if drawing:
            drawings.append(drawing)
    return drawings


def _bits_figure(section, rows, models, look):
    figure, ax = canvas.page(section, "Bits per byte against context")
    ends = []
    for label in sorted({row["label"] for row in models}):
        mine = sorted((row for row in models if row["label"] == label), key=lambda row: row["n"])
        n, bpb = [row["n"] for row in mine], [row["bpb"] for row in mine]
        spread = [row["stderr"] or 0 for row in mine]
        ax.errorbar(n, bpb, yerr=spread, capsize=3, elinewidth=1, zorder=3, **look[label].plot())
        ends.append((n[-1], bpb[-1], f"{label}  {bpb[-1]:.3f}", look[label].color))
    canvas.axes(
        ax, [row["n"] for row in rows if row["n"] is not None and row["status"] != "no model"], None
    )
    low, high = ax.get_xlim()
    for row in rows:
        if row["status"] == "no model" and row["label"] != "uniform":
            at = (low, high) if row["n"] is None else (row["n"] / 1.12, row["n"] * 1.12)
            ax.plot(at, [row["bpb"]] * 2, color=MUTED, lw=1, ls=(0, (4, 3)), zorder=1)
            ends.append((at[1], row["bpb"], f"{row['label']}  {row['bpb']:.3f}", MUTED))
    ax.set_xlim(low, high)
    failed = [
        (row["n"], row["status"].split(":")[0].split(" (")[0], look[row["label"]])
        for row in rows
        if row["status"] not in ("ok", "no model") and row.get("bpb") is None
    ]
    canvas.failures(ax, failed)
    ax.set_ylabel("bits per byte, held out")
    seeds = sorted({row["seeds"] for row in models})
    canvas.end_labels(
        ax, ends, f"mean of {', '.join(map(str, seeds))} seeds" if seeds != [1] else "one seed"
    )
    text = (
        f"{section.title}: bits per byte on held-out bytes against N; "
        "bars are the standard error over seeds."
    )
    return Drawing(f"{section.name}-bits", text, figure)


def _loss_figure(section, n, rows, curves, look):
    figure, ax = canvas.page(section, f"Learning curves, N = {n:,}")
    ends = []
    for row in rows.sort_values(["label", "id"]).itertuples():
        points = curves.get((row.id, str(rows["env.device"][row.Index])), [])
        points = [
            p for p in points if all(isinstance(p.get(k), int | float) for k in ("step", "val_bpb"))
        ]
        if not points:
            continue
        style = look[row.label]
        steps, bits = [p["step"] for p in points], [p["val_bpb"] for p in points]
        ax.plot(steps, bits, color=style.color, ls=style.line, lw=1.3, alpha=0.9)
        ax.plot(steps[-1], bits[-1], style.marker, color=style.color, ms=5)
        ends.append((steps[-1], bits[-1], row.label, style.color))
    if not ends:
        return None
    ax.set_xlabel("step")
    ax.set_ylabel("bits per byte, validation")
    best = {}
    for end in ends:
        best[end[2]] = min(best.get(end[2], end), end, key=lambda found: found[1])
    canvas.end_labels(ax, list(best.values()), "a line a seed")
    text = f"{section.title}: bits per byte on the validation split while training, N = {n:,}."
    return Drawing(f"{section.name}-curves-n{n}", text, figure)


def _wrap(text):
    return text.replace(", ", ",\n", 1)
