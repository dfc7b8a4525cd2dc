"""Sections -> the interactive charts of the page: rows of points, and what may be chosen of them.

A chart is JSON: `facets` are keys of which one value is shown at a time, `x` and `y` the axes to
choose from, `rows` its points. A row has `label`, its facets, numbers by key, `word` where it
failed, and the ids of its `records`.
"""

import functools
from collections.abc import Callable, Iterable

import pandas as pd

from experiments.analysis import findings, fits, frames, quality
from experiments.analysis.formats import missing
from experiments.analysis.frames import Section
from experiments.figures import frontier, palette
from experiments.reporting import closing, errors, growth, shares
from experiments.tasks.metric import METRICS, UNKNOWN

DEVICE, SETTING = {"key": "device", "label": "device"}, {"key": "setting", "label": "setting"}
OF_N = {"key": "at", "label": "N"}
N = {"key": "n", "label": "N", "log": True}
# time first
COSTS = dict(reversed(growth.QUANTITIES))
UNITS = {"flops": "FLOP", "bytes": "B", "seconds": "s"}
COLORS = {light: f"--{name}" for name, (light, _) in (palette.COLORS | palette.SURFACES).items()}
RULE = {"color": "--muted", "symbol": "", "dash": "4px,3px", "hollow": True}


def build(
    sections: list[Section], curves: dict, *, octaves: float = 3, start: int | None = None
) -> list[dict]:
    """Every chart that has a point, sections of one kind together."""
    first = functools.partial(kernels, octaves=octaves, start=start)
    found = [make(sections, curves) for make in (first, *CHARTS)]
    return [chart for chart in found if any(row.get("word") is None for row in chart["rows"])]


def kernels(sections, _, *, octaves: float = 3, start: int | None = None) -> dict:
    rows, styles, notes = [], {}, []
    for section, facets in _of(sections, "kernel"):
        cells = frames.cells(section)
        styles |= _styles(cells)
        for row in cells.to_dict("records"):
            rows.append(_row(row, facets | {"mode": row["mode"]}, [*COSTS]))
            rows[-1] |= _bars("seconds", row.get("seconds_q1"), row.get("seconds_q3"))
        notes += [note | facets for note in _fits(section, [*COSTS], octaves, start)]
    mode = {"key": "mode", "label": "pass"}
    axes = [_axis(key, label, bars=key == "seconds") for key, label in COSTS.items()]
    words = (
        "One call against N. ◇: cheaper than the best exact attention from there on; x: a point "
        "that failed."
    )
    return _chart("scaling", "Cost of a call", words, (DEVICE, SETTING, mode), [N], axes, rows,
                  styles, notes=notes)  # fmt: skip


def _fits(section, keys, octaves, start):
    """{mode, label, y} of every curve, with text and range of its exponent, and n, at, cross and
    records of its crossing."""
    exact, cells = findings.exact_labels(section), frames.cells(section)
    for label, mode, curve in findings.curves(cells):
        for key in keys:
            y = findings.column(curve, key)
            fit = fits.exponent(curve.n, y, octaves=octaves, start=start)
            note = {"mode": mode, "label": label, "y": key}
            if fit:
                note["text"] = f"N^{fit.exponent:.2f}"
                note["range"] = f"N = {fit.low:,} to {fit.high:,}"
            met = findings.meeting(section, label, mode, key) if label not in exact else None
            if met and met.at:
                note |= {"n": met.at, "at": fits.interpolate(curve.n, y, met.at)}
                note["cross"] = f"cheaper than the best exact attention from {met.text}"
                both = cells[cells.label.isin([label, *exact]) & (cells["mode"] == mode)]
                bracket = both.n.isin((met.low, met.high))
                note["records"] = frames.sources(both.records[bracket])
            yield note


def orders(sections, _) -> dict:
    rows, styles = [], {}
    for section, facets in _of(sections, "reorder"):
        cells = findings.reorder_cells(section)
        for row in cells.to_dict("records"):
            words = {"qk_v": "(qk)v", "q_kv": "q(kv)"}[row["order"]]
            styles[words] = _style(palette.style(row["order"]))
            d, e = row["head_dim"], row["value_dim"]
            panel = f"{row['feature_map']}, d = {d:g}, d' = {e:g}"
            keys = ("multiply_adds", "seconds", "bytes_compiled")
            rows.append(_row(row | {"label": words}, facets | {"panel": panel}, keys))
            rows[-1] |= _bars("seconds", row.get("seconds_q1"), row.get("seconds_q3"))
    panel = {"key": "panel", "label": "feature map and sizes"}
    axes = [
        _axis("multiply_adds", "multiply-adds a head"),
        _axis("seconds", "time", bars=True),
        _axis("bytes_compiled", "memory, compiled"),
    ]
    words = "(q kᵀ) v against q (kᵀ v): they cost the same at N* = 2dd'/(d+d')."
    return _chart(
        "reordering", "The reordering", words, (DEVICE, SETTING, panel), [N], axes, rows, styles
    )


