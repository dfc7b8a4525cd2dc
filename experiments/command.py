"""What the commands share: a mistake on the command line is one line, not a usage text."""

import argparse
import math
import sys


class Parser(argparse.ArgumentParser):
    """Its mistakes are ValueErrors."""

    def error(self, message):
        raise ValueError(message)


def mistake(program: str, error: Exception | str) -> int:
    """Told in one line on stderr; the exit code."""
    print(f"experiments.{program}: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def above_0(text: str) -> float:
    """A finite number above 0, as a type of argparse."""
    return _number(text, "above 0", lambda value: value > 0)


def from_1(text: str) -> float:
    return _number(text, "from 1 up", lambda value: value >= 1)


def _number(text, words, allowed):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (allowed(value) and value < math.inf):
        raise argparse.ArgumentTypeError(f"must be a number {words}, got {text!r}")
    return value


def count(text: str) -> int:
    """A whole number from 1 up, as a type of argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text!r}")
    return int(text)
