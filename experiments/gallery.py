"""The README's four pictures, drawn from committed records, each with a line and its records.

python -m experiments.gallery        # rewrites docs/gallery and the gallery in README.md
"""

import dataclasses
import os
import sys
from pathlib import Path

from experiments import plots
from experiments.analysis import frames, published, quality, reading, verdicts
from experiments.figures.canvas import Drawing
from experiments.reporting import overviews

ROOT = Path(__file__).parents[1]
README, FOLDER = ROOT / "README.md", ROOT / "docs" / "gallery"
BEGIN, END = "<!-- gallery: begin -->", "<!-- gallery: end -->"
# name, kinds of sections, how its drawings' names end (the first that any has), what it shows
PICTURES = (
    ("scaling", ("kernel",), ("-main", "-seconds-forward", ""), "Time of a call against N"),
    ("reordering", ("reorder",), ("-identity-d64-e64", ""), "(q kᵀ) v against q (kᵀ v)"),
    ("accuracy", ("train",), ("-by-n",), "{metric} against N, beside rules without a model"),
    ("bubbles", ("arena", "train"), ("-speed",), "{metric} against speed"),
)


@dataclasses.dataclass(frozen=True)
class Picture:
    """`folder` has the records, from the root of the repository."""

    name: str
    line: str
    folder: str
    drawing: Drawing


def pictures(records: reading.Records) -> list[Picture]:
    """Those that the records have points for, each of the section with the most of them."""
    sections = overviews.with_overviews(frames.sections(records.frame))
    drawn, found = {}, []
    for name, kinds, endings, words in PICTURES:
        for section in sorted((s for s in sections if s.kind in kinds), key=_rank(name, kinds)):
            if section.name not in drawn:
                drawn[section.name] = plots.draw(section, records.curves)
            # the bubbles end a list, of an experiment's figures the first is the usual one
            chosen = [d for end in endings for d in drawn[section.name] if d.name.endswith(end)]
            if chosen:
                found.append(_picture(name, words, section, chosen[0], records))
                break
    return found


def _rank(name, kinds):
    """By the kinds' order, accuracies before bits per byte, of bubbles those beside published ones
    where some model beats every rule, then by how much was measured."""

    def rank(section):
        trained, metric = section.kind == "train", quality.metric_of(section)
        beside = trained and section.frame["config.task"].iloc[0] in published.arena_lengths()
        rows = quality.variants(section, metric) if beside else []
        told = verdicts.learned(row for row in rows if row["n"] == quality.fullest(rows))
        came = (section.frame.status == "ok").sum()
        order = kinds.index(section.kind), trained and metric.key != "accuracy"
        return *order, name == "bubbles" and trained and not told, -came

    return rank


def _picture(name, words, section, drawing, records):
    metric = quality.metric_of(section).title
    line = words.format(metric=metric)
    if drawing.name.endswith("-speed") and quality.memory_of(section.frame):
        line += ", the area is memory"
    line += f". {section.title}."
    keys = section.frame[["id", "env.device"]].itertuples(index=False, name=None)
    folder = Path(os.path.commonpath({records.folders[key].resolve() for key in keys}))
    return Picture(name, line, folder.relative_to(ROOT).as_posix(), drawing)


def markdown(found: list[Picture]) -> str:
    """Two pictures a row."""
    cells = [
        f"[![{of.name}](docs/gallery/{of.name}.png)]({of.folder})<br>{of.line} "
        f"[Its records]({of.folder})."
        for of in found
    ]
    pairs = [cells[i : i + 2] for i in range(0, len(cells), 2)]
    rows = [" | ".join([*pair, ""][:2]) for pair in pairs]
    return "\n".join(f"| {row} |" for row in [rows[0], "--- | ---", *rows[1:]])


def rewritten(readme: str, found: list[Picture]) -> str:
    """The README's text with these pictures between its marks."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{markdown(found)}\n{END}{after}"


def main() -> int:
    found = pictures(reading.read([ROOT / "results"]))
    if not found:
        print("no records to draw in results; experiments.run writes them", file=sys.stderr)
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    for picture in found:
        (FOLDER / f"{picture.name}.png").write_bytes(picture.drawing.save("png"))
    README.write_text(rewritten(README.read_text(), found))
    print(f"wrote {len(found)} pictures into {FOLDER} and the gallery of {README.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
