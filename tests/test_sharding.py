"""Points of kinds sharding and plan: bytes counted in programs, planned on paper, and reported."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

import attention_zoo as zoo
from attention_zoo import parallel
from experiments import report
from experiments.kinds import plan, sharding
from experiments.measuring import communication
from experiments.running import configuration
from tests import synthetic_records as synthetic

POINT = {
    "experiment": "sharding",
    "kind": "sharding",
    "label": "local",
    "mechanism": "local",
    "hparams": {"window": 3},
    "scaling": "strong",
    "n": 64,
    "devices": 4,
    "causal": False,
    "batch": 1,
    "heads": 2,
    "head_dim": 4,
    "value_dim": 6,
    "dtype": "float32",
    "seed": 0,
    "repeats": 3,
    "budget": 0.0,
}
LINK = {"name": "wire", "bytes_per_second": 1e6, "memory_bytes": 1e9}
PLAN = POINT | {"kind": "plan", "dtype": "bfloat16", "link": LINK}


def counted(body, *, devices=4):
    mesh = sharding.mesh_of(devices)
    split = PartitionSpec(parallel.AXIS)
    run = jax.shard_map(body, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
    x = jax.ShapeDtypeStruct((devices * 8,), jnp.float32)
    return communication.bytes_sent(jax.jit(run).lower(x).compile().as_text(), devices)


def test_collectives_are_counted_by_kind_and_trip():
    ways = [(i, (i + 1) % 4) for i in range(4)]

    def body(x):
        def turn(x, _):
            return jnp.sin(jax.lax.ppermute(x, "sequence", ways)), None

        x, _ = jax.lax.scan(turn, x, None, length=5)
        whole = jax.lax.all_gather(jnp.cos(x), "sequence")
        mixed = jax.lax.all_to_all(jnp.tan(x), "sequence", 0, 0, tiled=True)
        return mixed + whole.sum(0) + jax.lax.psum(jnp.exp(x), "sequence")

    own = 8 * 4
    assert counted(body) == {
        "all-gather": 3 * own,
        "all-reduce": 2 * 3 * own // 4,
        "all-to-all": 3 * own // 4,
        "collective-permute": 5 * own,
    }


def test_a_loop_of_unknown_length_is_not_guessed():
    def body(x):
        def turn(x):
            return jnp.sin(jax.lax.psum(x, "sequence"))

        return jax.lax.while_loop(lambda x: x.sum() < 9, turn, x)

    with pytest.raises(ValueError, match="a loop of unknown length communicates"):
        counted(body)


def test_a_point_counts_what_its_formula_says(tmp_path):
    metrics = sharding.run_point(POINT, tmp_path)
    window = (3 + 3) * 2 * (4 + 6) * 4
    assert metrics["sent_forward"] == metrics["sent_forward_formula"] == window
    assert metrics["sent_backward"] == metrics["sent_backward_formula"] == window
    assert metrics["sent_collective_permute"] == 2 * window
    assert metrics["seconds"] > 0


def test_a_plan_adds_up(tmp_path):
    metrics = plan.run_point(PLAN | {"n": 2**30}, tmp_path)
    window = (3 + 3) * 2 * (4 + 6) * 2
    assert metrics["sent_forward_formula"] == metrics["sent_backward_formula"] == window
    assert metrics["bytes_arrays"] == 2**30 // 4 * 2 * (4 + 4 + 6 + 6) * 2
    assert metrics["bytes_total"] == 2 * metrics["bytes_arrays"] + metrics["bytes_held"]
    assert metrics["memory_share"] == metrics["bytes_total"] / 1e9
    assert metrics["seconds_sending"] == 2 * window / 1e6


def test_a_split_parameter_is_shared_out_and_its_gradient_is_not_sent():
    dims = zoo.Dims(q_len=4096, kv_len=4096, heads=8)
    linformer, query_reduction = zoo.make("linformer"), zoo.make("query_reduction")
    assert plan.parameter_bytes(linformer, dims, 8) * 8 == plan.parameter_bytes(linformer, dims, 1)
    sent = parallel.bytes_sent(linformer, dims, 8)
    assert sent.forward == sent.backward
    whole = plan.parameter_bytes(query_reduction, dims, 8)
    assert whole == plan.parameter_bytes(query_reduction, dims, 1)
    # but for the peaks of the softmax, which have no gradient
    sent = parallel.bytes_sent(query_reduction, dims, 8)
    assert sent.backward - sent.forward == 2 * 7 * (whole - 4 * 8 * 256) // 8


def test_the_random_blocks_of_a_long_sequence_are_near_their_expected_number(monkeypatch):
    from attention_zoo.mechanisms import bigbird

    m = zoo.make("bigbird", global_blocks=0, window=0)
    dims = zoo.Dims(q_len=2**17, kv_len=2**17, heads=8)
    for causal in (False, True):
        exact = parallel.bytes_sent(m, dims, 4, causal=causal).forward
        monkeypatch.setattr(bigbird, "COUNTED", 0)
        near = parallel.bytes_sent(m, dims, 4, causal=causal).forward
        monkeypatch.undo()
        assert near == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"devices": 0}, "devices must be a whole number from 1 up, got 0"),
        ({"scaling": "sideways"}, "scaling must be one of strong, weak, got 'sideways'"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"kind": "plan", "link": {**LINK, "bytes_per_second": 0}}, "link.bytes_per_second must"),
    ],
)
def test_a_bad_point_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        configuration.check(PLAN | {"kind": "sharding"} | change)


def test_more_devices_than_there_are_get_one_clear_line():
    with pytest.raises(ValueError, match="devices=64 needs as many, and there are 8"):
        sharding.mesh_of(64)


def test_the_sweep_covers_every_mechanism():
    points = configuration.points(*configuration.load("sharding"))
    for kind in ("sharding", "plan"):
        assert {p["mechanism"] for p in points if p["kind"] == kind} == set(zoo.names())
    assert {p["devices"] for p in points if p["kind"] == "plan"} == {8, 256, 4096}


def test_the_report_shows_what_is_sent_and_planned(tmp_path):
    sent = {"sent_forward": 2e6, "sent_forward_formula": 2e6}
    sent |= {"sent_backward": 3e6, "sent_backward_formula": 3e6, "seconds": 0.5}
    found = [
        synthetic.record(POINT, sent),
        synthetic.record(POINT | {"devices": 8}, sent | {"sent_forward": 2e6 + 99}),
        synthetic.record(POINT | {"causal": True}, {}, "refused", "not so"),
    ]
    planned = {"bytes_total": 5e9, "sent_forward_formula": 7e9, "sent_backward_formula": 8e9}
    found += [
        synthetic.record(PLAN, planned | {"memory_share": 0.5, "seconds_sending": 0.25}),
        synthetic.record(PLAN | {"n": 128}, planned | {"memory_share": 1.5}),
    ]
    folder, out = synthetic.write(tmp_path / "in", found), tmp_path / "out"
    assert report.main([str(folder), "--out", str(out), "--figures", "svg"]) == 0
    table = (out / "sharding-traffic.md").read_text()
    assert "| [local](sharding-traffic.csv#L" in table
    assert "| bidirectional | strong | 64 | 4 | 2.000 | 2.000 | 3.000 | 3.000 |" in table
    assert "refused: not so" in table
    table = (out / "sharding-plan.md").read_text()
    assert "On paper, nothing was run" in table
    assert "| wire | 0.250 | ok |" in table
    assert [line.split(" | ")[8] for line in table.splitlines()[4:]] == ["yes", "no"]
    assert "1 of 2" in (out / "index.html").read_text()
