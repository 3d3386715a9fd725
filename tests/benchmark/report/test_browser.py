"""The page in a browser, offline."""

import shutil
from itertools import pairwise

import pytest
from plotly.offline import get_plotlyjs

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install -e .[dev])")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt install chromium)"),
]

WIDTHS = (390, 1400, 2560)
LEADERBOARD = "#task-2-leaderboard"


@pytest.fixture(scope="module")
def browser():
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, page):
    """A function that opens the report at a width and with a colour scheme."""
    contexts, troubles, requests = [], [], []

    def open_page(width=1400, colour_scheme="light", height=900, **options):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=colour_scheme, reduced_motion="reduce", **options
        )
        contexts.append(context)
        # Drawn without a GPU, on a machine that may have other work.
        context.set_default_timeout(180_000)
        context.set_offline(True)
        tab = context.new_page()
        tab.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else 0)
        tab.on("pageerror", lambda error: troubles.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.as_uri())
        if options.get("java_script_enabled", True):
            tab.wait_for_function("document.documentElement.dataset.figures === 'drawn'")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []
    assert not [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]


def rows(tab, column):
    return [cell.strip() for cell in tab.locator(f"{LEADERBOARD} tbody tr > :nth-child({column})").all_inner_texts()]


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_is_drawn_and_fits(opened, width):
    tab = opened(width, height=30_000)
    tab.wait_for_timeout(500)
    drawn = tab.evaluate(
        """[...document.querySelectorAll(".plot")].map((plot) => ({
            traces: plot.querySelectorAll(".main-svg .trace").length,
            over: (plot.querySelector(".main-svg")?.getBoundingClientRect().width ?? 0) - plot.clientWidth,
            shown: plot.offsetParent !== null,
        }))"""
    )
    assert len(drawn) > 20
    # The second label's figures are hidden until it is chosen.
    assert {plot["shown"] for plot in drawn} == {True, False}
    assert all(plot["traces"] for plot in drawn if plot["shown"])
    assert all(plot["over"] <= 1 for plot in drawn if plot["shown"])
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # Tables scroll within their container, also when all are open.
    tab.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_buttons_of_figures_cover_no_data_and_no_title(opened):
    tab = opened(height=30_000)
    tab.wait_for_timeout(500)
    places = tab.evaluate(
        """[...document.querySelectorAll(".plot")].filter((plot) => plot.offsetParent).map((plot) => {
            const title = document.createRange();
            title.selectNodeContents(plot.previousElementSibling);
            const buttons = plot.querySelector(".modebar").getBoundingClientRect();
            const axes = [...plot.querySelectorAll(".nsewdrag")].map((area) => area.getBoundingClientRect().top);
            return {
                aboveData: Math.min(...axes) - buttons.bottom,
                besideTitle: buttons.left - title.getBoundingClientRect().right,
                width: buttons.width,
            };
        })"""
    )
    assert len(places) > 10
    assert all(place["width"] > 0 for place in places)
    assert min(place["aboveData"] for place in places) >= 0
    assert min(place["besideTitle"] for place in places) >= 0


def test_names_break_behind_underscores(opened):
    tab = opened(390)
    # Without the break the last letters alone stand in a line of their own.
    lines = tab.evaluate(
        """[...document.querySelectorAll("h2[id^=task]")].flatMap((heading) => {
            const parts = [...heading.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
            return parts.map((node) => {
                const range = document.createRange();
                range.selectNodeContents(node);
                return range.getClientRects().length;
            });
        })"""
    )
    assert len(lines) > 2
    assert set(lines) == {1}


def test_sorting_by_mouse_and_keyboard(opened):
    tab = opened()
    header = tab.locator(f"{LEADERBOARD} th", has=tab.get_by_role("button", name="lesion recall", exact=True))
    column = 1 + header.evaluate("(header) => header.cellIndex")
    before = rows(tab, column)
    assert header.get_attribute("aria-sort") == "none"
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    values = [float(text.split()[0]) for text in rows(tab, column)]
    assert values == sorted(values) != sorted(values, reverse=True)
    header.get_by_role("button").focus()
    tab.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert [float(text.split()[0]) for text in rows(tab, column)] == sorted(values, reverse=True)
    assert sorted(rows(tab, column)) == sorted(before)
    first = tab.locator(f"{LEADERBOARD} th button").first
    first.press("Space")
    assert header.get_attribute("aria-sort") == "none"
    assert rows(tab, 1) == sorted(rows(tab, 1), key=str.casefold)


