"""Pathfinder: are the two discs at the ends of one dashed snake, or of two? arXiv:1805.08315.

Long-Range Arena's is n = 1,024 "hard", its Path-X n = 16,384 "hard". Pixels in a row, a token of
256 each; most are black, and none is padding. Images are generated, new ones in every step, or of
`train_examples` each once an epoch (the arena has 160,000): those are drawn when the first is asked
for.

Differs from the published images: a dash is tested against the other snake's newest one too, so
snakes never cross; a distractor's tail is sought among 128 random pixels; the faint ripples of the
filter are left out; distractors are as bright as targets (at n = 1,024 the published ones are a
third brighter, a cue that `bright_distractors` brings back).

A pair of snakes that fails begins anew, and most do: of 32 and 64 "hard" one in 25 and in 1,100
comes through, of 128 "hard" one in 40 or in 300, by its margin. So a core draws about 700 images a
second of 32 "hard" in batches of 32, but only 20 of the next two.
"""

import dataclasses
import functools
import math

import numpy as np

from experiments.tasks import Task, dashes, drawn, labelled, snakes

CONTOURS = {"easy": 6, "intermediate": 9, "hard": 14}
# keys that no (seed, step) has; held-out images come in blocks, so fewer are the first of more
HELD = {"val": 2**64 - 1, "test": 2**64 - 2, "train": 2**64 - 3}
BLOCK = 500


@dataclasses.dataclass(frozen=True)
class Size:
    """How images of one size are drawn; lengths in pixels. An image has one of the margins."""

    margins: tuple[int, ...]
    seed_distance: int
    radius: float
    length: int
    thickness: float
    continuity: float
    distractors: int
    padding: int = 1
    contrast: float = 1.0
    """Of dashes; of discs it is 1."""


SIZES = {
    32: Size((1,), 7, 1.5, 2, 0.5, 1.0, 5, contrast=1.5),
    64: Size((1,), 12, 2.5, 5, 1.0, 1.8, 5, contrast=0.8),
    128: Size((2, 3), 20, 3, 5, 1.5, 1.8, 8, contrast=0.9),
    256: Size((3,), 27, 5, 5, 2.0, 1.8, 7, padding=22),
}


def make(
    n: int,
    difficulty: str = "hard",
    bright_distractors: bool = False,
    continuous: bool = False,
    eval_examples: int = 2000,
    train_examples: int | None = None,
) -> Task:
    """`continuous`: brightness from 0 to 1 instead of tokens. `eval_examples`: of each split."""
    side = math.isqrt(n)
    if side * side != n or side not in SIZES:
        known = ", ".join(str(side * side) for side in SIZES)
        raise ValueError(f"n must be one of {known}, got {n}")
    if difficulty not in CONTOURS:
        raise ValueError(f"difficulty must be one of {', '.join(CONTOURS)}, got {difficulty!r}")
    drawn.check_whole(eval_examples=eval_examples)
    pool = {}
    if train_examples is not None:
        drawn.check_whole(train_examples=train_examples)
        pool = {"train_examples": train_examples}
    kind = (side, CONTOURS[difficulty], bool(bright_distractors))
    form = labelled.pixels(continuous)

    def batch(seed, step, size):
        if pool:
            return labelled.epochs(_held(kind, "train", train_examples), n, form)(seed, step, size)
        examples = _draw(kind, (seed, step), size)
        return labelled.batch_of(examples, np.arange(size), n, form)

    def held(split):
        return _held(kind, split, eval_examples)

    return labelled.classification(
        n,
        "pathfinder",
        batch,
        held,
        2,
        form,
        rules={"majority_accuracy": lambda: labelled.majority(held("val"), held("test"), n, 2)},
        facts={
            "data": f"pathfinder {side}, {difficulty}, generated",
            **pool,
            "val_examples": eval_examples,
            "test_examples": eval_examples,
        },
    )


