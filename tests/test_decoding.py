"""Points of kind decoding: the same tokens with a state and without, at the cost that each has."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import report
from experiments.analysis import frames, reading
from experiments.kinds import decoding
from experiments.measuring import flops
from experiments.reporting import decoding_report
from experiments.running import configuration
from tests import synthetic_records as synthetic

MODEL = {"width": 16, "depth": 2, "heads": 2, "ff": 24, "positions": "sinusoidal"}
# chunks of which a token would move the borders
PAPER = {"buckets": 6, "hashes": 2, "block": 5, "chunking": "paper"}
TRANSLATOR = MODEL | {"kind": "encoder_decoder", "norm": "post", "decoder_mechanism": "full"}
# of a fusion in a compiled program's text
CALLED = r"calls=(%[\w.]+)"
POINT = {
    **{"experiment": "decoding", "kind": "decoding", "label": "full", "mechanism": "full"},
    **{"hparams": {}, "n": 12, "batch": 2, "model": MODEL, "dtype": "float32", "seed": 0},
    **{"repeats": 3, "budget": 0.0},
}


def recurrent(attention):
    return {"architecture": "recurrent", "attention": attention, "width": 16}


@pytest.mark.parametrize(
    ("mechanism", "hparams", "model"),
    [
        ("full", {}, MODEL),
        ("local", {"window": 3}, MODEL),
        ("linear", {}, MODEL),
        # it has buffers, which a whole pass writes
        ("performer", {"features": 8}, MODEL),
        ("full", {}, TRANSLATOR),
        ("local", {"window": 3}, TRANSLATOR),
        # an encoder needs no token-by-token form
        ("fourier", {}, TRANSLATOR),
        *(("recurrent", {}, recurrent(kind)) for kind in ("none", "additive", "general")),
    ],
)
def test_the_state_changes_no_token(mechanism, hparams, model):
    point = POINT | {"mechanism": mechanism, "hparams": hparams, "model": model}
    assert decoding.objections(point) == []
    found = []
    for cached in (True, False):
        run, args = decoding.program(point, cached=cached)
        found.append(jax.jit(run)(*args))
    assert found[0].shape == (2, 11)
    np.testing.assert_array_equal(*found)
    assert len(np.unique(found[0])) > 2


def test_without_a_state_the_source_is_encoded_for_every_token():
    """Counted and compiled: no product is left outside of the loop over tokens."""
    point = POINT | {"model": TRANSLATOR}
    run, args = decoding.program(point, cached=False)
    variables, _, source = args
    network = decoding.nnx.merge(run.args[0], variables)
    once = flops.count(network, source, jnp.zeros((2, 12), int)).flops
    assert flops.count(run, *args).flops == 11 * once
    text = jax.jit(run).lower(*args).compile().as_text()
    parts = {part.split()[0]: part for part in text.split("\n\n") if part.strip()}
    # what calls the loop, and what else it calls
    outside = [parts["ENTRY"], *(parts[name] for name in re.findall(CALLED, parts["ENTRY"]))]
    assert " dot(" in text
    assert not any(" dot(" in part for part in outside)


def test_without_a_state_a_token_costs_a_whole_call():
    """Products of tokens by weights: of one token with a state, of all N without."""
    C, F, B = MODEL["width"], MODEL["ff"], POINT["batch"]
    counted = {}
    for n in (12, 24):
        for cached in (True, False):
            run, args = decoding.program(POINT | {"n": n, "mechanism": "none"}, cached=cached)
            counted[n, cached] = flops.count(run, *args).flops
        weights = 2 * 2 * C * F
        assert counted[n, True] == 2 * B * (n - 1) * (weights + C * 256)
        assert counted[n, False] == 2 * B * (n - 1) * n * (weights + C * 256)


def test_a_point_has_both(tmp_path):
    found = decoding.run_point(POINT, tmp_path)
    assert found["seconds"] > 0
    assert found["seconds_uncached"] > 0
    assert found["flops_counted_uncached"] > found["flops_counted"]
    # two layers of two heads of keys and values
    assert found["state_bytes"] >= 2 * 12 * 2 * 16 * 4


def test_the_state_of_what_reads_a_source_holds_it_too():
    # two layers of keys and values, of 11 tokens and of 12 of the source
    held = decoding.state_bytes(POINT | {"model": TRANSLATOR})
    assert held == pytest.approx(2 * (11 + 12) * 2 * 16 * 4, abs=200)
    by_kind = [decoding.state_bytes(POINT | {"model": recurrent(k)}) for k in ("none", "general")]
    # keys
    assert by_kind[1] - by_kind[0] == 12 * 16 * 4


def test_what_has_no_state_is_refused():
    assert decoding.objections(POINT | {"mechanism": "recurrent"}) == []
    (refused,) = decoding.objections(POINT | {"mechanism": "lsh", "hparams": PAPER})
    assert refused == "lsh: no token-by-token form"
    refused = decoding.objections(POINT | {"mechanism": "fourier"})
    assert any("causal" in reason for reason in refused)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": 1}, "n must be a whole number from 2 up, got 1"),
        ({"batch": 0}, "batch must be a whole number from 1 up, got 0"),
        ({"model": {"wide": 3}}, "model has no field 'wide'"),
        (
            {"model": MODEL | {"kind": "encoder"}},
            "model.kind must be decoder or encoder_decoder, got 'encoder'",
        ),
        (
            {"model": {"architecture": "linear"}},
            "model.architecture must be transformer or recurrent, got 'linear'",
        ),
        ({"model": recurrent("dots")}, "attention must be one of none, additive, dot"),
        ({"model": recurrent("dot") | {"ff": 8}}, "model has no field 'ff'"),
    ],
)
def test_a_bad_point_is_named(changes, words):
    with pytest.raises(ValueError, match=words):
        configuration.check(POINT | changes)


def test_the_sweep_has_models_that_read_a_source_beside_decoders():
    points = configuration.points(*configuration.load("decoding"))
    assert not any(decoding.objections(point) for point in points)
    translators = {p["label"] for p in points if p["experiment"] == "decoding-translation"}
    assert {"full", "local", "linear", "RNN, Bahdanau"} < translators
    kinds = {p["model"].get("kind", p["model"].get("architecture", "decoder")) for p in points}
    assert kinds == {"decoder", "encoder_decoder", "recurrent"}


def test_recurrent_translators_stand_beside_transformers_in_the_report(tmp_path):
    def metrics(n, times):
        return {"seconds": 1e-4 * (n - 1), "seconds_uncached": times * 1e-4 * n * (n - 1)}

    rnn = {"label": "RNN", "mechanism": "recurrent", "model": recurrent("additive")}
    variants = ({"model": TRANSLATOR}, rnn)
    points = [POINT | change | {"n": n} for n in (64, 128, 256) for change in variants]
    folder = synthetic.write(tmp_path, [synthetic.record(p, metrics(p["n"], 3)) for p in points])
    (section,) = frames.sections(reading.read([folder]).frame)
    rows = decoding_report.cells(section)
    assert list(rows.label) == ["RNN"] * 3 + ["full"] * 3
    np.testing.assert_allclose(rows.speedup, [3 * n for n in (64, 128, 256)] * 2)
    assert len(decoding_report.draw(section)) == 2


def test_the_report_says_what_a_state_saves(tmp_path):
    def metrics(n, per_token):
        return {
            **{"seconds": per_token * (n - 1), "seconds_uncached": 1e-4 * n * (n - 1)},
            **{"flops_counted": 1e6 * (n - 1), "flops_counted_uncached": 1e6 * n * (n - 1)},
            "state_bytes": 2048.0,
        }

    points = [POINT | {"n": n} for n in (64, 128, 256)]
    records = [synthetic.record(point, metrics(point["n"], 1e-4)) for point in points]
    records.append(synthetic.record(POINT | {"label": "lsh", "n": 64}, {}, "refused", "no form"))
    folder, out = synthetic.write(tmp_path / "in", records), tmp_path / "out"
    assert report.main([str(folder), "--out", str(out), "--figures", "svg"]) == 0
    table = (out / "decoding.md").read_text()
    assert "| [full](decoding.csv#L4) | 256 | 0.1000 | 25.60 | 256 |" in table
    assert "refused: no form" in table
    assert (out / "decoding-token-ms.svg").is_file()
    (section,) = frames.sections(reading.read([folder]).frame)
    ((figure, words, ids),) = decoding_report.lines(section)
    assert figure == "256x"
    assert "N = 256" in words
    assert len(ids.split()) == 1
