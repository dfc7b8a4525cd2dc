"""The report's sections of training, on synthetic records of several tasks and two metrics."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from experiments import plots
from experiments.analysis import formats, published, quality, verdicts
from experiments.reporting import latex, overviews, quality_tables, tables
from experiments.tasks import metric
from tests import synthetic_training as training
from tests.synthetic_training import by, sections, table


@pytest.fixture(scope="module")
def recall(tmp_path_factory):
    """Sections of the recall task: results and the search of learning rates."""
    return sections(training.recall(), tmp_path_factory.mktemp("recall"))[0]


def test_bits_means_errors_and_failed_runs(tmp_path):
    found, _ = sections(training.language(), tmp_path)
    rows = by(quality.rows(found["language"]))
    full = rows["full", 256]
    seeds = [2.4 - 256 / 5000 + seed / 50 for seed in range(3)]
    assert full["score"] == pytest.approx(np.mean(seeds))
    assert full["stderr"] == pytest.approx(np.std(seeds, ddof=1) / 3**0.5)
    assert rows["linear", 512]["seeds"] == 2
    diverged = "nan: loss is nan at step 120 (1 of 3)"
    assert rows["linear", 512]["status"] == f"no better than order-2 in 2 of 2 seeds; {diverged}"
    assert rows["global", 1024]["status"].startswith("failed run: does not beat unigram")
    assert rows["global", 1024]["stderr"] is None
    assert rows["uniform", None]["score"] == 8
    assert rows["unigram (order-0)", None]["score"] == pytest.approx(4.6)


def test_accuracy_means_over_seeds_and_what_failed(recall):
    rows = by(quality.variants(recall["mqar"], quality.metric_of(recall["mqar"])))
    assert rows["local", 256]["score"] == pytest.approx(0.999 - 0.15 - 0.002)
    assert rows["local", 256]["stderr"] == pytest.approx(0.002 / 3**0.5)
    failed = rows["performer", 512]
    assert (failed["seeds"], failed["word"]) == (0, "oom")
    assert failed["status"] == "oom: no room (3 of 3)"


def test_the_learning_rate_is_the_one_that_was_chosen(recall):
    rows = by(quality.rows(recall["mqar"]))
    assert rows["full", 64]["lr"] == 0.003


def test_more_is_better_of_accuracy_and_less_of_bits(tmp_path):
    worse = training.train("full", 64, 0, 0.4, task="imdb")
    found, _ = sections([worse, training.train("full", 64, 0, 4.4)], tmp_path)
    imdb, language = (by(quality.rows(found[name]))["full", 64] for name in ("imdb", "language"))
    assert imdb["status"] == "failed run: does not beat majority class in 1 of 1 seeds"
    assert language["status"] == "no better than order-2 in 1 of 1 seeds"
    assert language["beaten"] == language["status"]


def test_the_rule_to_beat_is_the_best_of_them(tmp_path):
    """The last value of what hardly moves; of classes one of naive Bayes."""
    at = {"experiment": "forecast-rates-96", "task_args": {"series": "rates", "horizon": 96}}
    still = {"last_value_mse": 0.08, "seasonal_mse": 0.09}
    bayes = {"bytes_accuracy": 0.6, "fourgram_accuracy": 0.7}
    records = [
        *(
            training.train("full", 96, seed, error, task="forecast", metrics=still, **at)
            for seed, error in enumerate((0.085, 0.075))
        ),
        *(
            training.train(label, 64, 0, score, task="imdb", metrics=bayes)
            for label, score in (("full", 0.65), ("local", 0.75))
        ),
    ]
    found, _ = sections(records, tmp_path)
    (rates,) = quality.variants(found["forecast-rates-96"], metric.METRICS[-1])
    assert rates["status"] == "failed run: does not beat last value in 1 of 2 seeds"
    full, local = quality.variants(found["imdb"], metric.METRICS[0])
    assert full["status"] == "no better than naive Bayes of 4-grams in 1 of 1 seeds"
    assert local["status"] == "ok"
    assert verdicts.learned([full, local])
    assert not verdicts.learned([full])
    assert verdicts.strongest(quality.rows(found["imdb"]), metric.METRICS[0], 64)["score"] == 0.7


def test_of_the_seeds_times_the_least_is_told(tmp_path):
    records = [
        training.train("full", 64, seed, 0.6, task="imdb", metrics={"seconds_per_step": took})
        for seed, took in enumerate((0.3, 0.1, 0.2))
    ]
    (section,) = sections(records, tmp_path)[0].values()
    (row,) = quality.variants(section, metric.METRICS[0])
    assert row["seconds_per_step"] == 0.1


def test_a_rule_is_one_row_where_it_is_the_same_at_every_n(recall):
    rows = [row for row in quality.rows(recall["mqar"]) if row["what"] == "rule"]
    chance, *context = rows
    assert (chance["label"], chance["n"]) == ("chance", None)
    assert {row["n"]: row["score"] for row in context} == {
        64: 0.25, 128: 0.125, 256: 0.0625, 512: 0.03125,
    }  # fmt: skip


def test_a_rule_that_the_report_never_heard_of_has_its_own_name(tmp_path):
    record = training.train("full", 64, 0, 0.6, task="imdb", metrics={"by_vowels_accuracy": 0.55})
    (section,) = sections([record], tmp_path)[0].values()
    assert by(quality.rows(section))["by vowels", None]["score"] == 0.55


def test_published_figures_are_those_of_the_same_task_and_width(recall):
    rows = [row for row in quality.rows(recall["mqar"]) if row["what"] == "published"]
    found = {(row["model"], row["n"]): row["score"] for row in rows}
    assert found["H3", 64] == 0.93
    assert found["attention", 512] == 1
    assert {row["source"] for row in rows} == {"arXiv:2312.04927, width 64"}


def test_published_figures_say_where_they_were_checked():
    figures = published.figures()
    assert figures.status[figures.checked].str.startswith("published: ").all()
    assert set(figures.source[~figures.checked]) == {"arXiv:2001.04451"}
    assert figures.status[~figures.checked].str.contains("not checked").all()


def test_the_arena_is_the_mean_of_five_against_byte_text_at_its_longest():
    arena = published.arena()
    assert len(arena) == 9
    transformer = arena.loc["Transformer"]
    assert transformer.score == pytest.approx(0.54388)
    assert (transformer.speed, transformer.bytes) == (1.4, 9.48e9)
    assert published.arena("imdb").loc["Performer"].score == pytest.approx(0.654)


def test_a_column_an_n_with_errors_seeds_and_words(recall):
    found = table(recall["mqar"], "mqar-by-n")
    rows = {row[0]: row for row in found.text()}
    headers = [column.header for column in found.columns]
    assert headers[:5] == ["accuracy % at N =", "64", "128", "256", "512"]
    assert rows["local"][3] == "84.70 ± 0.12 (3)"
    assert rows["performer"][4] == "oom"
    assert rows["chance"][1:5] == ["0.02"] * 4
    assert rows["H3, width 64 (arXiv:2312.04927)"][1] == "93.00"


def test_no_accuracy_without_parameters_steps_seeds_and_device(recall):
    for name in ("mqar", "mqar-by-n"):
        frame = table(recall["mqar"], name).frame
        local = frame[frame.label == "local"].iloc[0]
        assert not local[["params", "steps", "device", "commit", "date"]].isna().any()
    assert table(recall["mqar"], "mqar-by-n").frame.n64_seeds[0] == 3
    assert "device cpu-synthetic-2c" in table(recall["mqar"], "mqar-by-n").caption


@pytest.mark.parametrize("made", ["recall", "duplicates", "arena", "forecasts", "lab"])
def test_no_table_without_parameters_steps_seeds_and_device(made, tmp_path):
    lab = [
        training.train(label, 427, seed, 0.6 + seed / 100, task="ucr", experiment="ucr-OSULeaf")
        for label in ("full", "none")
        for seed in range(2)
    ]
    records = lab if made == "lab" else getattr(training, made)()
    found = overviews.with_overviews([*sections(records, tmp_path)[0].values()])
    for section in found:
        for made_table in tables.build(section):
            frame = made_table.frame
            assert {"params", "steps", "device", "commit", "date"} <= {*frame}, made_table.name
            assert [name for name in frame if name.endswith("seeds")], made_table.name
            ours = frame[frame.device.notna()]
            # what did not come through has no parameters
            ours = ours[ours.seeds > 0] if "seeds" in ours else ours
            assert len(ours)
            assert not ours[["params", "steps", "commit", "date"]].isna().any(axis=None)


def test_unequal_parameters_are_said_apart_from_those_by_length(tmp_path):
    found = [training.train("full", 64, 0, 0.6, task="imdb")]
    for label, more, by_length in (
        ("local", 40_000, 0),
        ("linear", 60_000, 0),
        ("rfa", 60_000, 50_000),
    ):
        held = {"params": found[0]["metrics"]["params"] + more, "params_length_sized": by_length}
        found.append(training.train(label, 64, 0, 0.7, task="imdb", metrics=held))
        found.append(training.train(label, 128, 0, 0.7, task="imdb", metrics=held))
    (section,) = sections(found, tmp_path)[0].values()
    rows = by(quality.rows(section))
    assert {rows[label, 128]["status"] for label in ("local", "rfa")} == {"ok"}
    assert {rows["linear", n]["status"] for n in (64, 128)} == {"1.13 times full's parameters"}
    # what is no fair comparison is no headline
    ((_, words, _),) = quality_tables.headlines(section)
    assert "linear" not in words


@pytest.mark.parametrize(
    ("stderr", "best"),
    [(0.01, "a"), (0.04, None), (None, None)],
    ids=["clear", "close", "one seed"],
)
def test_best_is_ahead_by_two_standard_errors(stderr, best):
    rows = [{"label": label, "score": score, "stderr": stderr} for label, score in
            (("a", 0.9), ("b", 0.8), ("c", 0.1))]  # fmt: skip
    found = quality.clear_best(rows, metric.METRICS[0])
    assert (found and found["label"]) == best


@pytest.mark.parametrize(("seeds", "best"), [(3, None), (5, "a")])
def test_few_seeds_make_less_sure(seeds, best):
    """2.5 standard errors ahead: by Welch's test 2.78 are needed with 3 seeds each, 2.31 with 5."""
    rows = [
        {"label": label, "score": score, "stderr": 0.04 / 2**0.5, "seeds": seeds}
        for label, score in (("a", 0.9), ("b", 0.8))
    ]
    found = quality.clear_best(rows, metric.METRICS[0])
    assert (found and found["label"]) == best
    ahead = [{**rows[0], "beaten": "no better than bigram in 1 of 3 seeds"}, rows[1]]
    assert quality.clear_best(ahead, metric.METRICS[0]) is None


