"""Sections of training records -> tables and headlines, whatever the metric. Imports no jax."""

import math

import pandas as pd

from experiments.analysis import findings, frames, published, quality, verdicts
from experiments.analysis.formats import Column, Table, missing
from experiments.analysis.frames import Section
from experiments.reporting.quality_cells import (
    BOLD,
    COSTS,
    MEAN,
    SOURCE,
    SPANS,
    STATUS,
    TIMED,
    N,
    mean_cell,
    mean_column,
    overall,
    used,
)
from experiments.tasks.metric import OF_CLASSES, RULES, Metric, validation

UNLEARNED = (
    " What no rule is behind had not learned the task in its steps, and tells no order of the "
    "models."
)
# of a task or an experiment: what its models are not that their names may lead one to expect
NOTES = {
    "multi30k": " Other than the Transformer of 2017, those that are no RNN have GELU unless a "
    "label says ReLU, embeddings tied neither to each other nor to the output, and no label "
    "smoothing.",
    "accuracy-language": " What is no better than the bigram rule reads the byte at hand and no "
    "other: in its steps it had not learned to look back.",
    **dict.fromkeys(("imdb", "cifar10", "pathfinder"), UNLEARNED),
    "mqar": " What is no better than a rule had not learned to recall in its steps; in more it may "
    "still: linear attention does in those of size long at N = 64, at another rate than short runs "
    "choose, and not at 128 or 256.",
    "listops": " What is no better than the root operator has not learned to read its arguments.",
    "duplicate": " What is no better than the bigram rule has not learned to look half a sequence "
    "back in its steps.",
}
MAJORITY = "majority_accuracy"


def tables(section: Section, text: str) -> list[Table]:
    """A row a variant and N; a column an N; if there are any, a column a setting of evaluation."""
    metric, rows = quality.metric_of(section), quality.rows(section)
    found = [_long(section, text, metric, rows), _by_length(section, text, metric, rows)]
    found += _beside(section, text, metric)
    settings = settings_of(section.frame, metric)
    return [*found, _by_setting(section, text, metric, settings)] if settings else found


def _long(section, text, metric, rows):
    score, by = metric.key, validation(metric)
    val, heading = f"val_{by.key}", "validation" if by is metric else f"validation, {by.words}"
    rows = [
        {**row, score: row.get("score"), val: row.get("val"), f"{val}_last": row.get("val_last")}
        for row in rows
        if row["what"] != "published"
    ]
    columns = (
        Column("label", "model"),
        N,
        Column(score, metric.header, decimals=metric.decimals, scale=metric.scale),
        Column("stderr", "±", decimals=metric.decimals, scale=metric.scale),
        Column("seeds", "seeds", 12),
        Column(val, heading, decimals=by.decimals, scale=by.scale),
        Column(f"{val}_last", f"{heading}, last step", decimals=by.decimals, scale=by.scale),
        *SPANS,
        *COSTS,
        Column("tokens_per_step", "tokens a step", 12),
        Column("decode_state_bytes", "decode state, kB", 4, 1e3),
        Column("memory", "MB held", 4, 1e6),
        STATUS,
        *SOURCE,
    )
    how, held = f"± is the standard error over seeds. {TIMED}", quality.memory_of(section.frame)
    if held:
        how += f" MB held: {quality.MEMORY[held]}."
    how += _notes(section.frame)
    return Table.of(
        section.name, section.title, f"{how} {text}", used(section, columns, rows), rows
    )


def _notes(frame):
    """What else a reader has to know of the task, and how its training sequences grow."""
    grown = sorted(set(findings.column(frame, "config.task_args.grow").dropna()))
    said = "".join(map(_growth, grown))
    names = (frame[f"config.{field}"].iloc[0] for field in ("task", "experiment"))
    return "".join(NOTES.get(name, "") for name in names) + said


def _growth(doublings):
    steps = doublings.strip("[]").split(", ")
    if len({*steps}) == 1:
        return f" Training sequences are short up to step {steps[0]}, then of N."
    return f" Training sequences double up to N at steps {', '.join(steps)}."


