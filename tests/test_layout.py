"""The shape of the project: imports run one way, and what is generated is up to date."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import catalogue
from experiments.running import recorded

ROOT = Path(__file__).parents[1]
# what a layer may import of the project, itself included
LAYERS = {
    "attention_zoo/types.py": set(),
    "attention_zoo/ops.py": {"types"},
    "attention_zoo/heads.py": {"ops"},
    "attention_zoo/tile_walk.py": {"ops", "heads"},
    "attention_zoo/tile_batches.py": {"ops"},
    "attention_zoo/tile_memory.py": set(),
    "attention_zoo/tiles.py": {"types", "ops", "tile_walk", "tile_batches", "tile_memory"},
    "attention_zoo/cache.py": {"types", "ops"},
    "attention_zoo/chunks.py": set(),
    "attention_zoo/recurrence.py": {"types", "ops", "heads", "chunks"},
    "attention_zoo/registry.py": {"types", "mechanisms"},
}
# what a package of experiments may import of others; commands may import all of them
PACKAGES = {
    "tasks": set(),
    "measuring": set(),
    "training": {"tasks", "measuring", "running", "measure", "records", "checkpoint"},
    "running": {"tasks", "training", "measuring", "command", "run", "sweep", "records"},
    "kinds": {"tasks", "measuring", "training", "measure", "train", "records"},
    "analysis": {"tasks", "kinds", "running"},
    "figures": {"tasks", "analysis", "reporting"},
    "reporting": {"tasks", "analysis", "figures"},
    "page": {"tasks", "analysis", "figures", "reporting"},
}


def imported(path: Path) -> set[str]:
    """Dotted names of everything a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def python_files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", LAYERS)
def test_lower_layers_import_only_lower_ones(path):
    for name in imported(ROOT / path):
        package, _, rest = name.partition(".")
        assert package not in ("flax", "experiments", "configs"), name
        if package == "attention_zoo":
            assert rest.partition(".")[0] in LAYERS[path], name


@pytest.mark.parametrize("path", python_files("attention_zoo/mechanisms"), ids=lambda p: p.stem)
def test_mechanisms_import_neither_flax_nor_each_other(path):
    for name in imported(path):
        assert not name.startswith(("flax", "experiments", "configs")), name
        assert not name.startswith("attention_zoo.mechanisms"), name
        assert name.partition(".")[2].partition(".")[0] not in ("layers", "model", "interop"), name


@pytest.mark.parametrize("path", python_files("attention_zoo"), ids=lambda p: p.stem)
def test_the_library_imports_no_experiments(path):
    assert not {n for n in imported(path) if n.startswith(("experiments", "configs"))}


@pytest.mark.parametrize("path", python_files("configs"), ids=lambda p: p.stem)
def test_configs_import_no_project_code(path):
    assert not {n for n in imported(path) if n.startswith(("attention_zoo", "experiments"))}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_of_experiments_import_only_what_they_stand_on(package):
    allowed = {package, *PACKAGES[package]}
    for path in python_files(f"experiments/{package}"):
        found = {name for name in imported(path) if name.startswith("experiments.")}
        assert {name.split(".")[1] for name in found} <= allowed, path


def test_every_package_of_experiments_is_named_here():
    folders = {path.parent.name for path in (ROOT / "experiments").glob("*/__init__.py")}
    assert folders == set(PACKAGES)


def test_importing_the_library_does_not_import_flax():
    code = "import sys, attention_zoo; attention_zoo.make('full'); assert 'flax' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="there is one worker")
@pytest.mark.xdist_group("its own")
def test_workers_are_told_of_groups(request):
    """Else programs are compiled, and fixtures made, by each: with pytest 9.2, xdist 3.8 tells
    nobody."""
    assert request.node.nodeid.endswith("@its own")


def test_the_readme_tables_are_those_of_now():
    readme = catalogue.README.read_text()
    assert readme == catalogue.rewritten(readme), "run python -m experiments.catalogue"


def test_points_are_counted_by_status():
    assert recorded.count(["ok"] * 3) == "all 3 points"
    assert recorded.count(["ok", "oom", None, "ok"]) == "2 ok, 1 oom of 4 points"


def test_durations_are_added_where_all_points_have_one():
    def record(status="ok", metrics=(), **env):
        return {"status": status, "metrics": dict(metrics), "env": {"cores": 2, **env}}

    old = record(metrics={"compile_seconds": 100.0, "train_seconds": 800.0})
    assert recorded.duration([old, record(elapsed=2700.0)]) == ", 2.0 core-hours"
    twin = record(metrics=old["metrics"] | {"same_training": "0123456789"})
    assert recorded.duration([old, twin]) == ", 0.5 core-hours"
    assert recorded.duration([old, record("refused")]) == ", 0.5 core-hours"
    assert recorded.duration([old, record(metrics={"compile_seconds": 1.0})]) == ""
    assert recorded.duration([]) == ""


def test_a_row_of_experiments_counts_the_configs_it_links_to():
    def row(links, results):
        return f"| {links} | words | an hour | {results} |"

    both = "[reordering](configs/reordering.py), [demo](configs/demo.py)"
    for before, after in (
        (row("`make x`", "[all](results/x)"), row("`make x`", "[all](results/x)")),
        (
            row("[demo](configs/demo.py)", "[7](results/demo)"),
            "[demo](configs/demo.py) | words | an hour | |",
        ),
        (row(both, ""), "reordering: [138 ok, 18 refused of 156 points](results/reordering) |"),
        # a folder has the experiment's name, which may be another than the file's, or two files'
        (
            row("[forecast_mixed](configs/accuracy/forecast_mixed.py)", ""),
            "[all 90 points](results/accuracy-forecast-mixed), 2.7 core-hours |",
        ),
        (row("[accelerator](configs/accelerator.py)", ""), "| an hour | |"),
    ):
        text = f"{recorded.BEGIN}\n{before}\n{recorded.END}"
        assert after in recorded.rewritten(text)


def test_the_readme_is_short():
    assert len(catalogue.README.read_text().splitlines()) < 200


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_failed_tests_of_an_accelerator_stop_no_measurement_and_are_told_at_the_end(tmp_path):
    python, calls, out = tmp_path / "python", tmp_path / "calls", tmp_path / "new" / "out"
    python.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\ncase "$*" in "-m pytest"*) exit 1;; esac\n'
    )
    python.chmod(0o755)
    asked = ["make", "accelerator", f"OUT={out}", f"PYTHON={python}"]
    run = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode
    asked = [" ".join(line.split()[:2]) for line in calls.read_text().splitlines()]
    assert asked == ["-m pytest", *["-m experiments.run"] * 3]
    assert (out / "tests.log").exists()