def test_a_title_keeps_the_metrics_capitals():
    titles = [one.title for one in metric.METRICS]
    assert titles[:3] == ["Accuracy", "Bits per byte", "BLEU"]


def test_the_clear_best_is_bold_in_every_format(recall):
    found = table(recall["mqar"], "mqar-by-n")
    assert found.bold == {(0, f"n{n}") for n in (64, 128, 256, 512)}
    assert "**99.70 ± 0.12 (3)**" in formats.markdown(found)
    assert r"\bfseries 99.70 \pm 0.12 & (3)" in latex.latex(found)


def test_searches_of_a_learning_rate_have_a_table_of_their_own(recall):
    assert set(recall) == {"mqar", "mqar-grid"}
    assert len(recall["mqar"].frame) == 4 * 4 * 3
    found = table(recall["mqar-grid"], "mqar-grid")
    assert [*found.frame.chosen] == [0.003] * 4
    assert "end of the grid" not in found.caption
    # one seed each: no rate is ahead of another by two standard errors
    assert not found.bold
    assert found.frame["lr0.01"][0] == pytest.approx(0.78)


@pytest.mark.parametrize(("target", "chosen"), [(None, 0.01), (0.9, 0.001)])
def test_rates_that_reach_the_target_are_equal_and_the_earliest_is_chosen(target, chosen, tmp_path):
    records = [
        training.train("full", 64, 0, score, task="mqar", lr=lr, role="grid", target=target,
                       metrics={"best_step": step})
        for lr, score, step in ((0.001, 0.95, 100), (0.003, 0.6, 50), (0.01, 0.97, 200))
    ]  # fmt: skip
    (section,) = sections(records, tmp_path)[0].values()
    found = table(section, "mqar-grid")
    assert [*found.frame.chosen] == [chosen]
    assert "at an end of the grid, so a better one may lie beyond: full." in found.caption


