"""Two folders of records: what moved by more than noise, and the exit code that guards a kernel."""

import copy
import json

import pandas as pd
import pytest

from experiments import compare
from experiments.analysis import moves, reading
from experiments.tasks.metric import METRICS
from tests import synthetic_records as synthetic
from tests import synthetic_training as training


def scaled(found, factor, *keys, **where):
    """A copy in which these metrics are `factor` of what they were, where the config is so."""
    found = copy.deepcopy(found)
    for record in found:
        if all(record["config"][k] == v for k, v in where.items()):
            for key in keys:
                if record["metrics"].get(key):
                    record["metrics"][key] *= factor
    return found


def slowed(found, factor, label="local", **where):
    return scaled(found, factor, "seconds", "seconds_q1", "seconds_q3", label=label, **where)


@pytest.fixture
def run(tmp_path, capsys):
    def call(a, b, *arguments):
        folders = [synthetic.write(tmp_path / name, of) for name, of in (("a", a), ("b", b))]
        out = tmp_path / "out"
        code = compare.main([*map(str, folders), "--out", str(out), *arguments])
        said, err = capsys.readouterr()
        return code, said, err, out

    return call


def test_a_score_is_compared_whatever_the_device_a_point_once(run):
    """A folder of scores is of all devices; a new one is of the machine at hand."""
    found = training.language()
    worse = scaled(found, 2, "test_bpb")
    both = [*found, *map(synthetic.elsewhere, worse)]
    code, said, _, _ = run(both, found)
    assert (code, "none moved" in said) == (0, True)
    only_there = list(map(synthetic.elsewhere, found))
    code, said, _, _ = run(only_there, worse)
    assert (code, "worse" in said) == (0, True)


def test_times_of_trainings_are_compared_on_one_device(run):
    found = training.language()
    slow = list(map(synthetic.elsewhere, scaled(found, 4, "seconds_per_step")))
    # the second seeds of A are of the slow device alone
    parts = [r for r in found if r["config"]["seed"] != 1]
    parts += [r for r in slow if r["config"]["seed"] == 1]
    assert run(parts, found)[0] == 0
    code, said, _, _ = run(parts, slow)
    assert (code, "slower" in said) == (0, False)
    # each is of one device: the machine has changed
    assert run(found, slow)[0] == 1


SCALING = [r for r in synthetic.scaling() if r["config"]["label"] in ("full", "local")]


def test_the_same_records_have_not_moved(run):
    code, said, _, out = run(SCALING, SCALING)
    assert code == 0
    assert "none moved" in said
    assert (out / "compare.png").stat().st_size > 1000


def test_what_got_slower_is_named_and_sounds_the_alarm(run):
    code, said, _, out = run(SCALING, slowed(SCALING, 1.4, n=1024))
    assert code == 1
    table = pd.read_csv(out / "compare.csv")
    assert list(table.label) == ["local", "local"]
    assert set(table.n) == {1024}
    assert table.ratio.to_numpy() == pytest.approx(1.4)
    assert "2 beyond the ratio" in said
    assert run(SCALING, slowed(SCALING, 1.4, n=1024), "--ratio", "1.5")[0] == 0
    assert run(SCALING, slowed(SCALING, 0.5))[0] == 0


def test_noise_is_no_move(run):
    """The quartiles are 3 % below and 8 % above the median of ten repeats."""
    assert run(SCALING, slowed(SCALING, 1.05), "--ratio", "1.01")[0] == 0
    wide = copy.deepcopy(SCALING)
    for record in wide:
        if record["metrics"]:
            record["metrics"] |= {"seconds_q3": 2 * record["metrics"]["seconds"]}
    assert run(wide, slowed(wide, 1.4))[0] == 0
    # however often it was repeated: the next run may be another of those in between
    many = copy.deepcopy(SCALING)
    for record in many:
        if record["metrics"]:
            record["metrics"]["repeats"] = 1000
    assert run(many, slowed(many, 1.1), "--ratio", "1.05")[0] == 0
    few = copy.deepcopy(SCALING)
    for record in few:
        if record["metrics"]:
            record["metrics"]["repeats"] = 2
    assert run(few, slowed(few, 1.2), "--ratio", "1.1")[0] == 0
    assert run(SCALING, slowed(SCALING, 1.2), "--ratio", "1.1")[0] == 1


