"""Records of `make peers` -> peers.csv and .md, peers-summary.csv and .md. Imports no jax.

python -m benchmarks.peer_table results/peers/DEVICE
"""

import sys
from pathlib import Path

import pandas as pd

from benchmarks import command, provenance
from benchmarks.peer_cases import CASES
from experiments import records
from experiments.analysis import formats, frames
from experiments.analysis.formats import Column, Table

# from this N on ours should be ahead
FROM = 2048
WORDS = {"forward": "forward", "train": "forward and backward"}
PEERS = (
    Column("peer", "peer"),
    Column("mechanism", "ours"),
    Column("form", "form"),
    Column("n", "N", 12),
    Column("mode", "pass"),
    Column("ms", "ms ours", 4),
    Column("ms_peer", "ms theirs", 4),
    Column("ratio", "ours / theirs", 3),
    Column("ratio_q1", "q1", 3),
    Column("ratio_q3", "q3", 3),
    Column("mb", "MB ours", 4),
    Column("mb_peer", "MB theirs", 4),
    Column("memory", "ours / theirs", 3),
    Column("status", "status"),
    Column("note", "difference"),
)
SUMMARY = (
    Column("mechanism", "ours"),
    Column("mode", "pass"),
    Column("pairs", "pairs", 12),
    Column("median", "median ours / theirs", 3),
    Column("worst", "worst", 3),
    Column("worst_peer", "against"),
    Column("worst_n", "at N", 12),
    Column("lost", "slower than theirs", 12),
    Column("failed", "ours failed", 12),
    Column("failed_peer", "theirs failed", 12),
    Column("memory", "median memory, ours / theirs", 3),
)


def write(folder: Path) -> Path:
    """All four files, of all records there; the path of the first Markdown."""
    found = records.load(folder)
    table = frame(found)
    text = caption(found)
    made = (
        Table.of("peers", "Ours against what a user would pick instead", text, PEERS, table),
        Table.of(
            "peers-summary",
            f"Ours over theirs at N >= {FROM:,}",
            f"{verdict(table)} {text}",
            SUMMARY,
            summary(table),
        ),
    )
    for each in made:
        (folder / f"{each.name}.csv").write_text(formats.csv(each.frame))
        (folder / f"{each.name}.md").write_text(formats.markdown(each, f"{each.name}.csv"))
    return folder / "peers.md"


def frame(found: list[dict]) -> pd.DataFrame:
    """A row a record, the cases in their order; ratios are ours over theirs."""
    rows = [row(record) for record in found]
    order = [*CASES]
    rows.sort(key=lambda r: (order.index(r["peer"]), r["n"], r["mode"]))
    return pd.DataFrame(rows, columns=[*(column.key for column in PEERS), "records"])


def row(record: dict) -> dict:
    config, metrics = record["config"], record["metrics"]
    held, held_peer = metrics.get("bytes_measured"), metrics.get("bytes_measured_peer")

    def scaled(key, factor):
        return None if metrics.get(key) is None else metrics[key] * factor

    return {
        **{key: config[key] for key in ("peer", "mechanism", "n")},
        "mode": WORDS[config["mode"]],
        "form": "causal" if config["causal"] else "",
        "ms": scaled("seconds", 1e3),
        "ms_peer": scaled("seconds_peer", 1e3),
        **{key: metrics.get(key) for key in ("ratio", "ratio_q1", "ratio_q3")},
        "mb": scaled("bytes_measured", 1e-6),
        "mb_peer": scaled("bytes_measured_peer", 1e-6),
        "memory": held / held_peer if held is not None and held_peer else None,
        "status": f"{record['status']}: {record['reason']}".removesuffix(": "),
        "note": CASES[config["peer"]].note,
        "records": record["id"],
    }


def summary(table: pd.DataFrame) -> list[dict]:
    """A row a mechanism of ours and pass: its pairs that both ran, and how many one side did not;
    what no pair ran of has no ratio."""
    rows = []
    of_length = table[table.n >= FROM]
    for (mechanism, mode), asked in of_length.groupby(["mechanism", "mode"], sort=True):
        pairs = asked[asked.ratio.notna()]
        counts = {"failed": _failed(asked, "ours"), "failed_peer": _failed(asked, "theirs")}
        if pairs.empty:
            none = {"mechanism": mechanism, "mode": mode, "pairs": 0, "lost": 0, "worst_n": ""}
            none |= counts
            rows.append(none | {"records": frames.sources(asked.records)})
            continue
        worst = pairs.loc[pairs.ratio.idxmax()]
        rows.append(
            {
                "mechanism": mechanism,
                "mode": mode,
                "pairs": len(pairs),
                "median": pairs.ratio.median(),
                "worst": worst.ratio,
                "worst_peer": worst.peer,
                "worst_n": worst.n,
                "lost": int((pairs.ratio > 1).sum()),
                **counts,
                "memory": pairs.memory.median(),
                "records": frames.sources(asked.records),
                "worst_records": worst.records,
                "worst_n_records": worst.records,
            }
        )
    return rows


def _failed(rows, side):
    """How many of the pairs this side did not run: named first, or after the other, or never
    timed, of records that tell one side alone."""
    named = rows.status.str.contains(f" {side}: ", regex=False)
    untimed = rows.ratio.isna() & rows["ms" if side == "ours" else "ms_peer"].isna()
    return int((named | untimed).sum())


def verdict(table: pd.DataFrame) -> str:
    asked = table[table.n >= FROM]
    both = asked[asked.ratio.notna()]
    if both.empty:
        return f"No pair at N >= {FROM:,} yet."
    lost = int((both.ratio > 1).sum())
    median = both.ratio.median()
    text = (
        f"Of {len(both)} pairs ours is slower in {lost}; the median ratio is {median:.3g}, "
        f"{1 / median:.3g} times as fast."
    )
    if others := len(asked) - len(both):
        failed = [_failed(asked, side) for side in ("ours", "theirs")]
        text += f" Of {others} others ours did not run in {failed[0]}, theirs not in {failed[1]}."
    return text


def caption(found: list[dict]) -> str:
    return (
        "Medians of calls in turns, a process each, "
        f"{provenance.values(found, 'config', 'threads')} threads; batch 1, 8 heads of 64, "
        "float32. Memory: growth of the process at its peak in a warm call; "
        f"{provenance.words(found, 'jax', 'torch')}"
    )


if __name__ == "__main__":
    sys.exit(command.main("peer_table", "peers", write))
