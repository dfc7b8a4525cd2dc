"""From which N a mechanism beats the best exact attention: of records whose answer is known."""

import re

import pandas as pd
import pytest

from experiments import page, plots
from experiments.analysis import findings, frames, reading
from experiments.figures import palette
from experiments.page import charts
from experiments.reporting import crossovers, tables
from tests import synthetic_records as synthetic

LENGTHS = (256, 512, 1024, 2048, 4096)


def kernel(label, n, seconds, held, mechanism=None, status="ok", compiled=None, **hparams):
    """A record of both formulas and measurements as they are given; compiled to as much as held."""
    changes = {"mechanism": mechanism or label, "hparams": hparams}
    found = synthetic.kernel(label, n, status=status, reason="no room", **changes)
    if status == "ok":
        found["metrics"] |= {"seconds": seconds, "bytes_measured": held}
        found["metrics"] |= {"bytes_compiled": held if compiled is None else compiled}
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


def marks(figure, marker):
    """N of the marks of a kind."""
    lines = [line for ax in figure.axes for line in ax.lines if line.get_marker() == marker]
    return [float(line.get_xdata()[0]) for line in lines]


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
    assert time.ratio == pytest.approx(1, abs=0.15)
    assert time.ratio == pytest.approx(time.predicted_n / time.crossing_n)
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
    assert findings.exact_labels(section) == ["full"]
    assert made.verdict["cosine", "time"] == "cheaper from 256, the smallest measured"


def test_without_exact_attention_there_is_no_table(tmp_path):
    made, section = rows([local(n) for n in LENGTHS], tmp_path)
    assert made.empty
    assert "crossovers" not in " ".join(table.name for table in tables.build(section))


def test_it_is_in_the_report(tmp_path):
    found = [make(n) for n in LENGTHS for make in (plain, chunked, local)]
    _, section = rows(found, tmp_path)
    table = next(t for t in tables.build(section) if t.name == "scaling-crossovers")
    assert re.search(
        r"Off by a factor of .* \d\.\d\d at worst \(local, forward, time\)", table.caption
    )
    drawn = [drawing.name for drawing in plots.draw(section, {})]
    assert drawn[-1] == "scaling-crossovers"


def test_a_prediction_looks_beyond_what_was_measured_only_where_it_must(tmp_path):
    """Twice the chunked one's memory but for 1 MB: cheaper up to N = 200, then dearer."""
    small = [kernel("small", n, 1.0, 10_000 * n - 1e6) for n in (128, *LENGTHS)]
    found = [*map(chunked, (64, 128, *LENGTHS)), *small]
    memory = rows(found, tmp_path / "a")[0].loc["small", "memory"]
    assert memory.verdict == "never for good up to 4,096, only at 128"
    assert memory.prediction == "never for good up to 16,777,216, only between 128 and 256"
    # by the model it would be dearer again from N = 10,000 on
    lean = [kernel("lean", n, 1.0, 4_000 * n + 0.1 * n * n) for n in LENGTHS]
    memory = rows([*map(chunked, LENGTHS), *lean], tmp_path / "b")[0].loc["lean", "memory"]
    assert memory.prediction == "cheaper from 256, the smallest measured"
    assert memory.agrees == "yes"


def test_a_process_holds_at_least_what_was_compiled(tmp_path):
    """Of a few MB it does not touch every page."""
    lazy = [kernel("lazy", n, 1.0, 100 * n, compiled=9_000 * n) for n in LENGTHS]
    made, section = rows([*map(chunked, LENGTHS), *lazy], tmp_path)
    assert made.verdict["lazy", "memory"] == "never up to 4,096"
    met = findings.meeting(section, "lazy", "forward", "bytes_measured")
    assert met.text == "never up to 4,096"


def test_every_mark_and_headline_is_against_the_best_exact_attention(tmp_path):
    found = [make(n) for n in LENGTHS for make in (plain, chunked, local)]
    made, section = rows(found, tmp_path)
    at = made.crossing_n["local", "time"]
    notes = charts.kernels([section], {})["notes"]
    (note,) = (note for note in notes if "cross" in note and note["y"] == "seconds")
    assert note["n"] == at
    assert note["cross"].startswith("cheaper than the best exact attention from 1,2")
    bracket = section.frame[section.frame["config.n"].isin((1024, 2048))]
    assert set(note["records"].split()) == set(bracket.id)
    tile = page.headlines(section)[0]
    assert tile["words"] == (
        "local against the best exact attention (full chunked), forward at N = 4,096"
    )
    assert tile["figure"] == f"{(4096 * 8e-9 + 2e-6) / (1280 * 8e-9 + 2e-6):.2f}x"
    drawing = next(d for d in plots.draw(section, {}) if d.name == "scaling-seconds-forward")
    assert marks(drawing.figure, "D") == [at]


def test_never_is_drawn_past_the_last_n_of_both(tmp_path):
    """Local was measured to 1,024 only."""
    found = [*map(chunked, LENGTHS), *(local(n) for n in LENGTHS[:3])]
    made, section = rows(found, tmp_path)
    assert (made.last_n == 1024).all()
    past = marks(crossovers.draw(section)[-1].figure, ">")
    assert past
    assert all(1024 < n < 2048 for n in past)


def test_what_is_predicted_too_far_off_to_draw_is_in_the_caption(tmp_path):
    """100 bytes N² of plain against 3,000,000 N: they meet at N = 30,000, past 4 x 4,096."""
    flat = [kernel("flat", n, 1.0, 3_000_000 * n) for n in LENGTHS]
    _, section = rows([*map(plain, LENGTHS), *flat], tmp_path)
    caption = crossovers.draw(section)[-1].caption
    assert re.search(r"Too far off to draw: flat, forward, memory: 30,000\.", caption)


def test_the_main_ones_are_named_and_the_others_grey(tmp_path):
    odd = [kernel("odd", n, 1.0, 1.0) for n in LENGTHS]
    _, section = rows([make(n) for n in LENGTHS for make in (plain, local)] + odd, tmp_path)
    drawing = next(d for d in plots.draw(section, {}) if d.name == "scaling-main")
    (ax,) = drawing.figure.axes
    labels = [text.get_text().split()[0] for text in ax.texts]
    assert labels[:2] == ["full", "local"] or labels[:2] == ["local", "full"]
    assert "odd" not in labels
    assert len([line for line in ax.lines if line.get_color() == palette.MUTED]) == 1
