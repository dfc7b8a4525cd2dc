"""The records of two folders -> the points that both have, and which moved by more than noise.

A time moved where the quartile ranges lie apart and the medians differ by more than two standard
errors of their difference, estimated from quartiles and repeats (Student's t for few of them); a
score or an error where means over seeds do; what is counted or compiled, which does not jitter, by
a thousandth; the growth of a process by a tenth. Of several devices each is compared with itself;
but scores of trainings whatever they were trained on, a point once. Imports no jax.
"""

import dataclasses
import math

import pandas as pd
from scipy.special import stdtrit

from experiments.analysis import fits, formats, frames
from experiments.analysis.findings import column
from experiments.tasks.metric import METRICS

SETTLED = ("config.seed", "config.repeats", "config.budget", "config.eval_every")
# of a normal distribution: quartile range over standard deviation, error of a median over a mean's
QUARTILE_RANGE, MEDIAN = 1.349, 1.2533
TWO_SIGMA = 0.97725
# relative changes that are none
COUNTED, GROWN = 1e-3, 0.1
FASTER, FEWER, LESS = ("faster", "slower"), ("fewer", "more"), ("less", "more")
BETTER, WORSE = ("better", "worse"), ("worse", "better")


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A metric; `words` are its verdicts where B has less and more of it. `slack`: its noise, where
    neither quartiles nor seeds tell."""

    key: str
    header: str
    unit: str
    words: tuple[str, str]
    slack: float | None = None

    @property
    def of_device(self) -> bool:
        """Whether it hangs on the machine, not on the program alone."""
        return self.unit == "s" or self.key == "bytes_measured"


SCORES = [
    Quantity(f"test_{key}", words, "", WORSE if metric.higher_is_better else BETTER)
    for metric in METRICS
    for key, words in ((metric.key, metric.words), *metric.beside)
]
QUANTITIES = (
    Quantity("seconds", "time", "s", FASTER),
    Quantity("seconds_uncached", "time without a state", "s", FASTER),
    Quantity("seconds_rest", "time but for attention", "s", FASTER),
    Quantity("seconds_per_step", "time of a step", "s", FASTER),
    Quantity("flops_counted", "FLOPs", "", FEWER, COUNTED),
    Quantity("bytes_compiled", "bytes compiled", "B", LESS, COUNTED),
    Quantity("bytes_measured", "bytes measured", "B", LESS, GROWN),
    Quantity("bytes_held", "bytes held", "B", LESS, COUNTED),
    Quantity("sent_forward", "bytes sent forward", "B", LESS, COUNTED),
    Quantity("sent_backward", "bytes sent backward", "B", LESS, COUNTED),
    Quantity("error", "error", "", BETTER),
    *SCORES,
)
TIMES = tuple(quantity.header for quantity in QUANTITIES if quantity.unit == "s")


@dataclasses.dataclass(frozen=True)
class Moves:
    """`rows`: of each point in both a row a quantity; `moved`, and `guarded` if that is an alarm.

    `missing`: {"label", "mechanism", "what", "n"} of every point that came through in A and that B
    has no record of, or records of fewer seeds. `measured` points came through in A, `again` of
    them in B too, and `bare` of those have no quantity in common.
    """

    rows: list[dict]
    missing: list[dict]
    measured: int
    again: int
    bare: int


def between(
    a: pd.DataFrame, b: pd.DataFrame, *, ratio: float, ignore: tuple[str, ...] = ()
) -> Moves:
    """ValueError where no point is in both, or no config has a field that should be ignored."""
    if a.empty or b.empty:
        raise ValueError(f"no records in {'A' if a.empty else 'B'}")
    apart = max(frame["env.device"].nunique() for frame in (a, b)) > 1
    ignored = _ignored({*a, *b}, ignore)
    groups = [_points(frame, ignored, apart) for frame in (a, b)]
    shared = [key for key in groups[0] if key in groups[1]]
    if not shared:
        differ = [c for c in ("config.experiment", "config.dtype", "config.n") if c in a and c in b]
        had = "; ".join(f"{c}: {_values(a[c])} in A, {_values(b[c])} in B" for c in differ)
        raise ValueError(f"no point is in both; {had}")
    found, bare = [], 0
    for key in shared:
        rows = _rows(groups[0][key], groups[1][key], ratio, apart)
        bare += not rows and _came(groups[0][key])
        found += rows
    through = [{key for key, group in of.items() if _came(group)} for of in groups]
    missing = [_point(groups[0][key]) for key in groups[0] if key in through[0] - groups[1].keys()]
    for key in (key for key in shared if key in through[0]):
        ended = groups[0][key][groups[0][key].status == "ok"]
        seeds = [column(group, "config.seed").nunique() for group in (ended, groups[1][key])]
        if seeds[1] < seeds[0]:
            point = _point(groups[0][key])
            what = f"{point['what']}, {seeds[0] - seeds[1]} of {seeds[0]} seeds"
            missing.append(point | {"what": what.removeprefix(", ")})
    return Moves(found, missing, len(through[0]), len(through[0] & through[1]), bare)


def _ignored(columns, fields):
    """The columns of these fields of configs, or of what is below them."""
    known = sorted(c.removeprefix("config.") for c in columns if c.startswith("config."))
    found = {}
    for field in fields:
        found[field] = [f"config.{c}" for c in known if f"{c}.".startswith(f"{field}.")]
        if not found[field]:
            raise ValueError(f"--ignore {field}: no config has it; there are {', '.join(known)}")
    return {column for of_field in found.values() for column in of_field}


def _points(frame, ignored, apart):
    """Of trainings the devices go together: a score is the same on all."""
    left_out = {*SETTLED, *ignored}
    columns = [c for c in frame if c.startswith("config.") and c not in left_out]
    if apart:
        frame = frame.assign(on=frame["env.device"].where(frame["config.kind"] != "train"))
        columns.append("on")
    keys = [
        tuple((c, _same(v)) for c, v in zip(columns, values, strict=True) if not formats.missing(v))
        for values in frame[columns].itertuples(index=False, name=None)
    ]
    keys = [tuple(sorted(key)) for key in keys]
    return {key: group for key, group in frame.groupby(pd.Series(keys, frame.index), sort=False)}


def _same(value):
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else str(value)


def _values(found):
    values = sorted(set(found.dropna().map(frames.plain)), key=lambda v: (len(v), v))
    return ", ".join(values[:4]) + (", ..." if len(values) > 4 else "")


def _came(group):
    return bool((group.status == "ok").any())


def _point(group):
    first = group.iloc[0]
    point = {"label": first.get("config.label"), "mechanism": first.get("config.mechanism")}
    named = ("config.experiment", "config.task", "config.mode", "config.order", "config.inputs")
    words = [str(first[c]) for c in named if c in group and not formats.missing(first[c])]
    words += ["causal"] if first.get("config.causal") is True else []
    return point | {"what": " ".join(words), "n": first["config.n"]}


def _rows(a, b, ratio, apart):
    point, found = _point(a), []
    scored = [frames.counted(frame) for frame in (a, b)]
    failed = [int((frame.status != "ok").sum()) for frame in scored]
    came = [_came(frame) for frame in (a, b)]
    if came[0] != came[1] or (came[0] and failed[0] < failed[1]):
        lost = {"a": math.nan, "b": math.nan, "ratio": math.nan, "noise": math.nan}
        status = {"quantity": "status", "unit": "", "verdict": " -> ".join(map(_status, scored))}
        alarm = {"moved": True, "guarded": came[0]}
        found.append(point | lost | _named(a, b) | status | alarm)
    timed = _of_one_device(a, b) if apart else (a, b)
    for quantity in QUANTITIES:
        pair = timed if quantity.of_device else scored
        pair = [frame[frame.status == "ok"] for frame in pair]
        before, after = (_value(rows, quantity.key) for rows in pair)
        if before and after:
            found.append(point | _named(*pair) | _verdict(before, after, quantity, ratio))
    return found


def _status(group):
    """How it ended, in a word; of seeds that ended otherwise than others, each."""
    counts = group.status.value_counts()
    if len(counts) == 1:
        return counts.index[0]
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def _named(a, b):
    """The ids of the records that a row is of, as tables name them."""
    ids = [frames.sources(rows.id) for rows in (a, b)]
    return {"a_records": ids[0], "b_records": ids[1], "records": frames.sources(ids)}


def _of_one_device(*groups):
    """Of the first device that all have, whose times alone may be compared; else none."""
    shared = sorted(set.intersection(*(set(group["env.device"]) for group in groups)))
    return [group[group["env.device"].isin(shared[:1])] for group in groups]


@dataclasses.dataclass(frozen=True)
class Value:
    """`error` its standard error by so many `samples`, None where it is not known; low to high its
    quartiles."""

    value: float
    error: float | None
    samples: int
    low: float
    high: float


def _value(rows, key):
    values = pd.to_numeric(column(rows, f"metrics.{key}"), errors="coerce").dropna()
    if values.empty or values.mean() < 0:
        return None
    mean, error = float(values.mean()), fits.standard_error(values)
    # those of seconds_rest are seconds_q1_rest and seconds_q3_rest
    start = "seconds" if key.startswith("seconds") else key
    ends = [f"metrics.{start}_{end}{key.removeprefix(start)}" for end in ("q1", "q3")]
    low, high = (float(pd.to_numeric(column(rows, c), errors="coerce").mean()) for c in ends)
    if math.isnan(low) or math.isnan(high):
        return Value(mean, error, len(values), mean, mean)
    samples = int(pd.to_numeric(column(rows, "metrics.repeats")).fillna(1).sum())
    of_median = MEDIAN * (high - low) / QUARTILE_RANGE / math.sqrt(samples)
    return Value(mean, max(of_median, error or 0.0), samples, low, high)


def _change(before, after):
    """Their ratio, none to 0 or from it, and how far that is: a logarithm, or all of a value."""
    if before and after:
        return after / before, abs(math.log(after / before))
    return (math.nan, 1.0) if before or after else (1.0, 0.0)


def _errors(*values):
    """Relative standard errors; one that is not known, of a single seed, from what the others vary
    by. None where none is known."""
    known = [v for v in values if v.error is not None]
    greatest = max(v.value for v in values) or 1.0
    found = []
    for v in values if known else ():
        of = v if v.error is not None else known[0]
        found.append(of.error * math.sqrt(of.samples / v.samples) / (v.value or greatest))
    return found


def _verdict(before, after, quantity, ratio):
    change, far = _change(before.value, after.value)
    errors = _errors(before, after)
    jitters = quantity.slack is None
    # two standard errors, and more of them where few samples tell how large one is
    freedom = max(before.samples + after.samples - 2, 1)
    noise = stdtrit(freedom, TWO_SIGMA) * math.hypot(*errors) if jitters else quantity.slack
    apart = after.low > before.high or after.high < before.low
    # one run of each says nothing of its noise
    moved = apart and far > noise and bool(errors or not jitters)
    slower = quantity.header in TIMES and moved and change > ratio
    return {
        "quantity": quantity.header,
        "unit": quantity.unit,
        "a": before.value,
        "b": after.value,
        "ratio": change,
        "noise": noise if errors or not jitters else math.nan,
        "verdict": quantity.words[after.value > before.value] if moved else "",
        "moved": moved,
        "guarded": slower,
    }
