"""Predicted times: on synthetic records, on bad input, and on the committed ones."""

import json
from pathlib import Path

import pytest

import attention_zoo as zoo
from experiments import calibrate, records
from experiments.analysis import samples
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


def test_what_was_measured_is_said_so(calibration):
    found = calibration.predict("local", {"window": 16}, size(2048))
    assert found.seconds.how == found.memory.how == "measured"
    assert found.seconds.value == pytest.approx(1e-4 + local(2048) / 50e9)
    assert calibration.predict(
        "local", {"window": 16}, size(512), "train"
    ).seconds.value == pytest.approx(local(512) / 10e9)


def test_other_sizes_are_predicted_by_a_fixed_cost_and_their_flops(calibration):
    within = calibration.predict("local", {"window": 24}, size(768)).seconds
    assert within.value == pytest.approx(1e-4 + local(768, 24) / 50e9, rel=0.02)
    assert within.how == "interpolated"
    assert within.error < 0.02
    beyond = calibration.predict("local", {"window": 16}, size(8192, batch=2)).seconds
    assert beyond.value == pytest.approx(1e-4 + 2 * local(8192) / 50e9, rel=0.02)
    assert beyond.how == "other sizes"
    assert not beyond.within(1e9)
    beyond = calibration.predict("local", {"window": 16}, size(8192)).seconds
    assert beyond.how == "extrapolated"


def of_batch(batch, factor, lengths=(256, 512, 1024, 2048)):
    """Records of so many sequences that take their share of time times a factor."""
    return kernels(lengths, lambda flops: 1e-4 + factor * batch * flops / 50e9, batch=batch)


def test_batches_that_no_record_has_are_off_as_those_held_out_were():
    records, call = kernels(), ("local", {"window": 16}, size(512, batch=8))
    for batch in (2, 3, 4, 5, 6):
        assert not calibrate.calibration(records).predict(*call).seconds.within(1e9)
        records += of_batch(batch, 1.2)
    found = calibrate.calibration(records).predict(*call).seconds
    assert found.how == "other sizes"
    assert found.error == pytest.approx(0.2, abs=0.01)
    assert found.value == pytest.approx(1e-4 + 8 * local(512) / 50e9, rel=0.02)


def test_a_batch_that_was_measured_is_a_factor_at_other_lengths():
    known = calibrate.calibration([*kernels((256, 512, 2048, 4096)), *of_batch(4, 0.5, (512,))])
    found = known.predict("local", {"window": 16}, size(1024, batch=4)).seconds
    assert found.how == "interpolated"
    assert found.value == pytest.approx(1e-4 + 0.5 * 4 * local(1024) / 50e9, rel=0.1)


