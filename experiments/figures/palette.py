"""One colour, marker and line style a mechanism, everywhere; told apart without colour too."""

import dataclasses
import hashlib

from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

# (on white, on black): Okabe-Ito and Tol, safe for the colour-blind; the page swaps them by CSS
INK, MUTED, GRID, PAPER = "#1b1b1f", "#6b6b73", "#dcdce1", "#ffffff"
COLORS = {
    "ink": (INK, "#ececf0"),
    "blue": ("#0072b2", "#4aa8e0"),
    "vermillion": ("#d55e00", "#f07f2e"),
    "green": ("#009e73", "#2fc79a"),
    "pink": ("#c0609a", "#e08fc0"),
    "sky": ("#3b9fd6", "#7cc8f2"),
    "orange": ("#c98a00", "#efb53c"),
    "olive": ("#7f7f1f", "#b9b94f"),
    "wine": ("#882255", "#d0679c"),
}
SURFACES = {"muted": (MUTED, "#a2a2ab"), "grid": (GRID, "#35353b"), "paper": (PAPER, "#17171a")}
SOLID, DASHED, DOTTED, DASHDOT = "-", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2))
LINES = (SOLID, DASHED, DASHDOT, DOTTED)
# markers of matplotlib: symbols of Plotly
SYMBOLS = {
    **{"o": "circle", "s": "square", "D": "diamond", "d": "diamond-tall", "p": "pentagon"},
    **{"^": "triangle-up", "v": "triangle-down", "<": "triangle-left", ">": "triangle-right"},
    **{"h": "hexagon", "H": "hexagon2", "*": "star", "P": "cross", "X": "x"},
}
MARKERS = tuple(SYMBOLS)
# of a path in SVG; what is in none closes it
LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}

TABLE = {
    "full": ("ink", "o", SOLID),
    "local": ("blue", "s", SOLID),
    "strided": ("vermillion", "^", SOLID),
    "global": ("orange", "v", DASHED),
    "bigbird": ("green", "D", SOLID),
    "mixed": ("olive", "h", DASHED),
    "linear": ("pink", "P", SOLID),
    "fourier": ("sky", "X", DASHDOT),
    "lsh": ("wine", "<", SOLID),
    "routing": ("wine", ">", DASHED),
    "sinkhorn": ("olive", "p", SOLID),
    "linformer": ("vermillion", "h", DASHDOT),
    "compressed": ("blue", "v", DASHDOT),
    "nystrom": ("green", "*", DASHED),
    "query_reduction": ("orange", "<", DASHDOT),
    "efficient": ("pink", "s", DASHED),
    "performer": ("sky", "D", DASHED),
    "rfa": ("blue", "p", DASHDOT),
    "synthesizer": ("wine", "o", DASHDOT),
    "spatial_gating": ("green", "^", DASHDOT),
    "mlp_mixer": ("orange", "X", SOLID),
    "probsparse": ("vermillion", "P", DASHDOT),
    "auto_correlation": ("sky", "v", DOTTED),
    "fourier_enhanced": ("sky", "o", DOTTED),
    "none": ("green", "X", DOTTED),
    "recurrent": ("blue", "^", DASHED),
    "convolution": ("olive", "D", DASHDOT),
    # variants with a look of their own
    "RNN": ("blue", ">", SOLID),
    "BiLSTM": ("blue", "d", DASHED),
    "CNN + LSTM": ("blue", "H", DOTTED),
    "bag of unigrams": ("green", "P", DOTTED),
    "bag of bigrams": ("olive", "*", DOTTED),
    "full, shared": ("ink", "H", SOLID),
    "lsh, 1": ("sky", "s", DOTTED),
    "lsh, 2": ("green", "s", DASHDOT),
    "lsh, 4": ("orange", "p", DASHED),
    "lsh, 8": ("wine", "d", SOLID),
    "qk_v": ("vermillion", "o", SOLID),
    "q_kv": ("blue", "P", DASHED),
}


@dataclasses.dataclass(frozen=True)
class Style:
    color: str
    marker: str
    line: object
    hollow: bool = False

    def plot(self) -> dict:
        """Keywords of `Axes.plot`."""
        return {
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.line,
            "markersize": 5,
            "markerfacecolor": PAPER if self.hollow else self.color,
            "markeredgecolor": self.color,
            "linewidth": 1.6,
        }


def style(name: str, variant: int = 0) -> Style:
    """Of a mechanism; an unknown name has one that depends on its letters alone.

    Variants share the colour and the marker, which is hollow from the first on.
    """
    if name in TABLE:
        color, marker, line = TABLE[name]
    else:
        digest = hashlib.sha256(name.encode()).digest()
        color = [*COLORS][1 + digest[0] % (len(COLORS) - 1)]
        marker, line = MARKERS[digest[1] % len(MARKERS)], LINES[1 + digest[2] % 3]
    if variant:
        line = LINES[(LINES.index(line) + variant) % len(LINES)]
    return Style(COLORS[color][0], marker, line, hollow=variant > 0)


def styles(cells) -> dict[str, Style]:
    """By label, for a frame with columns `label` and `mechanism`."""
    pairs = sorted(set(zip(cells.label, cells.mechanism.fillna(""), strict=True)))
    seen, found = {}, {}
    for label, mechanism in sorted(pairs, key=lambda pair: (pair[0] != pair[1], pair)):
        name = label if label in TABLE else mechanism or label
        found[label] = style(name, seen.get(name, 0))
        seen[name] = seen.get(name, 0) + 1
    return found


def outline(marker: str) -> str:
    """Its shape as a path of SVG, about one unit wide."""
    shape = MarkerStyle(marker)
    # y is downwards there
    path = shape.get_path().transformed(shape.get_transform() + Affine2D().scale(1, -1))
    return "".join(
        LETTERS[code] + ",".join(f"{value:.3g}" for value in points) if code in LETTERS else "Z"
        for points, code in path.iter_segments()
    )
