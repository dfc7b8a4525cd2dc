"""From which N a mechanism beats the best exact attention: of records whose answer is known."""

import pandas as pd
import pytest

from experiments import crossovers, frames, plots, reading, tables
from tests import synthetic_records as synthetic

LENGTHS = (256, 512, 1024, 2048, 4096)


def kernel(label, n, seconds, held, mechanism=None, status="ok", **hparams):
    """A record of both formulas and measurements as they are given."""
    changes = {"mechanism": mechanism or label, "hparams": hparams}
    found = synthetic.kernel(label, n, status=status, reason="no room", **changes)
    if status == "ok":
        found["metrics"] |= {"seconds": seconds, "bytes_measured": held, "bytes_compiled": held}
        found["metrics"] |= {"seconds_q1": seconds, "seconds_q3": seconds}
    return found


def plain(n, **status):
    return kernel("full", n, n * n * 1e-8, 100 * n * n, implementation="plain", **status)


def chunked(n, **status):
    """Slower than plain below N = 1,000, faster above; little memory."""
    seconds, options = n * n * 8e-9 + 2e-6 * n, {"implementation": "chunked", **status}
    return kernel("full chunked", n, seconds, 5_000 * n, "full", **options)


def local(n):
    """As fast as the best exact one at N = 1,024 x 1.25 = 1,280; more memory than chunked."""
    return kernel("local", n, 1280 * 8e-9 * n + 2e-6 * n, 6_000 * n)


def rows(found, tmp_path):
    read = reading.read([synthetic.write(tmp_path / "in", found)])
    (section,) = frames.sections(read.frame)
    made = pd.DataFrame(crossovers.rows(section))
    return made.set_index(["label", "quantity"]) if len(made) else made, section


def test_the_best_exact_one_is_the_cheapest_at_each_n(tmp_path):
    found = [make(n) for n in LENGTHS for make in (plain, chunked, local)]
    made, _ = rows(found, tmp_path)
    time = made.loc["local", "time"]
    assert (time.from_n, time.to_n, time.exact) == (1024, 2048, "full chunked")
    assert time.crossing_n == pytest.approx(1280, rel=0.02)
    assert set(made.index.get_level_values("label")) == {"local"}


def test_the_prediction_does_not_see_the_bracket_and_states_its_error(tmp_path):
    """The times follow the cost model's terms here: with the bracket held out it is still right."""
    found = [make(n) for n in (128, *LENGTHS, 8192) for make in (plain, chunked, local)]
    time = rows(found, tmp_path / "a")[0].loc["local", "time"]
    assert abs(time.error) < 0.15
    assert time.error == pytest.approx(time.predicted_n / time.crossing_n - 1)
    # a record of the bracket that is off moves what is measured, not what is predicted
    for record in found:
        if (record["config"]["label"], record["config"]["n"]) == ("local", 1024):
            record["metrics"]["seconds"] *= 1.15
    moved = rows(found, tmp_path / "b")[0].loc["local", "time"]
    assert moved.crossing_n > 1.05 * time.crossing_n
    assert moved.predicted_n == pytest.approx(time.predicted_n)


def test_never_up_to_the_last_n(tmp_path):
    found = [make(n) for n in LENGTHS for make in (plain, chunked, local)]
    memory = rows(found, tmp_path)[0].loc["local", "memory"]
    assert memory.verdict == "never up to 4,096"
    assert memory.agrees == "yes"
    assert pd.isna(memory.crossing_n)


def test_where_exact_attention_fails_for_want_of_it_lies_a_crossing(tmp_path):
    """Out of memory tells of both; out of time of time alone."""
    slow = [kernel("synthesizer", n, n * n * 1e-7, 200 * n * n) for n in LENGTHS]

    def last(**status):
        return [plain(4096, **status), *map(plain, LENGTHS[:-1]), *slow]

    oom = rows(last(status="oom"), tmp_path / "oom")[0].loc["synthesizer"]
    assert oom.verdict["time"] == "between 2,048 and 4,096: there full oom"
    assert oom.verdict["memory"] == "between 2,048 and 4,096: there full oom"
    late = rows(last(status="timeout"), tmp_path / "late")[0].loc["synthesizer"]
    assert late.verdict["time"] == "between 2,048 and 4,096: there full timeout"
    assert late.verdict["memory"] == "never up to 2,048"


def test_other_scores_are_not_the_exact_attention_asked_for(tmp_path):
    odd = [kernel("cosine", n, 1e-9, 1, "full", score="cosine") for n in LENGTHS]
    made, section = rows([*map(plain, LENGTHS), *odd], tmp_path)
    assert crossovers.exact_labels(section) == ["full"]
    assert made.verdict["cosine", "time"] == "cheaper from 256, the smallest measured"


def test_without_exact_attention_there_is_no_table(tmp_path):
    made, section = rows([local(n) for n in LENGTHS], tmp_path)
    assert made.empty
    assert "crossovers" not in " ".join(table.name for table in tables.build(section))


def test_it_is_in_the_report(tmp_path):
    found = [make(n) for n in LENGTHS for make in (plain, chunked, local)]
    _, section = rows(found, tmp_path)
    table = next(t for t in tables.build(section) if t.name == "scaling-crossovers")
    assert "held out. Off by" in table.caption
    drawn = [drawing.name for drawing in plots.draw(section, {})]
    assert drawn[-1] == "scaling-crossovers"