def steps(sections, _) -> dict:
    rows, styles = [], {}
    keys = [f"{key}_share" for key in shares.QUANTITIES]
    for section, facets in _of(sections, "step"):
        cells = shares.cells(section)
        styles |= _styles(cells)
        for row in cells.to_dict("records"):
            row |= {key: 100 * row[key] for key in keys}
            rows.append(_row(row, facets, [*keys, *COSTS]))
    axes = [
        {"key": key, "label": f"% of the step's {words}", "log": False}
        for key, words in zip(keys, shares.QUANTITIES.values(), strict=True)
    ]
    axes += [_axis(key, f"of the step: {words}") for key, words in COSTS.items()]
    words = "A training step of the whole transformer, and attention's part of it."
    return _chart("steps", "A training step", words, (DEVICE, SETTING), [N], axes, rows, styles)


def scores(metric) -> Callable:
    """The chart of every training section that is scored by this metric."""

    def make(sections, _):
        rows, styles = [], {}
        for section, facets in _of(sections, "train"):
            if quality.metric_of(section) is metric:
                rows += _scores(section, facets, metric, styles)
        state = _axis("decode_state_bytes", "decode state") | {"facets": [OF_N]}
        speed = {"key": "speed", "label": "training steps a second, area is memory", "log": False}
        speed |= {"facets": [OF_N], "size": "memory"}
        words = (
            f"{metric.title} on the test split, mean over seeds with its standard "
            "error; dashed: rules without a model; hollow grey: published. Rules and "
            "published scores far from the models are in the table alone."
        )
        title, axis = metric.title, _score(metric)
        return _chart(metric.key, title, words, (DEVICE, SETTING), [N, state, speed], [axis], rows,
                      styles)  # fmt: skip

    return make


def _scores(section, facets, metric, styles):
    found = quality.rows(section)
    lengths = sorted({row["n"] for row in found if row["what"] == "model"})
    models = [row for row in found if row["what"] == "model"]
    styles |= _styles(pd.DataFrame(models))
    scored = [row for row in models if not missing(row.get("score"))]
    is_far = quality.far(scored) if scored else lambda score: False
    for n in lengths:
        _speeds([row for row in models if row["n"] == n])
    for row in found:
        score, error = row.get("score"), row.get("stderr")
        if row["what"] == "rule" and row["label"] == "uniform":
            continue
        if row["what"] != "model":
            if is_far(score):
                continue
            grey = _style(palette.style(row["mechanism"])) if row.get("mechanism") else RULE
            styles[row["label"]] = RULE | {"symbol": grey["symbol"]}
        if not missing(score):
            row["score"] = score / metric.scale
        for n in [row["n"]] if row["n"] else lengths:
            point = _row(row | {"n": n}, facets | {"at": f"{n:,}"},
                         ("score", "decode_state_bytes", "speed", "memory"))  # fmt: skip
            if not missing(score) and not missing(error):
                low, high = ((score + sign * error) / metric.scale for sign in (-1, 1))
                point |= _bars("score", low, high)
            yield point


def _speeds(rows):
    """Adds `speed` to those that may be compared in it."""
    timed, _ = quality.of_one_device(rows)
    for row in timed:
        row["speed"] = 1 / row["seconds_per_step"]


LOSSES = {"train_loss": "training loss", "val_loss": "validation loss"}


def learning(metric) -> Callable:
    """Validation scores and losses while training, a line a seed."""

    def make(sections, curves):
        rows, styles, key, shown = [], {}, f"val_{metric.key}", ("score", *LOSSES)
        for section, facets in _of(sections, "train"):
            frame = section.frame
            styles |= _styles(frame.rename(columns={"config.mechanism": "mechanism"}))
            for record in frame.to_dict("records"):
                of_n = facets | {"at": f"{record['config.n']:,}"}
                for point in curves.get((record["id"], str(record["env.device"])), ()):
                    if all(isinstance(point.get(k), int | float) for k in ("step", key)):
                        point = point | {"score": point[key] / metric.scale}
                        point |= {"series": record["id"], "records": record["id"]}
                        rows.append(_row(record | point, of_n, ("step", "series", *shown)))
        x = {"key": "step", "label": "step", "log": False}
        y = [_score(metric)]
        y += [{"key": key, "label": words, "log": False} for key, words in LOSSES.items()]
        title = f"Learning curves, {metric.words}"
        words = f"{metric.title} on the validation split, a line a seed."
        facets = (DEVICE, SETTING, OF_N)
        name = f"{metric.key}-curves"
        return _chart(name, title, words, facets, [x], y, rows, styles)

    return make


