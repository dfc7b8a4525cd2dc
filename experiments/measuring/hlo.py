"""Instructions of a compiled program, read from its text."""

import dataclasses
import math
import re

ITEMSIZE = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}
ITEMSIZE |= {"s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16}
COMPUTATION = re.compile(r"^(?:ENTRY )?%(\S+) .*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(\S+) = (.*?) ([a-z][a-z0-9-]*)\(([^)]*)\)(.*)$")
ARRAY = re.compile(r"([a-z]+[0-9]*)\[([0-9,]*)\]")
NAME = re.compile(r"%([^,\s)]+)")
CALLED = re.compile(r"(?:calls|to_apply|true_computation|false_computation)=%([^,\s)]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`arrays`: (dtype, shape) of what it gives, several for a tuple; `attributes`: the rest of
    its line."""

    name: str
    opcode: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    operands: tuple[str, ...]
    attributes: str

    @property
    def bytes(self) -> int:
        return sum(ITEMSIZE[dtype] * math.prod(shape) for dtype, shape in self.arrays)

    @property
    def called(self) -> list[str]:
        """Computations that it runs once, by name; not those of a loop."""
        names = CALLED.findall(self.attributes)
        for branches in BRANCHES.findall(self.attributes):
            names += NAME.findall(branches)
        return names


def read(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """(instructions by computation, the name of the first computation) of `compiled.as_text()`."""
    found, entry, into = {}, None, []
    for line in text.splitlines():
        if begun := COMPUTATION.match(line):
            into = found[begun[1]] = []
            entry = begun[1] if line.startswith("ENTRY") else entry
        elif parts := INSTRUCTION.match(line):
            name, gives, opcode, operands, attributes = parts.groups()
            arrays = tuple(
                (dtype, tuple(int(n) for n in shape.split(",") if n))
                for dtype, shape in ARRAY.findall(gives)
                if dtype in ITEMSIZE
            )
            operands = tuple(NAME.findall(operands))
            into.append(Instruction(name, opcode, arrays, operands, attributes))
    return found, entry
