"""What translation models looked at, of their records -> the lectures' picture: a panel a model."""

import json

import numpy as np

from experiments.figures import canvas
from experiments.figures.canvas import WIDTH, Drawing

# inches of a panel's sub-word, and beside the panels
CELL, MARGIN, COLUMNS = 0.19, 1.1, 2
FIELDS = ("source", "target", "weights")


def maps(frame) -> dict[str, dict]:
    """{label: {"source", "target", "weights"}} of the first seed of each model that has a map."""
    columns = [f"metrics.attention_{field}" for field in FIELDS]
    if not set(columns) <= set(frame):
        return {}
    known = frame.dropna(subset=columns).sort_values("config.seed")
    first = known.drop_duplicates("label").sort_values("label")
    rows = first.set_index("label")[columns].to_dict("index")
    return {
        label: {field: json.loads(row[f"metrics.attention_{field}"]) for field in FIELDS}
        for label, row in rows.items()
    }


def draw(section) -> list[Drawing]:
    found = maps(section.frame)
    if not found:
        return []
    wide = max(len(one["source"]) for one in found.values()) * CELL + MARGIN
    tall = max(len(one["target"]) for one in found.values()) * CELL + MARGIN
    columns = min(COLUMNS, len(found))
    size = (max(WIDTH, columns * wide), -(-len(found) // columns) * tall + 0.8)
    figure, axes = canvas.tiles(section, "Attention over the source", len(found), columns, size)
    for ax, (label, one) in zip(axes, found.items(), strict=True):
        ax.imshow(np.array(one["weights"]), cmap="Greys", vmin=0, vmax=1, aspect="auto")
        ax.set_title(label)
        ax.set_xticks(range(len(one["source"])), [_word(w) for w in one["source"]], rotation=90)
        ax.set_yticks(range(len(one["target"])), [_word(w) for w in one["target"]])
        ax.tick_params(labelsize=7, length=0)
    words = (
        "Which source sub-word (columns) each sub-word of a model's own translation (rows) was "
        "taken from, of one test caption and the first seed: white 0, black 1. Of several heads "
        "the mean, of several layers the last. _ begins a word."
    )
    return [Drawing(f"{section.name}-attention", words, figure)]


def _word(piece):
    return piece.replace("\u2581", "_")
