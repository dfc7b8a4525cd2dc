"""What the committed results show, of what was asked of them: held to the records themselves."""

import functools

import numpy as np
import pytest

from experiments import records
from experiments.analysis import fits, published
from experiments.measuring.environment import ROOT


@functools.cache
def trained(experiment):
    """Every committed training of an experiment that chose no rate, a point of several devices
    once."""
    came = [r for r in records.load(ROOT / "results" / experiment) if r["status"] == "ok"]
    found = {r["id"]: r for r in came if r["config"]["role"] == "final"}
    return list(found.values())


def metrics(experiment, key, *, of=None, **config):
    """A metric of every seed whose config has these values; `of` names the sub-experiment."""
    rows = [r for r in trained(experiment) if of in (None, r["config"]["experiment"])]
    rows = [r for r in rows if all(r["config"][name] == value for name, value in config.items())]
    return np.array([r["metrics"][key] for r in rows])


README = (ROOT / "README.md").read_text()
HORIZONS = (96, 192, 336, 720)


@pytest.mark.parametrize(("label", "name"), [("DLinear", "DLinear"), ("full", "PatchTST/42")])
def test_forecasts_come_out_as_published(label, name):
    task = "forecast-ETTh1-96"
    ours = metrics("accuracy-forecast", "test_mse", of=task, label=label, n=336)
    known = published.of(task, "mse")
    (theirs,) = known[(known.model == name) & (known.n == 336)].value
    assert len(ours) >= 3
    assert abs(ours.mean() - theirs) < 0.02


@pytest.mark.parametrize("horizon", HORIZONS)
def test_full_attention_forecasts_better_than_a_period_before(horizon):
    of = {"of": f"forecast-ETTh1-{horizon}", "label": "full"}
    ours = metrics("accuracy-forecast", "test_mse", **of)
    assert (ours < metrics("accuracy-forecast", "seasonal_mse", **of)).all()
    assert len(ours)


@pytest.mark.parametrize("label", ["DLinear", "NLinear"])
@pytest.mark.parametrize("n", [96, 336])
@pytest.mark.parametrize("horizon", HORIZONS)
def test_cheap_forecasts_have_three_seeds(horizon, n, label):
    of = f"forecast-ETTh1-{horizon}"
    assert len(metrics("accuracy-forecast", "test_mae", of=of, label=label, n=n)) >= 3


def test_nothing_trained_beats_the_last_value_of_exchange_rates():
    """At horizon 96, as the README says."""
    ours, rule = (
        metrics("accuracy-forecast", key, of="forecast-exchange_rate-96")
        for key in ("test_mse", "last_value_mse")
    )
    assert len(ours) >= 5 * 2 * 3
    assert (ours > rule).all()
    fitted = metrics("accuracy-forecast", "linear_mse", of="forecast-exchange_rate-96").min()
    assert 0.98 < fitted / rule.min() < 0.995


def test_all_models_but_two_validate_best_at_the_look_back_of_their_rates():
    """As the README says."""
    best = {}
    for r in trained("accuracy-forecast"):
        if r["config"]["experiment"] == "forecast-ETTh1-96":
            at = best.setdefault(r["config"]["label"], {}).setdefault(r["config"]["n"], [])
            at.append(r["metrics"]["val_mse_best"])
    chosen = {
        label: min(at, key=lambda n: np.mean(at[n])) for label, at in best.items() if len(at) == 5
    }
    assert len(chosen) > 20
    assert {label for label, n in chosen.items() if n != 336} == {"fourier", "spatial_gating"}


def test_at_the_whole_of_a_spoken_digit_what_is_linear_pays():
    """As the README says: in time by this factor, and in accuracy so much, of one training each."""
    found = records.load(ROOT / "results" / "steps-digits")
    took = {
        r["config"]["label"]: r["metrics"]["seconds"] for r in found if r["config"]["n"] == 10_504
    }
    others = {"none", "convolution", "full"}
    times = [took["full"] / seconds for label, seconds in took.items() if label not in others]
    assert len(times) == 10
    assert [round(min(times)), round(max(times))] == [12, 37]
    scores = {
        label: metrics("accuracy-fsdd", "test_accuracy", label=label, n=10_504) for label in took
    }
    scores = {label: found for label, found in scores.items() if len(found)}
    (nystrom,), (convolution,) = scores["nystrom"], scores["convolution"]
    (rule,) = set(metrics("accuracy-fsdd", "length_accuracy", n=10_504))
    assert nystrom == max(found.mean() for label, found in scores.items() if label not in others)
    assert set(metrics("accuracy-fsdd", "test_examples", n=10_504)) == {300}
    figures = [f"{100 * score:.1f}" for score in (nystrom, convolution, rule)]
    assert "({} %; convolution, which does not, {}; length alone {})".format(*figures) in README


