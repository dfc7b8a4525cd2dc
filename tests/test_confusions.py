"""Pictures and tables of what classifiers confuse."""

import numpy as np
import pytest

from experiments.analysis import frames, reading
from experiments.figures import confusions, palette
from experiments.reporting import quality_tables
from experiments.tasks import metric
from tests import synthetic_records as synthetic
from tests import synthetic_training as training

MATRICES = {"full": ([[9, 1], [2, 8]], [[7, 3], [0, 10]]), "local": ([[5, 5], [5, 5]],) * 2}


def section_of(folder, labels=tuple(MATRICES)):
    records = []
    for label in labels:
        for seed, matrix in enumerate(MATRICES[label]):
            for n in (64, 128):
                made = {
                    "test_confusion": matrix,
                    "test_roc": np.linspace(0, 1, 51).tolist(),
                    "test_auc": 0.5 + seed / 10,
                    "test_precision": 0.8 + seed / 10,
                    "majority_precision": 0.25,
                }
                records.append(training.train(label, n, seed, 0.8, task="imdb", metrics=made))
    synthetic.write(folder, records)
    (section,) = frames.sections(reading.read([folder]).frame)
    return section


def test_pictures_are_of_all_seeds_at_the_longest_n(tmp_path):
    section = section_of(tmp_path)
    found = confusions.of(section, "confusion")
    assert list(found) == ["full", "local"]
    np.testing.assert_array_equal(found["full"], MATRICES["full"])
    np.testing.assert_array_equal(confusions.of(section, "auc")["full"], [0.5, 0.6])
    look = {label: palette.style(label) for label in MATRICES}
    matrices, curves = confusions.draw(section, look)
    full, local = (ax for ax in matrices.figure.axes if ax.get_title())
    assert (full.get_title(), local.get_title()) == ("full  85%", "local  50%")
    np.testing.assert_allclose(full.images[0].get_array(), [[0.8, 0.2], [0.1, 0.9]])
    (legend,) = curves.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["full  0.550", "local  0.550"]


def test_without_matrices_there_is_no_picture(tmp_path):
    synthetic.write(tmp_path, [training.train("full", 64, 0, 0.8, task="imdb")])
    (section,) = frames.sections(reading.read([tmp_path]).frame)
    assert confusions.draw(section, {}) == []
    names = [table.name for table in quality_tables.tables(section, "")]
    assert names == ["imdb", "imdb-by-n"]


def test_other_scores_stand_beside_those_of_the_majority(tmp_path):
    found = quality_tables.tables(section_of(tmp_path), "")
    (table,) = [table for table in found if table.name == "imdb-scores"]
    headers = [column.header for column in table.columns if column.shown]
    scores = ["accuracy %", "precision %", "ROC area %"]
    assert headers == ["model", "N", *scores, "parameters", "steps", "batch", "rate", "status"]
    rows = {tuple(row[:2]): row for row in table.text()}
    assert rows["full", "128"][2:5] == ["80.00 ± 0.00 (2)", "85.00 ± 5.00 (2)", "55.00 ± 5.00 (2)"]
    assert rows["majority class", "64"][2:5] == ["50.00", "25.00", ""]
    assert rows["full", "128"][5] == "476,384"


@pytest.mark.parametrize("one", metric.METRICS, ids=lambda one: one.key)
def test_a_metric_beside_is_no_metric_of_a_task(one):
    assert not {key for key, _ in one.beside} & {other.key for other in metric.METRICS}
