"""Points of kind step: attention's part of a training step, counted and reported."""

import jax
import numpy as np
import pytest

from experiments import measure, report
from experiments.analysis import findings, frames, reading
from experiments.kinds import whole_step
from experiments.measuring import flops
from experiments.reporting import shares, tables
from experiments.running import configuration
from tests import synthetic_records as synthetic

MODEL = {"width": 24, "depth": 2, "heads": 3, "ff": 40, "positions": "sinusoidal"}
POINT = {
    "experiment": "steps",
    "kind": "step",
    "label": "full",
    "mechanism": "full",
    "hparams": {"implementation": "plain"},
    "n": 32,
    "batch": 2,
    "model": MODEL,
    "dtype": "float32",
    "seed": 0,
    "repeats": 3,
    "budget": 0.0,
}
PATCH = 8
PATCHED = {"model": {**MODEL, "inputs": "patches", "patch": PATCH}}
# (mechanism, hparams, projections that it reads)
READERS = (
    ("local", {"window": 4}, 3),
    ("global", {"tokens": 2, "separate": True}, 6),
    ("lsh", {"buckets": 4, "block": 8}, 2),
    ("linformer", {"slots": 5}, 3),
    ("fourier", {}, None),
)


def counted(*, attention, **changes):
    step, args = whole_step.program({**POINT, **changes}, attention=attention)
    return flops.count(step, *args).flops


def rest(projections, depth=MODEL["depth"], positions=POINT["n"]):
    """FLOPs of a step without attention: three products of tokens by weights each, the head too."""
    C, F, tokens = MODEL["width"], MODEL["ff"], positions * POINT["batch"]
    mixer = 0 if projections is None else (projections + 1) * C * C
    return 3 * 2 * (depth * tokens * (mixer + 2 * C * F) + POINT["batch"] * C * 2)


@pytest.mark.parametrize(("mechanism", "hparams", "projections"), READERS)
def test_a_step_without_attention_is_projections_and_feed_forward(mechanism, hparams, projections):
    changes = {"mechanism": mechanism, "hparams": hparams}
    assert counted(attention=False, **changes) == rest(projections)


def test_the_compiler_merges_no_projections():
    step, args = whole_step.program(POINT, attention=False)
    compiled = jax.jit(step).lower(*args).compile()
    assert compiled.as_text().count(" dot(") == 3 * (MODEL["depth"] * (3 + 1 + 2) + 1)


# the last of 31 steps leaves its patch short
@pytest.mark.parametrize(
    ("changes", "positions"), [({}, 32), (PATCHED, 32 // PATCH), (PATCHED | {"n": 31}, 4)]
)
def test_what_is_missing_is_attention(changes, positions):
    B, H, D = POINT["batch"], MODEL["heads"], MODEL["width"] // MODEL["heads"]
    kernel = 3 * MODEL["depth"] * 2 * B * H * positions**2 * 2 * D
    assert counted(attention=True, **changes) - counted(attention=False, **changes) == kernel


def test_in_patches_the_rest_is_of_fewer_positions_too():
    positions = POINT["n"] // PATCH
    # to embed a series takes a product by weights, which are trained
    embedding = 2 * 2 * positions * POINT["batch"] * PATCH * MODEL["width"]
    assert counted(attention=False, **PATCHED) == rest(3, positions=positions) + embedding


def test_an_output_that_is_shorter_stays_so():
    changes = {"mechanism": "query_reduction", "hparams": {"slots": 6}}
    few, many = (counted(attention=False, n=n, **changes) for n in (32, 64))
    assert few < many < 2 * few - 1000
    whole_step.check_point({**POINT, **changes})


def test_a_step_is_measured_with_and_without(tmp_path, monkeypatch):
    model = {**MODEL, "depth": 1}
    asked = []

    def timed(runs, **limits):
        asked.append(len(runs))
        return measured(runs, **limits)

    measured = measure.by_turns
    monkeypatch.setattr(measure, "by_turns", timed)
    metrics = whole_step.run_point({**POINT, "model": model}, tmp_path)
    assert 2 in asked, "the two steps are timed by turns"
    for key in whole_step.APART:
        assert f"{key}_rest" in metrics
    assert metrics["flops_counted"] > metrics["flops_counted_rest"] == rest(3, depth=1)
    assert metrics["bytes_compiled"] > metrics["bytes_compiled_rest"]
    assert jax.tree.all(jax.tree.map(lambda x: x is None or x >= 0, metrics))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 0}, "n must be a whole number from 1 up, got 0"),
        ({"mechanism": "ful"}, "did you mean 'full'"),
        ({"hparams": {"blok": 3}}, "no hyperparameter 'blok'"),
        ({"model": {**MODEL, "heads": 5}}, "heads=5 must divide width=24"),
        ({"model": {**MODEL, "widht": 5}}, "model has no field 'widht'"),
        ({"model": {**MODEL, "inputs": "patch"}}, "model.inputs must be one of tokens, continuous"),
        ({"model": {**PATCHED["model"], "patch": 0}}, "patch must be"),
    ],
)
def test_a_bad_point_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        whole_step.check_point({**POINT, **change})


