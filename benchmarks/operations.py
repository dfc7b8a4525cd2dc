"""What the instructions of a compiled CPU program have to do, each time that they run."""

import dataclasses
import math
import re

from experiments.measuring import hlo

PRODUCTS, EXPONENTIALS, TRANSFORMS = "products", "exponentials", "transforms"
SORTS, GATHERS, ARITHMETIC, COPIES = "sorts", "gathers", "arithmetic", "copies"
# the kind of an instruction is the first of these that it does anything of
OPCODES = {
    PRODUCTS: {"dot", "convolution"},
    TRANSFORMS: {"fft"},
    SORTS: {"sort", "topk"},
    GATHERS: {"gather", "scatter"},
    EXPONENTIALS: {
        *("exponential", "exponential-minus-one", "log", "log-plus-one", "tanh", "logistic"),
        *("erf", "cosine", "sine", "tan", "power", "atan2"),
    },
    # and nothing else
    COPIES: {
        *("parameter", "constant", "bitcast", "tuple", "get-tuple-element", "copy", "transpose"),
        *("reshape", "broadcast", "slice", "dynamic-slice", "dynamic-update-slice", "pad"),
        *("concatenate", "iota", "reverse"),
    },
}
KINDS = (*OPCODES, ARITHMETIC)
# they only run others, whose time is their own
AROUND = {"while", "conditional", "call", "parameter", "constant", "tuple", "get-tuple-element"}
# what is read of an array by these is what they give
SLICES = {"dynamic-slice", "slice", "gather"}
CONTRACTED = re.compile(r"lhs_contracting_dims=\{([0-9,]*)\}")
TARGET = re.compile(r'custom_call_target="([^"]+)"')
SOURCE = re.compile(r'op_name="([^"]+)"')


@dataclasses.dataclass(frozen=True)
class Operation:
    """`flops` of matrix products, `exponentials` of single numbers, `bytes` read and written (what
    is sliced or replaced in place counts by the slice); `says` is the last part of its source."""

    kind: str
    flops: int
    exponentials: int
    bytes: int
    says: str


def read(text: str) -> dict[str, Operation]:
    """By instruction, of all of a program but those that only run others."""
    bodies, _ = hlo.read(text)
    fused = {
        name
        for body in bodies.values()
        for instruction in body
        if instruction.opcode not in AROUND
        for name in instruction.called
    }
    return {
        instruction.name: _operation(instruction, bodies, {x.name: x for x in body})
        for name, body in bodies.items()
        if name not in fused
        for instruction in body
        if instruction.opcode not in AROUND
    }


def _operation(instruction, bodies, beside):
    inner = [x for name in instruction.called for x in bodies[name]]
    if instruction.opcode != "fusion":
        # a reduction's or a sort's function of two numbers is no work of its own
        done, known = [instruction], beside
        moved = _moved(instruction, beside)
    else:
        done, known = inner, {x.name: x for x in inner}
        moved = _read(inner) + _written(inner, known)
    return Operation(
        _kind(done),
        flops=sum(_flops(x, known) for x in done),
        exponentials=sum(_size(x) for x in done if x.opcode in OPCODES[EXPONENTIALS]),
        bytes=moved,
        says=_says(instruction, inner),
    )


def _kind(done):
    opcodes = {_opcode(x) for x in done}
    if opcodes <= OPCODES[COPIES]:
        return COPIES
    found = (kind for kind in KINDS if kind != COPIES and opcodes & OPCODES.get(kind, opcodes))
    return next(found)


def _opcode(instruction):
    """Of a call of a library too."""
    if instruction.opcode == "custom-call" and (target := TARGET.search(instruction.attributes)):
        return target[1].lower()
    return instruction.opcode


def _flops(instruction, known):
    if instruction.opcode != "dot":
        return 0
    ((_, shape),) = known[instruction.operands[0]].arrays
    axes = CONTRACTED.search(instruction.attributes)[1]
    contracted = math.prod(shape[int(axis)] for axis in axes.split(",") if axis)
    return 2 * _size(instruction) * contracted


def _size(instruction):
    return sum(math.prod(shape) for _, shape in instruction.arrays)


def _moved(instruction, beside):
    """Bytes of an instruction that stands alone."""
    if instruction.opcode in SLICES:
        return 2 * instruction.bytes
    operands = [beside[name].bytes for name in instruction.operands]
    if instruction.opcode == "dynamic-update-slice":
        return 2 * operands[1]
    return sum(operands) + instruction.bytes


def _read(inner):
    """Bytes that a fused computation reads of its parameters."""
    return sum(_part(x, inner) for x in inner if x.opcode == "parameter")


def _part(array, inner):
    """Bytes that are read of an array there."""
    parts = 0
    for use in (x for x in inner if array.name in x.operands):
        first = use.operands[0] == array.name
        if use.opcode == "bitcast":
            parts += _part(use, inner)
        elif first and use.opcode in SLICES:
            parts += use.bytes
        elif not (first and use.opcode == "dynamic-update-slice"):
            parts += array.bytes
    return min(parts, array.bytes)


def _written(inner, known):
    root = inner[-1]
    while root.opcode == "bitcast":
        root = known[root.operands[0]]
    if root.opcode == "dynamic-update-slice":
        return known[root.operands[1]].bytes
    if root.opcode == "tuple":
        return sum(_written([known[name]], known) for name in root.operands)
    return root.bytes


def _says(instruction, inner):
    sources = [SOURCE.search(x.attributes) for x in (instruction, *reversed(inner))]
    does = next((x.opcode for x in inner if x.opcode == "dot"), instruction.opcode)
    source = next((found[1] for found in sources if found), does)
    shapes = ", ".join("x".join(map(str, shape)) or "1" for _, shape in instruction.arrays)
    return f"{source.rsplit('/', 1)[-1]} [{shapes}]"
