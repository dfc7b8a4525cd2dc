"""Cards of the mechanisms for the report's page, which imports no jax: facts and pictures.

python -m experiments.cards        # rewrites experiments/page/cards.json
"""

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

import attention_zoo as zoo
from experiments import catalogue, patterns
from experiments.figures import grids

FILE = Path(__file__).parent / "page" / "cards.json"
# tokens of the sentence in a picture
N = 40


def card(name: str) -> dict[str, Any]:
    """What the page says of a mechanism with its default hyperparameters, but for pictures."""
    m = zoo.make(name)
    source = Path(m.apply.__code__.co_filename)
    module = sys.modules[f"attention_zoo.mechanisms.{source.stem}"]
    _, _, reads, causal, cross, padding, state, formula, parameters = catalogue.row(name)
    return {
        "name": name,
        "definition": [" ".join(part.split()) for part in module.__doc__.strip().split("\n\n")],
        "papers": catalogue.papers(m),
        "citation": m.citation,
        "source": f"attention_zoo/mechanisms/{source.name}",
        "facts": {
            "reads": reads,
            "causal": causal,
            "cross-attention": cross,
            "padding": padding,
            "decode state": state,
            "multiply-adds a head": formula,
            "parameters": parameters,
            "hyperparameters": ", ".join(f"{k} = {v}" for k, v in zoo.defaults(name).items()),
        },
    }


def pictures(name: str) -> dict[str, str]:
    """PNG by form: who attends to whom in a sentence, a head of `mixed` beside another."""
    x = patterns.embed(patterns.SENTENCE[:N])
    sized = {of: hparams for _, of, hparams in reversed(patterns.variants(N))}
    sized["mixed"] = {"parts": tuple(patterns.different_heads(N)[:4])}
    m, found = zoo.make(name, **sized.get(name, {})), {}
    for form, causal in (("bidirectional", False), ("causal", True)):
        if m.causal or not causal:
            drawn = patterns.matrices(m, x, m.shares, causal)
            found[form] = png(np.concatenate([grids.shade(of, name) for of in drawn], axis=1))
    return found


def png(shades: np.ndarray) -> str:
    """A data URI of an RGB image [T, S, 3] from 0 to 1, a pixel an entry."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.round(255 * shades).astype(np.uint8))
    image.quantize(32).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def cards() -> list[dict[str, Any]]:
    return [card(name) | {"pictures": pictures(name)} for name in zoo.names()]


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    FILE.write_text(json.dumps(cards(), indent=1, ensure_ascii=False) + "\n")
    print(f"wrote the cards of {len(zoo.names())} mechanisms into {FILE}")
