"""The drawn matrices are those of the mechanisms, and every mechanism is drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import attention_zoo as zoo
from experiments import patterns
from experiments.figures import canvas, grids

N = 16
INPUT = patterns.embed(patterns.SENTENCE[:N])


def test_every_mechanism_is_drawn():
    drawn = {name for _, name, _ in patterns.variants(N)}
    assert drawn == set(zoo.names()) - {"mixed"}
    assert len({title for title, _, _ in patterns.variants(N)}) == len(patterns.variants(N))


def test_a_local_matrix_is_a_band_of_weights():
    (matrix,) = patterns.matrices(zoo.make("local", window=2), INPUT)
    i, j = np.indices(matrix.shape)
    np.testing.assert_array_equal(matrix > 0, abs(i - j) <= 2)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["full", "linear"])
def test_a_causal_matrix_is_a_lower_triangle(name):
    (matrix,) = patterns.matrices(zoo.make(name), INPUT, causal=True)
    np.testing.assert_array_equal(matrix > 0, np.tri(N, dtype=bool))


def test_the_matrix_of_fourier_is_the_cosine():
    (matrix,) = patterns.matrices(zoo.make("fourier"), INPUT)
    expected = np.cos(2 * np.pi * np.outer(np.arange(N), np.arange(N)) / N)
    np.testing.assert_allclose(matrix, expected, atol=1e-5)


def test_separate_projections_show_in_their_rows():
    m = zoo.make("global", tokens=2, window=1, separate=True)
    (matrix,) = patterns.matrices(m, INPUT)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-5)


def test_heads_have_the_patterns_of_their_parts():
    m = zoo.make("mixed", parts=(("local", {"window": 1}), ("strided", {"stride": 4})))
    band, stripes = patterns.matrices(m, INPUT, heads=2)
    i, j = np.indices(band.shape)
    np.testing.assert_array_equal(band > 0, abs(i - j) <= 1)
    np.testing.assert_array_equal(stripes > 0, (i - j) % 4 == 0)


def test_grouping_puts_tokens_of_a_bucket_together():
    bucket = np.array([0, 1, 0, 2, 1, 0])
    grouped = patterns.by_group((bucket[:, None] == bucket) - 0.5 * np.eye(6))
    expected = np.repeat([0, 1, 2], [3, 2, 1])
    np.testing.assert_array_equal(grouped != 0, expected[:, None] == expected)


def test_shades_tell_nothing_from_little_and_negative_from_positive():
    image = grids.shade(np.array([[0.0, 1e-6, 1.0, -1.0]]), "local")
    nothing, little, most, negative = image[0]
    np.testing.assert_array_equal(nothing, 1)
    assert little.min() < 0.9
    assert most.min() < 0.3
    assert np.abs(most - negative).max() > 0.2


def test_sheets_are_written(tmp_path, monkeypatch, capsys):
    panels = [grids.Panel("local", "window 2", "local", np.eye(4))]
    panels.append(grids.Panel("", "", "local", None, "no causal form"))
    figure = grids.sheet("Title", "caption", panels, 2, cells=True)
    assert isinstance(figure, Figure)
    drawing = canvas.Drawing("patterns-x", "caption", figure)
    monkeypatch.setattr(patterns, "drawings", lambda n: [drawing])
    assert patterns.main(["--out", str(tmp_path / "new")]) == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "patterns-x.png",
        "patterns-x.svg",
    }
    assert patterns.main(["--out", str(tmp_path), "--n", "3"]) == 2
    assert "from 16 to 60, got 3" in capsys.readouterr().err