def test_what_no_longer_comes_through_sounds_the_alarm(run):
    lost = copy.deepcopy(SCALING)
    lost[0] |= {"status": "oom", "reason": "no room", "metrics": {}}
    code, _, _, out = run(SCALING, lost)
    assert code == 1
    assert "ok -> oom" in (out / "compare.md").read_text()
    assert run(lost, SCALING)[0] == 0


def test_flops_and_compiled_memory_do_not_jitter(run):
    more = copy.deepcopy(SCALING)
    more[0]["metrics"]["bytes_compiled"] *= 1.01
    code, said, _, _ = run(SCALING, more)
    assert (code, "bytes compiled: 1 more" in said) == (0, True)


def test_scores_move_by_more_than_the_seeds_do(run):
    found = training.language()
    code, said, _, _ = run(found, scaled(found, 2, "test_bpb"))
    assert code == 0
    assert "bits per byte: " in said
    assert "worse" in said


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.key)
def test_every_score_is_compared(run, metric):
    key = f"test_{metric.key}"
    found = [training.train("full", 64, i, 0.5, metrics={key: 0.5 + i / 100}) for i in range(3)]
    code, said, _, _ = run(found, scaled(found, 0.5, key))
    assert code == 0
    assert f"{metric.words}: 1 {'worse' if metric.higher_is_better else 'better'}" in said


def test_of_a_single_seed_nothing_is_said_to_have_moved(run):
    found = [training.train("full", 64, 0, 0.5, task="forecast")]
    code, said, _, _ = run(found, scaled(found, 2, "test_mse", "seconds_per_step"))
    assert code == 0
    assert "none moved" in said
    assert "2 values of a single run, of unknown noise, never count as moved" in said


def one(**metrics):
    return [synthetic.record(synthetic.kernel("local", 64)["config"], {"repeats": 10, **metrics})]


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("bytes_held", 1.01, "bytes held: 1 more"),
        ("sent_forward", 0.99, "bytes sent forward: 1 less"),
        ("sent_backward", 1.01, "bytes sent backward: 1 more"),
        ("bytes_measured", 1.05, "none moved"),
        ("bytes_measured", 1.2, "bytes measured: 1 more"),
    ],
)
def test_what_is_counted_moves_by_a_thousandth_and_what_a_process_grows_by_by_a_tenth(
    run, key, change, words
):
    code, said, _, _ = run(one(**{key: 1e6}), one(**{key: 1e6 * change}))
    assert (code, words in said) == (0, True)


@pytest.mark.parametrize(
    ("form", "words"), [("uncached", "without a state"), ("rest", "but for attention")]
)
def test_other_times_have_quartiles_of_their_own(run, form, words):
    def timed(seconds, wide):
        ends = {"q1": seconds / wide, "q3": seconds * wide}
        return one(**{f"seconds_{form}": seconds}, **{f"seconds_{q}_{form}": ends[q] for q in ends})

    code, said, _, out = run(timed(1.0, 1.02), timed(1.4, 1.02))
    assert (code, f"time {words}: 1 slower" in said) == (1, True)
    assert (out / "compare.png").stat().st_size > 1000
    assert run(timed(1.0, 1.5), timed(1.4, 1.5))[0] == 0


def test_points_without_a_quantity_in_common_are_counted(run):
    said = run(one(seconds=1.0), one(flops_counted=1.0))[1]
    assert "none moved. 0 beyond the ratio or lost. no quantity to compare in 1." in said


