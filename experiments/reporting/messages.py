"""Sections of kinds sharding and plan -> tables of what devices send. Imports no jax."""

import pandas as pd

from experiments.analysis import frames
from experiments.analysis.formats import Column, Table, significant
from experiments.analysis.frames import Section

SHARDING = (
    Column("label", "mechanism"),
    Column("form", "form"),
    Column("scaling", "scaling"),
    Column("n", "N", 12),
    Column("devices", "devices", 12),
    Column("sent_forward_formula", "MB sent forward, formula", 4, 1e6),
    Column("sent_forward", "counted", 4, 1e6),
    Column("sent_backward_formula", "MB sent backward, formula", 4, 1e6),
    Column("sent_backward", "counted", 4, 1e6),
    Column("bytes_compiled", "MB a device, compiled", 4, 1e6),
    Column("time_ms", "ms", 4),
    Column("status", "status"),
)
PLAN = (
    Column("label", "mechanism"),
    Column("form", "form"),
    Column("n", "N", 12),
    Column("devices", "devices", 12),
    Column("bytes_parameters", "GB of parameters", 3, 1e9),
    Column("bytes_arrays", "of q, k, v and output", 3, 1e9),
    Column("bytes_held", "of others' arrays", 3, 1e9),
    Column("bytes_total", "GB a device", 3, 1e9),
    Column("fits", "fits"),
    Column("sent_forward_formula", "GB sent forward", 3, 1e9),
    Column("sent_backward_formula", "backward", 3, 1e9),
    Column("link", "link"),
    Column("seconds_sending", "s sending", 3),
    Column("status", "status"),
)


def sharding(section: Section) -> pd.DataFrame:
    cells = _formed(section)
    cells["time_ms"] = 1e3 * cells["seconds"] if "seconds" in cells else None
    return cells.sort_values(["label", "causal", "scaling", "devices"], ignore_index=True)


def plan(section: Section) -> pd.DataFrame:
    cells = _formed(section).rename(columns={"link.name": "link"})
    if "memory_share" in cells:
        fits = (cells.memory_share <= 1).map({True: "yes", False: "no"})
        cells["fits"] = fits.where(cells.memory_share.notna())
    return cells.sort_values(["label", "causal", "n", "devices"], ignore_index=True)


def sharding_table(section: Section, text: str) -> list[Table]:
    what = (
        "One call, forward, and backward for the gradients in q, k, v and parameters, its "
        "positions split over devices. Bytes that each device sends, by the formula and as counted "
        "in the collectives of the compiled program, by the algorithms that send least on a ring "
        "of P: P-1 shards for an all-gather or reduce-scatter, 2(P-1)/P of an all-reduce, (P-1)/P "
        "of an all-to-all, all of a permute. Strong scaling: one N; weak: so many positions a "
        "device. Time is of forward and backward; virtual devices of a CPU share its cores, so it "
        "shows all their work and no speed-up."
    )
    return [Table.of(section.name, section.title, f"{what} {text}", SHARDING, sharding(section))]


def plan_table(section: Section, text: str) -> list[Table]:
    what = (
        "On paper, nothing was run: the attention of one layer, forward and backward, its "
        "positions split over all devices. Assumed: every device sends at the link's published "
        "one-way speed all the time, without latency or computing; a device has 80 GB; it holds "
        "its parameters, its part of q, k, v and output, as much again for gradients, and what "
        "comes of others' arrays. Left out: scratch of kernels, optimiser, other layers. bigbird's "
        "random blocks are taken at their expected number beyond 131,072 rows of blocks."
    )
    return [Table.of(section.name, section.title, f"{what} {text}", PLAN, plan(section))]


TABLES = {"sharding": sharding_table, "plan": plan_table}


def sharding_lines(section: Section):
    """(figure, words, records): in how many points the counted bytes are the formula's."""
    rows = sharding(section)
    known = rows[rows.status == "ok"]
    if len(known):
        # each of several collectives is rounded to whole bytes
        gap = known[["sent_forward", "sent_backward"]].sum(axis=1) - known[
            ["sent_forward_formula", "sent_backward_formula"]
        ].sum(axis=1)
        exact = int((gap.abs() <= 8).sum())
        words = "points send as many bytes as their formulas say"
        yield f"{exact} of {len(known)}", words, frames.sources(known.records)


def plan_lines(section: Section):
    """(figure, words, records): how long full attention sends at the largest N."""
    rows = plan(section)
    known = rows[(rows.status == "ok") & ~rows.causal.astype(bool)]
    for _, of_n in known[known.n == known.n.max()].groupby("n"):
        top = of_n[of_n.devices == of_n.devices.max()].set_index("label")
        if "full" in top.index:
            n, devices = of_n.n.iloc[0], of_n.devices.max()
            words = f"full attention's sending at N = {n:,} on {devices:,.0f} devices, on paper"
            yield f"{significant(top.seconds_sending['full'], 3)} s", words, top.records["full"]


def name(row: dict) -> str:
    """What tells a point from its neighbours, in words."""
    form = ", causal" if row["config.causal"] is True else ""
    return f"{row['config.label']} on {row['config.devices']:,.0f} devices{form}"


def _formed(section):
    cells = frames.cells(section)
    cells["form"] = cells.causal.map({True: "causal", False: "bidirectional"})
    return cells
