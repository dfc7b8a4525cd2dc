"""Where a table comes from: its file by name, and the records that its report was made of."""

import pandas as pd
import pytest

from experiments import cite, origins, report
from tests import synthetic_records as synthetic

FOUND = [synthetic.kernel(label, n) for label in ("local", "linear") for n in (16, 32)]
DEVICES = "cpu-synthetic-2c", "gpu-x"


@pytest.fixture
def of_two(tmp_path, monkeypatch):
    """A report of two devices that stands apart from their records, each of which has its own."""
    results, out = tmp_path / "results", tmp_path / "apart" / "report"
    synthetic.write(results / "scaling" / DEVICES[0], FOUND)
    synthetic.write(results / "scaling" / DEVICES[1], list(map(synthetic.elsewhere, FOUND)))
    for folder in (*(results / "scaling").iterdir(), results):
        report_of = out if folder == results else folder / "report"
        assert report.main([str(folder), "--out", str(report_of), "--figures="]) == 0
    monkeypatch.setattr(origins, "RESULTS", results)
    return out


def test_a_table_of_a_report_of_two_devices_is_cited_from_the_records_of_its_own(of_two, capsys):
    table = of_two / f"scaling-{DEVICES[1]}.csv"
    home = origins.RESULTS / "scaling" / DEVICES[1]
    capsys.readouterr()
    for name in (str(table), str(table.with_suffix(".tex")), f"tab:{table.stem}", table.stem):
        assert cite.main([name]) == 0
        said = capsys.readouterr().out
        assert f": 4 records, of {DEVICES[1]}, " in said
        assert f"experiments.run --again {home} --out" in said
        assert "  # scaling.csv in it\n" in said
    assert cite.main([str(table), "--where", "label=local", "n=16"]) == 0
    (id,) = pd.read_csv(table, dtype=str).query("label == 'local' and n == '16'").records
    assert f"--again {home} --ids {id} " in capsys.readouterr().out
    alone = of_two.with_name(table.name)
    alone.write_text(table.read_text())
    assert cite.main([str(alone)]) == 0


def test_of_several_of_a_name_a_device_tells_which(of_two, capsys):
    arguments = ["scaling", "--where", "label=local", "n=16"]
    assert cite.main(arguments) == 2
    said = capsys.readouterr().err
    options = [f"--where device={name}" for name in DEVICES]
    assert said.endswith(f", or add {' or '.join(options)}\n")
    for option, name in zip(options, DEVICES, strict=True):
        assert cite.main([*arguments, *option.split()]) == 0
        assert f": 1 record, of {name}, " in capsys.readouterr().out
    assert cite.main([*arguments, "device=tpu"]) == 2
    assert "none is of tpu: " in capsys.readouterr().err


def test_a_report_is_not_taken_for_one_of_the_records_near_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(origins, "RESULTS", tmp_path / "none")
    folder, out = synthetic.write(tmp_path / "device", FOUND), tmp_path / "out"
    assert report.main([str(folder), "--out", str(out / "report"), "--figures="]) == 0
    synthetic.write(out / "other", [synthetic.kernel("full", 16)])
    table = out / "report" / "scaling.csv"
    assert cite.main([str(table)]) == 2
    said = capsys.readouterr().err
    assert f"scaling.csv are not in {out} or {tmp_path}/none; cite a report that" in said
    assert said.count("\n") == 1
    synthetic.write(out / "same", FOUND)
    assert cite.main([str(table)]) == 0
