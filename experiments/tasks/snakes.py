"""Growth of pathfinder's dashed snakes, in many images at once.

A lane is a canvas of bytes, flat: what is taken, from 0 to 255, full outside of the image. A place
is an index into it. A dash is a place and the number of its direction (see `dashes`): the first of
a snake is drawn onwards from its tail, every other one backwards from its head.
"""

import dataclasses

import numpy as np

from experiments.tasks import dashes

# of a dash, then the targets begin anew; of a distractor, then it is left out
DASH_TRIES, SNAKE_TRIES = 3, 5
# a dash collides where what is taken and its mask add up to 1.8; of a distractor's first one, no
# full part of the mask may be on more than 0.3 either
COLLISION, FREE = 459, 76
# random pixels looked at for a distractor's tail
SPOTS = 128
# bytes of canvas that grow together
MEMORY = 1 << 24


@dataclasses.dataclass(frozen=True, eq=False)
class Snakes:
    """Of M images: places and directions of the dashes, from tail to head."""

    places: np.ndarray
    """[M, snakes, dashes]"""
    directions: np.ndarray
    """[M, snakes, dashes]; -1 where the snake found no room."""


class Field:
    """An image of `size` pixels a side on a canvas with a rim, and how snakes grow there."""

    def __init__(
        self,
        size: int,
        *,
        length: int,
        thickness: float,
        margin: int,
        continuity: float,
        seed_distance: int,
        padding: int,
    ):
        self.size, self.seed_distance = size, seed_distance
        self.rim = length + 3 * margin + 3
        self.width = size + 2 * self.rim
        self.rates = {}
        self.area = self.width**2
        points = dashes.circle(length + margin)
        angles = dashes.directions(points)
        onwards = angles + np.pi * (np.arange(len(angles)) >= dashes.DEGREES)
        pictures, masks = dashes.lines(onwards, length, thickness, margin)
        self.pictures = pictures
        self.points, self.around = self.flat(points), self.flat(dashes.disc(margin))
        self.liking = dashes.turns(angles, points, continuity)
        # as published, points are rounded down and pivots up: on average neither way
        self.advance = self.flat(np.ceil(dashes.displacements(length + 2 * margin, angles)))
        to_head = np.ceil(dashes.displacements(length, angles))
        self.begin = self.flat(
            to_head + np.ceil(dashes.displacements(length + margin, angles + np.pi))
        )
        mask = dashes.marks(masks, 1)
        self.mask, self.mask_values = self.flat(mask.offsets), mask.values
        heavy = dashes.marks(masks, COLLISION - 255)
        self.heavy = self.flat(heavy.offsets)
        self.limits = (COLLISION - 1 - heavy.values.astype(int)).astype(np.uint8)
        self.frees = np.where(heavy.values == 255, np.uint8(FREE), self.limits)
        self.blank = np.full((self.width, self.width), 255, np.uint8)
        inner = slice(self.rim + padding, self.rim + size - padding)
        self.blank[inner, inner] = 0

    def flat(self, offsets: np.ndarray) -> np.ndarray:
        """Offsets [..., 2] in y and x, of places."""
        return (offsets[..., 0] * self.width + offsets[..., 1]).astype(np.int64)

    def place(self, pixels: np.ndarray) -> np.ndarray:
        return self.flat(pixels + self.rim)

    def targets(self, rng: np.random.Generator, count: int, contour: int):
        """Pairs of snakes of `contour` dashes, and what they take [count, area].

        Pairs are tried together and each to its end, so that none is favoured for being quick.
        """
        most, rate, kept = max(16, MEMORY // (2 * self.area)), self._rate(contour), []
        while (missing := count - sum(len(pair[0]) for pair in kept)) > 0:
            tries = min(most, int(missing / rate * 1.2) + 16)
            kept.append(self._pairs(rng, tries, contour))
        places, directions, taken = (
            np.concatenate(found)[:count] for found in zip(*kept, strict=True)
        )
        return Snakes(places, directions), taken

    def _rate(self, contour):
        """The share of pairs that come through, from a trial that is always the same."""
        if contour not in self.rates:
            rng, tries = np.random.Generator(np.random.Philox(key=0)), max(16, MEMORY // self.area)
            self.rates[contour] = max(len(self._pairs(rng, tries, contour)[0]), 1) / tries
        return self.rates[contour]

    def _pairs(self, rng, count, contour):
        low, high = 2 * self.seed_distance, self.size - 2 * self.seed_distance
        first = rng.integers(low, high, (count, 2))
        angles = rng.integers(dashes.DEGREES, size=count) * np.pi / 180
        second = first + np.rint(dashes.displacements(self.seed_distance, angles)).astype(int)
        places = np.zeros((count, 2, contour), np.int64)
        directions = np.zeros((count, 2, contour), np.int64)
        places[..., 0] = np.stack([self.place(first), self.place(second)], 1)
        directions[..., 0] = rng.integers(dashes.DEGREES, size=(count, 2))
        pivots = places[..., 0] + self.begin[directions[..., 0]]
        # a lane a snake holds all but its own last dash, which it has to touch
        taken = np.tile(self.blank.ravel(), 2 * count)
        lanes = np.arange(2 * count).reshape(count, 2)
        for i in (0, 1):
            self._take(taken, lanes[:, 1 - i], places[:, i, 0], directions[:, i, 0])
        hit = self._collides(taken, lanes[:, 1], places[:, 1, 0], directions[:, 1, 0])
        alive = np.flatnonzero(~hit)
        for dash in range(1, contour):
            for i in (0, 1):
                last = places[alive, i, dash - 1], directions[alive, i, dash - 1]
                pivot, head, direction, room = self._extend(
                    rng, taken, lanes[alive, i], pivots[alive, i], last[1]
                )
                alive = alive[room]
                self._take(taken, lanes[alive, i], *(each[room] for each in last))
                self._take(taken, lanes[alive, 1 - i], head[room], direction[room])
                pivots[alive, i] = pivot[room]
                places[alive, i, dash], directions[alive, i, dash] = head[room], direction[room]
        taken = taken.reshape(count, 2, self.area)[alive].max(1)
        return places[alive], directions[alive], taken

    def distractors(self, rng: np.random.Generator, taken: np.ndarray, count: int, length: int):
        """Up to `count` more snakes of `length` dashes an image, on what is left of it."""
        images = len(taken)
        places = np.zeros((images, count, length), np.int64)
        directions = np.full((images, count, length), -1)
        for snake in range(count):
            left = np.arange(images)
            # the first attempt alone, as it mostly does, then the others side by side
            for tries in (1, SNAKE_TRIES - 1):
                grown, *found = self._single(rng, taken, np.repeat(left, tries), length)
                grown, first = np.unique(grown, return_index=True)
                places[grown, snake], directions[grown, snake], taken[grown] = (
                    each[first] for each in found
                )
                left = np.setdiff1d(left, grown, assume_unique=True)
        return Snakes(places, directions)

    def _single(self, rng, taken, images, length):
        """An attempt in each of these images: of those with room, number, dashes and canvas."""
        tails, degrees, room = self._seed(rng, taken, images)
        images, lanes = images[room], np.arange(room.sum())
        places = np.zeros((len(lanes), length), np.int64)
        directions = np.zeros((len(lanes), length), np.int64)
        places[:, 0], directions[:, 0] = tails[room], degrees[room]
        pivots = places[:, 0] + self.begin[directions[:, 0]]
        trial = taken[images].ravel()
        alive = lanes
        for dash in range(1, length):
            last = places[alive, dash - 1], directions[alive, dash - 1]
            pivot, head, direction, room = self._extend(rng, trial, alive, pivots[alive], last[1])
            alive = alive[room]
            self._take(trial, alive, *(each[room] for each in last))
            pivots[alive] = pivot[room]
            places[alive, dash], directions[alive, dash] = head[room], direction[room]
        self._take(trial, alive, places[alive, -1], directions[alive, -1])
        trial = trial.reshape(-1, self.area)[alive]
        return images[alive], places[alive], directions[alive], trial

    def _seed(self, rng, taken, images):
        """A free pixel for the tail of a dash in a random direction, among `SPOTS`."""
        spots = self.place(rng.integers(self.size, size=(len(images), SPOTS, 2)))
        degrees = rng.integers(dashes.DEGREES, size=len(images))
        at = (images[:, None] * self.area + spots)[..., None] + self.heavy[degrees][:, None]
        free = (taken.ravel()[at] <= self.frees[degrees][:, None]).all(-1)
        return spots[np.arange(len(images)), free.argmax(1)], degrees, free.any(1)

    def _extend(self, rng, taken, lanes, pivots, directions):
        """The next dash of each lane's snake: its pivot, head and direction; and if it has room."""
        pivots = pivots + self.advance[directions]
        base = lanes * self.area + pivots
        at = base[:, None] + self.points
        blocked = taken[at + self.around[0]]
        for offset in self.around[1:]:
            np.maximum(blocked, taken[at + offset], out=blocked)
        weights = np.cumsum(self.liking[directions] * (255 - blocked), 1)
        total = weights[:, -1]
        draws = rng.random((DASH_TRIES, len(lanes)), np.float32) * total
        chosen, room = np.zeros(len(lanes), np.int64), np.zeros(len(lanes), bool)
        left = np.flatnonzero(total > 255 * 1e-4)
        for draw in draws:
            picks = (weights[left] <= draw[left, None]).sum(1).clip(max=len(self.points) - 1)
            heads = pivots[left] + self.points[picks]
            hit = self._collides(taken, lanes[left], heads, dashes.DEGREES + picks)
            chosen[left[~hit]], room[left[~hit]] = picks[~hit], True
            left = left[hit]
        return pivots, pivots + self.points[chosen], dashes.DEGREES + chosen, room

    def _collides(self, taken, lanes, places, directions):
        at = (lanes * self.area + places)[:, None] + self.heavy[directions]
        return (taken[at] > self.limits[directions]).any(1)

    def _take(self, taken, lanes, places, directions):
        at = (lanes * self.area + places)[:, None] + self.mask[directions]
        taken[at] = np.maximum(taken[at], self.mask_values[directions])
