"""Figures of the report's sections of training, on synthetic records."""

import pytest

from experiments import plots
from experiments.analysis import frames, reading
from experiments.figures import learning, palette, ranking
from tests import synthetic_records as synthetic
from tests import synthetic_training as training
from tests.synthetic_training import sections


def test_figures_of_every_kind(tmp_path):
    records = training.recall()
    folder = synthetic.write(tmp_path / "in", records)
    training.curves(folder, records)
    found = reading.read([folder])
    section, grid = frames.sections(found.frame)
    names = [drawing.name for drawing in plots.draw(section, found.curves)]
    assert names == ["mqar-by-n", "mqar-frontier", "mqar-speed", "mqar-curves"]
    assert plots.draw(grid, found.curves) == []
    figure = plots.draw(section, found.curves)[-1].figure
    scores, losses = figure.axes[0], figure.axes[len(figure.axes) // 2]
    assert losses.get_ylabel() == "loss, nats"
    assert len(losses.lines) == len(scores.lines) > 0


def test_points_of_the_frontier_are_named(tmp_path):
    found, _ = sections(training.recall(), tmp_path)
    (drawing,) = (d for d in plots.draw(found["mqar"], {}) if d.name == "mqar-frontier")
    panels = [ax for ax in drawing.figure.axes if ax.get_xlabel().startswith("decode state")]
    for ax, n in zip(panels, (64, 128, 256, 512), strict=True):
        names = {"full", "local", "linear"} | ({"performer"} if n < 512 else set())
        assert {text.get_text() for text in ax.texts} == names


def test_the_key_of_sizes_is_of_bubbles_that_are_there(tmp_path):
    found, _ = sections(training.recall(), tmp_path)
    (drawing,) = (d for d in plots.draw(found["mqar"], {}) if d.name == "mqar-speed")
    ax, *_ = drawing.figure.axes
    areas = sorted(bubble.get_sizes()[0] for bubble in ax.collections)
    keys = sorted(key.get_markersize() ** 2 for key in ax.get_legend().get_lines())
    assert keys == pytest.approx([areas[0], areas[-1]])


def test_the_best_rule_is_a_line_through_the_bubbles(tmp_path):
    rule = {"bytes_accuracy": 0.72, "fourgram_accuracy": 0.7}
    records = [
        training.train(label, 64, 0, score, task="imdb", metrics=rule)
        for label, score in (("full", 0.6), ("local", 0.65))
    ]
    found, _ = sections(records, tmp_path)
    (drawing,) = (d for d in plots.draw(found["imdb"], {}) if d.name == "imdb-speed")
    ours, theirs = drawing.figure.axes
    (line,) = [line for line in ours.lines if len(line.get_ydata()) > 1]
    assert set(line.get_ydata()) == {0.72}
    assert ours.get_ylim()[1] > 0.72
    assert any("naive Bayes of bytes  72.0 %" in text.get_text() for text in ours.texts)
    assert not any("naive Bayes" in text.get_text() for text in theirs.texts)
    assert any("one seed" in text.get_text() for text in ours.texts)


def test_a_rule_too_far_off_is_said_and_not_drawn_through_the_bubbles(tmp_path):
    records = [
        training.train(label, 64, 0, score, task="imdb", metrics={"bytes_accuracy": 0.99})
        for label, score in (("full", 0.6), ("local", 0.65))
    ]
    found, _ = sections(records, tmp_path)
    (drawing,) = (d for d in plots.draw(found["imdb"], {}) if d.name == "imdb-speed")
    ours, _ = drawing.figure.axes
    assert ours.get_ylim()[1] < 0.9
    said = " ".join(" ".join(text.get_text() for text in ours.texts).split())
    assert "too far off to draw: naive Bayes of bytes 99.0 %" in said


@pytest.mark.parametrize(("seconds", "scale"), [((0.1, 0.02), "linear"), ((0.1, 0.001), "log")])
def test_speeds_far_apart_are_on_a_log_axis(tmp_path, seconds, scale):
    metrics = [{"seconds_per_step": each} for each in seconds]
    records = [
        training.train(label, 64, 0, 0.9, task="imdb", metrics=each)
        for label, each in zip(("full", "local"), metrics, strict=True)
    ]
    found, _ = sections(records, tmp_path)
    (drawing,) = (d for d in plots.draw(found["imdb"], {}) if d.name == "imdb-speed")
    ax = drawing.figure.axes[0]
    assert ax.get_xscale() == scale
    low, high = ax.get_xlim()
    assert low < 1 / seconds[0] < 1 / seconds[1] < high


@pytest.mark.parametrize("models", [ranking.CROWD, ranking.CROWD + 1])
def test_models_that_would_cover_each_other_are_ranked(tmp_path, models):
    labels = [*sorted({*palette.TABLE} - {"full"})[: models - 1], "full"]
    records = [
        training.train(label, n, 0, 0.4 + 0.01 * i + 0.002 * (n == 96), task="forecast")
        for i, label in enumerate(labels)
        for n in (96, 336)
    ]
    found, _ = sections(records, tmp_path)
    drawn = [d for d in plots.draw(found["forecast"], {}) if d.name == "forecast-ranked"]
    assert len(drawn) == (models > ranking.CROWD)
    for drawing in drawn:
        ax = drawing.figure.axes[0]
        assert [text.get_text() for text in ax.get_yticklabels()] == labels
        top = min(ax.texts, key=lambda text: text.get_position()[1])
        assert top.get_text() == "0.4000 (1)"
        notes = ax.get_title(loc="left")
        assert "hollow: N = 96" in notes
        assert "dashed: a period before 0.5000" in notes
        assert "beyond the axis: last value 5.0000" in notes


@pytest.mark.parametrize(("models", "lengths"), [(12, 3), (13, 2), (13, 3), (13, 4)])
def test_curves_that_would_cover_each_other_have_a_panel_each(tmp_path, models, lengths):
    labels = ["DLinear", *sorted({*palette.TABLE} - {"full"})[: models - 2], "full"]
    records = [
        training.train(label, n, 0, 0.4 + 0.01 * i, task="forecast")
        for i, label in enumerate(labels)
        for n in (96, 336, 720, 1440)[:lengths]
    ]
    records += [training.train("lsh", 2880, 0, 0, "oom", "no memory", task="forecast")]
    found, _ = sections(records, tmp_path)
    drawn = [d for d in plots.draw(found["forecast"], {}) if d.name == "forecast-by-n"]
    if models > ranking.CROWD and lengths == 2:
        assert not drawn
        return
    ((drawing,),) = (drawn,)
    axes = [ax for ax in drawing.figure.axes if ax.axison]
    assert len(axes) == (1 if models <= ranking.CROWD else models)
    if len(axes) == 1:
        return
    titles = [ax.get_title(loc="left") for ax in axes]
    assert titles == [f"{label}  {0.4 + 0.01 * i:.3f}" for i, label in enumerate(labels)]
    for ax, label in zip(axes, labels, strict=True):
        own, behind = ax.lines[-1], [line for line in ax.lines if line.get_color() == palette.GRID]
        assert len(behind) == models - 1 - (label != "full")
        assert [*own.get_xdata()] == [96, 336, 720, 1440][:lengths]
        assert own.get_color() == palette.style(label).color
    words = [text.get_text() for text in drawing.figure.texts]
    assert any("beyond the axis: last value 5.000" in text for text in words)
    assert any("dashed: a period before 0.500" in text for text in words)


@pytest.mark.parametrize(("models", "lengths"), [(6, 1), (7, 1), (7, 3)])
def test_learning_curves_of_many_models_have_a_panel_each(tmp_path, models, lengths):
    labels = ["full", *sorted({*palette.TABLE} - {"full"})[: models - 1]]
    scores = {label: 0.3 + 0.05 * i for i, label in enumerate(labels)}
    records = [
        training.train(label, n, seed, scores[label], task="mqar")
        for label in labels
        for n in (64, 128, 256)[:lengths]
        for seed in (0, 1)
    ]
    folder = synthetic.write(tmp_path / "in", records)
    training.curves(folder, records)
    read = reading.read([folder])
    (section,) = frames.sections(read.frame)
    drawn = {d.name: d.figure for d in plots.draw(section, read.curves)}
    if models <= learning.FEW:
        assert "mqar-losses" not in drawn
        assert len([ax for ax in drawn["mqar-curves"].axes if ax.axison]) == 2
        return
    for name, lines in (("mqar-curves", 1), ("mqar-losses", 2)):
        axes = [ax for ax in drawn[name].axes if ax.axison]
        assert [ax.get_title(loc="left") for ax in axes] == labels
        for ax, label in zip(axes, labels, strict=True):
            own = [line for line in ax.lines if line.get_color() == palette.style(label).color]
            assert len(own) == 2 * lines * lengths
            if name == "mqar-curves":
                ends = [line.get_ydata()[-1] for line in own]
                assert ends == pytest.approx([scores[label] + 0.02] * len(own), abs=0.01)
            assert len({line.get_alpha() for line in own}) == lengths
            assert len(ax.lines) - len(own) == (2 * (models - 1) if lengths == 1 else 0)
    words = [text.get_text() for text in drawn["mqar-curves"].texts]
    assert any("N = 64" in text for text in words)
    assert any("N = 64; N = 128; N = 256" in text for text in words) == (lengths > 1)