def test_a_row_names_its_records_on_both_sides(run):
    other = [synthetic.kernel("local", n, dtype="bfloat16") for n in synthetic.LENGTHS]
    _, _, _, out = run(SCALING, slowed(other, 2), "--ignore", "dtype", "--allow_missing")
    table = pd.read_csv(out / "compare.csv", dtype=str)
    mine = [
        r for r in SCALING if (r["config"]["label"], r["config"]["mode"]) == ("local", "forward")
    ]
    for column, found in (("a_records", mine), ("b_records", other)):
        ids = {str(record["config"]["n"]): record["id"] for record in found}
        assert list(table[column]) == list(table.n.map(ids))
    assert [set(ids.split()) for ids in table.records] == [
        set(pair) for pair in zip(table.a_records, table.b_records, strict=True)
    ]
    assert "[local](compare.csv#L2) |" in (out / "compare.md").read_text()


def test_repeats_and_devices_do_not_make_another_point(run):
    other = copy.deepcopy(SCALING)
    for i, record in enumerate(other):
        other[i] = synthetic.record(
            record["config"] | {"repeats": 3}, record["metrics"], record["status"], device="another"
        )
    assert "19 of 19 points of A measured in both" in run(SCALING, other)[1]


def test_an_ignored_field_may_differ(run):
    other = [synthetic.kernel("local", n, dtype="bfloat16") for n in synthetic.LENGTHS]
    code, _, err, _ = run(SCALING, other)
    assert code == 2
    assert "no point is in both" in err
    assert "config.dtype: float32 in A, bfloat16 in B" in err
    assert run(SCALING, other, "--ignore", "dtype", "--allow_missing")[0] == 0
    windows = [[synthetic.kernel("local", 64, hparams={"window": w})] for w in (8, 16)]
    assert run(*windows)[0] == 2
    assert run(*windows, "--ignore", "hparams")[0] == 0


def test_a_sweep_that_ended_early_sounds_the_alarm(run):
    code, said, err, out = run(SCALING, SCALING[:9])
    assert code == 1
    assert "9 of 19 points of A measured in both. none moved" in said
    line = "B has no record of 10 of them: local scaling forward n=256, "
    for text in (said, err, (out / "compare.md").read_text()):
        assert line in text
    assert ", and 5 more; --allow_missing lets it" in err
    assert err.count("\n") == 1
    code, said, err, _ = run(SCALING, SCALING[:9], "--allow_missing")
    assert (code, err) == (0, "")
    assert line in said


def test_what_only_b_has_or_what_failed_in_a_may_be_missing(run):
    code, said, err, _ = run(SCALING[:4], SCALING)
    assert (code, err) == (0, "")
    assert "4 of 4 points of A measured in both" in said
    ok = [record for record in SCALING if record["status"] == "ok"]
    assert len(ok) < len(SCALING)
    assert run(SCALING, ok)[0] == 0


def test_numbers_have_units(run):
    _, _, _, out = run(SCALING, slowed(SCALING, 1.4), "--all")
    table = pd.read_csv(out / "compare.csv", keep_default_na=False)
    units = dict(zip(table.quantity, table.unit, strict=True))
    memory = {"bytes compiled": "B", "bytes measured": "B"}
    assert units == {"time": "s", "FLOPs": "", **memory}


def test_bad_input_is_one_line(tmp_path, capsys):
    folder = synthetic.write(tmp_path / "a", SCALING)
    for arguments, words in (
        ([str(folder), str(tmp_path / "none")], "no records in B"),
        ([str(folder), str(folder), "--ratio", "0.5"], "--ratio: must be a number from 1 up"),
        ([str(folder)], "required: B"),
        (
            [str(folder), str(folder), "--ignore", "dtype,dtpe"],
            "--ignore dtpe: no config has it; th",
        ),
    ):
        assert compare.main(arguments) == 2
        *notes, said = capsys.readouterr().err.splitlines()
        assert said.startswith("experiments.compare: ")
        assert words in said
        assert not any("usage" in note for note in notes)


