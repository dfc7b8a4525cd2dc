"""Points of kind decoding: the same tokens with a state and without, at the cost that each has."""

import jax
import numpy as np
import pytest

from experiments import configuration, decoding, decoding_report, flops, frames, reading, report
from tests import synthetic_records as synthetic

MODEL = {"width": 16, "depth": 2, "heads": 2, "ff": 24, "positions": "sinusoidal"}
# chunks of which a token would move the borders
PAPER = {"buckets": 6, "hashes": 2, "block": 5, "chunking": "paper"}
POINT = {
    **{"experiment": "decoding", "kind": "decoding", "label": "full", "mechanism": "full"},
    **{"hparams": {}, "n": 12, "batch": 2, "model": MODEL, "dtype": "float32", "seed": 0},
    **{"repeats": 3, "budget": 0.0},
}


@pytest.mark.parametrize(
    ("mechanism", "hparams"), [("full", {}), ("local", {"window": 3}), ("linear", {})]
)
def test_the_state_changes_no_token(mechanism, hparams):
    point = POINT | {"mechanism": mechanism, "hparams": hparams}
    found = []
    for cached in (True, False):
        run, args = decoding.program(point, cached=cached)
        found.append(jax.jit(run)(*args))
    assert found[0].shape == (2, 11)
    np.testing.assert_array_equal(*found)


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
    ],
)
def test_a_bad_point_is_named(changes, words):
    with pytest.raises(ValueError, match=words):
        configuration.check(POINT | changes)


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
    assert "| full | 256 | 0.1000 | 25.60 | 256 |" in table
    assert "refused: no form" in table
    assert (out / "decoding-token-ms.svg").is_file()
    (section,) = frames.sections(reading.read([folder]).frame)
    ((figure, words, ids),) = decoding_report.lines(section)
    assert figure == "256x"
    assert "N = 256" in words
    assert len(ids.split()) == 1