class Painter:
    """Images of one size, margin and contour."""

    def __init__(self, side: int, contour: int, margin: int, bright_distractors: bool):
        size = SIZES[side]
        self.contour, self.size = contour, size
        self.field = field = snakes.Field(
            side,
            length=size.length,
            thickness=size.thickness,
            margin=margin,
            continuity=size.continuity,
            seed_distance=size.seed_distance,
            padding=size.padding,
        )
        dash = field.pictures * size.contrast
        bright = dash * 4 / 3 if bright_distractors else dash
        disc = dashes.filled_disc(size.radius).astype(float)
        scale = 255 / max(bright.max(), disc.max())
        self.dash, self.bright, self.disc = (self._inked(p * scale) for p in (dash, bright, disc))

    def _inked(self, pictures):
        marks = dashes.marks(np.rint(pictures).astype(np.uint8), 1)
        return self.field.flat(marks.offsets), marks.values

    def scene(self, rng: np.random.Generator, count: int):
        """Of `count` images: targets, distractors."""
        targets, taken = self.field.targets(rng, count, self.contour)
        length = self.contour // 3
        return targets, self.field.distractors(rng, taken, self.size.distractors, length)

    def images(self, rng: np.random.Generator, count: int):
        """(pixels [count, side * side], labels [count], bytes and 0 or 1)."""
        targets, distractors = self.scene(rng, count)
        labels, tail = rng.integers(2, size=(2, count))
        rows = np.arange(count)
        # one snake's tail, and the head of the same (1) or the other (0)
        tails = targets.places[rows, tail, 0]
        heads = targets.places[rows, np.where(labels == 1, tail, 1 - tail), -1]
        canvas = np.zeros(count * self.field.area, np.uint8)
        self.paint(canvas, targets, self.dash)
        self.paint(canvas, distractors, self.bright)
        for places in (tails, heads):
            self._ink(canvas, rows, places, np.zeros(count, int), self.disc)
        return self.crop(canvas), labels

    def paint(self, canvas: np.ndarray, found: snakes.Snakes, ink) -> None:
        """Draw the dashes on the flat canvas, brighter over darker."""
        places = found.places.reshape(len(found.places), -1)
        directions = found.directions.reshape(places.shape)
        for i in range(places.shape[1]):
            rows = np.flatnonzero(directions[:, i] >= 0)
            self._ink(canvas, rows, places[rows, i], directions[rows, i], ink)

    def crop(self, canvas: np.ndarray) -> np.ndarray:
        """[images, side * side]: what lies within the rim."""
        field = self.field
        inner = slice(field.rim, field.rim + field.size)
        images = canvas.reshape(-1, field.width, field.width)[:, inner, inner]
        return images.reshape(len(images), -1)

    def _ink(self, canvas, rows, places, pictures, ink):
        offsets, values = ink
        at = (rows * self.field.area + places)[:, None] + offsets[pictures]
        canvas[at] = np.maximum(canvas[at], values[pictures])


@functools.lru_cache(maxsize=8)
def painter(side: int, contour: int, margin: int, bright_distractors: bool) -> Painter:
    return Painter(side, contour, margin, bright_distractors)


def _draw(kind, key, count) -> labelled.Examples:
    side, contour, bright = kind
    rng = np.random.Generator(np.random.Philox(key=np.array(key, np.uint64)))
    margins = SIZES[side].margins
    choice = rng.integers(len(margins), size=count)
    pixels, labels = np.zeros((count, side * side), np.uint8), np.zeros(count, np.int32)
    for i, margin in enumerate(margins):
        rows = np.flatnonzero(choice == i)
        if len(rows):
            pixels[rows], labels[rows] = painter(side, contour, margin, bright).images(
                rng, len(rows)
            )
    return labelled.from_rows(pixels, labels)


@functools.lru_cache(maxsize=4)
def _held(kind, split, count) -> labelled.Examples:
    blocks = [_draw(kind, (HELD[split], i), BLOCK) for i in range(math.ceil(count / BLOCK))]
    return labelled.Examples(
        np.concatenate([block.values for block in blocks])[: count * kind[0] ** 2],
        np.concatenate([block.lengths for block in blocks])[:count],
        np.concatenate([block.labels for block in blocks])[:count],
    )
