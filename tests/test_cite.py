"""Citations: every entry is there, and the printed commands make the cited records again."""

import json
import re
import shlex
import subprocess

import pytest

import attention_zoo as zoo
from attention_zoo import scores
from experiments import cite, origins, records, report, run, tasks
from experiments.analysis import published, reading, references
from experiments.measuring import environment
from experiments.running import again
from tests import synthetic_records as synthetic
from tests.committed import ROOT, over_folders, read

RESULTS = ROOT / "results"


def test_entries_are_whole():
    found = references.entries()
    assert len({entry.key for entry in found}) == len(found)
    numbers = [entry.arxiv for entry in found if entry.arxiv]
    assert len(set(numbers)) == len(numbers)
    for entry in found:
        assert entry.text.count("{") == entry.text.count("}")
        for field in ("title", "author", "year"):
            assert re.search(rf"^  {field} = {{\S.*}},$", entry.text, re.MULTILINE), entry.key
        assert "tasks = " not in entry.text


@pytest.mark.parametrize("name", zoo.names())
def test_every_mechanism_has_its_entries(name):
    assert references.of_papers(zoo.make(name).citation)


def test_scores_published_figures_and_tasks_have_theirs():
    for form in scores.SCORES.values():
        assert references.of_papers(form.citation)
    for source in published.figures().source.unique():
        assert references.of_papers(source)
    for task in tasks.names():
        assert references.of_task(task)
    with pytest.raises(ValueError, match="no entry with eprint 9912"):
        references.of_papers("9912.00001")


@over_folders("home")
def test_every_committed_table_can_be_cited(home):
    sections = read(home)[1]
    for table in sorted((home / "report").glob("*.md")):
        if table.stem == "failures":
            continue
        section, ids = origins.of_table(table, sections, {})
        used = section.frame[section.frame.id.isin(ids)]
        text = "\n".join([cite.facts(used), cite.software(used), *cite.cited(used)[0]])
        mechanisms, of_tasks = (
            used[column].dropna().unique() if column in used else []
            for column in ("config.mechanism", "config.task")
        )
        expected = [references.of_papers(zoo.make(name).citation) for name in mechanisms]
        expected += [references.of_task(task) for task in of_tasks]
        for entry in (entry for entries in expected for entry in entries):
            assert entry.key in text
        assert "@misc{attention_zoo," in text
        assert " --out out/again" in " ".join(cite.reproduce(table.stem, used, home, whole=False))


@pytest.fixture
def folder(tmp_path):
    """A report's folder with records of two mechanisms, as the runner would name them."""
    found = [synthetic.kernel(label, n) for label in ("local", "linear") for n in (16, 32)]
    synthetic.write(tmp_path / "device", found)
    (tmp_path / "device" / "report").mkdir()
    (tmp_path / "device" / "report" / "scaling.csv").write_text("label,n,records\n")
    return tmp_path / "device"


def test_one_number_is_measured_again_by_the_printed_command(folder, tmp_path, capsys):
    table = folder / "report" / "scaling.csv"
    assert cite.main([str(table), "--where", "label=local", "n=32"]) == 0
    text = capsys.readouterr().out
    assert "beltagy2020longformer" in text
    assert "katharopoulos2020" not in text
    command = next(line for line in text.splitlines() if "experiments.run" in line)
    words = shlex.split(command)[3:]
    words[words.index("--out") + 1] = str(tmp_path / "again")
    assert run.main([*words, "--config.isolate=none"]) == 0
    (made,) = records.load(tmp_path / "again")
    asked = next(r for r in records.load(folder) if r["id"] == made["id"])
    assert (asked["config"]["label"], asked["config"]["n"]) == ("local", 32)
    assert made["status"] == "ok"


def test_a_table_that_names_its_records_is_of_those(folder, capsys):
    (local, *_), table = records.load(folder), folder / "report" / "scaling.csv"
    table.write_text(f"label,n,records\nlinear,16,{local['id']}\n")
    assert cite.main([str(table)]) == 0
    said = capsys.readouterr().out
    assert f"--ids {local['id']} " in said
    assert ": 1 record, of " in said


def crossovers(folder):
    """A table by columns that no config has, each row of its own records."""
    ids = [record["id"] for record in records.load(folder)]
    table = folder / "report" / "scaling-crossovers.csv"
    rows = [f"local,time,4096.0,{ids[0]}", f"local,memory,4096.0,{ids[1]}", f",,,{ids[2]}"]
    table.write_text("\n".join(["label,quantity,crossing_n,records", *rows]))
    return table, ids


