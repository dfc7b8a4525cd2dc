"""Bytes that each device sends in a compiled program, from the collectives of its text.

By the conventions of `attention_zoo.parallel.traffic`; a loop's body counts once a trip.
"""

import math
import re
from fractions import Fraction

from experiments.measuring import hlo

# bytes sent, of the bytes of what an operation gives and the size P of its groups
SENT = {
    "all-gather": lambda size, P: Fraction((P - 1) * size, P),
    "all-reduce": lambda size, P: Fraction(2 * (P - 1) * size, P),
    "reduce-scatter": lambda size, P: Fraction((P - 1) * size),
    "all-to-all": lambda size, P: Fraction((P - 1) * size, P),
    "collective-permute": lambda size, P: Fraction(size),
}
LOOP = re.compile(r"condition=%\S+, body=%([^,\s]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def bytes_sent(text: str, devices: int) -> dict[str, int]:
    """By the kind of collective, of the devices that run this program together: `text` is
    `compiled.as_text()`. ValueError for a loop of unknown length that communicates."""
    bodies, entry = hlo.read(text)
    totals = _walk(bodies, entry, devices)
    return {kind: math.ceil(size) for kind, size in sorted(totals.items())}


def _walk(bodies, name, devices):
    totals = {}

    def add(found, times=1):
        for kind, size in found.items():
            totals[kind] = totals.get(kind, 0) + size * times

    for instruction in bodies[name]:
        kind, attributes = instruction.opcode.removesuffix("-start"), instruction.attributes
        if kind in SENT:
            add({kind: SENT[kind](instruction.bytes, _group(attributes, devices))})
        elif loop := LOOP.search(attributes):
            inner, trips = _walk(bodies, loop[1], devices), TRIPS.search(attributes)
            if inner and not trips:
                raise ValueError(f"a loop of unknown length communicates: {instruction.name}")
            add(inner, int(trips[1]) if trips else 1)
        else:
            for inner in instruction.called:
                add(_walk(bodies, inner, devices))
    return totals


def _group(attributes, devices):
    """How many devices a collective joins."""
    if listed := re.search(r"replica_groups=\{\{([0-9,]+)\}", attributes):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
        return int(counted[1])
    return devices