def _by_length(section, text, metric, rows):
    lengths = sorted({int(row["n"]) for row in rows if row["n"]})
    ours = sorted({int(row["n"]) for row in rows if row["what"] == "model"})
    lines, bold = [], set()
    for label in quality.ordered(rows):
        mine = [row for row in rows if row["label"] == label]
        line = {"label": label, **overall(mine)}
        for row in mine:
            for n in [int(row["n"])] if row["n"] else ours:
                line |= mean_cell(f"n{n}", row)
        lines.append(line)
    for n in ours:
        here = [row for row in rows if row["what"] == "model" and row["n"] == n]
        if best := quality.clear_best(here, metric):
            bold.add((quality.ordered(rows).index(best["label"]), f"n{n}"))
    columns = (
        Column("label", f"{metric.header} at N ="),
        *(mean_column(f"n{n}", f"{n:,}", metric) for n in lengths),
        *SPANS,
        *COSTS,
        Column("costs_n", "at N", 12),
        STATUS,
        *SOURCE,
    )
    how = f"Of the test split. {MEAN} {TIMED}{_notes(section.frame)}"
    shown = [row for row in rows if row["what"] == "published"]
    how += "".join(f" {words}." for words in published.differences(shown))
    if bold:
        how += f" {BOLD}"
    title = f"{section.title}: by N"
    return Table.of(
        f"{section.name}-by-n", title, f"{how} {text}", used(section, columns, lines), lines, bold
    )


def _beside(section, text, metric):
    """The other scores of the test split, of models and of rules; [] where there are none."""
    frame = section.frame
    known = [(key, words) for key, words in metric.beside if f"metrics.test_{key}" in frame]
    if not known:
        return []
    shown, lines = [(metric.key, metric.words), *known], []
    for (label, n), group in frame.groupby(["label", "config.n"], sort=True):
        line, good = quality.variant(label, n, group, metric), group[group.status == "ok"]
        for key, _ in shown:
            values = pd.to_numeric(findings.column(good, f"metrics.test_{key}")).dropna()
            cell = {"word": line["word"], "records": line["records"]}
            line |= mean_cell(key, quality.mean(values) | cell)
        lines.append(line)
    lines.sort(key=lambda line: (line["mechanism"] != "full", line["label"], line["n"]))
    for name, words in RULES.items():
        stem, end = name.rsplit("_", 1)
        found = {key: findings.column(frame, f"metrics.{stem}_{key}") for key, _ in shown}
        if end != metric.key or not any(found[key].notna().any() for key, _ in known):
            continue
        for n in sorted(frame["config.n"].unique()):
            ids = frames.sources(frame.id[frame["config.n"] == n])
            here = {key: values[frame["config.n"] == n] for key, values in found.items()}
            scores = {key: pd.to_numeric(values).mean() for key, values in here.items()}
            rules = {words: scores}
            if name == MAJORITY and not math.isnan(scores[metric.key]):
                rules[f"{words}, of that class"] = quality.of_one_class(scores[metric.key])
            for words_of, values in rules.items():
                line = {"label": words_of, "n": n, "status": "no model", "records": ids}
                for key in scores:
                    value = values.get(key, math.nan)
                    score = None if math.isnan(value) else value
                    line |= mean_cell(key, {"score": score, "records": ids})
                lines.append(line)
    columns = (
        Column("label", "model"),
        N,
        *(mean_column(key, f"{words}{metric.unit}", metric) for key, words in shown),
        *SPANS,
        STATUS,
        *SOURCE,
    )
    how = f"Of the test split. {MEAN}"
    if metric.beside == OF_CLASSES:
        how += " All but accuracy: means over the classes, each against the rest."
        if any(line["label"] == f"{RULES[MAJORITY]}, of that class" for line in lines):
            how += (
                " Who always says the majority class finds all of it and none of the others: of "
                "that class recall is 100 % and specificity 0, whatever the accuracy."
            )
    title = f"{section.title}: other scores"
    columns = used(section, columns, lines)
    return [Table.of(f"{section.name}-scores", title, f"{how} {text}", columns, lines)]


def settings_of(frame: pd.DataFrame, metric: Metric) -> list[str]:
    """What follows the @ of metrics like test_accuracy@hashes=8: ."""
    start = f"metrics.test_{metric.key}@"
    return [c.removeprefix(start) for c in frame if c.startswith(start) and frame[c].notna().any()]