@pytest.mark.parametrize("head_dim", [128, 32, 64])
def test_wider_heads_take_less_a_multiply_add(calibration, head_dim):
    """As many columns in all, so as many FLOPs, in fewer and wider heads."""
    factor = (1 + samples.EVEN / (2 * head_dim)) / (1 + samples.EVEN / 128)
    dims = size(1024, heads=512 // head_dim, head_dim=head_dim, value_dim=head_dim)
    found = calibration.predict("local", {"window": 16}, dims).seconds
    assert zoo.make("local", window=16).cost(dims).flops == pytest.approx(local(1024), rel=0.01)
    assert found.value == pytest.approx(1e-4 + factor * local(1024) / 50e9, rel=0.02)


def test_memory_is_carried_over_to_other_sizes_by_the_formula(calibration):
    """The synthetic records hold 400 numbers of 32 bytes a position and one MiB."""
    one = calibration.predict("local", {"window": 16}, size(768)).memory
    assert one.value == pytest.approx(32 * 400 * 768 + 2**20, rel=0.01)
    # where the lengths around it take as many heads at once
    two = calibration.predict("local", {"window": 16}, size(768, batch=2)).memory
    cost = [zoo.make("local", window=16).cost(size(768, batch=b)).bytes for b in (1, 2)]
    assert two.value == pytest.approx(cost[1] / cost[0] * one.value, rel=0.05)


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("causal", [False, True])
def test_memory_is_carried_by_the_formula_of_its_pass_and_form(calibration, mode, causal):
    call = ("local", {"window": 16}, size(768, head_dim=32), mode)
    carried = calibration.predict(*call, causal=causal).memory.value
    here = calibration.predict("local", {"window": 16}, size(768), mode).memory.value
    costs = (
        zoo.make("local", window=16).cost(dims, causal=form)
        for dims, form in ((size(768, head_dim=32), causal), (size(768), False))
    )
    there, known = (cost.bytes if mode == "forward" else cost.train_bytes for cost in costs)
    assert carried == pytest.approx(there / known * here, rel=0.05)


def test_a_causal_call_is_not_the_measured_one_that_is_not(calibration):
    """At an N that was measured too."""
    call = ("local", {"window": 16}, size(512))
    assert calibration.predict(*call).seconds.how == "measured"
    found = calibration.predict(*call, causal=True).seconds
    assert found.how == "not causal"
    flops = zoo.make("local", window=16).cost(size(512), causal=True).flops
    assert flops < 0.7 * local(512)
    assert found.value == pytest.approx(1e-4 + flops / 50e9, rel=0.02)


def test_a_form_without_records_has_no_known_error(calibration):
    causal = calibration.predict("local", {"window": 16}, size(700), causal=True)
    assert causal.seconds.how == causal.memory.how == "not causal"
    assert not causal.seconds.within(1e9)
    flops = zoo.make("local", window=16).cost(size(700), causal=True).flops
    assert causal.seconds.value == pytest.approx(1e-4 + flops / 50e9, rel=0.02)


def test_an_n_that_is_padded_as_none_was_has_no_known_error(calibration):
    for n, window in ((700, 16), (768, 10)):
        odd = calibration.predict("local", {"window": window}, size(n))
        assert odd.seconds.how == odd.memory.how == "padded otherwise"
        assert not odd.seconds.within(1e9)
    assert calibration.predict("local", {"window": 16}, size(768)).memory.within(0.15)


def test_hyperparameters_that_follow_n_follow_it_on():
    def known(**by_n):
        return [
            samples.Sample({"n": int(n[1:]), "hparams": hparams}, 1, 1, 1.0, 0.0, None, None, 0)
            for n, hparams in by_n.items()
        ]

    found = samples.at_length(
        known(
            n256={"stride": 16, "window": 64, "block": 32, "kind": "x"},
            n2048={"stride": 45, "window": 64, "block": 256, "kind": "x"},
        ),
        4000,
    )
    assert found == {"stride": 63, "window": 64, "block": 500, "kind": "x"}
    assert samples.at_length(known(n256={"s": 3}, n512={"s": 7}), 300) == {"s": 3}


def test_of_one_call_the_latest_record_counts(tmp_path):
    old, new = kernels(lengths=(256,)), kernels(lengths=(256,), seconds=lambda flops: 7.0)
    new[0]["env"]["date"] = "2027-01-01"
    for order in ([*old, *new], [*new, *old]):
        ((_, (sample,)),) = samples.curves(order).items()
        assert sample.seconds == 7.0


@pytest.mark.parametrize(
    ("measured", "compiled", "held"),
    [(300, 200, 300), (100, 200, 200), (None, 200, 200), (300, None, 300), (None, None, None)],
)
def test_what_a_program_holds_is_no_less_than_it_was_compiled_to_hold(measured, compiled, held):
    (record,) = kernels(lengths=(256,))
    record["metrics"] |= {"bytes_measured": measured, "bytes_compiled": compiled}
    ((_, (sample,)),) = samples.curves([record]).items()
    assert (sample.memory, sample.compiled) == (held, compiled)


def test_switches_choose_a_curve_and_sizes_do_not():
    def key(name, **hparams):
        return samples.key(name, hparams, "forward", False, "float32")

    assert key("full", implementation="plain") == "full implementation=plain, forward, float32"
    assert key("linear", feature_map="elu", chunk=64) == key("linear")
    assert key("rfa", gate=True) != key("rfa")


@pytest.mark.parametrize(
    ("mechanism", "hparams", "causal", "words"),
    [
        ("full", {}, False, "no records of 'full, forward, float32'"),
        ("local", {"block": 8}, False, "no records of .*bfloat16.*there are local, forward"),
        ("local", {"windw": 3}, False, "did you mean 'window'"),
    ],
)
def test_what_was_not_measured_is_refused(calibration, mechanism, hparams, causal, words):
    itemsize = 2 if "bfloat16" in words else 4
    with pytest.raises(ValueError, match=words):
        calibration.predict(mechanism, hparams, size(64, itemsize=itemsize), causal=causal)


def test_a_length_out_of_line_is_a_miss():
    found = kernels()
    found[1]["metrics"]["seconds"] *= 2
    kept = calibrate.calibrate(found)["held_out"]["seconds"]
    assert kept["points"] == 3
    assert 512 in [miss["n"] for miss in kept["misses"]]
    assert kept["misses"][0]["ratio"] == pytest.approx(0.5, abs=0.05)


def test_nothing_to_calibrate_by_is_one_line(tmp_path, capsys):
    synthetic.write(tmp_path, [synthetic.kernel("full", 64, status="oom", reason="no room")])
    assert calibrate.main([str(tmp_path)]) == 2
    assert "no records of kind kernel with a time" in capsys.readouterr().err
    assert not (tmp_path / calibrate.FILE).exists()


def test_several_devices_are_refused_in_one_line(tmp_path, capsys):
    synthetic.write(tmp_path / "a", kernels())
    synthetic.write(tmp_path / "b", list(map(synthetic.elsewhere, kernels())))
    assert calibrate.main([str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "records of cpu-synthetic-2c, gpu-x; name the folder of one device" in err
    assert err.count("\n") == 1
    assert not (tmp_path / calibrate.FILE).exists()


def test_a_record_without_meaning_is_told_and_the_rest_is_used(tmp_path, capsys):
    unknown = synthetic.kernel("pooled", 64)
    synthetic.write(tmp_path, [*kernels(), unknown])
    assert calibrate.main([str(tmp_path)]) == 0
    assert len(calibrate.load(tmp_path / calibrate.FILE).curves) == 1
    assert f"1 record is left out: record {unknown['id']}: unk" in capsys.readouterr().err


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_the_committed_file_is_that_of_its_records(path):
    stored = json.loads(path.read_text())
    made = json.loads(json.dumps(calibrate.calibrate(records.load(path.parent))))
    assert made == stored, f"run python -m experiments.calibrate {path.parent}"


def test_where_it_cannot_write_is_one_line(tmp_path, capsys):
    synthetic.write(tmp_path, kernels())
    assert calibrate.main([str(tmp_path / "records.jsonl")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("calibration.json: Not a directory")
