"""The table of records -> sections that may share a figure -> cells: a row a point of a curve."""

import dataclasses
import functools
import math
from collections.abc import Iterable

import pandas as pd

KINDS = {
    "kernel": "scaling",
    "option": "options",
    "reorder": "reordering",
    "train": "training",
    "grid": "grid",
    "step": "steps",
    "decoding": "decoding",
    "fidelity": "fidelity",
    "numbers": "numbers",
    "compiled": "compiled",
    "sharding": "traffic",
    "plan": "plan",
}
DEVICE, AND = "env.device", " and "
# parts of names that are written so
ACRONYMS = ("cifar10", "fsdd", "imdb", "mnist", "mqar", "sst2", "tpu", "ucr")

# what must agree before two points may share a figure; a score is the same on every device, but
# each chose its learning rates by itself
TRAINING = (
    *("config.dtype", "config.task", "config.size"),
    *("config.model.width", "config.model.depth"),
)
SETTINGS = {
    "kernel": ("env.device", "config.dtype", "config.batch", "config.heads", "config.head_dim",
               "config.value_dim", "config.causal"),
    "option": ("env.device", "config.dtype", "config.batch", "config.heads", "config.head_dim",
               "config.value_dim"),
    "reorder": ("env.device", "config.dtype", "config.batch", "config.heads"),
    "train": TRAINING,
    "grid": ("env.device", *TRAINING),
    "step": ("env.device", "config.dtype", "config.batch", "config.model.width",
             "config.model.depth", "config.model.heads", "config.model.ff"),
    "decoding": ("env.device", "config.dtype", "config.batch", "config.model.width",
                 "config.model.depth", "config.model.heads", "config.model.ff"),
    "fidelity": ("env.device", "config.dtype", "config.batch", "config.heads", "config.head_dim",
                 "config.value_dim", "config.causal"),
    "numbers": ("env.device", "config.batch", "config.heads", "config.head_dim",
                "config.value_dim"),
    "compiled": ("env.device", "config.dtype", "config.batch", "config.heads", "config.head_dim",
                 "config.value_dim", "config.causal"),
    "sharding": ("env.device", "config.dtype", "config.batch", "config.heads", "config.head_dim",
                 "config.value_dim"),
    "plan": ("env.device", "config.dtype", "config.batch", "config.heads", "config.head_dim",
             "config.value_dim"),
}  # fmt: skip
SHORT = {
    **{"batch": "b", "heads": "h", "head_dim": "d", "value_dim": "e"},
    **{"width": "w", "depth": "l", "ff": "f"},
}
CELL = {
    "kernel": ["label", "config.mode", "config.n"],
    "option": ["label", "config.option", "config.mode", "config.causal", "config.n"],
    "reorder": [
        "config.feature_map",
        "config.head_dim",
        "config.value_dim",
        "config.order",
        "config.n",
    ],
    "train": ["label", "config.n"],
    "grid": ["label", "config.n", "config.lr"],
    "step": ["label", "config.n"],
    "decoding": ["label", "config.n"],
    "fidelity": [
        "label",
        "config.inputs",
        "config.n",
        "config.budget.name",
        "config.budget.value",
    ],
    "numbers": ["label", "config.n", "config.causal", "config.dtype"],
    "compiled": ["label", "config.mode", "config.topology", "config.n"],
    "sharding": ["label", "config.scaling", "config.n", "config.devices", "config.causal"],
    "plan": ["label", "config.n", "config.devices", "config.causal", "config.link.name"],
}
# may differ between the points of one cell without making them different experiments
REPETITION = ("config.seed", "config.repeats", "config.budget", "config.eval_every", "config.lr.")


# two are the same only where they are one: what is worked out of a section is kept for it
@dataclasses.dataclass(frozen=True, eq=False)
class Section:
    """Records of one kind, experiment and setting: what one figure may show."""

    kind: str
    name: str
    title: str
    frame: pd.DataFrame

    @property
    def device(self) -> str:
        """The one it was measured on, or all of them in words."""
        return devices(self.frame)

    @functools.cached_property
    def cells(self) -> pd.DataFrame:
        """See the function of this name, which hands out copies."""
        return _cells(self)


