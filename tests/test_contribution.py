"""The table of what the attention block adds."""

import pytest

from experiments import page, plots
from experiments.analysis import frames, reading
from experiments.reporting import contribution, overviews, tables
from tests import synthetic_records as synthetic
from tests import synthetic_training as training

SCORES = {"full": (0.50, 0.51, 0.52), "none": (0.60, 0.61, 0.62), "recurrent": (0.7, 0.7, 0.7)}


def records(scores=SCORES, experiment="ucr-OSULeaf"):
    more = {"task": "ucr", "task_args": {"dataset": experiment}, "experiment": experiment}
    return [
        training.train(label, 427, seed, score, **more)
        for label, found in scores.items()
        for seed, score in enumerate(found)
    ]


def table_of(folder, found):
    synthetic.write(folder, found)
    sections = overviews.with_overviews(frames.sections(reading.read([folder]).frame))
    (section,) = [s for s in sections if s.kind == "contribution"]
    assert plots.draw(section, {}) == []
    (table,) = tables.build(section)
    return section, table


def test_a_row_is_a_task_with_the_difference_and_its_error(tmp_path):
    better = {"full": (0.9, 0.9, 0.91), "none": (0.8, 0.8, 0.81)}
    # by 2.9 standard errors, which three seeds do not make sure of
    alike = {"full": (0.50, 0.54, 0.58), "none": (0.60, 0.61, 0.62)}
    one = {"full": (0.9,), "none": (0.8,)}
    found = [*records(), *records(better, "ucr-better"), *records(alike, "ucr-alike")]
    section, table = table_of(tmp_path, [*found, *records(one, "ucr-one")])
    assert section.name == "attention-adds-accuracy"
    rows = {row[0]: row for row in table.text()}
    assert rows["UCR: OSULeaf"][1:8] == ["full", "427", "51.00 ± 0.58 (3)", "61.00 ± 0.58 (3)",
                                        "70.00 ± 0.00 (3)", "-10.00 ± 0.82",
                                        "yes, worse"]  # fmt: skip
    assert rows["UCR: better"][6:8] == ["10.00 ± 0.47", "yes, better"]
    assert rows["UCR: alike"][7] == "no"
    assert rows["UCR: one"][6:8] == ["10.00", "one seed"]
    figures = {line["words"]: line["figure"] for line in page.headlines(section)}
    assert figures == {
        "accuracy that attention adds on UCR: OSULeaf at N = 427": "-10.0 points",
        "accuracy that attention adds on UCR: better at N = 427": "+10.0 points",
    }


def test_every_translator_with_attention_stands_against_the_one_without(tmp_path):
    scores = {
        "RNN without attention": (18.0, 19.0, 17.0),
        "full": (28.0, 28.5, 29.0),
        "RNN, Bahdanau": (27.0,),
        "lsh": (18.0, 19.0),
    }
    found = [
        training.train(label, 80, seed, score, task="multi30k", metrics={"test_bleu": score})
        for label, of in scores.items()
        for seed, score in enumerate(of)
    ]
    for record in found:
        del record["metrics"]["test_accuracy"], record["metrics"]["val_accuracy_best"]
    section, table = table_of(tmp_path, found)
    assert section.name == "attention-adds-bleu"
    assert [row[1:7] for row in table.text()] == [
        ["RNN, Bahdanau", "80", "27.00 (1)", "18.00 ± 0.58 (3)", "9.00", "one seed"],
        ["full", "80", "28.50 ± 0.29 (3)", "18.00 ± 0.58 (3)", "10.50 ± 0.65", "yes, better"],
        ["lsh", "80", "18.50 ± 0.50 (2)", "18.00 ± 0.58 (3)", "0.50 ± 0.76", "no"],
    ]
    assert "Without: a recurrent encoder-decoder whose decoder" in table.caption
    (scores, *_) = tables.build(frames.sections(reading.read([tmp_path]).frame)[0])
    assert "Other than the Transformer of 2017" in scores.caption
    (line,) = page.headlines(section)
    assert line["figure"] == "+10.5"
    assert line["words"].startswith("BLEU that attention adds on Multi30k")


def test_what_is_better_and_behind_a_rule_is_no_headline(tmp_path):
    found = records({"full": (0.9, 0.9, 0.91), "none": (0.8, 0.8, 0.81)})
    for record in found:
        record["metrics"]["position_accuracy"] = 0.95
    section, table = table_of(tmp_path, found)
    assert table.frame.verdict[0] == "yes, better; both behind a rule"
    assert page.headlines(section) == []


def test_of_an_error_less_is_better():
    one, other = {"score": 0.3, "stderr": 0.03}, {"score": 0.5, "stderr": 0.04}
    assert contribution.difference(one, other, -1) == pytest.approx((0.2, 0.05))
    assert contribution.difference(one, {"score": None}, -1) == (None, None)


def test_a_task_without_the_model_without_is_no_row(tmp_path):
    synthetic.write(tmp_path, records({"full": (0.5, 0.6), "recurrent": (0.5, 0.6)}))
    assert contribution.sections(frames.sections(reading.read([tmp_path]).frame)) == []


def test_where_a_block_without_attention_is_given_no_past_nothing_is_asked(tmp_path):
    found = [
        training.train(label, 96, seed, 0.5 + seed / 100, task="forecast", task_args=args,
                       experiment=f"{name}-ETTh1-96")
        for name, args in {"forecast": {}, "forecast-mixed": {"mixed": True}}.items()
        for label in ("full", "none")
        for seed in (0, 1)
    ]  # fmt: skip
    section, _ = table_of(tmp_path, found)
    assert set(section.frame.part) == {"forecast-ETTh1-96"}
