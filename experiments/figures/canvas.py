"""What all figures share: fonts, colours, axes in N, labels at the curves' ends, saving."""

import dataclasses
import functools
import io
import re

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    EngFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullLocator,
    PercentFormatter,
)
from matplotlib.transforms import Bbox

from experiments.figures.palette import GRID, INK, MUTED, PAPER

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
# what needs no model
RULE = {"color": MUTED, "lw": 1, "ls": (0, (4, 3)), "zorder": 1}
UNITS = {"flops": "FLOP", "bytes": "B", "seconds": "s"}
# where a name may stand beside its point, in points, whose markers reach as far as RADIUS
RADIUS = 4
SIDES = (
    {"position": (5, 0), "ha": "left", "va": "center"},
    {"position": (-5, 0), "ha": "right", "va": "center"},
    {"position": (0, 5), "ha": "center", "va": "bottom"},
    {"position": (0, -5), "ha": "center", "va": "top"},
)


@dataclasses.dataclass(frozen=True)
class Drawing:
    name: str
    caption: str
    figure: Figure

    @functools.cached_property
    def svg(self) -> bytes:
        return self.save("svg")

    def save(self, suffix: str) -> bytes:
        """The file's bytes: "svg", "png" or "pdf"."""
        with matplotlib.rc_context(RC):
            buffer = io.BytesIO()
            self.figure.savefig(buffer, format=suffix, dpi=150, metadata=METADATA[suffix])
        return buffer.getvalue()


def page(section, title, rows=1, labels=0, share=True):
    """(figure, axes) under a heading, tall enough for so many labels; rows may share their x."""
    tall = max(6.0 if rows > 1 else HEIGHT, 1.6 + 0.185 * labels)
    figure = Figure(figsize=(WIDTH, tall))
    axes = figure.subplots(rows, 1, sharex=share and rows > 1)
    figure.subplots_adjust(
        left=0.115,
        right=0.66,
        bottom=0.55 / tall,
        top=1 - 0.62 / tall,
        hspace=0.12 if share else 0.25,
    )
    figure.text(0.012, 1 - 0.2 / tall, title, fontsize=11, fontweight="bold", va="center")
    figure.text(0.012, 1 - 0.4 / tall, section.title, fontsize=7.5, color=MUTED, va="center")
    return figure, axes