SETS = ("OSULeaf", "ACSF1", "GunPoint", "ItalyPowerDemand", "PLAID", "JapaneseVowels")


@pytest.mark.parametrize("name", SETS)
def test_attention_is_taken_out_of_three_seeds_beside_what_came_before_it(name):
    before = ("recurrent", "RNN", "BiLSTM", "CNN + LSTM", "convolution")
    for label in ("full", "none", *before):
        found = metrics("accuracy-ucr", "test_accuracy", of=f"ucr-{name}", label=label)
        assert len(found) >= 3


@pytest.mark.parametrize("label", ["full", "RNN, Bahdanau", "RNN, Luong dot", "RNN, Luong general"])
def test_translations_with_attention_are_better(label):
    """By more than two standard errors of the difference."""
    ours, without = (
        metrics("accuracy-translation", "test_bleu", label=name)
        for name in (label, "RNN without attention")
    )
    errors = [fits.standard_error(values) for values in (ours, without)]
    assert min(len(ours), len(without)) >= 3
    assert ours.mean() - without.mean() > 2 * np.hypot(*errors)


@pytest.mark.parametrize("n", [64, 128, 256, 512])
def test_full_attention_recalls_and_linear_attention_does_not_at_length(n):
    full = metrics("accuracy-mqar", "test_accuracy", label="full", n=n)
    assert len(full)
    assert full.mean() >= 0.99
    if n > 64:
        linear = metrics("accuracy-mqar", "test_accuracy", label="linear", n=n, size="small")
        assert linear.mean() < 0.2


@pytest.mark.parametrize(("n", "recalls"), [(64, True), (128, False), (256, False)])
def test_in_more_steps_linear_attention_recalls_at_64_and_no_further(n, recalls):
    """As the table's caption says."""
    (linear,) = metrics("accuracy-mqar", "test_accuracy", label="linear", n=n, size="long")
    assert linear > 0.99 if recalls else linear < 0.2


def test_trainings_of_two_machines_agree():
    """Within two standard errors of the difference and one answer of the test's, which is what a
    cell that is trained anew is held to."""
    found = {}
    for r in records.load(ROOT / "results" / "accuracy-mqar"):
        c = r["config"]
        if r["status"] == "ok" and c["role"] == "final":
            cell = found.setdefault((c["label"], c["n"], c["size"]), {})
            cell.setdefault(r["env"]["device"], []).append(r["metrics"]["test_accuracy"])
    twins = [[*of.values()] for of in found.values() if len(of) == 2]
    twins = [pair for pair in twins if all(len(scores) >= 3 for scores in pair)]
    assert len(twins) >= 3
    for one, other in twins:
        errors = [fits.standard_error(np.array(scores)) for scores in (one, other)]
        answer = 1 / (4 * 256)
        assert abs(np.mean(one) - np.mean(other)) <= 2 * np.hypot(*errors) + answer


def test_full_attention_predicts_text_better_than_two_letters_do():
    ours = metrics("accuracy-language", "test_bpb", label="full")
    rule = metrics("accuracy-language", "order2_bpb", label="full")
    assert len(ours)
    assert (ours < rule).all()


def test_expressions_are_read_past_their_root():
    """By more than two standard errors, of expressions of up to 64 tokens."""
    ours, rule = (
        metrics("accuracy-listops", key, label="full", n=64)
        for key in ("test_accuracy", "root_accuracy")
    )
    assert len(ours) >= 3
    assert ours.mean() - rule.mean() > 2 * fits.standard_error(ours)


@pytest.mark.parametrize("n", [128, 256, 512])
def test_full_attention_says_a_word_again(n):
    of = {"label": "full, shared", "n": n}
    ours = metrics("accuracy-duplicate", "test_accuracy@full", **of)
    assert len(ours) >= 3
    assert (ours > 0.99).all()


def test_who_trained_with_one_round_of_hashing_reads_better_with_more():
    """As Reformer's do; where anything was learned."""
    one, more, all_of = (
        metrics("accuracy-duplicate", f"test_accuracy@{rounds}", label="lsh, 1")
        for rounds in ("hashes=1", "hashes=8", "full")
    )
    learned = one > metrics("accuracy-duplicate", "bigram_accuracy", label="lsh, 1")
    assert sum(learned) >= 4
    assert (more > one + 0.1)[learned].all()
    assert (np.abs(more - all_of) < 0.01)[learned].all()
