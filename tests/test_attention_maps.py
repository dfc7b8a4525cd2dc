"""The picture of what translation models looked at."""

import numpy as np

from experiments.analysis import frames, reading
from experiments.figures import attention_maps
from tests import synthetic_records as synthetic
from tests import synthetic_training as training


def section_of(folder, labels):
    records = []
    for label in labels:
        for seed in (1, 0):
            made = {"test_bleu": 30.0 + seed}
            if label != "none":
                made |= {
                    "attention_source": ["\u2581a", "\u2581d", "og", "."],
                    "attention_target": ["\u2581ein", "\u2581Hund", "</s>"],
                    "attention_weights": (np.eye(3, 4) * (1 - seed / 2)).tolist(),
                }
            records.append(training.train(label, 64, seed, 0.5, task="multi30k", metrics=made))
    synthetic.write(folder, records)
    (section,) = frames.sections(reading.read([folder]).frame)
    return section


def test_a_map_is_of_the_first_seed_of_what_has_one(tmp_path):
    section = section_of(tmp_path, ("full", "linear", "none"))
    maps = attention_maps.maps(section.frame)
    assert list(maps) == ["full", "linear"]
    np.testing.assert_array_equal(maps["full"]["weights"], np.eye(3, 4))
    assert maps["full"]["target"][1] == "\u2581Hund"
    (drawing,) = attention_maps.draw(section)
    assert drawing.svg.count(b"<image") == 2


def test_without_maps_there_is_no_picture(tmp_path):
    assert attention_maps.draw(section_of(tmp_path, ("none",))) == []


def test_what_is_no_transformer_stands_beside_those(tmp_path):
    """Its width is another, for its parameters are as many."""
    point = {"task": "multi30k", "metrics": {"test_bleu": 20.0}}
    other = {"architecture": "recurrent", "attention": "dot", "width": 176}
    records = [
        training.train("full", 64, 0, 0.5, **point),
        training.train("RNN", 64, 0, 0.5, **point, model=other, mechanism="recurrent"),
    ]
    synthetic.write(tmp_path, records)
    (section,) = frames.sections(reading.read([tmp_path]).frame)
    assert set(section.frame.label) == {"full", "RNN"}
    assert set(section.frame["config.model.width"]) == {64, 176}