def test_columns_of_the_table_choose_its_rows(folder, capsys):
    table, ids = crossovers(folder)
    for where in (["quantity=memory"], ["label=local", "quantity=memory", "crossing_n=4096"]):
        assert cite.main([str(table), "--where", *where]) == 0
        said = capsys.readouterr().out
        assert ": 1 record, of " in said
        assert f"; {ids[1]}\n" in said
    # and fields of a config go with them
    assert cite.main([str(table), "--where", "label=local", "mode=forward"]) == 0
    assert " --ids " + ",".join(sorted(ids[:2])) in capsys.readouterr().out
    assert cite.main([str(table), "--where", "quantity=tim"]) == 2
    assert "quantity=tim: no such row; there are memory, time" in capsys.readouterr().err
    assert cite.main([str(table), "--where", "quantiy=time"]) == 2
    known = capsys.readouterr().err
    assert ", quantity, " in known
    assert "records" not in known


def test_a_committed_crossover_is_cited_by_its_columns(capsys):
    table = next((RESULTS / "scaling").glob("*/report/scaling-crossovers.csv"))
    where = ["label=local", "quantity=time", "mode=forward"]
    assert cite.main([str(table), "--where", *where]) == 0
    row = next(
        line for line in table.read_text().splitlines() if line.startswith("local,forward,t")
    )
    said = capsys.readouterr().out
    for id in row.split(",")[-1].split():
        assert id in said


def test_damage_and_unknown_mechanisms_are_told_and_the_rest_is_cited(folder, capsys):
    table = folder / "report" / "scaling.csv"
    with open(folder / "records.jsonl", "a") as file:
        file.write("{broken\n" + json.dumps(synthetic.kernel("pooled", 16)) + "\n")
    assert cite.main([str(table)]) == 0
    out, err = capsys.readouterr()
    assert "beltagy2020longformer" in out
    assert [line[:22] for line in err.splitlines()] == [
        "1 record is left out: ",
        "no entry for a mechani",
    ]
    assert "unknown mechanism 'pooled'" in err


def test_kernels_of_then_are_checked_out_where_they_differ(folder, monkeypatch):
    frame = reading.read([folder]).frame
    monkeypatch.setattr(cite.environment, "knows", lambda commit: True)
    lines = cite.reproduce("scaling", frame, folder, whole=True)
    assert not [line for line in lines if "git" in line]
    frame.loc[0, "env.commit"] = then = "fedcba9876543210"
    monkeypatch.setattr(cite.environment, "differs", lambda commit, folder: commit == then)
    now, _, add, checkout, run, *_ = cite.reproduce("scaling", frame, folder, whole=True)[1:]
    assert frame.id[0] not in now
    assert frame.id[1] in now
    assert add == "git worktree add --force --detach out/then HEAD"
    assert checkout == f"git -C out/then checkout --no-overlay {then} -- attention_zoo"
    assert run.startswith("(cd out/then && python -m experiments.run --again /")
    assert run.endswith(f" --ids {frame.id[0]} --out ../../out/again)")


def test_the_kernels_of_then_can_be_checked_out_again_and_again(folder, tmp_path, monkeypatch):
    """In a project whose kernels were one file then, and are another now."""
    project = tmp_path / "project"

    def git(*words):
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        asked = ["git", "-C", str(project), *author, *words]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()

    kernels, commits = project / cite.KERNELS, []
    kernels.mkdir(parents=True)
    git("init", "--quiet")
    for name in ("then.py", "later.py", "now.py"):
        for file in kernels.iterdir():
            file.unlink()
        (kernels / name).write_text("")
        git("add", "--all")
        git("commit", "--quiet", "--message", name)
        commits.append(git("rev-parse", "HEAD"))
    frame = reading.read([folder]).frame
    monkeypatch.setattr(cite.environment, "differs", lambda commit, _: commit in commits[:2])
    for at, name in ((0, "then.py"), (1, "later.py"), (0, "then.py")):
        frame["env.commit"] = commits[at]
        lines = cite.reproduce("scaling", frame, folder, whole=True)
        typed = "\n".join(["set -e", *(line for line in lines if line.startswith(("git", "test")))])
        subprocess.run(["bash", "-c", typed], cwd=project, check=True, capture_output=True)
        found = [file.name for file in (project / cite.THEN / cite.KERNELS).iterdir()]
        assert found == [name]


