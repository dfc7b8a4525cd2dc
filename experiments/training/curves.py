"""The curve of a training run: a JSON line an evaluation, and event files for TensorBoard."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.running import distributed

try:
    import tensorboardX
except ImportError:
    tensorboardX = None  # noqa: N816, its name


def copy(out: Path, name: str, to: str) -> None:
    """The curve `name` as the curve `to`, where there is one."""
    of, target = (Path(out) / "curves" / f"{stem}.jsonl" for stem in (name, to))
    if of.exists() and distributed.is_first():
        draft = target.with_suffix(".tmp")
        shutil.copyfile(of, draft)
        draft.replace(target)


class Curve:
    """OUT/curves/NAME.jsonl, and OUT/tensorboard/NAME where tensorboardX is installed."""

    def __init__(self, out: Path, name: str):
        self._file = Path(out) / "curves" / f"{name}.jsonl"
        self._writes = distributed.is_first()
        self._told, self._events = 0, None
        if tensorboardX is not None and self._writes:
            folder = Path(out) / "tensorboard" / name
            # a run that goes on tells all of its curve again
            shutil.rmtree(folder, ignore_errors=True)
            self._events = tensorboardX.SummaryWriter(str(folder))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._events is not None:
            self._events.close()

    def write(self, lines: Sequence[Mapping]) -> None:
        """The whole curve so far; `lines` before are the same as in the call before."""
        if not self._writes:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".tmp")
        draft.write_text("".join(json.dumps(line) + "\n" for line in lines))
        draft.replace(self._file)
        if self._events is None:
            return
        for line in lines[self._told :]:
            for name, value in line.items():
                if name != "step":
                    self._events.add_scalar(name, value, line["step"])
        self._told = len(lines)
        self._events.flush()
