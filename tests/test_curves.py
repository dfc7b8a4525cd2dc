"""What a training run leaves of its curve."""

import json
import types

import pytest

from experiments.training import curves

LINES = [{"step": step, "val_accuracy": step / 10, "train_loss": 1.0} for step in (2, 4, 6)]


@pytest.fixture
def events(monkeypatch):
    """What a tensorboardX that is installed was told; here it need not be."""
    told = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, name, value, step):
            told.append((self.folder, name, value, step))

        def flush(self):
            told.append("flush")

        def close(self):
            told.append("close")

    monkeypatch.setattr(curves, "tensorboardX", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    return told


def test_each_evaluation_is_one_event_and_one_line(tmp_path, events):
    with curves.Curve(tmp_path, "a") as curve:
        for count in range(4):
            curve.write(LINES[:count])
    scalars = [event for event in events if isinstance(event, tuple)]
    folder = str(tmp_path / "tensorboard" / "a")
    assert scalars == [
        (folder, name, line[name], line["step"])
        for line in LINES
        for name in ("val_accuracy", "train_loss")
    ]
    assert events[-2:] == ["flush", "close"]
    written = (tmp_path / "curves" / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in written] == LINES


def test_a_run_that_goes_on_tells_its_whole_curve(tmp_path, events):
    old = tmp_path / "tensorboard" / "a"
    old.mkdir(parents=True)
    (old / "events").write_text("of before the kill")
    with curves.Curve(tmp_path, "a") as curve:
        curve.write(LINES)
    assert not (old / "events").exists()
    assert len(events) == 2 * len(LINES) + 2


def test_without_tensorboard_there_are_lines_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "tensorboardX", None)
    with curves.Curve(tmp_path, "a") as curve:
        curve.write(LINES)
    assert [path.name for path in tmp_path.iterdir()] == ["curves"]