def test_columns_are_chosen_by_keyboard_and_remembered(opened):
    tab = opened()
    shown = f"{LEADERBOARD} thead th:not([hidden])"
    six = ["Dice", "lesion recall", "small lesion recall", "F1", "FP per case", "against the baseline"]
    assert tab.locator(shown).all_inner_texts() == ["trainer", *six]
    choice = tab.locator(f"{LEADERBOARD} .columns")
    assert "6 of 12" in choice.locator("summary").inner_text()
    choice.locator("summary").press("Enter")
    choice.get_by_label("Dice", exact=True).press("Space")
    for name in ("NSD", "HD95"):
        choice.get_by_label(name).press("Space")
    seven = ["trainer", "NSD", "HD95", *six[1:]]
    assert tab.locator(shown).all_inner_texts() == seven
    assert {len(cells) for cells in rows_shown(tab)} == {len(seven)}
    # Of every leaderboard, and when the page is opened again.
    assert "HD95" in tab.locator("#task-1-leaderboard thead th:not([hidden])").all_inner_texts()
    tab.reload()
    assert tab.locator(shown).all_inner_texts() == seven
    assert "7 of 12" in choice.locator("summary").inner_text()


def rows_shown(tab):
    rows = tab.locator(f"{LEADERBOARD} tbody tr").all()
    return [row.locator("th:not([hidden]), td:not([hidden])").all_inner_texts() for row in rows]


def test_dark_theme(opened):
    tab = opened()
    colour_of_text = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    assert tab.evaluate(colour_of_text) == "rgb(27, 27, 26)"
    button = tab.get_by_role("button", name="Dark theme")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert tab.evaluate(colour_of_text) == "rgb(241, 241, 238)"
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    button.click()
    assert tab.evaluate(colour_of_text) == "rgb(27, 27, 26)"
    assert opened(colour_scheme="dark").evaluate(colour_of_text) == "rgb(241, 241, 238)"


def test_a_trainer_can_be_hidden(opened):
    tab = opened()
    block = tab.locator("#task-2-label-1-sizes")
    block.scroll_into_view_if_needed()
    block.locator(".plot").nth(1).locator(".scatterlayer .trace").first.wait_for()
    before = block.locator(".scatterlayer .trace").count()
    button = block.get_by_role("button", name="RWTrainer", exact=True)
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    # One trace in each of the two panels.
    assert block.locator(".scatterlayer .trace").count() == before - 2
    button.click()
    assert block.locator(".scatterlayer .trace").count() == before


def test_another_label(opened):
    tab = opened(390)
    first, second = tab.locator("#task-1-label-1"), tab.locator("#task-1-label-2")
    assert (first.is_visible(), second.is_visible()) == (True, False)
    tab.get_by_label("Label shown in the next figures").select_option("2")
    assert (first.is_visible(), second.is_visible()) == (False, True)
    assert tab.locator("nav a[href='#task-1-label-2-sizes']").count() == 1
    second.scroll_into_view_if_needed()
    picture = second.locator(".plot .main-svg").first
    picture.wait_for()
    width = picture.evaluate("(svg) => svg.clientWidth")
    assert 250 < width <= 350


def test_methods_are_copied_as_markdown(opened):
    tab = opened(permissions=["clipboard-read", "clipboard-write"])
    for name, beginning in (("Copy as Markdown", "### "), ("Copy BibTeX", "@")):
        tab.get_by_role("button", name=name).click()
        tab.get_by_role("status").filter(has_text="Copied").wait_for(state="attached")
        assert tab.evaluate("navigator.clipboard.readText()").startswith(beginning)


def test_pictures_and_headings(opened):
    tab = opened()
    images = tab.locator("img").evaluate_all("(all) => all.map((image) => [image.alt, image.naturalWidth])")
    assert [width for _, width in images] == [60, 61]
    assert all(words for words, _ in images)
    names = tab.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map((heading) => heading.tagName)")
    levels = [int(name[1]) for name in names]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_first_key_leads_to_the_results(opened):
    tab = opened()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the results"
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "main"


def test_printing(opened, tmp_path):
    tab = opened(colour_scheme="dark")
    # What the events do is undone after printing: it is seen in between.
    tab.evaluate(
        """window.addEventListener("afterprint", () => {}, { once: true });
        window.addEventListener("beforeprint", () => {
            window.printed = {
                open: [...document.querySelectorAll("details")].every((details) => details.open),
                colour: document.querySelector(".plot .xtick text").style.fill,
                widest: Math.max(...[...document.querySelectorAll(".main-svg")].map((svg) => svg.clientWidth)),
            };
        });"""
    )
    tab.pdf(path=tmp_path / "report.pdf", format="A4")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    printed = tab.evaluate("window.printed")
    assert printed["open"]
    assert printed["colour"] == "rgb(27, 27, 26)"
    assert printed["widest"] <= 450
    assert tab.evaluate("document.querySelectorAll('details[open]').length") == 0
    assert tab.evaluate("document.querySelector('.plot .xtick text').style.fill") == "rgb(241, 241, 238)"


def test_without_scripts_the_tables_are_there(opened, page):
    tab = opened(java_script_enabled=False)
    assert tab.get_by_text("Figures need JavaScript.").is_visible()
    assert tab.locator("#task-1-label-2").is_visible()
    assert tab.locator(f"{LEADERBOARD} table").is_visible()
    assert get_plotlyjs() in page.read_text(encoding="utf-8")
