"""Advice: ranked, labelled and honest where it cannot be right, one line for bad input."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import attention_zoo as zoo
from experiments import advise, calibrate, measure, records
from experiments.kinds import kernel
from experiments.reporting import evidence
from tests import synthetic_records as synthetic
from tests import synthetic_training as training
from tests.test_asked import points

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    found = [r for r in synthetic.scaling() if r["config"]["mechanism"] != "strided"]
    synthetic.write(tmp_path / "scaling", found)
    synthetic.write(tmp_path / "fidelity", synthetic.fidelities())
    synthetic.write(tmp_path / "language", training.language())
    return tmp_path


def ask(capsys, folder, *arguments):
    code = advise.main(["--records", str(folder), "--quick", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def answer(capsys, folder, *arguments):
    code, out, err = ask(capsys, folder, "--json", *arguments)
    assert code == 0, err
    return json.loads(out)


def row(found, label):
    return next(row for row in (*found["ranked"], *found["refused"]) if row["label"] == label)


def test_the_fastest_comes_first_and_says_from_where(capsys, folder):
    found = answer(capsys, folder, "--n", "2048", "--device", "cpu")
    seconds = [row["seconds"]["value"] for row in found["ranked"]]
    assert seconds == sorted(seconds)
    local = row(found, "local")
    assert local["seconds"]["how"] == local["memory"]["how"] == "measured"
    assert local["seconds"]["value"] == pytest.approx(257 * 2048 * 2048 / 50e9 + 2e-4)
    assert local["seconds"]["error"] == pytest.approx(0.08)
    assert local["needs_bytes"] == local["memory"]["value"] + 3 * 4 * 2048 * 512
    assert row(answer(capsys, folder, "--n", "3072"), "full")["seconds"]["how"] == "interpolated"
    assert row(answer(capsys, folder, "--n", "8192"), "full")["seconds"]["how"] == "extrapolated"


def test_what_it_cannot_do_is_refused_with_reasons(capsys, folder):
    found = answer(capsys, folder, "--n", "2048", "--causal", "--memory", "100MB")
    refused = {row["label"]: row["reasons"] for row in found["refused"]}
    assert "mixes in the future" in refused["fourier"][0]
    assert refused["full"] == ["it needs 141 MiB, more than 95.4 MiB"]
    assert refused["performer"] == ["no record of it in float32 on cpu-synthetic-2c"]
    assert {row["label"] for row in found["ranked"]} == {"local", "global", "bigbird", "linear"}
    # no record is of a causal call
    assert {row["seconds"]["how"] for row in found["ranked"]} == {"not causal"}
    assert found["ranked"][0]["seconds"]["error"] is None


def test_errors_are_of_records_of_such_calls_alone(capsys, folder):
    def trust(*arguments):
        out = ask(capsys, folder, "--n", "2048", *arguments)[1]
        return [line for line in out.splitlines() if line.startswith(("How far", "Of "))]

    lengths = len(synthetic.LENGTHS)
    held_out = answer(capsys, folder, "--n", "2048")["held_out"]["seconds"]
    ranked = {row["label"] for row in answer(capsys, folder, "--n", "2048")["ranked"]}
    # all but the least of each curve
    assert held_out["points"] == len(ranked) * (lengths - 1)
    assert trust()[0].startswith(f"Of {held_out['points']} records of such calls, each held out")
    assert trust("--causal") == [
        "How far off the model is with such calls is not known: no records are of them."
    ]


@pytest.mark.parametrize(("arguments", "other"), [([], False), (["--batch", "2"], True)])
def test_sizes_without_records_are_said(capsys, folder, arguments, other):
    text = ask(capsys, folder, "--n", "512", *arguments)[1]
    assert ("other sizes: the formula, calibrated on records of other batches" in text) == other
    ranked = answer(capsys, folder, "--n", "512", *arguments)["ranked"]
    assert {row["seconds"]["how"] == "other sizes" for row in ranked} == {other}
    # no records tell how far off such predictions are
    assert {row["seconds"]["error"] is None for row in ranked} == {other}


def test_fidelity_and_scores_are_of_the_form_that_is_asked_for(capsys, folder):
    found = []
    for kind, error in (("dense", 0.9), ("random", 0.1)):
        one = synthetic.fidelity("synthesizer", 1024, "trained", "", None)
        one["config"] |= {"label": f"synthesizer_{kind}", "hparams": {"kind": kind}}
        found.append(synthetic.record(one["config"], one["metrics"] | {"error": error}))
    found.append(synthetic.kernel("synthesizer", 1024, hparams={"kind": "dense"}))
    synthetic.write(folder / "more", found)
    made = answer(capsys, folder, "--n", "1024", "--pooled")
    assert row(made, "synthesizer")["fidelity"]["error"] == pytest.approx(0.9)


def test_a_window_of_two_sides_is_no_budget_between_others(capsys, folder):
    code, out, err = ask(capsys, folder, "--n", "2048", "--set", "local.window=5,7")
    assert code == 0, err
    assert "window=(5, 7)" in out


def test_an_output_a_sequence_is_no_output_a_position(capsys, folder):
    found = [synthetic.kernel("query_reduction", n) for n in synthetic.LENGTHS]
    synthetic.write(folder / "more", found)
    refused = row(answer(capsys, folder, "--n", "2048"), "query_reduction")
    assert "serve one label a sequence" in refused["reasons"][0]
    pooled = row(answer(capsys, folder, "--n", "2048", "--pooled"), "query_reduction")
    assert pooled["reasons"] == []


def test_fidelity_is_that_of_the_budget(capsys, folder):
    def local(*arguments):
        found = answer(capsys, folder, "--n", "700", *arguments)
        return row(found, "local")["fidelity"]

    at_64 = local("--set", "local.window=64")
    assert at_64["error"] == pytest.approx(0.7 / 8)
    assert (at_64["n"], at_64["inputs"], at_64["value"]) == (1024, "trained", 64)
    assert local("--set", "local.window=32")["error"] == pytest.approx(0.7 / 32**0.5)
    # 256 ran out of memory at that N
    assert local("--set", "local.window=512")["value"] == 64
    assert row(answer(capsys, folder, "--n", "700"), "full")["fidelity"]["error"] == 0


@pytest.mark.parametrize(("score", "exact"), [("scaled_dot", True), ("cosine", False)])
def test_full_attention_by_another_score_is_not_softmax_of_the_usual_one(
    capsys, folder, score, exact
):
    found = row(answer(capsys, folder, "--n", "700", "--set", f"full.score={score}"), "full")
    assert (found["fidelity"] is not None) == exact
    assert zoo.defaults(evidence.EXACT)["score"] == evidence.SCORE


def test_scores_are_of_the_nearest_length_of_the_same_form(capsys, folder):
    found = answer(capsys, folder, "--n", "600", "--causal")
    (task,) = found["tasks"]
    assert (task["metric"], task["n"], task["causal"]) == ("bpb", 512, True)
    (score,) = row(found, "local")["scores"]
    assert score["seeds"] >= 1
    assert score["score"] > 0


def test_a_task_is_told_once_as_most_models_were_trained(capsys, folder):
    tasks = [
        training.train(label, 2048, 0, score, task="mqar", size=size)
        for size, labels in (("long", ["local"]), ("small", ["full", "local", "linear"]))
        for label, score in zip(labels, (0.9, 0.8, 0.7), strict=False)
    ]
    synthetic.write(folder / "mqar", tasks)
    found = answer(capsys, folder, "--n", "2048", "--device", "cpu")
    mqar = [task for task in found["tasks"] if task["task"] == "mqar"]
    assert len(found["tasks"]) == len({task["task"] for task in found["tasks"]})
    assert len(mqar) == 1
    assert ", small" in mqar[0]["title"], mqar
    (score,) = [of for of in row(found, "local")["scores"] if of and of["task"] == "mqar"]
    assert score["score"] == 0.8
    assert score["seeds"] == 1
    assert {"title", "steps", "params", "device"} <= score.keys()
    _, text, _ = ask(capsys, folder, "--n", "2048", "--device", "cpu")
    (said,) = [line for line in text.splitlines() if line.startswith("mqar, N = 2,048: ")]
    assert "one seed" in said
    assert " steps, " in said
    assert said.endswith(" parameters, without a model a value of the context 0.8 %.")


def test_a_task_that_nobody_learned_is_not_told(capsys, folder):
    """At that N: the next one is."""
    found = [
        training.train(label, n, 0, score, task="imdb", metrics={"bytes_accuracy": 0.6})
        for n, scores in ((2048, (0.55, 0.52)), (512, (0.7, 0.5)))
        for label, score in zip(("full", "local"), scores, strict=True)
    ]
    synthetic.write(folder / "imdb", found)
    told = answer(capsys, folder, "--n", "2048", "--device", "cpu")
    (imdb,) = [task for task in told["tasks"] if task["task"] == "imdb"]
    assert imdb["n"] == 512
    scores = {of: row(told, of)["scores"] for of in ("full", "local")}
    verdicts = {
        of: [score["status"] for score in found if score and score["task"] == "imdb"]
        for of, found in scores.items()
    }
    assert verdicts == {
        "full": ["ok"],
        "local": ["failed run: does not beat majority class in 1 of 1 seeds"],
    }


def test_the_text_names_all(capsys, folder):
    code, out, _ = ask(capsys, folder, "--n", "3072", "--batch", "2", "--memory", "1GiB")
    assert code == 0
    for words in ("2 sequences of N = 3,072, 8 heads of 64, forward, float32, cpu-synthetic-2c",
                  "other sizes", "Refused:", "held out", "bits per byte"):  # fmt: skip
        assert words in out


def test_memory_that_records_cannot_tell_is_compiled(folder):
    """Such a program is compiled here; the records held one MiB more than they compiled to."""
    found = [r for r in records.load(folder / "scaling") if r["config"]["mechanism"] == "local"]
    known = calibrate.calibration(found)
    point = {"mechanism": "local", "hparams": {}, "n": 700, "mode": "forward", "causal": True}
    point |= {"batch": 1, "heads": 2, "head_dim": 16, "value_dim": 16, "dtype": "float32"}
    made = advise.forecast(point | {"seed": 0}, known, jax.default_backend())
    lowered = kernel.trace(point | {"seed": 0}).lower()
    expected = 2**20 + measure.bytes_of(lowered, None)
    assert made["memory"].how == "compiled"
    assert made["memory"].value == pytest.approx(expected, rel=1e-6)
    # no record is of a causal call, nor of an N that is padded as this one is
    assert made["memory"].error == math.inf
    elsewhere = advise.forecast(point | {"seed": 0}, known, "another")
    assert elsewhere["memory"].how == "not causal"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--n", "0"], "argument --n: must be a whole number from 1 up, got '0'"),
        (["--n", "9", "--device", "tpu"], "--device tpu is unknown; known: cpu-synthetic-2c"),
        (["--n", "1048577"], "argument --n: must be at most 1,048,576, got 1,048,577"),
        (["--n", "²"], "argument --n: must be a whole number from 1 up, got '²'"),
        (["--n", "9", "--memory", "lots"], "--memory: must be a size such as 16GiB or 500MB"),
        (["--n", "9", "--memory", "1.2.3GiB"], "such as 16GiB or 500MB, got '1.2.3GiB'"),
        (["--n", "9", "--memory", ".GiB"], "such as 16GiB or 500MB, got '.GiB'"),
        (["--n", "9", "--dtype", "float16"], "--dtype float16: no records of kernels in it"),
        (["--n", "9", "--set", "loca.window=3"], "--set knows no 'loca'; there are bigbird"),
        (["--n", "9", "--set", "local.windw=3"], "did you mean 'window'"),
        (["--n", "9", "--set", "local.window=1.5"], "window must be a whole number from 0 up, or"),
        (["--batch", "3"], "required: --n"),
    ],
)
def test_bad_input_is_one_line(capsys, folder, arguments, words):
    code, out, err = ask(capsys, folder, *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_sizes_are_read_as_written():
    for text, size in (("16GiB", 2**34), ("500 MB", 5 * 10**8), ("1.5kb", 1500), (".5KiB", 512)):
        assert advise.parse(["--n", "9", "--memory", text]).memory == size


@pytest.mark.parametrize("name", ["advise", "cite", "compare"])
def test_a_reader_that_has_seen_enough_ends_it_quietly(name):
    command = [sys.executable, "-m", f"experiments.{name}", "--help"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == -signal.SIGPIPE


def test_no_records_is_one_line(capsys, tmp_path):
    code, _, err = ask(capsys, tmp_path, "--n", "9")
    assert code == 2
    assert err.splitlines()[-1].endswith("experiments.run writes them")


def test_damage_is_told_and_the_rest_is_used(capsys, folder):
    file = folder / "scaling" / "records.jsonl"
    good = file.read_text()
    file.write_text(good + "{broken\n" + json.dumps({"schema": 9, "id": "x"}) + "\n")
    code, out, err = ask(capsys, folder, "--n", "2048")
    assert code == 0
    assert "local" in out
    assert len(err.splitlines()) == 1


def altered(metrics=None, without=(), **changes):
    """A record of local with other metrics, without fields of its config, or with other values."""
    found = synthetic.kernel("local", 640, **changes)
    config = {name: value for name, value in found["config"].items() if name not in without}
    return synthetic.record(config, found["metrics"] if metrics is None else metrics)


MEANINGLESS = {
    "no metrics": (altered({}), "metrics.seconds should be a number above 0, got None"),
    "a word": (altered({"seconds": "abc"}), "metrics.seconds should be a number above 0, got 'abc"),
    "quartiles": (altered({"seconds": 1.0, "seconds_q1": "x"}), "metrics.seconds_q1 should be"),
    "no size": (altered(without=("value_dim",)), "config has no value_dim"),
    "no dtype": (altered(without=("dtype",)), "config has no dtype"),
    "no form": (altered(without=("causal",)), "config has no causal"),
    "mechanism": (altered(mechanism="pooled"), "unknown mechanism 'pooled'"),
    "hyperparameter": (altered(hparams={"radius": 3}), "local has no hyperparameter 'radius'"),
    "hyperparameters": (altered(hparams="window"), "'str' object has no attribute 'items'"),
    "no device": (synthetic.record({"kind": "kernel"}, device=None), "env.device should be a name"),
}


@pytest.mark.parametrize("case", MEANINGLESS)
def test_a_record_without_meaning_is_told_and_the_rest_is_used(capsys, folder, case):
    record, words = MEANINGLESS[case]
    expected = ask(capsys, folder, "--n", "2048")[1]
    synthetic.write(folder / "more", [record])
    code, out, err = ask(capsys, folder, "--n", "2048")
    assert (code, out) == (0, expected)
    assert err.startswith("1 record is left out: ")
    assert words in err
    assert err.count("\n") == 1


def test_devices_are_told_apart_by_the_beginning_of_their_names(capsys):
    known = {"cpu-a-2c": 3, "cpu-b-2c": 5, "gpu-x": 9}

    def choose(asked, known, this="another"):
        return advise.choose(asked, known, lambda: this)

    assert choose("gpu", known) == "gpu-x"
    assert choose("cpu-b", known) == "cpu-b-2c"
    assert choose("cpu-a", {"cpu-a": 1, "cpu-a-2": 2}) == "cpu-a"
    assert choose(None, {"gpu-x"}) == "gpu-x"
    # of several it is the one that asks, if it fits
    assert choose("cpu", known, this="cpu-b-2c") == choose(None, known, this="cpu-b-2c")
    assert choose("cpu", known, this="cpu-b-2c") == "cpu-b-2c"
    assert capsys.readouterr().err == ""
    # else the one of which most is known, and it says so
    for this in ("another", "gpu-x"):
        assert choose("cpu", known, this) == "cpu-b-2c"
        assert capsys.readouterr().err == "--device cpu fits cpu-a-2c, cpu-b-2c: this is cpu-b-2c\n"
    with pytest.raises(ValueError, match="--device is missing; there are records of cpu-a-2c, "):
        choose(None, known)


def test_this_machine_is_preferred(capsys, folder):
    here = advise.environment.facts()["device"]
    others = [synthetic.kernel("local", 512) for _ in range(2)]
    for device, found in zip((here, here[:4] + "zzz"), others, strict=True):
        found["env"] = found["env"] | {"device": device}
        synthetic.write(folder / device, [found])
    found = answer(capsys, folder, "--n", "512", "--device", here[:4])
    assert found["call"]["device"] == here


def test_records_say_their_commits_and_dates(capsys, folder, monkeypatch):
    later = synthetic.kernel("local", 640)
    later["env"] = later["env"] | {"commit": "fedcba9876543", "date": "2026-11-23T01:00:00+00:00"}
    synthetic.write(folder / "more", [later])
    monkeypatch.setattr(advise.environment, "differs", lambda commit, _: commit.startswith("fed"))
    out = ask(capsys, folder, "--n", "512")[1]
    assert "commit 0123456789, which is not in this clone: its kernels may have been others." in out
    monkeypatch.setattr(advise.environment, "knows", lambda _: True)
    old, new = answer(capsys, folder, "--n", "512")["records"]
    assert (old["commit"], old["from"], old["changed"]) == ("0123456789abcdef", "2026-11-21", False)
    assert new == {
        **{"commit": "fedcba9876543", "count": 1, "from": "2026-11-23", "to": "2026-11-23"},
        "changed": True,
    }
    out = ask(capsys, folder, "--n", "512")[1]
    assert f"Records: {old['count']} of 2026-11-21, commit 0123456789.\n" in out
    assert "2026-11-23, commit fedcba9876; kernels in attention_zoo/ are others now.\n" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--n", "2048"],
        ["--n", "700", "--batch", "2", "--heads", "4", "--head_dim", "32", "--mode", "train"],
        ["--n", "32768", "--causal", "--value_dim", "16", "--set", "linear.feature_map=relu"],
    ],
)
def test_the_last_line_measures_the_first(capsys, folder, arguments):
    found = answer(capsys, folder, *arguments)
    first = found["ranked"][0]
    expected = {**found["call"], **first}
    assert ask(capsys, folder, *arguments)[1].rstrip().endswith(found["confirm"])
    (point,) = points(found["confirm"])
    assert point == {name: expected[name] for name in point}
    assert len(point) == 11


def test_a_mechanism_without_a_product_follows_n(capsys, folder):
    found = [synthetic.kernel("none", n) for n in synthetic.LENGTHS]
    for one in found:
        one["metrics"]["seconds"] = 1e-8 * one["config"]["n"]
    synthetic.write(folder / "more", found)
    for n, how in ((2048, "measured"), (3072, "interpolated"), (8192, "extrapolated")):
        none = row(answer(capsys, folder, "--n", str(n)), "none")["seconds"]
        assert (none["how"], none["value"]) == (how, pytest.approx(1e-8 * n))


def test_one_that_cannot_be_at_this_length_hides_no_other(capsys, folder):
    """Of these records a quarter of N is how many buckets there are, which must be even."""
    found = [
        synthetic.kernel("lsh", n, hparams={"buckets": n // 4, "block": 64})
        for n in (256, 512, 1024)
    ]
    synthetic.write(folder / "more", found)
    made = answer(capsys, folder, "--n", "1004")
    assert "buckets must be" in row(made, "lsh")["reasons"][0]
    assert row(made, "local")["reasons"] == []
    code, _, err = ask(capsys, folder, "--n", "1004", "--set", "lsh.buckets=251")
    assert (code, "buckets must be" in err) == (2, True)


def test_what_is_not_known_to_fit_is_refused(capsys, folder):
    found = [synthetic.kernel("efficient", n) for n in synthetic.LENGTHS]
    for one in found:
        one["metrics"] |= {"bytes_measured": None, "bytes_compiled": None}
    synthetic.write(folder / "more", found)
    assert row(answer(capsys, folder, "--n", "2048"), "efficient")["reasons"] == []
    refused = row(answer(capsys, folder, "--n", "2048", "--memory", "16GiB"), "efficient")
    assert refused["reasons"] == ["no record says what it holds, to compare with 16.0 GiB"]