@pytest.mark.parametrize(
    ("grow", "said"),
    [
        ([240, 360], "sequences double up to N at steps 240, 360."),
        ([600, 600], "sequences are short up to step 600, then of N."),
    ],
)
def test_growing_sequences_are_said(tmp_path, grow, said):
    args = {"grow": grow}
    records = [training.train("full", n, 0, 0.9, task="mqar", task_args=args) for n in (64, 128)]
    (section,) = sections(records, tmp_path)[0].values()
    for name in ("mqar", "mqar-by-n"):
        assert said in table(section, name).caption


def test_what_is_refused_at_every_n_is_said_once(tmp_path):
    refusal = ("refused", "it has no causal form")
    records = [training.train("fourier", n, 0, 0, *refusal, task="mqar") for n in (64, 128)]
    records += [training.train("full", n, 0, 0.9, task="mqar") for n in (64, 128)]
    (section,) = sections(records, tmp_path)[0].values()
    assert quality.refused(quality.rows(section)) == ["fourier"]
    rows = {row[0]: row for row in table(section, "mqar-by-n").text()}
    assert rows["fourier"][-1] == "refused: it has no causal form"


def test_evaluations_otherwise_than_trained_are_columns(tmp_path):
    found, _ = sections(training.duplicates(), tmp_path)
    by_setting = table(found["duplicate"], "duplicate-by-setting")
    headers = [column.header for column in by_setting.columns]
    hashes = [f"at hashes={count}" for count in (8, 4, 2, 1)]
    assert headers[2:8] == ["as trained", "at full", *hashes]
    rows = {row[0]: row for row in by_setting.text()}
    assert rows["lsh-4"][2:5] == ["90.00 ± 0.00 (2)", "98.50 ± 0.50 (2)", "89.50 ± 0.50 (2)"]
    assert rows["LSH-4 (arXiv:2001.04451)"][3:8] == ["", "100.00", "99.90", "99.40", "91.90"]
    assert rows["LSH-4 (arXiv:2001.04451)"][-1] == "as remembered, not checked: table 2"


