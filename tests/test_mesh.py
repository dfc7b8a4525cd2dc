"""Meshes: what is refused, what is split how, and the same training on any of them."""

import functools
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

import attention_zoo as zoo
from attention_zoo import sharding
from experiments import run
from experiments.measuring import environment
from experiments.training import mesh
from tests.cases import assert_close

DATA, SEQUENCE, MODEL = sharding.AXES


@pytest.fixture(autouse=True)
def known_environment(monkeypatch):
    monkeypatch.setattr(environment, "probe", lambda: {"device": "stub", "devices": 8})


@pytest.mark.parametrize(
    ("config", "changes", "words"),
    [
        ("accuracy/mqar", "modle=2", "no config key 'mesh.modle'; there are data, model, sequence"),
        ("accuracy/mqar", "data=0", "mesh.data must be a whole number from 1 up, or -1"),
        ("accuracy/mqar", "data=two", "config.mesh.data must be int such as -1, got 'two'"),
        ("accuracy/mqar", "model=-1", "mesh takes one -1, got data=-1,sequence=1,model=-1"),
        ("accuracy/mqar", "model=2", "mesh.model=2 must divide heads=1"),
        ("accuracy/listops", "model=3", "mesh.model=3 must divide heads=4"),
        ("accuracy/mqar", "data=3", "mesh.data=3 must divide batch / microbatches=32"),
        ("accuracy/mqar", "sequence=3", "mesh.sequence=3 must divide n=64"),
        ("accuracy/mqar", "data=2,sequence=8", "needs 16 devices, there are 8"),
        ("accuracy/mqar", "data=1,model=-1", "mesh.model=8 must divide heads=1"),
        ("scaling", "data=2", "a kernel runs on one device and takes no mesh, got data=2"),
    ],
)
def test_a_bad_mesh_is_one_line_and_code_two(capsys, tmp_path, config, changes, words):
    arguments = [f"--config.mesh.{change}" for change in changes.split(",")]
    arguments += ["--config.mechanisms=full"] + ["--config.lengths=64"] * (config != "scaling")
    out = tmp_path / "out"
    assert run.main(["--config", config, "--out", str(out), *arguments]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert words in told
    assert not out.exists()


def test_what_cannot_share_positions_is_one_line_too(capsys, tmp_path):
    arguments = ["--config", "accuracy/mqar", "--config.mesh.sequence=2", "--config.lengths=64"]
    arguments += ["--config.mechanisms=recurrent", "--out", str(tmp_path / "out")]
    assert run.main(arguments) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "'recurrent': recurrent: each state waits for the one before" in told


def test_what_is_left_for_an_axis_must_do_too(capsys, tmp_path):
    """Of 64 positions 8 devices have 8 each."""
    arguments = ["--config", "accuracy/mqar", "--config.lengths=64", "--out", str(tmp_path / "out")]
    arguments += ["--config.mechanisms=bigbird", "--config.mesh.data=1"]
    assert run.main([*arguments, "--config.mesh.sequence=-1"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "block=16 must divide the 8 positions of each device" in told


def test_an_axis_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="mesh has no axis 'batch'; it has data, sequence, model"):
        mesh.check({"batch": 2})


@pytest.mark.parametrize(
    ("asked", "devices", "rows", "sizes"),
    [
        ({}, 1, 6, (1, 1, 1)),
        ({}, 8, 16, (8, 1, 1)),
        ({}, 8, 6, (6, 1, 1)),
        ({}, 8, 7, (7, 1, 1)),
        ({}, 4, 5, (1, 1, 1)),
        ({"model": 2}, 8, 16, (4, 1, 2)),
        ({"data": 2}, 8, 16, (2, 1, 1)),
        ({"data": 2, "sequence": -1}, 8, 16, (2, 4, 1)),
    ],
)
def test_what_is_left_goes_to_the_axis_that_asks(asked, devices, rows, sizes):
    assert tuple(mesh.sizes(asked, devices, rows).values()) == sizes


def test_several_processes_leave_no_device_out():
    with pytest.raises(ValueError, match=r"mesh\.data=8 must divide batch / microbatches=6"):
        mesh.sizes({}, 8, 6, all=True)
    with pytest.raises(ValueError, match="must have all 8 devices of all processes"):
        mesh.sizes({"data": 2}, 8, 6, all=True)


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("params.stack.blocks.0.mixer.query.kernel.value", (64, 64), (DATA, MODEL)),
        ("optimiser.1.0.mu.stack.blocks.0.mixer.out.kernel.value", (64, 64), (MODEL, DATA)),
        ("params.stack.blocks.expand.kernel.value", (3, 64, 256), (None, DATA, MODEL)),
        ("params.stack.blocks.0.expand.bias.value", (256,), (MODEL,)),
        ("params.stack.blocks.0.contract.bias.value", (64,), (None,)),
        ("params.embed.table.embedding.value", (127, 64), (None, DATA)),
        ("params.head.kernel.value", (64, 10), (DATA, MODEL)),
        ("params.stack.blocks.0.mixer.params.weight.value", (1, 32, 32), (None, None, DATA)),
        ("buffers.stack.blocks.0.mixer.params.features.value", (8, 64, 64), (None, None, None)),
        ("params.norm.scale.value", (64,), (None,)),
        ("lr", (), ()),
    ],
)
def test_the_rules_split_what_they_divide(path, shape, spec):
    on = AbstractMesh((4, 1, 2), sharding.AXES)
    assert sharding.rule(path, shape, on) == PartitionSpec(*spec)


