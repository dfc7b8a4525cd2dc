"""Tasks of the Long-Range Arena: one section over those of one device, dtype and size."""

import pytest

from experiments.analysis import frames, reading
from experiments.records import point_id
from experiments.reporting import closing, quality_cells
from tests import synthetic_records as synthetic
from tests import synthetic_training as training


def sections(records, tmp_path):
    found = reading.read([synthetic.write(tmp_path / "in", records)])
    assert not found.notes
    return closing.sections(frames.sections(found.frame))


def test_two_tasks_of_the_arena_have_a_mean(tmp_path):
    (section,) = sections(training.arena(), tmp_path)
    lines = by_label(section)
    assert lines["full"]["score"] == pytest.approx(0.505)
    assert lines["local"].get("score") is None
    assert lines["full"]["memory"] == 2e8
    assert lines["Transformer (arXiv:2011.04006)"]["score"] == pytest.approx(0.5032)


def test_a_clear_best_is_bold_and_the_caption_says_what_bold_is(tmp_path):
    found = [
        training.train(label, 512, seed, score + 0.002 * seed, task=task)
        for task in ("listops", "imdb")
        for label, score in {"full": 0.6, "linear": 0.52}.items()
        for seed in (0, 1)
    ]
    (section,) = sections(found, tmp_path)
    (table,) = closing.tables(section, "")
    assert len(table.bold) == 2
    assert quality_cells.BOLD in table.caption


def test_a_model_of_many_more_parameters_is_never_bold(tmp_path):
    found = [
        training.train(label, 512, seed, score + 0.002 * seed, task=task,
                       metrics={"params": 2e6 if label == "local" else 1e6})
        for task in ("listops", "imdb")
        for label, score in {"full": 0.6, "linear": 0.52, "local": 0.7}.items()
        for seed in (0, 1)
    ]  # fmt: skip
    (section,) = sections(found, tmp_path)
    (table,) = closing.tables(section, "")
    labels = [line["label"] for line in closing.over_tasks(section)]
    assert {labels[i] for i, _ in table.bold} == {"full"}


def test_a_mean_time_of_tasks_on_two_devices_is_none(tmp_path):
    found = training.arena()
    (section,) = sections(found, tmp_path)
    assert by_label(section)["full"]["seconds_per_step"] is not None
    found = [synthetic.elsewhere(r) if r["config"]["task"] == "imdb" else r for r in found]
    (section,) = sections(found, tmp_path)
    line = by_label(section)["full"]
    assert line["score"] == pytest.approx(0.505)
    assert line["seconds_per_step"] is None
    assert section.title == "Long-Range Arena's tasks on cpu-synthetic-2c and gpu-x, float32"


def test_a_task_is_taken_at_its_published_length(tmp_path):
    found = training.arena()
    for n, score in ((4096, 0.6), (8000, 0.55)):
        found += [training.train(label, n, 0, score, task="imdb") for label in ("full", "linear")]
    (section,) = sections(found, tmp_path)
    assert set(section.frame["config.n"]) == {512, 4096}
    assert by_label(section)["full"]["score"] == pytest.approx((0.37 + 0.6) / 2)


def by_label(section):
    return {line["label"]: line for line in closing.over_tasks(section)}


def test_one_task_of_the_arena_has_no_mean(tmp_path):
    assert sections(training.arena()[:3], tmp_path) == []


def test_a_task_that_few_models_were_trained_on_yet_stays_out(tmp_path):
    models = ("full", "linear", "local")
    found = [training.train(m, 512, 0, 0.6, task=t) for t in ("listops", "imdb") for m in models]
    found.append(training.train("full", 512, 0, 0.9, task="pathfinder"))
    (section,) = sections(found, tmp_path)
    assert set(section.frame["config.task"]) == {"listops", "imdb"}
    assert by_label(section)["full"]["score"] == pytest.approx(0.6)


def test_a_task_that_nobody_learned_stays_out(tmp_path):
    scores = {"listops": 0.4, "imdb": 0.6, "pathfinder": 0.49}
    found = [
        training.train(model, 512, 0, score, task=task)
        for task, score in scores.items()
        for model in ("full", "linear")
    ]
    (section,) = sections(found, tmp_path)
    assert set(section.frame["config.task"]) == {"listops", "imdb"}


def test_a_task_where_a_rule_is_ahead_of_all_stays_out(tmp_path):
    """At the N that is taken, whatever was learned at others."""
    rule = {"bytes_accuracy": 0.7}
    found = [
        training.train(model, 512, 0, 0.6, task=task, metrics=rule if task == "imdb" else {})
        for task in ("listops", "imdb", "cifar10")
        for model in ("full", "linear", "local")
    ]
    found.append(training.train("full", 256, 0, 0.9, task="imdb", metrics=rule))
    (section,) = sections(found, tmp_path)
    assert set(section.frame["config.task"]) == {"listops", "cifar10"}


def test_sizes_of_the_arena_have_no_mean_over_them(tmp_path):
    records = training.arena()
    for record in records:
        record["config"]["size"] = "full" if record["config"]["task"] == "imdb" else "small"
        record["id"] = point_id(record["config"])
    assert sections(records, tmp_path) == []
