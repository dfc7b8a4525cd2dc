"""ListOps expressions: grown, written, read back and evaluated, many at a time, level by level.

A level holds the nodes at one depth of all expressions, in the order in which they are written: the
arguments of its operators follow each other in the level below. The root's depth is 1.
"""

import dataclasses

import numpy as np

TOKENS = ("pad", *"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]", "spare")
PAD, DIGIT, OPERATOR, CLOSE = 0, 1, 11, 15
OPERATORS = CLOSE - OPERATOR
# the likeliest values of MIN, MAX and MED, as tokens; of SM, all equally likely, a middle one
TYPICAL = DIGIT + np.array([0, 9, 4, 4], np.uint8)
# the share of operators among nodes that may be one, and the numbers of arguments
OPENING = 0.25
ARGUMENTS = (2, 10)


@dataclasses.dataclass(frozen=True)
class Level:
    owner: np.ndarray
    """The expression of each node."""
    tokens: np.ndarray
    """A digit's or an operator's."""
    arguments: np.ndarray
    """How many follow in the level below; 0 for a digit."""

    @property
    def opens(self) -> np.ndarray:
        return self.arguments > 0


def grow(generator, count: int, longest: int, max_depth: int) -> tuple[list[Level], np.ndarray]:
    """`count` expressions whose root is an operator, and the length of each in tokens.

    Those that would reach `longest` are left unfinished, with that as their length.
    """
    owner, lengths, levels = np.arange(count), np.zeros(count, np.int64), []
    for depth in range(1, max_depth + 1):
        if not len(owner):
            break
        opens = np.full(len(owner), depth < max_depth)
        if depth > 1:
            opens &= generator.random(len(owner), np.float32) < OPENING
        # 20 is a multiple of both
        drawn = generator.integers(20, size=len(owner), dtype=np.uint8)
        tokens = np.where(opens, OPERATOR + drawn % OPERATORS, DIGIT + drawn % 10)
        arguments = np.zeros(len(owner), np.int64)
        least, most = ARGUMENTS
        arguments[opens] = generator.integers(least, most + 1, size=opens.sum())
        levels.append(Level(owner, tokens, arguments))
        lengths += np.bincount(owner, minlength=count) + np.bincount(owner[opens], minlength=count)
        # an argument is a token at least
        open_ended = np.bincount(owner, arguments, minlength=count)
        stays = lengths + open_ended < longest
        lengths[~stays] = longest
        owner = np.repeat(owner, np.where(stays[owner], arguments, 0))
    return levels, lengths


def select(levels: list[Level], kept: np.ndarray) -> list[Level]:
    """Of finished expressions those that are `kept`, numbered anew."""
    numbers, found = np.cumsum(kept) - 1, []
    for level in levels:
        at = kept[level.owner]
        if not at.any():
            break
        found.append(Level(numbers[level.owner[at]], level.tokens[at], level.arguments[at]))
    return found


def write(levels: list[Level]) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of all expressions, one after the other, and how many each has."""
    sizes, below = [], None
    for level in reversed(levels):
        size = np.ones(len(level.tokens), np.int64)
        if level.opens.any():
            size[level.opens] = 2 + np.add.reduceat(below, _starts(level))
        below = size
        sizes.insert(0, size)
    begins = _before(sizes[0])
    tokens = np.empty(sizes[0].sum(), np.uint8)
    for level, size, inner in zip(levels, sizes, [*sizes[1:], None], strict=True):
        opens = level.opens
        tokens[begins] = level.tokens
        tokens[(begins + size - 1)[opens]] = CLOSE
        if inner is not None:
            # an argument comes after its operator's token and the arguments before it
            before = _before(inner)
            first = begins[opens] + 1 - before[_starts(level)]
            begins = before + np.repeat(first, level.arguments[opens])
    return tokens, sizes[0]


def read(tokens: np.ndarray, lengths: np.ndarray) -> list[Level]:
    """The levels of what `write` wrote."""
    opens = (tokens >= OPERATOR) & (tokens < CLOSE)
    closes = tokens == CLOSE
    depths = np.cumsum(opens.astype(np.int64) - closes) + ~opens
    depths[closes] = 0
    owners = np.repeat(np.arange(len(lengths)), lengths)
    levels, at = [], np.flatnonzero(depths == 1)
    while len(at):
        below = np.flatnonzero(depths == len(levels) + 2)
        arguments = np.zeros(len(at), np.int64)
        parents = np.searchsorted(at[opens[at]], below) - 1
        arguments[opens[at]] = np.bincount(parents, minlength=opens[at].sum())
        levels.append(Level(owners[at], tokens[at], arguments))
        at = below
    return levels


def values(levels: list[Level]) -> list[np.ndarray]:
    """The value of every node, a level each."""
    found = []
    for level in reversed(levels):
        value = level.tokens.astype(np.int64) - DIGIT
        if level.opens.any():
            value[level.opens] = _applied(level, found[0])
        found.insert(0, value)
    return found


def shallow_values(levels: list[Level], depth: int) -> np.ndarray:
    """The values of the roots if all operators deeper than `depth` had the TYPICAL one."""
    *above, last = levels[: depth + 1]
    tokens = last.tokens.copy()
    tokens[last.opens] = TYPICAL[tokens[last.opens] - OPERATOR]
    return values([*above, Level(last.owner, tokens, np.zeros_like(last.arguments))])[0]


def _applied(level, arguments):
    operators, counts = level.tokens[level.opens] - OPERATOR, level.arguments[level.opens]
    starts = _starts(level)
    owner = np.repeat(np.arange(len(counts)), counts)
    ranked = np.sort(10 * owner + arguments) - 10 * owner
    # the mean of the middle two, or of the middle one with itself, cut to a whole number
    middle = (ranked[starts + (counts - 1) // 2] + ranked[starts + counts // 2]) // 2
    total = np.add.reduceat(arguments, starts) % 10
    return np.choose(operators, [ranked[starts], ranked[starts + counts - 1], middle, total])


def _starts(level):
    """Where in the level below each operator's arguments begin."""
    return _before(level.arguments[level.opens])


def _before(sizes):
    return np.cumsum(sizes) - sizes