def test_a_table_says_what_data_it_is_of(tmp_path):
    note = {"note": "IMDB (repacked copy)"}
    record = training.train("full", 1024, 0, 0.6, task="imdb", metrics=note)
    found, _ = sections([record], tmp_path)
    assert "; data IMDB (repacked copy);" in tables.caption(found["imdb"])


def test_widths_are_never_mixed(tmp_path):
    wide = training.train("full", 64, 0, 0.9, task="mqar", model={"width": 128, "depth": 2})
    found, _ = sections([training.train("full", 64, 0, 0.8, task="mqar"), wide], tmp_path)
    assert set(found) == {"mqar-w64", "mqar-w128"}


def test_only_failures_have_tables_and_no_figures(tmp_path):
    found, _ = sections([training.train("full", 64, 0, 0, "nan", "lost", task="mqar")], tmp_path)
    assert [t.text()[0][0] for t in tables.build(found["mqar"])] == ["full", "full"]
    assert plots.draw(found["mqar"], {}) == []


def test_the_headline_is_the_best_at_the_longest_n_that_most_reach(recall):
    ((figure, words, ids),) = quality_tables.headlines(recall["mqar"])
    assert (figure, words) == ("99.7 %", "accuracy, full at N = 256; a value of the context 6.2 %")
    frame = recall["mqar"].frame
    best = frame[(frame.label == "full") & (frame["config.n"] == 256)]
    assert set(best.id) <= set(ids.split()) <= set(frame.id)


def test_memory_is_of_the_best_known_kind_and_named(recall):
    section = recall["mqar"]
    assert quality.memory_of(section.frame) == "peak_bytes"
    frame = section.frame.drop(columns="metrics.peak_bytes")
    assert quality.memory_of(dataclasses.replace(section, frame=frame).frame) is None
    assert "MB held: the peak" in table(section, "mqar").caption


def test_csv_has_the_numbers_as_recorded(recall):
    frame = table(recall["mqar"], "mqar").frame
    assert pd.api.types.is_numeric_dtype(frame.accuracy)
    assert frame.accuracy.max() <= 1


def test_a_bag_of_one_block_stands_beside_models_of_two(tmp_path):
    model = {"width": 64, "depth": 2, "heads": 4, "ff": 512}
    bag = {**model, "depth": 1, "ff": 1024}
    models = {"full": model, "lsh": model, "bag of unigrams": bag}
    records = [
        training.train(label, 60, 0, 0.9, task="ucr", model=of) for label, of in models.items()
    ]
    ((_, section),) = sections(records, tmp_path / "one")[0].items()
    assert section.title.endswith("width 64, depth 2")
    shallow = training.train("full", 60, 0, 0.9, task="ucr", model={**model, "depth": 1})
    assert len(sections([*records, shallow], tmp_path / "both")[0]) == 2