def test_the_sweep_covers_every_mechanism():
    points = configuration.points(*configuration.load("steps"))
    assert {p["n"] for p in points} == {2**e for e in range(8, 15)}
    assert len(points) == 7 * len({p["label"] for p in points})
    patched = {p["label"] for p in points if p["model"].get("inputs") == "patches"}
    assert patched == {"full, patches of 16", "linear, patches of 16"}


def test_the_steps_of_digits_are_of_the_models_that_are_trained():
    def models(name):
        points = configuration.points(*configuration.load(name), checked=False)
        # of what is not asked for a training's point says nothing
        own = [{k: v for k, v in p["model"].items() if v and k != "inputs"} for p in points]
        return {
            (p["label"], p["n"], p["batch"], str(p["hparams"]), str(sorted(model.items())))
            for p, model in zip(points, own, strict=True)
        }

    steps, trained = models("steps_digits"), models("accuracy/fsdd:small")
    assert trained < steps
    assert {(label, n) for label, n, *_ in steps - trained} == {("full", 4096), ("full", 10_504)}


def step_record(mechanism, n, attention, **changes):
    """Of a step whose rest takes n, in FLOPs and nanoseconds."""
    config = {**POINT, "label": mechanism, "mechanism": mechanism, "hparams": {}, "n": n} | changes
    metrics = {"flops_counted": n + attention, "flops_counted_rest": n}
    metrics |= {"seconds": (n + 2 * attention) * 1e-9, "seconds_rest": n * 1e-9}
    return synthetic.record(config, metrics)


@pytest.fixture
def published(tmp_path):
    lengths = [2**e for e in range(6, 13)]
    found = [step_record("full", n, n * n / 1000) for n in lengths]
    found += [step_record("linear", n, n / 4) for n in lengths]
    found.append(synthetic.record({**POINT, "n": 8192}, {}, "oom", "no room"))
    return synthetic.write(tmp_path / "in", found)


def test_half_of_the_step_is_found_where_it_is(published):
    (section,) = frames.sections(reading.read([published]).frame)
    full, linear = shares.crossings(shares.cells(section))
    assert full["flops_counted_n"] == pytest.approx(1000)
    assert full["seconds_n"] == pytest.approx(500)
    assert full["seconds_verdict"] == "500, between 256 and 512"
    assert linear["flops_counted_verdict"] == "never up to 4,096"


def test_the_report_shows_shares(published, tmp_path):
    out = tmp_path / "out"
    assert report.main([str(published), "--out", str(out), "--figures", "svg"]) == 0
    names = {path.name for path in out.iterdir()}
    shown = {
        f"steps-{key}-{of}.svg" for key in ("flops-counted", "seconds") for of in ("share", "step")
    }
    assert {"steps.md", "steps-half.md"} | shown <= names
    assert "no room" in (out / "steps.md").read_text()
    assert "full is half of a training step" in (out / "index.html").read_text()


def test_a_step_grows_beside_the_others_and_patches_are_no_exact_attention(tmp_path):
    lengths = (64, 128, 256)
    # the patch is the model's usual one
    patched = {"label": "patched", "model": {**MODEL, "inputs": "patches"}}
    found = [step_record("full", n, n * n / 1000) for n in lengths]
    found += [step_record("full", n, n * n / 16000, **patched) for n in lengths]
    found += [step_record("linear", n, 2e6 / n**2) for n in lengths]
    (section,) = frames.sections(reading.read([synthetic.write(tmp_path, found)]).frame)
    assert findings.exact_labels(section) == ["full"]
    assert findings.passes(section.cells) == [None]
    # n² / 1000 = 2,000,000 / n² at 211
    met = findings.meeting(section, "linear", None, "flops_counted")
    assert (met.low, met.high) == (128, 256)
    assert findings.meeting(section, "patched", None, "flops_counted").text.startswith("cheaper")
    exponents = {t.name: t for t in tables.build(section)}["steps-exponents"].frame
    (slope,) = exponents.query("label == 'linear' and quantity == 'FLOPs counted'").exponent
    logs = np.log2([n + 2e6 / n**2 for n in lengths])
    assert slope == pytest.approx(np.polyfit(np.log2(lengths), logs, 1)[0])


def test_feed_forward_parts_apart_are_other_settings_unless_each_model_has_one(tmp_path):
    def sections(name, sizes):
        found = [
            step_record(label, n, n, model={**MODEL, "ff": ff})
            for label, ff in sizes
            for n in (64, 128)
        ]
        return frames.sections(reading.read([synthetic.write(tmp_path / name, found)]).frame)

    (section,) = sections("evened", [("full", 40), ("none", 56), ("linear", 40)])
    assert section.title.endswith("ff 40")
    assert len(sections("apart", [("full", 40), ("full", 56), ("linear", 40)])) == 2
