"""The report's page in a real browser: it starts, asks for nothing, and its controls work."""

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
    text = "document.querySelector('#chart-scaling .plot').data[0].text[0]"
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
