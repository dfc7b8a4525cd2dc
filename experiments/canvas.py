"""What all figures share: fonts, colours, axes in N, labels at the curves' ends, saving."""

import dataclasses
import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from experiments.palette import GRID, INK, MUTED, PAPER

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "svg.fonttype": "path",
    "svg.hashsalt": "attention_zoo",
    "pdf.fonttype": 42,
}
# no dates: the same records give the same bytes
METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
WIDTH, HEIGHT = 7.4, 4.2
UNITS = {"flops": "FLOP", "bytes": "B", "seconds": "s"}


@dataclasses.dataclass(frozen=True)
class Drawing:
    name: str
    caption: str
    figure: Figure

    def save(self, suffix: str) -> bytes:
        """The file's bytes: "svg", "png" or "pdf"."""
        with matplotlib.rc_context(RC):
            buffer = io.BytesIO()
            self.figure.savefig(buffer, format=suffix, dpi=150, metadata=METADATA[suffix])
        return buffer.getvalue()


def page(section, title, rows=1):
    figure = Figure(figsize=(WIDTH, HEIGHT if rows == 1 else 6.0))
    axes = figure.subplots(rows, 1, sharex=rows > 1)
    top = 1 - 0.62 / figure.get_figheight()
    bottom = 0.55 / figure.get_figheight()
    figure.subplots_adjust(left=0.115, right=0.66, bottom=bottom, top=top, hspace=0.12)
    y = 1 - 0.2 / figure.get_figheight()
    figure.text(0.012, y, title, fontsize=11, fontweight="bold", va="center")
    figure.text(
        0.012,
        y - 0.2 / figure.get_figheight(),
        section.title,
        fontsize=7.5,
        color=MUTED,
        va="center",
    )
    return figure, axes


def axes(ax, lengths, key):
    lengths = sorted({int(n) for n in lengths})
    ax.set_xscale("log", base=2)
    ax.set_xlim(lengths[0] / 1.25, lengths[-1] * 1.25)
    shown = lengths[:: -(-len(lengths) // 8)]
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    ax.set_xlabel("N")
    if key is None:
        return
    ax.set_yscale("log", nonpositive="mask")
    low, high = ax.get_ylim()
    decades = np.log10(high / low)
    # room under the top edge for the marks of failed points
    ax.set_ylim(low, high * 10 ** (0.12 * decades))
    subs = (1, 2, 5) if decades < 2.5 else (1,)
    ax.yaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=20))
    ax.yaxis.set_minor_locator(NullLocator())
    unit = UNITS.get(key.split("_")[0], "")
    ax.yaxis.set_major_formatter(EngFormatter(unit=unit, sep=" " if unit else ""))


def failures(ax, failed):
    """An x with the status word at the top edge, one below the other at one N."""
    rows = {}
    for n, word, look in failed:
        row = rows[n] = rows.get(n, -1) + 1
        height = 0.975 - 0.05 * row
        frame = ax.get_xaxis_transform()
        ax.plot(
            n,
            height,
            "x",
            color=look.color,
            ms=6,
            mew=1.8,
            transform=frame,
            zorder=5,
            clip_on=False,
        )
        ax.text(
            n,
            height,
            f"{word}  ",
            color=look.color,
            fontsize=7,
            ha="right",
            va="center",
            transform=frame,
        )


def end_labels(ax, ends, heading):
    """Texts right of the axes at the height of each curve's end, moved apart, with leaders."""
    transform = ax.transData + ax.transAxes.inverted()
    line = 13 / 72 / (ax.figure.get_figheight() * ax.get_position().height)
    ends = sorted(ends, key=lambda end: (end[1], end[2]))
    heights = _spread(
        [float(transform.transform((x, y))[1]) for x, y, *_ in ends], line, 1.0 - 0.9 * line
    )
    for (x, y, text, color), height in zip(ends, heights, strict=True):
        ax.annotate(
            text, (x, y), (1.045, height), textcoords="axes fraction", color=color, fontsize=8.5,
            va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.6, "alpha": 0.6, "shrinkB": 4},
        )  # fmt: skip
    ax.text(
        1.045,
        1.0 + line * 0.2,
        heading,
        transform=ax.transAxes,
        fontsize=7.5,
        color=MUTED,
        va="bottom",
    )


def _spread(heights, gap, top):
    """Ascending heights moved as little as a sweep up and a sweep down need to be `gap` apart."""
    heights = list(heights)
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    ceiling = top
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], ceiling)
        ceiling = heights[i] - gap
    return heights
