"""How many points of each config have committed records, and how long those took, for the README's
table of experiments.

A row's last cell is made from the configs that its first one links to; other rows are left alone.
"""

import collections
import re

from experiments import records
from experiments.measuring.environment import ROOT
from experiments.running import configuration

BEGIN, END = "<!-- experiments: begin -->", "<!-- experiments: end -->"
CONFIG = re.compile(r"\[(\w+)\]\((configs/[\w/]+\.py)\)")
# accuracy configs come in sizes
SIZE = ":small"


def rewritten(readme: str) -> str:
    """The README's text with the counts of now between the marks."""
    before, rest = readme.split(BEGIN)
    table, after = rest.split(END)
    rows = "\n".join(map(_row, table.split("\n")))
    return f"{before}{BEGIN}{rows}{END}{after}"


def _row(line):
    cells = line.split("|")
    configs = CONFIG.findall(cells[1]) if len(cells) > 1 else []
    if not configs:
        return line
    known = {name: words for name, path in configs if (words := _linked(path))}
    parts = [f"{name}: {words}" if len(configs) > 1 else words for name, words in known.items()]
    return "|".join([*cells[:-2], f" {', '.join(parts)} " if parts else " ", cells[-1]])


def _linked(path):
    size = SIZE if path.startswith("configs/accuracy/") else ""
    module, config = configuration.load(f"{ROOT / path}{size}")
    folder = f"results/{config.experiment}"
    # of two devices' records the one that was measured
    found = sorted(records.load(ROOT / folder), key=lambda r: r["status"] == "ok")
    ids = set(map(records.point_id, configuration.points(module, config, checked=False)))
    known = {r["id"]: r for r in found if r["id"] in ids}
    if not known:
        return ""
    counted = count([known[id]["status"] if id in known else None for id in ids])
    return f"[{counted}]({folder}){duration(list(known.values()))}"


def count(statuses: list[str | None]) -> str:
    """Of a config's points, by status; None of one without a record."""
    counts = collections.Counter(statuses)
    if counts["ok"] == len(statuses):
        return f"all {len(statuses):,} points"
    words = ", ".join(f"{counts[s]:,} {s}" for s in records.STATUSES if counts[s])
    return f"{words} of {len(statuses):,} points"


def duration(found: list[dict]) -> str:
    """ ", so many core-hours": the points' wall seconds times cores; "" where one has none."""
    measured = [r for r in found if r["status"] == "ok"]
    if not measured or None in (times := list(map(_seconds, measured))):
        return ""
    used = sum(t * r["env"]["cores"] for t, r in zip(times, measured, strict=True))
    return f", {used / 3600:.1f} core-hours"


def _seconds(record):
    """From a point's start to its record; of an older record, what it has of that."""
    if "elapsed" in record["env"]:
        return record["env"]["elapsed"]
    if "same_training" in record["metrics"]:
        # its grid had it: counted there
        return 0.0
    parts = [record["metrics"].get(name) for name in ("compile_seconds", "train_seconds")]
    return None if None in parts else sum(parts)
