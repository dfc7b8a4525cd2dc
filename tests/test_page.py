"""The report's page in a real browser: it starts, asks for nothing, and its controls work."""

import itertools
import json
import re

import pytest

import attention_zoo as zoo
from experiments import report
from tests import browser
from tests import synthetic_records as synthetic
from tests import synthetic_training as training

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def chromium():
    with browser.browser() as found:
        yield found


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The page of two devices and all kinds of records."""
    folder, out = tmp_path_factory.mktemp("records"), tmp_path_factory.mktemp("report")
    found = synthetic.scaling()
    other = [synthetic.elsewhere(r) for r in found if r["config"]["n"] < 2048]
    synthetic.write(folder / "a", found + synthetic.reordering() + synthetic.fidelities())
    synthetic.write(folder / "b", other)
    # scores of both devices share a table
    language = training.language()
    language = [synthetic.elsewhere(r) if r["config"]["seed"] == 2 else r for r in language]
    language += [synthetic.elsewhere(r) for r in language if r["config"]["seed"] == 1]
    training.curves(synthetic.write(folder / "language", language), language)
    synthetic.write(folder / "recall", training.recall())
    assert report.main([str(folder), "--out", str(out), "--figures="]) == 0
    return (out / "index.html").as_uri()


@pytest.fixture(scope="module")
def visit(chromium, home):
    """(opens the page, what the pages complained of and asked for)."""
    troubles = []

    def opened(width=1200, height=900, **options):
        page = chromium.new_page(viewport={"width": width, "height": height}, **options)
        page.on("console", lambda said: said.type in ("error", "warning") and troubles.append(said))
        page.on("pageerror", lambda error: troubles.append(error))
        outside = ("file:", "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(outside) or troubles.append(r.url))
        page.goto(home)
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        return page

    yield opened
    assert not troubles


@pytest.fixture(scope="module")
def desktop(visit):
    return visit()


@pytest.fixture
def page(desktop):
    """As it is when it was just opened."""
    desktop.evaluate("""() => {
        document.getElementById("dialog").close();
        document.getElementById("reset").click();
        for (const chart of charts) {
            [chart.facets, chart.x, chart.y] = [{}, chart.xs[0], chart.spec.y[0]];
            chart.log = { x: chart.x.log, y: chart.y.log };
            chart.at = [0, -1];
        }
        choose("");
    }""")
    return desktop


def curves(page, name):
    """Names of the curves that a chart shows, failures and crossings aside."""
    script = (
        f"document.querySelector('#chart-{name} .plot').data"
        ".filter(t => t.hovertemplate && t.mode.includes('lines')).map(t => t.name)"
    )
    return set(page.evaluate(script))


def shown(page):
    """How many records the table says it shows."""
    return int(re.match(r"[\d,]+", page.inner_text("#shown"))[0].replace(",", ""))


def column(page, header, place="#records"):
    """Texts of a column, from the top."""
    heads = page.locator(f"{place} th").all_inner_texts()
    at = next(i for i, text in enumerate(heads) if text.strip(" ↑↓") == header)
    return page.locator(f"{place} tbody tr td:nth-child({at + 1})").all_inner_texts()


def opened(page, name):
    """The selector of a table of the report, which is open now."""
    place = f"#table-{name}"
    page.locator(place).evaluate("details => { details.open = true; }")
    page.wait_for_selector(f"{place} tbody a")
    return place


def test_a_click_in_the_legend_isolates_and_more_add_to_it(page):
    every = curves(page, "scaling")
    assert every == set(synthetic.PAIRS)
    for label in ("full", "local", "linear"):
        page.click(f"#chart-scaling .legend [data-label={label}]")
    assert curves(page, "scaling") == {"full", "local", "linear"}
    # the same on every chart that has one of them, the others show all that they have
    assert curves(page, "bpb") == {"full", "local", "linear"} & curves(page, "bpb")
    page.click("#chart-scaling .legend [data-label='']")
    assert curves(page, "scaling") == every


def test_toggles_change_what_is_drawn(page):
    plot = "document.querySelector('#chart-scaling .plot')"
    longest = f"Math.max(...{plot}.data.flatMap(t => t.x))"
    first = f"{plot}.data.find(t => t.name === 'local').y[0]"
    forward = page.evaluate(first)
    page.select_option("#chart-scaling [name=mode]", "train")
    assert page.evaluate(first) > forward
    assert page.evaluate(longest) == 4096
    page.select_option("#chart-scaling [name=device]", "gpu-x")
    assert page.evaluate(longest) == 1024
    page.select_option("#chart-scaling [name=y]", "bytes_compiled")
    assert page.evaluate(first) == 8 * 4 * 400 * 256
    for axis in "xy":
        assert page.evaluate(f"{plot}.layout.{axis}axis.type") == "log"
        page.uncheck(f"#chart-scaling [name=log{axis}]")
        assert page.evaluate(f"{plot}.layout.{axis}axis.type") == "linear"


def test_hovering_shows_the_record_and_a_click_opens_it(page):
    page.locator("#chart-scaling .plot").scroll_into_view_if_needed()
    text = "document.querySelector('#chart-scaling .plot').data[0].hovertext[0]"
    assert re.search(
        r"record [0-9a-f]{10}, cpu-synthetic-2c, 2026-11-21, commit 0123456", page.evaluate(text)
    )
    page.locator("#chart-scaling .scatterlayer .point").first.hover(force=True)
    assert page.locator("#chart-scaling .hoverlayer .hovertext").count() == 1
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("#dialog[open]")
    assert "flops_counted" in page.inner_text("#dialog")


def test_what_stands_first_leads_to_its_records(page):
    tile = page.locator("#headlines .tiles a").first
    ids = tile.get_attribute("href").removeprefix("#records=").split("@")[0].split(",")
    every = shown(page)
    tile.click()
    assert shown(page) == len(ids) < every
    page.click("#reset")
    assert shown(page) == every


def test_records_are_filtered_and_sorted(page):
    every = shown(page)
    page.select_option("#filters [name='config.n']", "4096")
    page.select_option("#filters [name='config.mode']", "forward")
    assert shown(page) == len(synthetic.PAIRS) < every
    page.click("#records th:has-text('bytes_compiled')")
    page.click("#records th:has-text('bytes_compiled')")
    assert column(page, "label")[0] == "full"
    found = [float(text.replace(",", "")) for text in column(page, "bytes_compiled, MB")]
    assert found == sorted(found, reverse=True)
    page.fill("#filters [name=text]", "bigbird forward")
    assert shown(page) == 1
    page.click("#reset")
    assert shown(page) == every


def test_a_number_of_a_table_leads_to_its_records(page):
    page.click("#table-scaling-cpu-synthetic-2c > summary")
    rows = page.locator("#table-scaling-cpu-synthetic-2c tbody tr")
    label, mode, n = rows.nth(3).locator("td").all_inner_texts()[:3]
    rows.nth(3).locator("td.n a").last.click()
    page.wait_for_selector("#dialog[open]")
    said = page.inner_text("#dialog")
    for text in (label, mode, n.replace(",", "")):
        assert text in said
    assert shown(page) == 1


def test_a_number_opens_its_record_again_after_it_was_closed(page):
    place = opened(page, "scaling-cpu-synthetic-2c-time-train")
    number = page.locator(f"{place} tbody td.n a").first
    for _ in range(2):
        number.click()
        page.wait_for_selector("#dialog[open]")
        assert page.get_by_role("dialog", name=re.compile("^Record [0-9a-f]{10} ok")).count() == 1
        page.click("#dialog button:has-text('close')")
        assert page.locator("#dialog[open]").count() == 0


def test_words_come_after_numbers_both_ways(page):
    place = opened(page, "scaling-cpu-synthetic-2c-time-train")
    for sign in (1, -1):
        page.click(f"{place} th:has-text('4,096')")
        *numbers, one, other = column(page, "4,096", place)
        assert {one, other} == {"oom", "timeout"}
        numbers = [float(text.split(" ")[0].replace(",", "")) for text in numbers]
        assert numbers == sorted(numbers, key=lambda number: sign * number)


def test_more_columns_leave_the_order_as_it_is(page):
    page.click("#records th:has-text('seconds, ms')")
    at = page.locator("#records th[aria-sort] button")
    order = at.inner_text(), column(page, "id")
    for change in (page.check, page.uncheck):
        change("#all-columns")
        assert (at.inner_text(), column(page, "id")) == order


def test_a_record_as_json_is_the_record_alone(page):
    page.evaluate("show_record(records[data.records.spare[0]])")
    page.click("#dialog .json")
    found = json.loads(page.input_value("#dialog textarea"))
    assert {key for key in found if "." not in key} <= {"id", "status", "reason"}
    # what all records have alike is of its own type too
    assert found["env.dirty"] is page.evaluate("data.records.same['env.dirty']") is False


def test_the_page_names_every_failure(page):
    text = page.evaluate("JSON.stringify(data.tables.failures.rows)")
    for reason in ("RESOURCE_EXHAUSTED: 8 GB", "over 60 s", "loss is nan at step 120"):
        assert reason in text


def test_every_link_to_records_finds_each_once(page):
    # of failures alone a device is in the row
    script = """() => Object.values(data.tables).filter((t) => t.device).flatMap((t) =>
        t.records.flat().filter(Boolean).flatMap((ids) => ids.split(" ").filter((id) =>
            records.filter((r) => r.id === id && measured_on(r, t.device)).length !== 1)))"""
    assert page.evaluate(script) == []


def test_tables_are_copied_as_latex(page):
    name = "#table-scaling-cpu-synthetic-2c-time-forward"
    page.click(f"{name} > summary")
    page.click(f"{name} [data-format=latex]")
    assert r"\begin{tabular}" in page.input_value("#dialog textarea")
    page.click("#dialog .copy")
    page.wait_for_function("document.querySelector('#dialog output').textContent === 'copied'")


def test_the_keyboard_reaches_everything(page):
    page.focus("#chart-scaling .plot")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    said = page.inner_text("#chart-scaling .live")
    assert "N 512" in said
    page.keyboard.press("Enter")
    page.wait_for_selector("#dialog[open]")
    page.keyboard.press("Escape")
    assert page.locator("#dialog[open]").count() == 0
    page.focus("#chart-scaling .legend [data-label=local]")
    page.keyboard.press("Enter")
    assert curves(page, "scaling") == {"local"}
    assert page.evaluate("document.activeElement.dataset.label") == "local"
    page.focus("#records th:nth-child(6) button")
    page.keyboard.press("Enter")
    assert page.get_attribute("#records th:nth-child(6)", "aria-sort") == "ascending"
    assert page.evaluate("document.activeElement.closest('th')?.cellIndex") == 5


def test_arrow_keys_move_between_the_numbers_of_a_table(page):
    place = opened(page, "scaling-cpu-synthetic-2c-time-train")
    # one stop of the Tab key
    assert page.locator(f"{place} tbody a[tabindex='0']").count() == 1
    page.locator(f"{place} tbody tr").first.locator("a").first.focus()
    cell = "document.activeElement.closest('td')"
    for key, at in {
        "ArrowRight": [0, 2],
        "ArrowDown": [1, 2],
        "ArrowLeft": [1, 1],
        "End": [1, 5],
        "Home": [1, 1],
        "ArrowUp": [0, 1],
    }.items():
        page.keyboard.press(key)
        assert page.evaluate(f"[{cell}.parentNode.sectionRowIndex, {cell}.cellIndex]") == at
        assert page.evaluate("document.activeElement.tabIndex") == 0
        assert page.locator(f"{place} tbody a[tabindex='0']").count() == 1
    page.keyboard.press("End")
    text = page.evaluate("document.activeElement.closest('tr').cells[0].textContent")
    page.keyboard.press("Enter")
    page.wait_for_selector("#dialog[open]")
    said = page.inner_text("#dialog")
    assert text in said
    assert "4096" in said
    page.keyboard.press("Escape")
    assert page.evaluate(f"{cell}.cellIndex") == 5


def test_the_keyboard_is_not_lost_when_the_record_of_a_record_is_closed(page):
    page.locator("#records tbody a[tabindex='0']").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#dialog[open]")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.name") == "text"


def test_the_keyboard_reaches_the_crossings_and_the_ranges_of_exponents(page):
    assert "fitted over N = 512 to 4,096" in page.inner_text("#chart-scaling .legend")
    page.focus("#chart-scaling .plot")
    page.keyboard.press("ArrowUp")
    said = page.inner_text("#chart-scaling .live")
    label, words = said.split(", ", 1)
    assert words.startswith("cheaper than the best exact attention from")
    page.keyboard.press("Enter")
    page.wait_for_selector("#reset:not([hidden])")
    assert set(column(page, "label")) == {"full", label}


def test_names_beside_points_do_not_cover_each_other(page):
    page.select_option("#chart-accuracy [name=x]", "decode_state_bytes")
    boxes = page.evaluate("""() => [...document.querySelectorAll("#chart-accuracy .textpoint text")]
        .filter((text) => text.textContent).map((text) => {
            const { left, top, right, bottom } = text.getBoundingClientRect();
            return [text.textContent, left, top, right, bottom];
        })""")
    assert {name for name, *_ in boxes} == {"full", "local", "linear"}
    for (_, *one), (_, *other) in itertools.combinations(boxes, 2):
        apart = [one[i] >= other[i + 2] or other[i] >= one[i + 2] for i in (0, 1)]
        assert any(apart)
    crowd = """() => {
        const point = { mode: "markers", marker: { size: [8] }, line: {} };
        const traces = [...Array(9)].map((_, i) => ({ ...point, x: [1], y: [1], name: `m${i}` }));
        traces.push({ ...point, x: [0], y: [1], name: "stateless" });
        charts[0].name(traces);
        return traces.filter((trace) => trace.text).length;
    }"""
    assert page.evaluate(crowd) == 4


def test_a_phone_needs_no_sideways_scrolling(visit):
    page = visit(width=360, height=740)
    for details in page.locator("details").all():
        details.evaluate("details => { details.open = true; }")
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_light_and_dark(visit):
    paper = "getComputedStyle(document.body).backgroundColor"
    plot = "document.querySelector('#chart-scaling .plot').layout.paper_bgcolor"
    page = visit(color_scheme="dark")
    dark = page.evaluate(paper), page.evaluate(plot)
    page.click("#theme")
    light = page.evaluate(paper), page.evaluate(plot)
    assert light == ("rgb(255, 255, 255)", "#ffffff")
    assert dark == ("rgb(23, 23, 26)", "#17171a")


def test_every_mechanism_has_a_card_and_its_records(page):
    assert page.locator("#mechanisms article").count() == len(zoo.names())
    card = page.locator("#mechanism-local")
    assert "(d+d')N(left+right+1)" in card.inner_text()
    card.locator("button[data-mechanism]").click()
    assert set(column(page, "label")) == {"local"}


def test_a_browser_that_playwright_installed_is_found(tmp_path, monkeypatch):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    installed = tmp_path / "chrome"
    with pytest.raises(pytest.skip.Exception, match="no browser"):
        browser.executable(str(installed))
    installed.touch()
    assert browser.executable(str(installed)) == str(installed)
