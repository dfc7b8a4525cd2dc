"""The small pictures that a pathfinder image is made of: dashes, their masks, discs.

Directions are radians from +x towards +y, which points down. Everything is drawn at twice the size
and reduced. A direction has a number: 0..359 are whole degrees, in which a snake begins; then one
for each integer point of the circle on which the next dash may end.
"""

import dataclasses

import numpy as np

SCALE = 2
DEGREES = 360


@dataclasses.dataclass(frozen=True, eq=False)
class Marks:
    """Pictures [P, S, S] as the pixels that count: how far from the middle, and how much."""

    offsets: np.ndarray
    """[P, L, 2] in y and x; where a picture has fewer than L pixels, its first again."""
    values: np.ndarray
    """[P, L]."""


def circle(radius: int) -> np.ndarray:
    """[K, 2]: the integer points on it, a pixel of arc apart, rounded down."""
    angles = np.arange(0, 2 * np.pi, 1 / radius)
    return np.unique(np.floor(displacements(radius, angles)).astype(int), axis=0)


def disc(radius: int) -> np.ndarray:
    """[M, 2]: the integer points inside."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.argwhere(y**2 + x**2 <= radius**2) - radius


def displacements(distance: float, angles: np.ndarray) -> np.ndarray:
    """[..., 2] in y and x, free of rounding noise about whole numbers."""
    return np.round(distance * np.stack([np.sin(angles), np.cos(angles)], -1), 9)


def directions(points: np.ndarray) -> np.ndarray:
    """[P]: the angle of each numbered direction, in -pi..pi."""
    degrees = np.arange(-DEGREES // 2, DEGREES // 2) * np.pi / 180
    return np.concatenate([degrees, np.arctan2(points[:, 0], points[:, 1])])


def turns(angles: np.ndarray, points: np.ndarray, continuity: float) -> np.ndarray:
    """[P, K]: how much a snake in each direction likes each point: cos^2 of the turn."""
    delta = np.abs(angles[:, None] - np.arctan2(points[:, 0], points[:, 1]))
    delta = np.minimum(delta, 2 * np.pi - delta) * continuity
    return (np.cos(np.minimum(delta, np.pi / 2)) ** 2).astype(np.float32)


def lines(angles: np.ndarray, length: int, thickness: float, margin: int):
    """Dashes from the middle of a picture in these directions, and their masks: [P, S, S], bytes.

    A mask is the dash, thicker by the margin all round.
    """
    half = length + int(np.ceil(thickness)) + margin
    middle = half * SCALE
    ends = np.ceil(displacements(length * SCALE, angles)).astype(int) + middle
    drawn = np.stack([_line(2 * middle + 1, middle, end, thickness) for end in ends])
    thick, reach = np.zeros_like(drawn), margin * SCALE
    around = np.pad(drawn, [(0, 0), (reach, reach), (reach, reach)])
    for y, x in disc(reach) + reach:
        np.maximum(thick, around[:, y : y + drawn.shape[1], x : x + drawn.shape[2]], out=thick)
    size = 2 * half + 1
    return _reduce(drawn, size), _reduce(thick, size)


def filled_disc(radius: float) -> np.ndarray:
    """[1, S, S]: a disc about the middle."""
    # Lanczos filtering reaches three pixels beyond the edge
    half = int(np.ceil(radius)) + 3
    steps = np.arange(-half * SCALE, (half + 1) * SCALE)
    inside = steps[:, None] ** 2 + steps**2 <= (radius * SCALE) ** 2
    return _reduce(inside[None] * np.uint8(255), 2 * half + 1)


def marks(pictures: np.ndarray, least: int) -> Marks:
    """The pixels of each picture that are at least `least`."""
    middle = pictures.shape[1] // 2
    found = [np.argwhere(picture >= least) for picture in pictures]
    longest = max(map(len, found))
    found = [np.concatenate([at, np.repeat(at[:1], longest - len(at), 0)]) for at in found]
    at = np.stack(found)
    values = pictures[np.arange(len(at))[:, None], at[..., 0], at[..., 1]]
    return Marks(at - middle, values)


def _line(size, middle, end, thickness):
    # here, as listing the tasks imports this file where there may be no Pillow
    from PIL import Image, ImageDraw

    image = Image.new("L", (size, size))
    y, x = end.tolist()
    draw = ImageDraw.Draw(image)
    draw.line([(middle, middle), (x, y)], fill=255, width=round(thickness * SCALE))
    return np.asarray(image)


def _reduce(pictures, size):
    from PIL import Image

    images = map(Image.fromarray, pictures)
    reduced = np.stack(
        [np.asarray(image.resize((size, size), Image.Resampling.LANCZOS)) for image in images]
    )
    # ripples of the filter, one part in 255: without them two thirds of an image are black
    return np.where(reduced > 1, reduced, np.uint8(0))
