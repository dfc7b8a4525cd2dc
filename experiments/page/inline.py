"""Drawings -> SVG within one HTML page: what they repeat only once, colours the page's.

Coordinates are rounded to a hundredth of a point, which no screen shows.
"""

import re
from collections.abc import Iterable

from jinja2.filters import Markup

from experiments import palette
from experiments.canvas import Drawing

DEFINITIONS = re.compile(r"<defs>(.*?)</defs>", re.DOTALL)
DEFINITION = re.compile(r"<(path|clipPath) id=\"([^\"]+)\".*?(?:/>|</\1>)", re.DOTALL)
COORDINATES = re.compile(r"\b(?:d|x|y)=\"[^\"]*\"|translate\([^)]*\)")
LONG = re.compile(r"-?\d+\.\d{3,}")
COLORS = {light: f"var(--{k})" for k, (light, _) in (palette.COLORS | palette.SURFACES).items()}


def figures(drawings: Iterable[Drawing]) -> tuple[str, Markup, dict[str, Markup]]:
    """CSS of the drawings' styles, what they refer to, and each of them by name.

    Glyphs, markers and clips have ids by what they are: equal ones are kept once.
    """
    styles, known, found = {}, {}, {}

    def name(match):
        return f'class="s{styles.setdefault(match[1], len(styles))}"'

    for drawing in drawings:
        text = _compact(drawing.svg.decode())
        text = re.sub(r'style="([^"]*)"', name, text)
        for definitions in DEFINITIONS.findall(text):
            known |= {match[2]: match[0] for match in DEFINITION.finditer(definitions)}
        head = rf'<svg viewBox="\1" role="img" aria-label="{drawing.name}">'
        text = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', head, text, count=1)
        found[drawing.name] = Markup(DEFINITIONS.sub("", text))
    css = "".join(f".s{number}{{{style}}}" for style, number in styles.items())
    shared = f'<svg width="0" height="0" style="position:absolute"><defs>{"".join(known.values())}'
    return css, Markup(f"{shared}</defs></svg>"), found


def _compact(text):
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    text = re.sub(r"\s*\n\s*", " ", text).replace("> <", "><")
    text = COORDINATES.sub(lambda match: LONG.sub(lambda m: f"{float(m[0]):.2f}", match[0]), text)
    return re.sub("|".join(COLORS), lambda match: COLORS[match[0]], text)
