"""Predicted times: on synthetic records, on bad input, and on the committed ones."""

import json
from pathlib import Path

import pytest

import attention_zoo as zoo
from experiments import calibrate, records
from tests import synthetic_records as synthetic

COMMITTED = sorted((Path(__file__).parents[1] / "results" / "scaling").glob(f"*/{calibrate.FILE}"))


def kernels(lengths=(256, 512, 1024, 2048), seconds=lambda flops: 1e-4 + flops / 50e9, **changes):
    """Records of local(16) on a machine whose times follow a formula."""
    found = []
    for n in lengths:
        record = synthetic.kernel("local", n, hparams={"window": 16}, **changes)
        record["metrics"]["seconds"] = seconds(local(n))
        found.append(record)
    return found


def local(n, window=16):
    return zoo.make("local", window=window).cost(size(n)).flops


def size(n, **sizes):
    return zoo.Dims(**{"q_len": n, "kv_len": n, "heads": 8, **sizes})


@pytest.fixture
def calibration(tmp_path):
    synthetic.write(tmp_path, kernels() + kernels(mode="train", seconds=lambda flops: flops / 10e9))
    assert calibrate.main([str(tmp_path)]) == 0
    return calibrate.load(tmp_path / calibrate.FILE)


def test_what_was_measured_is_predicted(calibration):
    for n in (256, 2048):
        found = calibration.predict("local", {"window": 16}, size(n))
        assert found == pytest.approx(1e-4 + local(n) / 50e9)
    assert calibration.predict("local", {"window": 16}, size(512), "train") == pytest.approx(
        local(512) / 10e9
    )


def test_other_sizes_are_predicted_by_their_flops(calibration):
    """Between the measured ones near the line; beyond them at the rate of the last."""
    within = calibration.predict("local", {"window": 24}, size(700))
    assert within == pytest.approx(1e-4 + local(700, 24) / 50e9, rel=0.02)
    last = (1e-4 + local(2048) / 50e9) / local(2048)
    beyond = calibration.predict("local", {"window": 16}, size(8192, batch=2))
    assert beyond == pytest.approx(2 * local(8192) * last)


def test_switches_choose_a_curve_and_sizes_do_not():
    def key(name, **hparams):
        return calibrate.key(name, hparams, "forward", False, "float32")

    assert key("full", implementation="plain") == "full implementation=plain, forward, float32"
    assert key("linear", feature_map="elu", chunk=64) == key("linear")
    assert key("rfa", gate=True) != key("rfa")


@pytest.mark.parametrize(
    ("mechanism", "hparams", "causal", "words"),
    [
        ("full", {}, False, "no records of 'full, forward, float32'"),
        ("local", {}, True, "there are local, forward, float32; local, train, float32"),
        ("local", {"windw": 3}, False, "did you mean 'window'"),
    ],
)
def test_what_was_not_measured_is_refused(calibration, mechanism, hparams, causal, words):
    with pytest.raises(ValueError, match=words):
        calibration.predict(mechanism, hparams, size(64), causal=causal)


def test_a_length_out_of_line_is_a_miss():
    found = kernels()
    found[1]["metrics"]["seconds"] *= 2
    kept = calibrate.calibrate(found)["held_out"]
    assert kept["points"] == 2
    assert [miss["n"] for miss in kept["misses"]] == [512]
    assert kept["misses"][0]["ratio"] == pytest.approx(0.5, abs=0.05)


def test_nothing_to_calibrate_by_is_one_line(tmp_path, capsys):
    synthetic.write(tmp_path, [synthetic.kernel("full", 64, status="oom", reason="no room")])
    assert calibrate.main([str(tmp_path)]) == 2
    assert "no records of kind kernel with a time" in capsys.readouterr().err
    assert not (tmp_path / calibrate.FILE).exists()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_the_committed_file_is_that_of_its_records(path):
    """And nine of ten lengths left out are predicted within 30 %."""
    stored = json.loads(path.read_text())
    made = json.loads(json.dumps(calibrate.calibrate(records.load(path.parent))))
    assert made == stored, f"run python -m experiments.calibrate {path.parent}"
    assert stored["held_out"]["within_tolerance"] >= 0.9
    assert stored["held_out"]["median_error"] <= 0.15
