"""Sheets of weight matrices: a row of squares a query, a column a key, darker is more weight."""

import dataclasses

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from experiments.figures.canvas import RC
from experiments.figures.palette import GRID, INK, MUTED, style

# negative weights, in every mechanism's picture
NEGATIVE = "#2b2b33"
INSTEAD_OF_INK = "#5b3fa0"
FAINTEST = 0.22


@dataclasses.dataclass(frozen=True)
class Panel:
    """One matrix [T, S] under a title, or None and the reason why there is none."""

    title: str
    note: str
    mechanism: str
    matrix: np.ndarray | None
    reason: str = ""


def shade(matrix: np.ndarray, color: str) -> np.ndarray:
    """RGB image [T, S, 3]: white where the weight is 0, else at least faint, full at a peak."""
    peak = np.abs(matrix).max(-1, keepdims=True)
    share = np.abs(matrix) / np.where(peak == 0, 1, peak)
    depth = np.where(share > 1e-9, FAINTEST + (1 - FAINTEST) * np.sqrt(share), 0)[..., None]
    ink = np.where(matrix[..., None] < 0, to_rgb(NEGATIVE), to_rgb(style_color(color)))
    return 1 - depth * (1 - ink)


def style_color(mechanism: str) -> str:
    """Its colour in all figures; ink would read as negative."""
    color = style(mechanism).color
    return INSTEAD_OF_INK if color == INK else color


def sheet(title: str, caption: str, panels: list[Panel], columns: int, cells: bool = False):
    """A figure of panels in rows; `cells` draws every pair as a square of its own."""
    rows = -(-len(panels) // columns)
    side, gap, top = 1.18, 0.42, 0.72 + 0.14 * caption.count("\n")
    width, height = columns * (side + 0.12) + 0.1, rows * (side + gap) + top
    with matplotlib.rc_context(RC | {"axes.grid": False}):
        figure = Figure(figsize=(width, height))
        figure.text(
            0.1 / width, 1 - 0.22 / height, title, fontsize=12, fontweight="bold", va="center"
        )
        figure.text(0.1 / width, 1 - 0.38 / height, caption, fontsize=7, color=MUTED, va="top")
        for at, panel in enumerate(panels):
            row, column = divmod(at, columns)
            left = 0.1 + column * (side + 0.12)
            bottom = height - top - row * (side + gap) - side - 0.12
            box = [left / width, bottom / height, side / width, side / height]
            draw(figure.add_axes(box), panel, cells)
    return figure


def draw(axes, panel: Panel, cells: bool) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color=GRID, linewidth=0.8)
    axes.set_anchor("NW")
    # in points above the matrix, whose height depends on its rows
    above = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(panel.title, xytext=(0, 10.6), fontsize=7.5, fontweight="bold", **above)
    axes.annotate(panel.note, xytext=(0, 2.5), fontsize=6, color=MUTED, **above)
    if panel.matrix is None:
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.text(0.5, 0.5, panel.reason, ha="center", va="center", fontsize=6, color=MUTED)
        return
    T, S = panel.matrix.shape
    axes.imshow(shade(panel.matrix, panel.mechanism), interpolation="nearest", aspect="equal")
    if cells:
        lines = {"color": "white", "linewidth": 0.9}
        axes.vlines(np.arange(S + 1) - 0.5, -0.5, T - 0.5, **lines)
        axes.hlines(np.arange(T + 1) - 0.5, -0.5, S - 0.5, **lines)
