"""A folder of records, as named on a command line -> its tables. Imports no jax."""

import sys
from collections.abc import Callable
from pathlib import Path

from experiments import records


def main(
    name: str, kind: str, write: Callable[[Path], Path], arguments: list[str] | None = None
) -> int:
    """0; 2 for a mistake that one line on stderr names."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        print(f"usage: python -m benchmarks.{name} FOLDER, got {len(arguments)}", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    found = [r for r in records.load(folder) if r["config"].get("kind") == kind]
    problem, devices = None, sorted({str(record["env"].get("device")) for record in found})
    if not found:
        what = f"records of kind {kind} in it" if folder.is_dir() else "such folder"
        problem = f"no {what}"
    elif len(devices) > 1:
        problem = f"records of {', '.join(devices)}; name the folder of one device"
    if problem:
        print(f"benchmarks.{name}: {folder}: {problem}", file=sys.stderr)
        return 2
    print(write(folder))
    return 0