def test_what_is_written_is_named(tmp_path, capsys):
    """And a plot of other folders does not stay beside a table without times."""
    out = tmp_path / "out"
    timed = str(synthetic.write(tmp_path / "timed", SCALING))
    assert compare.main([timed, timed, "--out", str(out)]) == 0
    files = [f"compare.{suffix}" for suffix in ("csv", "md", "svg", "png")]
    assert f"written: {', '.join(str(out / file) for file in files)}" in capsys.readouterr().out
    other = str(synthetic.write(tmp_path / "other", synthetic.fidelities()))
    assert compare.main([other, other, "--out", str(out)]) == 0
    assert f"written: {out}/compare.csv, {out}/compare.md\n" in capsys.readouterr().out
    assert sorted(file.name for file in out.iterdir()) == files[:2]


def test_damage_is_told_and_the_rest_is_compared(tmp_path, capsys):
    folder = synthetic.write(tmp_path / "a", SCALING)
    with open(folder / "records.jsonl", "a") as file:
        file.write("{broken\n" + json.dumps({**SCALING[0], "schema": 2}) + "\n")
    assert compare.main([str(folder), str(folder), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.count("2 records are left out") == 2


def test_moves_need_no_order(tmp_path):
    frames = [
        reading.read([synthetic.write(tmp_path / str(i), order)]).frame
        for i, order in enumerate((SCALING, SCALING[::-1]))
    ]
    assert not any(row["moved"] for row in moves.between(*frames, ratio=1.2).rows)


def seeds(label, *values, task="listops", **metrics):
    """A training a value; None of one that failed."""
    return [
        training.train(label, 64, seed, value or 0.0, task=task, metrics=metrics)
        if value is not None
        else training.train(label, 64, seed, 0.0, "nan", "the loss is nan", task=task)
        for seed, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ((0.90, 0.91, 0.89), (0.0, 0.0, 0.0), "accuracy: 1 worse"),
        ((0.0, 0.0, 0.0), (0.5, 0.51, 0.52), "accuracy: 1 better"),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), "none moved"),
        # the mean lies within two of its errors from 0
        ((0.0, 0.0, 0.0), (0.3, 0.0, 0.0), "none moved"),
    ],
)
def test_nothing_at_all_is_a_value(run, a, b, words):
    code, said, _, _ = run(seeds("full", *a), seeds("full", *b))
    assert (code, words in said) == (0, True), said


def test_what_is_counted_moves_from_nothing(run):
    said = run(one(sent_forward=0), one(sent_forward=1e6))[1]
    assert "bytes sent forward: 1 more" in said
    assert "none moved" in run(one(sent_forward=0), one(sent_forward=0))[1]


def test_a_lone_seed_varies_as_those_of_the_other_side(run):
    """0.50 ± 0.01 a seed: a difference of one to three varies by 0.0115, of Student's t with 2
    degrees of freedom 4.5 of it are two sigma."""
    three = seeds("full", 0.49, 0.50, 0.51)
    for lone, moved in ((0.54, False), (0.56, True)):
        said = run(three, seeds("full", lone), "--allow_missing")[1]
        assert ("accuracy: 1 better" in said) == moved, said


def test_seeds_that_come_through_no_more_sound_the_alarm(run):
    whole, part = seeds("full", 0.5, 0.51, 0.52), seeds("full", 0.5, None, None)
    code, _, _, out = run(whole, part)
    assert code == 1
    assert "ok -> 2 nan, 1 ok" in (out / "compare.md").read_text()
    assert run(part, whole)[0] == 0
    # none of them, whichever failed before
    assert run(part, seeds("full", None, None, None))[0] == 1


def test_seeds_without_a_record_are_missing(run):
    whole, part = seeds("full", 0.5, 0.51, 0.52), seeds("full", 0.5)
    code, _, err, _ = run(whole, part)
    assert code == 1
    assert "full listops listops, 2 of 3 seeds n=64" in err
    assert run(whole, part, "--allow_missing")[0] == 0
    assert run(part, whole)[0] == 0


def test_a_missing_point_without_a_length_is_named(run):
    same = {"experiment": "x", "kind": "y", "label": "z", "mechanism": "full"}
    found = [synthetic.record({**same, "i": i}, {"seconds": 1.0}) for i in (1, 2)]
    code, _, err, _ = run(found, found[:1])
    assert (code, "n=none" in err) == (1, True)
