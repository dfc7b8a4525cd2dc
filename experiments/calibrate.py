"""A device's records -> how long a call would take there and what it would hold.

    python -m experiments.calibrate results/scaling/DEVICE

writes calibration.json beside the records. The formulas of `experiments.analysis.forecasts` are
fitted to the records nearest in size (`experiments.analysis.estimates`) of the same mechanism, its
switches, pass and dtype. How far that can be trusted is measured (`experiments.analysis.held_out`).
Where memory is uncertain so, it is a fixed growth, and what the program compiles to times a rate.
"""

import dataclasses
import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attention_zoo.types import Dims
from experiments.analysis import forecasts, held_out, reading, samples
from experiments.analysis.forecasts import Forecast
from experiments.analysis.samples import Sample

FILE = "calibration.json"
DTYPES = {4: "float32", 2: "bfloat16"}


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A device's samples by what `key` makes of a call, and what they rest on."""

    curves: Mapping[str, list[Sample]]
    facts: Mapping[str, Any]

    def predict(
        self,
        mechanism: str,
        hparams: Mapping[str, Any],
        dims: Dims,
        mode: str = "forward",
        *,
        causal: bool = False,
    ) -> Forecast:
        """ValueError where nothing of the kind was measured here.

        Of a causal call without records, by those that are not causal; of an N that is padded as
        none was, by those that are padded otherwise. The error is not known then.
        """
        cost = samples.cost(mechanism, hparams, dims, causal=causal)
        name, same_form = self.curve(mechanism, hparams, dims, mode, causal=causal)
        known = self.curves[name]
        found = forecasts.forecast(known, hparams, dims, cost, causal=causal)
        if not same_form:
            return found.unsure("not causal")
        if found.familiar and forecasts.shape(dims) not in {sample.shape for sample in known}:
            return found.of_other_sizes(self.other_sizes)
        return found

    @functools.cached_property
    def other_sizes(self) -> dict[str, float]:
        """The error of calls of batches and heads that no record has, of time and of memory."""
        return held_out.of_most(
            off for known in self.curves.values() for off in held_out.without_their_sizes(known)
        )

    def curve(
        self, mechanism: str, hparams: Mapping, dims: Dims, mode: str, *, causal: bool
    ) -> tuple[str, bool]:
        """The curve that such a call is calibrated on, and whether it is causal as the call is."""
        names = [
            samples.key(mechanism, hparams, mode, form, DTYPES.get(dims.itemsize, "?"))
            for form in dict.fromkeys((causal, False))
        ]
        for name in names:
            if name in self.curves:
                return name, name == names[0]
        alike = [other for other in self.curves if other.startswith(mechanism)]
        known = "; ".join(alike or sorted(self.curves))
        raise ValueError(f"no records of {names[0]!r} to calibrate by; there are {known}")


def load(path: str | Path) -> Calibration:
    """Of a calibration.json."""
    stored = json.loads(Path(path).read_text())
    curves = {name: [Sample(**one) for one in curve] for name, curve in stored["curves"].items()}
    return Calibration(curves, {name: stored[name] for name in stored if name != "curves"})


def curves(found: list[dict]) -> dict[str, list[Sample]]:
    """Those of `samples.curves`; ValueError where there are none."""
    sets = samples.curves(found)
    if not sets:
        raise ValueError("no records of kind kernel with a time among them; run configs/scaling.py")
    return sets


def calibration(found: list[dict]) -> Calibration:
    """Of the records of one device."""
    sets = curves(found)
    used = [record["env"] for record in found if record["status"] == "ok"]

    def said(name):
        return sorted({str(env.get(name)) for env in used})

    devices = said("device")
    if len(devices) > 1:
        raise ValueError(f"records of {', '.join(devices)}; name the folder of one device")
    facts = {
        "device": devices[0],
        "records": {name: said(name) for name in ("commit", "jax", "jaxlib", "cores")},
        "held_out": held_out.summaries(held_out.held_out(sets)),
    }
    return Calibration(sets, facts)


def calibrate(found: list[dict]) -> dict:
    """What calibration.json holds, of the records of one device."""
    made = calibration(found)
    curves = {
        name: [dataclasses.asdict(one) for one in known] for name, known in made.curves.items()
    }
    return {**made.facts, "curves": curves}


def main(arguments: list[str] | None = None) -> int:
    folders = sys.argv[1:] if arguments is None else arguments
    if len(folders) != 1:
        print("usage: python -m experiments.calibrate results/scaling/DEVICE", file=sys.stderr)
        return 2
    folder = Path(folders[0])
    read = reading.read([folder])
    found, left_out = samples.calls(read.records)
    for note in (*read.notes, *left_out):
        print(note, file=sys.stderr)
    try:
        made = calibrate(found)
    except ValueError as error:
        print(f"experiments.calibrate: {folder}: {error}", file=sys.stderr)
        return 2
    path = folder / FILE
    try:
        path.write_text(json.dumps(made, indent=1) + "\n")
    except OSError as error:
        print(f"experiments.calibrate: {path}: {error.strerror or error}", file=sys.stderr)
        return 2
    for what, kept in made["held_out"].items():
        print(
            f"{path}: {what}: {kept['points']} held out, median error {kept['median_error']}, "
            f"{kept['within_tolerance']} of them within {kept['tolerance']}; the others:"
        )
        for miss in kept["misses"]:
            print(f"  {miss['curve']}, n={miss['n']}: predicted {miss['ratio']} of measured")
    return 0


if __name__ == "__main__":
    sys.exit(main())
