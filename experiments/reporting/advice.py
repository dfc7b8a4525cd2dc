"""What `experiments.advise` answers, as text for people and JSON for scripts."""

import dataclasses
import json
import math

from experiments.analysis import quality, verdicts
from experiments.analysis.estimates import HOW, Estimate
from experiments.analysis.formats import cell, missing, significant
from experiments.reporting import quality_cells
from experiments.tasks.metric import METRICS

BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def as_json(answer: dict) -> str:
    """Seconds, bytes and relative errors; null for what is not known."""

    def plain(value):
        if dataclasses.is_dataclass(value):
            return value.key if hasattr(value, "key") else plain(dataclasses.asdict(value))
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if hasattr(value, "item"):
            value = value.item()
        return None if isinstance(value, float) and not math.isfinite(value) else value

    tasks = [
        {key: task[key] for key in ("task", "title", "n", "metric", "causal")}
        for task in answer["tasks"]
    ]
    return json.dumps(plain({**answer, "tasks": tasks}), indent=1)


HEADS = ("", "mechanism", "time", "±", "from", "memory", "±", "from", "error to softmax")


def as_text(answer: dict) -> str:
    tasks, ranked = answer["tasks"], answer["ranked"]
    heads = [f"{task['task']}, N = {task['n']:,}: {task['metric'].header}" for task in tasks]
    rows = [[*HEADS, *heads], *(_cells(*place) for place in enumerate(ranked, 1))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_headline(answer["call"]), ""]
    lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines += ["", *map(_trained, tasks)] if tasks else []
    if answer["refused"]:
        lines += ["", "Refused:"]
        lines += [f"  {row['label']}: {_reasons(row)}" for row in answer["refused"]]
    used = {part.how for row in ranked for part in (row["seconds"], row["memory"]) if part}
    lines += ["", *(f"{how}: {words}." for how, words in HOW.items() if how in used)]
    if ranked:
        lines += _trust(answer["held_out"], used)
    lines += map(_source, answer["records"])
    if answer["confirm"]:
        lines += [
            "",
            f"To measure {ranked[0]['label']} here, for experiments.report to show:",
            f"  {answer['confirm']}",
        ]
    return "\n".join(lines)


def size(number: float) -> str:
    """Bytes in the unit that people read them in."""
    power = min(int(math.log2(max(number, 1)) / 10), len(BINARY) - 1)
    return f"{significant(number / 1024**power, 3)} {BINARY[power]}"


def _headline(call):
    sizes = f"{call['heads']} heads of {call['head_dim']}"
    if call["value_dim"] != call["head_dim"]:
        sizes += f" (values {call['value_dim']})"
    form = ["causal"] * call["causal"] + [
        {"train": "training step"}.get(call["mode"], call["mode"])
    ]
    many = "1 sequence" if call["batch"] == 1 else f"{call['batch']} sequences"
    parts = [f"{many} of N = {call['n']:,}", sizes, *form, call["dtype"], call["device"]]
    most = [f"at most {size(call['memory'])}"] if call["memory"] else []
    return ", ".join(parts + most)


def _cells(place, row):
    seconds, memory = row["seconds"], row["memory"]
    held = ["", "", ""]
    if memory:
        held = [size(row["needs_bytes"]), _error(memory), memory.how]
    return [
        str(place),
        " ".join([row["label"], *(f"{key}={value}" for key, value in row["hparams"].items())]),
        *(_time(seconds.value), _error(seconds), seconds.how),
        *held,
        _fidelity(row["fidelity"]),
        *(_score(score, row["label"]) for score in row["scores"]),
    ]


def _reasons(row):
    return "; ".join(reason.removeprefix(f"{row.get('mechanism')}: ") for reason in row["reasons"])


def _time(seconds):
    least, unit = next((of for of in TIMES if seconds >= of[0]), TIMES[-1])
    return f"{significant(seconds / least, 3)} {unit}"


def _error(estimate: Estimate):
    return f"{100 * estimate.error:.0f} %" if math.isfinite(estimate.error) else "?"


def _fidelity(found):
    if found is None:
        return ""
    where = [f"N = {found['n']:,}"] if found["n"] else []
    if found["value"] is not None:
        where = [f"{found['budget']} {found['value']:g}", *where]
    if found["target"] != "full":
        where = [f"to {found['target']}", *where]
    if found["n"] and found["inputs"] != "trained":
        where.append(f"{found['inputs']} inputs")
    return f"{found['error']:.2g}" + (f" ({', '.join(where)})" if where else "")


def _score(found, label):
    if found is None:
        return ""
    metric = next(metric for metric in METRICS if metric.key == found["metric"])
    text = f"{found['score'] / metric.scale:.{metric.decimals}f}"
    if not missing(error := found["stderr"]):
        text += f" ± {error / metric.scale:.{metric.decimals}f}"
    # the whole verdict is in the JSON
    for verdict, words in ((verdicts.FAILED, "failed run"), (verdicts.SHALLOW, "behind a rule")):
        if (found["status"] or "").startswith(verdict):
            text += f", {words}"
    return text if found["label"] == label else f"{text} ({found['label']})"


def _trained(task):
    """What its scores are of."""
    rows = task["rows"]
    of, parts = quality_cells.spans(rows), [quality.seeds(rows)]
    columns = {column.key: column for column in quality_cells.SPANS}
    for key in ("steps", "params"):
        if not missing(value := of[key]):
            words = value if isinstance(value, str) else cell(value, columns[key])
            parts.append(f"{words} {columns[key].header}")
    if rule := task["rule"]:
        parts.append(f"without a model {rule['label']} {task['metric'].text(rule['score'])}")
    return f"{task['task']}, N = {task['n']:,}: {task['title']}; {', '.join(parts)}."


def _source(of):
    days = " to ".join(dict.fromkeys((of["from"], of["to"])))
    changed = {
        True: "; kernels in attention_zoo/ are others now",
        None: ", which is not in this clone: its kernels may have been others",
    }.get(of["changed"], "")
    return f"Records: {of['count']} of {days}, commit {str(of['commit'])[:10]}{changed}."


def _trust(held_out, used):
    if not any(kept["points"] for kept in held_out.values()) and "other sizes" not in used:
        yield "How far off the model is with such calls is not known: no records are of them."
    for what, kept in held_out.items():
        if kept["points"]:
            yield (
                f"Of {kept['points']} records of such calls, each held out, the model was off by "
                f"{100 * kept['median_error']:.0f} % in {what} (median), within "
                f"{100 * kept['tolerance']:.0f} % for {100 * kept['within_tolerance']:.0f} %."
            )