def _by_setting(section, text, metric, settings):
    """After Reformer's table of rounds of hashing."""
    lines = []
    for (label, n), group in section.frame.groupby(["label", "config.n"], sort=True):
        line, good = quality.variant(label, n, group, metric), group[group.status == "ok"]
        line |= mean_cell("trained", line)
        for key in settings:
            values = pd.to_numeric(findings.column(good, f"metrics.test_{metric.key}@{key}"))
            cell = {"word": line["word"], "records": line["records"]}
            line |= mean_cell(key, quality.mean(values.dropna()) | cell)
        lines.append(line)
    others = published.of(published.task_of(section.frame), metric.key).dropna(subset="setting")
    said = published.differences(others.to_dict("records"))
    for (model, n, source), group in others.groupby(["model", "n", "source"], sort=False):
        line = {"label": f"{model} ({source})", "n": n, "status": group.status.iloc[0]}
        for row in group.itertuples():
            line |= mean_cell(row.setting, {"score": row.value})
        lines.append(line)
    known = {*settings, *others.setting}
    columns = (
        Column("label", f"{metric.header}, trained as"),
        N,
        mean_column("trained", "as trained", metric),
        *(mean_column(key, f"at {key}", metric) for key in sorted(known, key=_place)),
        *SPANS,
        *COSTS,
        STATUS,
        *SOURCE,
    )
    how = f"Of the test split or the one named; a column is how a model was evaluated. {MEAN}"
    how += "".join(f" {words}." for words in said)
    title = f"{section.title}: by evaluation"
    return Table.of(
        f"{section.name}-by-setting", title, f"{how} {text}", used(section, columns, lines), lines
    )


def _place(setting):
    """What has no number first, then great numbers before small ones."""
    name, _, value = setting.partition("=")
    number = value.replace(".", "", 1).isdigit()
    return number, name, -float(value) if number else 0, value


def grid(section: Section, text: str) -> list[Table]:
    """The search of a learning rate: a column a rate, and the one that was chosen."""
    metric, lines = quality.metric_of(section), []
    rates = sorted(section.frame["config.lr"].dropna().unique())
    for (label, n), group in section.frame.groupby(["label", "config.n"], sort=True):
        line, best = {"label": label, "n": n, "status": frames.failure(group)}, {}
        for rate, tried in group.groupby("config.lr"):
            good = tried[tried.status == "ok"]
            values = pd.to_numeric(findings.column(good, f"metrics.val_{metric.key}_best")).dropna()
            row = quality.mean(values) | {"word": tried.status.iloc[0]}
            row["records"] = frames.sources(tried.id)
            line |= mean_cell(f"lr{rate:g}", row)
            if len(values):
                best[rate] = quality.merit_of(good.loc[values.index], values.mean(), metric)
        if best:
            line["chosen"] = max(best, key=best.get)
        line["params"] = quality.mean_of(group, "params")
        lines.append(quality.facts(group) | line | {"records": frames.sources(group.id)})
    columns = (
        Column("label", f"{metric.header}, validation"),
        N,
        *(mean_column(f"lr{rate:g}", f"rate {rate:g}", metric) for rate in rates),
        Column("chosen", "chosen", 2),
        Column("params", "parameters", 12),
        Column("steps", "steps", decimals=0),
        Column("batch", "batch", 12),
        STATUS,
        *SOURCE,
    )
    how = (
        "Runs that only chose a learning rate, on the validation split. Chosen: the best, of those "
        f"that reach the config's target the earliest, of equal scores the lower loss. {MEAN}"
    )
    held_out = findings.column(section.frame, "metrics.val_examples").dropna().unique()
    if len(held_out) == 1:
        how += f" That split has {held_out[0]:,.0f} examples."
    ends = [line["label"] for line in lines if line.get("chosen") in (rates[0], rates[-1])]
    if ends and len(rates) > 1:
        how += f" Chosen at an end of the grid, so a better one may lie beyond: {', '.join(ends)}."
    columns = used(section, columns, lines)
    return [Table.of(section.name, section.title, f"{how} {text}", columns, lines)]


def headlines(section: Section):
    """(figure, words, records) of the best score at the fullest N, beside the rule to beat."""
    metric = quality.metric_of(section)
    rows = [row for row in quality.rows(section) if not missing(row.get("score"))]
    models = [row for row in rows if row["what"] == "model" and _is_whole(row)]
    models = [row for row in models if row["n"] == quality.fullest(models)]
    if models:
        best = max(models, key=lambda row: metric.sign * row["score"])
        rule = verdicts.strongest(rows, metric, best["n"])
        beside = f"; {rule['label']} {metric.text(rule['score'])}" if rule else ""
        words = f"{metric.words}, {best['label']} at N = {best['n']:,}{beside}"
        ids = frames.sources(row.get("records") for row in (best, *([rule] if rule else ())))
        yield metric.text(best["score"]), words, ids


def _is_whole(row):
    """Whether all its seeds came through and trained, with as many parameters as full attention."""
    of_rule = row["status"].startswith(verdicts.SHALLOW) and row["status"] == row["beaten"]
    return row["status"] == "ok" or of_rule
