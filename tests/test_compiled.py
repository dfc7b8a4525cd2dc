"""Every mechanism compiles for a TPU by the real compiler; where libtpu is installed, as `make
tpu-check` does. What is refused without it, and what a table says of it, is tested everywhere."""

import importlib.util
import os

import jax
import jax.numpy as jnp
import pytest

from attention_zoo import heads
from configs import tpu_compile
from experiments import report, run
from experiments.analysis import frames, reading
from experiments.kinds import compiled
from experiments.reporting import chips
from experiments.running import worker
from tests import synthetic_records as synthetic

INSTALLED = importlib.util.find_spec(compiled.PACKAGE) is not None
CONFIG = tpu_compile.get_config()
needs_libtpu = pytest.mark.skipif(not INSTALLED, reason="libtpu is not installed: make tpu-check")


def point(label, n=1024, mode="train", topology="v5e:1x1", **changes):
    config = tpu_compile.get_config()
    config.mechanisms, config.lengths, config.modes = (label,), (n,), (mode,)
    config.topologies = (topology,)
    (found,) = tpu_compile.get_sweep(config)
    return {**found, "heads": 4, **changes}


@needs_libtpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("label", CONFIG.mechanisms)
def test_compiles_for_a_tpu(tmp_path, label, dtype):
    metrics = compiled.run_point(point(label, dtype=dtype), tmp_path)
    assert metrics["bytes_held"] >= metrics["bytes_arguments"] > 0
    assert metrics["bytes_accessed"] > 0


@needs_libtpu
def test_what_does_not_fit_is_a_row_that_says_so(tmp_path):
    outcome = worker.perform(point("full", n=65536, mode="forward"), tmp_path)
    assert outcome["status"] == "oom"
    assert "hbm" in outcome["reason"].lower()


@needs_libtpu
def test_more_chips_hold_less(tmp_path):
    held = [
        compiled.run_point(point("linear", n=4096, topology=chips), tmp_path)["bytes_held"]
        for chips in ("v5e:1x1", "v5e:2x2")
    ]
    assert held[1] < held[0] / 2


@pytest.mark.skipif(INSTALLED, reason="libtpu is installed")
def test_without_the_compiler_one_line_says_how_to_get_it(capsys, tmp_path):
    arguments = ["--config", "tpu_compile", "--config.mechanisms=linear", "--out", str(tmp_path)]
    assert run.main(arguments) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "needs the package libtpu: pip install -e '.[tpu]'" in told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topology": "v9:1x1"}, "topology must be one of v5e:1x1, v5e:2x2, v5e:4x4, got 'v9:1x1'"),
        ({"topology": "v5e:4x4", "n": 1000}, "n=1000 must be a multiple of the chips of v5e:4x4"),
    ],
)
def test_a_bad_point_says_what_would_work(changes, words):
    with pytest.raises(ValueError, match=words):
        compiled.check_point({**point("linear"), **changes})


def test_mechanisms_choose_as_on_the_device_they_are_compiled_for():
    sizes = (1, 8, 4096 * 64)
    here = heads.group_size(*sizes)
    with compiled.as_if_on("tpu"):
        assert heads.group_size(*sizes) > here
    assert jax.default_backend() == "cpu"
    assert jnp.ones(1).device.platform == os.environ.get("JAX_PLATFORMS", "cpu")


def records():
    """Linear fits a million on one chip; full stops at 4,096 on one and goes on on four."""
    found = []
    for topology, reach in (("v5e:1x1", 4096), ("v5e:2x2", 16384)):
        for label in ("full", "linear"):
            for n in (1024, 4096, 16384, 65536):
                held = {"bytes_held": n * 1e4, "bytes_accessed": n * 1e5, "bytes_temporaries": n}
                fits = label == "linear" or n <= reach
                fate = ("ok", "") if fits else ("oom", "Used 20G of 15.75G hbm")
                config = point("linear", n=n, topology=topology)
                config |= {"label": label, "mechanism": label}
                found.append(synthetic.record(config, held if fits else {}, *fate))
    return found


def test_what_is_not_compiled_yet_is_not_said_to_fit(tmp_path):
    made = [r for r in records() if (r["config"]["label"], r["config"]["n"]) != ("linear", 16384)]
    synthetic.write(tmp_path, made)
    (section,) = frames.sections(reading.read([tmp_path]).frame)
    rows = [row for row in chips.largest(frames.cells(section)) if row["label"] == "linear"]
    found = [(row["n"], row["next_n"], row["why"]) for row in rows]
    assert found == [(4096, 16384, "not compiled yet")] * 2


def test_the_table_names_the_largest_that_fits(tmp_path):
    synthetic.write(tmp_path / "records", records())
    (section,) = frames.sections(reading.read([tmp_path / "records"]).frame)
    best = {(row["label"], row["topology"]): row for row in chips.largest(frames.cells(section))}
    assert best["full", "v5e:1x1"]["n"] == 4096
    assert best["full", "v5e:1x1"]["next_n"] == 16384
    assert "hbm" in best["full", "v5e:1x1"]["why"]
    assert best["full", "v5e:2x2"]["n"] == 16384
    assert best["linear", "v5e:1x1"]["n"] == 65536
    ids = {(r["config"]["label"], r["config"]["n"]): r["id"] for r in records()[:8]}
    last = frames.sources([ids["full", 4096], ids["full", 16384]])
    assert best["full", "v5e:1x1"]["records"] == last
    assert best["linear", "v5e:1x1"]["records"] == ids["linear", 65536]
    assert "next_n" not in best["linear", "v5e:1x1"]
    assert report.main([str(tmp_path / "records"), "--out", str(tmp_path / "report")]) == 0
    written = (tmp_path / "report" / "tpu_compile-largest.md").read_text()
    assert "not run and not timed" in written
