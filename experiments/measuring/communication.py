"""Bytes that each device sends in a compiled program, from the collectives of its text.

By the conventions of `attention_zoo.parallel.traffic`; a loop's body counts once a trip.
"""

import math
import re
from fractions import Fraction

ITEMSIZE = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
ITEMSIZE |= {"s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16}
# bytes sent, of the bytes of what an operation gives and the size P of its groups
SENT = {
    "all-gather": lambda size, P: Fraction((P - 1) * size, P),
    "all-reduce": lambda size, P: Fraction(2 * (P - 1) * size, P),
    "reduce-scatter": lambda size, P: Fraction((P - 1) * size),
    "all-to-all": lambda size, P: Fraction((P - 1) * size, P),
    "collective-permute": lambda size, P: Fraction(size),
}
COMPUTATION = re.compile(r"^(?:ENTRY )?%(\S+) .*\{$")
OPERATION = re.compile(r"^\s+(?:ROOT )?%\S+ = (.*?) ([a-z][a-z-]*?)(?:-start)?\(")
ARRAY = re.compile(r"([a-z]+[0-9]*)\[([0-9,]*)\]")
CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation)=%([^,\s)]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
LOOP = re.compile(r"condition=%\S+, body=%([^,\s]+)")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def bytes_sent(text: str, devices: int) -> dict[str, int]:
    """By the kind of collective, of the devices that run this program together: `text` is
    `compiled.as_text()`. ValueError for a loop of unknown length that communicates."""
    bodies, entry = _computations(text)
    totals = _walk(bodies, entry, devices)
    return {kind: math.ceil(size) for kind, size in sorted(totals.items())}


def _computations(text):
    bodies, entry, lines = {}, None, []
    for line in text.splitlines():
        if begun := COMPUTATION.match(line):
            lines = bodies[begun[1]] = []
            entry = begun[1] if line.startswith("ENTRY") else entry
        else:
            lines.append(line)
    return bodies, entry


def _walk(bodies, name, devices):
    totals = {}

    def add(found, times=1):
        for kind, size in found.items():
            totals[kind] = totals.get(kind, 0) + size * times

    for line in bodies[name]:
        operation = OPERATION.match(line)
        if not operation:
            continue
        result, kind = operation.groups()
        if kind in SENT:
            sizes = [_bytes(*array) for array in ARRAY.findall(result)]
            add({kind: SENT[kind](sum(sizes), _group(line, devices))})
        elif loop := LOOP.search(line):
            inner, trips = _walk(bodies, loop[1], devices), TRIPS.search(line)
            if inner and not trips:
                raise ValueError(f"a loop of unknown length communicates: {line.strip()[:200]}")
            add(inner, int(trips[1]) if trips else 1)
        else:
            called = CALLED.findall(line)
            for branches in BRANCHES.findall(line):
                called += [branch.strip().lstrip("%") for branch in branches.split(",")]
            for inner in called:
                add(_walk(bodies, inner, devices))
    return totals


def _bytes(dtype, shape):
    return ITEMSIZE[dtype] * math.prod(int(n) for n in shape.split(",") if n)


def _group(line, devices):
    """How many devices a collective joins."""
    if listed := re.search(r"replica_groups=\{\{([0-9,]+)\}", line):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(counted[1])
    return devices