def panels(section, title, names, rows=1, handles=()):
    """(figure, axes [rows, names]): small panels side by side, a heading above, a legend below."""
    wide = max(WIDTH, 2.5 * len(names) + 0.7)
    longest = max((len(handle.get_label()) for handle in handles), default=0)
    columns = max(1, int(wide / (0.65 + 0.075 * longest)))
    tall = 2.75 * rows + 0.8 + 0.2 * -(-len(handles) // columns)
    figure = headed(section, title, wide, tall)
    grid = figure.subplots(rows, len(names), squeeze=False, sharex="row", sharey="row")
    for ax, name in zip(grid[0], names, strict=True):
        ax.set_title(name)
    if handles:
        place = {"loc": "outside lower center", "ncols": min(columns, len(handles))}
        figure.legend(handles=handles, frameon=False, **place)
    return figure, grid


def tiles(section, title, count, columns, size):
    """(figure, [axes]): so many images in rows under a heading, on a page of (width, height)."""
    figure = headed(section, title, *size)
    grid = figure.subplots(-(-count // columns), columns, squeeze=False).ravel()
    for ax in grid[count:]:
        ax.axis("off")
    for ax in grid[:count]:
        ax.grid(visible=False)
    return figure, list(grid[:count])


def headed(section, title, wide, tall):
    """A page under a heading, whose axes find their own places."""
    figure = Figure(figsize=(wide, tall), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.55 / tall))
    heading = {"x": 0.09 / wide, "va": "center"}
    figure.text(y=1 - 0.2 / tall, s=title, fontsize=11, fontweight="bold", **heading)
    figure.text(y=1 - 0.4 / tall, s=section.title, fontsize=7.5, color=MUTED, **heading)
    return figure


def legend_entry(label, style) -> Line2D:
    return Line2D([], [], label=label, **style.plot())


def axes(ax, lengths, key, ticks=8):
    """N in octaves; log y in units of `key`, linear where that is None."""
    lengths = sorted({int(n) for n in lengths})
    ax.set_xscale("log", base=2)
    ax.set_xlim(lengths[0] / 1.25, lengths[-1] * 1.25)
    # 4,000 beside 4,096 could not be read
    apart = [n for i, n in enumerate(lengths) if not i or n > 1.1 * lengths[i - 1]]
    shown = apart[:: -(-len(apart) // ticks)]
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


def score_axis(ax, metric, split="test split", axis="y"):
    """Scores as people read them."""
    ax.set(**{f"{axis}label": f"{metric.header}, {split}"})
    # of 100 times the scale so many hundredths, without the sign
    of = ax.yaxis if axis == "y" else ax.xaxis
    of.set_major_formatter(PercentFormatter(100 * metric.scale, symbol=""))


def line(ax, curve, y, style, *, spread=False):
    """The curve, with quartiles of the time; its last point, None where there is no number."""
    if not (y > 0).any():
        return None
    ax.plot(curve.n, y, **style.plot(), zorder=3)
    if spread and "seconds_q1" in curve:
        ax.vlines(curve.n, curve.seconds_q1, curve.seconds_q3, color=style.color, lw=1, zorder=2)
    last = y.last_valid_index()
    return curve.n[last], y[last]


def crossing(ax, n, y, color):
    ax.plot(n, y, "D", ms=9, mfc="none", mec=color, zorder=4)


def failures(ax, failed):
    """(n, status word, style): an x at the top edge, one below another; a run has one word."""
    rows, words = {}, set()
    for n, word, style in sorted(failed, key=lambda found: (found[1], found[2].color, found[0])):
        row = rows[n] = rows.get(n, -1) + 1
        spot = {"color": style.color, "transform": ax.get_xaxis_transform(), "clip_on": False}
        ax.plot(n, 0.975 - 0.05 * row, "x", ms=6, mew=1.8, zorder=5, **spot)
        if (word, style.color, row) not in words:
            side = "left" if n < ax.get_xlim()[0] * 1.5 else "right"
            text = {"fontsize": 7, "ha": side, "va": "center"}
            ax.text(n, 0.975 - 0.05 * row, f"  {word}  ", **text, **spot)
        words.add((word, style.color, row))
    if any(rows.values()):
        # several of one n hang below each other: above the curves
        scale = ax.yaxis.get_transform()
        low, high = scale.transform(ax.get_ylim())
        higher = low + (high - low) / (1 - 0.05 * max(rows.values()))
        ax.set_ylim(top=scale.inverted().transform(higher))


def end_labels(ax, ends, heading):
    """Texts right of the axes, below a heading, each near its curve's end and joined to it."""
    ax.autoscale_view()
    longest = max((len(re.sub(r"[$^{}\\]", "", text)) for *_, text, _ in ends), default=0)
    figure = ax.figure
    right = 1 - (0.5 + 0.072 * longest) / figure.get_figwidth()
    figure.subplots_adjust(right=float(np.clip(right, 0.4, figure.subplotpars.right)))
    _thin(ax)
    tall = 72 * figure.get_figheight() * ax.get_position().height
    transform = ax.transData + ax.transAxes.inverted()
    ends = [(*end, float(transform.transform(end[:2])[1])) for end in ends]
    ends.sort(key=lambda end: (end[4], end[2]))
    wanted = [end[4] for end in ends]
    lines = heading.count("\n") + 1
    heights = spread(wanted, 13 / tall, 1 - (11 * lines + 4) / tall)
    for (x, y, text, color, _), height in zip(ends, heights, strict=True):
        leader = {"arrowstyle": "-", "color": color, "lw": 0.6, "alpha": 0.6, "relpos": (0, 0.5)}
        where = {"xytext": (1.045, height), "textcoords": "axes fraction", "annotation_clip": False}
        ax.annotate(
            text, (x, y), color=color, fontsize=8.5, va="center", arrowprops=leader, **where
        )
    spot = {"transform": ax.transAxes, "fontsize": 7.5, "color": MUTED, "va": "top"}
    ax.text(1.045, 1.02, heading, **spot)


def name_points(ax, points):
    """(x, y, name, color): the name in small beside its point, where neither a point nor another
    name is. Only once the axes have their place: after `Figure.draw_without_rendering`."""
    radius = RADIUS * ax.figure.dpi / 72
    spots = ax.transData.transform([point[:2] for point in points])
    taken = [Bbox([spot - radius, spot + radius]) for spot in spots]
    for x, y, name, color in points:
        small = {"textcoords": "offset points", "fontsize": 6, "color": color}
        text = ax.annotate(name, (x, y), (0, 0), **small)
        text.set_in_layout(False)
        for side in SIDES:
            text.set(**side)
            box = text.get_window_extent()
            if all(ax.bbox.contains(*corner) for corner in (box.min, box.max)) and not (
                box.count_overlaps(taken)
            ):
                taken.append(box)
                break
        else:
            text.remove()


def _thin(ax):
    """Only as many marks of N as there is room for, the last one kept."""
    locator = ax.xaxis.get_major_locator()
    if isinstance(locator, FixedLocator):
        marks = sorted(locator.locs)
        longest = max(len(ax.xaxis.get_major_formatter()(mark)) for mark in marks)
        room = ax.figure.get_figwidth() * ax.get_position().width / (0.1 * longest)
        step = -(-len(marks) // max(1, int(room)))
        ax.xaxis.set_major_locator(FixedLocator(marks[::-1][::step][::-1]))


def spread(heights: list[float], gap: float, top: float) -> list[float]:
    """Ascending heights between 0 and `top`, at least `gap` apart, moved as little as that takes.

    Least squares by pooling neighbours; a smaller gap where there is no room.
    """
    gap = min(gap, top / max(1, len(heights) - 1))
    pools = []
    for i, height in enumerate(heights):
        pools.append([height - i * gap, 1])
        while len(pools) > 1 and pools[-2][0] >= pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [[(a * m + b * n) / (m + n), m + n]]
    highest = top - gap * (len(heights) - 1)
    flat = [min(max(height, 0.0), highest) for height, count in pools for _ in range(count)]
    return [height + i * gap for i, height in enumerate(flat)]