def test_a_call_without_a_mesh_is_left_alone():
    x = jax.numpy.ones((2, 3))
    assert sharding.constrain(x, DATA, SEQUENCE) is x
    assert sharding.constrain(None, DATA) is None
    assert mesh.make(None, 8) is None


@pytest.mark.parametrize(
    ("name", "hparams"),
    [
        ("nystrom", {"landmarks": 4, "batch_wide": True}),
        ("auto_correlation", {"batch_wide": True}),
        ("mixed", {"parts": (("auto_correlation", {"batch_wide": True}), ("local", {}))}),
    ],
)
def test_what_reads_the_whole_batch_does_so_where_it_is_split(name, hparams):
    m = zoo.make(name, **hparams)
    on = jax.make_mesh((2, 1, 1), sharding.AXES, (AxisType.Auto,) * 3, devices=jax.devices()[:2])
    keys = jax.random.split(jax.random.key(0), 3)
    arrays = [jax.random.normal(key, (2, 16, 2, 4)) for key in keys]
    split = jax.device_put(arrays, NamedSharding(on, PartitionSpec(DATA)))
    many = jax.jit(mesh.on(on, functools.partial(sharding.apply, m, {})))(*split)
    assert_close(many, m.apply({}, *arrays))


def trained(out, runs):
    """What tests.meshes says of the runs, by name, on 8 devices."""
    flags = [f for f in os.environ["XLA_FLAGS"].split() if "device_count" not in f]
    variables = {"JAX_NUM_CPU_DEVICES": "8", "XLA_FLAGS": " ".join(flags)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.meshes", str(out)],
        input=json.dumps(runs),
        env={**os.environ, **environment.worker_variables(), **variables},
        cwd=environment.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["name"]: line for line in lines}


def test_a_training_is_the_same_on_any_mesh_and_goes_on_on_another(tmp_path):
    """One test, for one process compiles all of it."""
    cube = {"data": 2, "sequence": 2, "model": 2}
    meshes = {"1": {}, "2": {"data": 2}, "4": {"data": 2, "model": 2}}
    meshes |= {"8": mesh.DEFAULT, "2x2x2": cube}
    asked = {name: {"mesh": sizes, "point": {}} for name, sizes in meshes.items()}
    asked["stopped"] = {"mesh": cube, "point": {}, "stop": 4}
    asked["moved"] = {"mesh": mesh.DEFAULT, "point": {}, "after": "stopped"}
    runs = trained(tmp_path, asked)
    # three evaluations: the losses of both splits and the score
    assert len(runs["1"]["curve"]) == 9
    assert len(runs["stopped"]["curve"]) == 3
    for name in ("2", "4", "8", "2x2x2", "moved"):
        for key in ("curve", "test_bpb"):
            np.testing.assert_allclose(runs[name][key], runs["1"][key], rtol=1e-4, err_msg=name)
    # the state, and what a step holds, is split
    held = [runs[name]["bytes_compiled"] for name in ("1", "2", "8")]
    assert held[0] > 1.7 * held[1] > 1.7 * 2 * held[2]
    assert runs["8"]["mesh"] == "data=8,sequence=1,model=1"
    assert runs["1"]["mesh"] is None


MECHANISMS = {
    "local": {"window": 4},
    "strided": {"stride": 4},
    "global": {"tokens": 2, "window": 3},
    "bigbird": {"block": 4},
    "linear": {},
    "performer": {"features": 16},
    "rfa": {"features": 16},
    "lsh": {"buckets": 4, "block": 4},
    "routing": {"clusters": 4, "window": 4},
    "sinkhorn": {"block": 4},
    "compressed": {"stride": 4},
    "spatial_gating": {},
    "synthesizer": {},
}


# of what has no causal form, by classifiers; the others are variants of those above
BIDIRECTIONAL = {
    "linformer": {"slots": 8},
    "nystrom": {"landmarks": 8},
    "query_reduction": {"slots": 8},
    "fourier": {},
    "fourier_enhanced": {"modes": 4},
    "mlp_mixer": {"hidden": 8},
    "probsparse": {},
    "auto_correlation": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", BIDIRECTIONAL)
def test_every_classifier_trains_alike_on_meshes(tmp_path, mechanism):
    examples = {f"{split}_examples": 200 for split in ("train", "val", "test")}
    point = {
        **{"mechanism": mechanism, "hparams": BIDIRECTIONAL[mechanism]},
        **{"task": "listops", "task_args": examples, "n": 32},
    }
    meshes = {"1": {}, "4": {"data": 4}, "4x2": {"data": 4, "model": 2}}
    asked = {name: {"mesh": sizes, "point": point} for name, sizes in meshes.items()}
    found = trained(tmp_path, asked)
    for name in meshes:
        np.testing.assert_allclose(found[name]["curve"], found["1"]["curve"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_trains_alike_on_meshes(tmp_path, mechanism):
    point = {"mechanism": mechanism, "hparams": MECHANISMS[mechanism], "microbatches": 2}
    meshes = {"1": {}, "4": {"data": 4}, "4x2": {"data": 4, "model": 2}}
    meshes["2x2x2"] = {"data": 2, "sequence": 2, "model": 2}
    asked = {name: {"mesh": sizes, "point": point} for name, sizes in meshes.items()}
    found = trained(tmp_path, asked)
    for name in meshes:
        np.testing.assert_allclose(found[name]["curve"], found["1"]["curve"], rtol=1e-4)