def fidelity(sections, _) -> dict:
    rows, styles = [], {}
    for section, facets in _of(sections, "fidelity"):
        cells = errors.fidelity(section)
        cells = cells[~(cells.error <= frontier.EXACT)]
        styles |= _styles(cells)
        usual = {inputs: frontier.middle(of).index for inputs, of in cells.groupby("inputs")}
        for row in cells.itertuples():
            # error against N is of one budget
            at = {"inputs": row.inputs, "at": f"{row.n:,}"}
            point = row._asdict() | {"budget": row.value}
            point["usual"] = row.error if row.Index in usual[row.inputs] else None
            rows.append(_row(point, facets | at, ("flops_ratio", "budget", "error", "usual")))
            rows[-1] |= _bars("error", row.error_min, row.error_max)
    inputs = {"key": "inputs", "label": "inputs"}
    axes = [
        {"key": "flops_ratio", "label": "FLOPs over full's", "log": True, "facets": [OF_N]},
        {"key": "budget", "label": "budget", "log": True, "facets": [OF_N]},
        N | {"y": "usual"},
    ]
    error = {"key": "error", "label": "relative error", "log": True, "bars": True}
    words = "Error against full attention; a marker is a budget. Against N: the middle budget."
    return _chart(
        "fidelity", "Fidelity", words, (DEVICE, SETTING, inputs), axes, [error], rows, styles
    )


def arena(sections, _) -> dict:
    rows, styles, metric = [], {}, METRICS[0]
    for section, facets in _of(sections, "arena"):
        found = [row for row in closing.over_tasks(section) if row["what"] == "model"]
        styles |= _styles(pd.DataFrame(found))
        _speeds(found)
        for row in found:
            if not missing(row.get("score")):
                row["score"] /= metric.scale
            rows.append(_row(row, facets, ("speed", "score", "memory")))
    x = {"key": "speed", "label": "training steps a second, area is memory", "log": False}
    words = "Mean over the tasks of the Long-Range Arena that were trained."
    return _chart("arena", "Score, speed and memory", words, (DEVICE, SETTING),
                  [x | {"size": "memory"}], [_score(metric)], rows, styles)  # fmt: skip


# beside that of kernels
CHARTS = (
    *(scores(metric) for metric in (*METRICS, UNKNOWN)),
    arena,
    fidelity,
    orders,
    steps,
    *(learning(metric) for metric in METRICS),
)


def _chart(name, title, words, facets, x, y, rows, styles, notes=()):
    return {
        "name": name,
        "title": title,
        "words": words,
        "facets": list(facets),
        "x": x,
        "y": [axis for axis in y if any(axis["key"] in row for row in rows)],
        "rows": rows,
        "styles": styles,
        "notes": list(notes),
    }


def _of(sections: Iterable[Section], kind: str):
    """(section, its facets) of a kind."""
    for section in sections:
        if section.kind == kind:
            device = section.device
            yield section, {"device": device, "setting": section.title.replace(f" on {device}", "")}


def _row(row: dict, facets: dict, keys: Iterable[str]) -> dict:
    known = {key: row.get(key) for key in ("n", *keys)}
    point = {key: value for key, value in known.items() if not missing(value)}
    point |= {"label": row["label"], "records": row.get("records") or ""} | facets
    if row.get("word") not in (None, "", "ok"):
        point |= {"word": row["word"], "reason": row.get("status") or row["word"]}
    return point


def _bars(key, low, high):
    return {} if missing(low) or missing(high) else {f"{key}_low": low, f"{key}_high": high}


def _axis(key, label, bars=False):
    return {"key": key, "label": label, "log": True, "unit": UNITS.get(key.split("_")[0], ""),
            "bars": bars} | ({"unit": "B"} if key.endswith("_bytes") else {})  # fmt: skip


def _score(metric):
    return {"key": "score", "label": metric.header, "log": False, "bars": True}


def _styles(cells) -> dict[str, dict]:
    return {label: _style(look) for label, look in palette.styles(cells).items()}


def _style(look: palette.Style) -> dict:
    dash = "solid" if look.line == "-" else ",".join(f"{2 * part:g}px" for part in look.line[1])
    color, symbol = COLORS[look.color], palette.SYMBOLS[look.marker]
    return {"color": color, "symbol": symbol, "dash": dash, "hollow": look.hollow}