def test_a_commit_that_this_clone_lacks_is_said_in_a_line(folder, capsys):
    table = folder / "report" / "scaling.csv"
    assert cite.main([str(table)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "not in this clone" in line]
    assert len(lines) == 1
    assert synthetic.ENV["commit"] in lines[0]


def test_only_a_commit_that_git_knows_can_differ():
    for commit in (None, "", "--stat", "0123456789abcdef"):
        assert not environment.differs(commit, "attention_zoo")
        assert not environment.knows(commit)
    assert not environment.differs("0" * 40, "no/such/folder")
    if (environment.ROOT / ".git").exists():
        commit, _ = environment._git()
        assert environment.knows(commit)
        assert not environment.differs(commit, "no/such/folder")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing-like-it"], "no table or figure 'nothing-like-it'; near it are"),
        (["{table}", "--where", "label=locl"], "label=locl: no such row; there are linear, loc"),
        (["{table}", "--where", "lable=local"], "--where knows no 'lable'; there are label, "),
        (["{table}", "--where", "local"], "must be such as label=local, got 'local'"),
        (["{other}"], "accuracy is of no section of its records; there are scaling"),
    ],
)
def test_bad_input_is_one_line(folder, capsys, arguments, words):
    other = folder / "report" / "accuracy.md"
    other.write_text("")
    places = {"table": folder / "report" / "scaling.csv", "other": other}
    assert cite.main([text.format(**places) for text in arguments]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_points_again_are_those_of_the_records(folder):
    ids = [record["id"] for record in records.load(folder)]
    assert sorted(map(records.point_id, again.points(folder))) == sorted(ids)
    assert list(map(records.point_id, again.points(folder, ids[:1]))) == ids[:1]
    with pytest.raises(ValueError, match="has no record 0123456789"):
        again.points(folder, ["0123456789"])
    with pytest.raises(ValueError, match="no records under"):
        again.points(folder / "report")


def test_points_again_have_thrice_the_time_they_took(folder, tmp_path):
    found = records.load(folder)
    assert again.settings(folder, again.points(folder)).time_limit == again.LEAST
    slow = {**found[0], "env": {**found[0]["env"], "elapsed": 4000.0}}
    other = synthetic.write(tmp_path / "slow", [slow, *found[1:]])
    for record, limit in zip(found, (12000.0, again.LEAST), strict=False):
        points = again.points(other, [record["id"]])
        assert again.settings(other, points).time_limit == limit


@pytest.mark.parametrize("name", ["benchmarks/*/benchmarks.md", "peers/*/peers-summary.csv"])
def test_tables_that_no_report_makes_say_what_does(name, capsys):
    tables = list(RESULTS.glob(name))
    assert tables
    for table in tables:
        assert cite.main([str(table)]) == 2
        said = capsys.readouterr().err
        assert "make bench or make peers PEERS=" in said
        assert said.count("\n") == 1


def test_again_takes_no_config(folder, capsys):
    assert run.main(["--again", str(folder), "--config", "scaling", "--out", "x"]) == 2
    assert "--again takes --out and no --config" in capsys.readouterr().err


def test_a_table_is_named_as_it_will_be_alone(tmp_path, capsys):
    """Of one setting of two, which is no part of a name that tells nothing apart."""
    found = [synthetic.kernel("local", n, causal=c) for n in (16, 32) for c in (False, True)]
    home = synthetic.write(tmp_path / "device", found)
    report.main([str(home), "--out", str(home / "report"), "--figures="])
    for table in sorted((home / "report").glob("scaling-*.csv")):
        capsys.readouterr()
        assert cite.main([str(table)]) == 0
        said = capsys.readouterr().out
        ids = re.search(r"--ids (\S+)", said)[1].split(",")
        again = synthetic.write(tmp_path / table.stem, [r for r in found if r["id"] in ids])
        report.main([str(again), "--out", str(again / "report"), "--figures="])
        name = re.search(r"# (\S+) in it", said)[1]
        assert (again / "report" / name).is_file()


def test_parts_of_a_mixture_are_cited(tmp_path):
    def keys(**hparams):
        found = [synthetic.kernel("mixed", 16, hparams=hparams)]
        frame = reading.read([synthetic.write(tmp_path / "in", found)]).frame
        return " ".join(cite.cited(frame)[0])

    assert "katharopoulos2020" in keys()
    found = keys(parts=[["local", {}], ["performer", {"features": 8}]])
    assert "choromanski" in found
    assert "katharopoulos2020" not in found


def test_what_was_not_committed_is_said(folder):
    frame = reading.read([folder]).frame
    assert "committed" not in cite.facts(frame)
    changed = frame.assign(**{"env.dirty": [True, *[False] * (len(frame) - 1)]})
    assert "1 with changes that were not committed" in cite.facts(changed)