def sections(frame: pd.DataFrame) -> list[Section]:
    """The known kinds of records, split by experiment and setting; names suit files."""
    found = []
    frame = counted(frame)
    frame = frame.assign(kind=kinds(frame))
    frame = frame[frame.kind.isin(list(KINDS))]
    for experiment, of_experiment in frame.groupby("config.experiment", sort=True):
        several = of_experiment["config.kind"].nunique() > 1
        for kind in (kind for kind in KINDS if (of_experiment.kind == kind).any()):
            rows = of_experiment[of_experiment.kind == kind].drop(columns="kind")
            columns = [*SETTINGS[kind]]
            for column in columns:
                rows[column] = rows.get(column)
            if "config.value_dim" in rows and "config.head_dim" in rows:
                rows["config.value_dim"] = rows["config.value_dim"].fillna(rows["config.head_dim"])
            apart = several or kind == "grid"
            stem = f"{experiment}-{KINDS[kind]}" if apart else str(experiment)
            settings = _beside(rows, columns)
            varying = [c for c in columns if settings[c].nunique(dropna=False) > 1]
            by = [settings[c] for c in columns]
            for values, part in rows.groupby(by, dropna=False, sort=True):
                setting = dict(zip(columns, values, strict=True))
                parts = [_short(c, setting[c]) for c in varying]
                name = _slug("-".join([stem, *filter(None, parts)]))
                where = f"{heading(stem)} on {devices(part)}"
                rest = [_short(c, setting[c], spaced=True) for c in columns if c != DEVICE]
                # an experiment named after its task says it once
                rest = [part for part in rest if part and part not in stem.split("-")]
                title = ", ".join([where, *rest])
                found.append(Section(kind, name, title, _labelled(_filled(part), kind)))
    return sorted(found, key=lambda section: [*KINDS].index(section.kind))


def devices(frame: pd.DataFrame) -> str:
    """Those of the records: "a", or "a and b"."""
    return AND.join(sorted(set(frame[DEVICE])))


def counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Of a training that several devices have, only one record: one with a result, of the device
    that has most of the experiment, whatever its score, so that most times are of one device."""
    trained, came = kinds(frame) == "train", frame.status == "ok"
    many = (trained & came).groupby([frame["config.experiment"], frame[DEVICE]]).transform("sum")
    tried = frame.status != "absent"
    ranked = frame.assign(came=came, tried=tried, many=many).sort_values(
        ["came", "tried", "many", DEVICE], ascending=[False, False, False, True]
    )
    again = ranked.duplicated("id") & trained
    return frame[~again.reindex(frame.index)]


def heading(name: str) -> str:
    """The name of an experiment as a title: "ucr-OSULeaf" is "UCR: OSULeaf"."""
    first, *rest = (
        " ".join(word.upper() if word in ACRONYMS else word for word in part.split("_"))
        for part in name.split("-")
    )
    return ": ".join(filter(None, [first[:1].upper() + first[1:], ", ".join(rest)]))


def kinds(frame: pd.DataFrame) -> pd.Series:
    """Of each record: what was trained only to choose a learning rate is no result."""
    role = frame["config.role"] if "config.role" in frame else pd.Series("", index=frame.index)
    searched = (frame["config.kind"] == "train") & (role == "grid")
    return frame["config.kind"].where(~searched, "grid")


def _beside(rows, columns):
    """The settings of the rows; what is no transformer has those of the experiment's, for its own
    sizes are what makes it fair to compare, and so are those of a label that has only one: a bag's
    single block, an `ff` that evens out parameters."""
    settings, architecture = rows[columns].copy(), "config.model.architecture"
    for size in ("config.model.depth", "config.model.ff"):
        if size in columns and rows[size].groupby(rows["config.label"]).nunique().max() < 2:
            settings[size] = rows[size].mode().get(0)
    if architecture in rows and rows[architecture].isna().any():
        other = rows[architecture].notna()
        for column in (c for c in columns if c.startswith("config.model.")):
            settings.loc[other, column] = rows.loc[~other, column].mode().iloc[0]
    return settings


def cells(section: Section) -> pd.DataFrame:
    """A row a cell: medians over the seeds that came through, and how many did not."""
    return section.cells.copy()


def _cells(section):
    rows = []
    metrics = [c for c in section.frame if c.startswith("metrics.")]
    numbers = section.frame[metrics].apply(pd.to_numeric, errors="coerce").astype(float)
    numbers = numbers.rename(columns=lambda c: c.removeprefix("metrics."))
    for keys, group in section.frame.groupby(CELL[section.kind], sort=False, dropna=False):
        good, bad = group[group.status == "ok"], group[group.status != "ok"]
        row = {c.removeprefix("config."): v for c, v in zip(CELL[section.kind], keys, strict=True)}
        row["mechanism"] = (
            group["config.mechanism"].iloc[0] if "config.mechanism" in group else None
        )
        row |= {"status": failure(group), "failed": len(bad), "seeds": len(good)}
        row["records"] = sources(group.id)
        row["word"] = bad.status.iloc[0] if good.empty else "ok"
        # a point that failed may still have been counted
        source = bad if good.empty else good
        rows.append(row | numbers.loc[source.index].median().to_dict())
    return pd.DataFrame(rows)


def sources(ids: Iterable[str]) -> str:
    """Ids of records, or several of them a text, each once, as tables name them."""
    return " ".join(sorted({id for text in ids if isinstance(text, str) for id in text.split()}))


def failure(group: pd.DataFrame) -> str:
    """ "ok", or the first failure's status and reason, and of how many."""
    failed = group.status != "ok"
    if not failed.any():
        return "ok"
    bad = group[failed]
    reason = f"{bad.status.iloc[0]}: {bad.reason.iloc[0]}".removesuffix(": ")
    return reason if len(group) == 1 else f"{reason} ({len(bad)} of {len(group)})"


def _filled(part):
    """Without the metrics that only other sections have: most columns, and slow to carry."""
    empty = part.columns[part.isna().all()]
    return part.drop(columns=[c for c in empty if c.startswith("metrics.")])


def _labelled(part, kind):
    """Adds `label`: the config's, and where that names several configs, what they differ in."""
    part["label"] = part["config.label"].fillna(part["config.mechanism"]).fillna("").astype(str)
    if kind == "reorder":
        return part
    config = [c for c in part if c.startswith("config.") and not c.startswith(REPETITION)]
    config = [c for c in config if c not in CELL[kind] and part[c].nunique(dropna=False) > 1]
    for _, of_label in part.groupby("label"):
        several = [c for c in config if of_label[c].nunique(dropna=False) > 1]
        if not several:
            continue
        counts = of_label.groupby(CELL[kind], dropna=False)[several].nunique(dropna=False)
        for column in sorted(c for c in several if (counts[c] > 1).any()):
            key = column.split(".")[-1]
            chosen = part.loc[of_label.index, column]
            part.loc[of_label.index, "label"] += chosen.map(lambda v, key=key: f" {key}={plain(v)}")
    return part


def plain(value) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "none"
    return (
        f"{value:g}"
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else str(value)
    )


def _short(column, value, *, spaced=False):
    key = column.split(".")[-1]
    if key == "causal":
        return "causal" if value else ""
    if plain(value) == "none":
        return ""
    if key in SHORT:
        return (
            f"{key.replace('_dim', ' size')} {plain(value)}"
            if spaced
            else f"{SHORT[key]}{plain(value)}"
        )
    return plain(value)


def _slug(text):
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in text)
