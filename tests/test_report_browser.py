"""Pages of checks and experiments as people see them, in headless Chromium: on a phone, on paper, in the dark."""

import json

import pytest
from browser import EXECUTABLE, Browser

from diffincl import experiment, report
from diffincl.studies import Grid
from diffincl.studies.figures import draw
from diffincl.studies.tables import Mean, Table

pytestmark = pytest.mark.skipif(
    EXECUTABLE is None, reason="no browser: put chromium, chromium-browser or google-chrome on the PATH")
PAGES = ("check", "study")
PAPER = 688  # CSS pixels between the margins of A4
FAMILIES = {"resnet": (0.987, 1200.0), "d": (0.5, float("inf")), "s": (None, 9.5), "certified": (0.051, None),
            "antisymmetric": (0.35, 0.05), "cpl": (1.0, 13000.0)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A quick check; a study with a wide table and one of very large numbers, infinite and unknown ones."""
    out = tmp_path_factory.mktemp("pages")
    settings = experiment.Settings(("D1", "D10", "D3", "L3"), trials=4, ascent=1, images=4, epochs=1)
    check = report.write(experiment.run(settings, out), out, "diffincl check D1 D10 D3 L3 --out out/check")
    columns = ("clean", *(f"structured noise 0.{k}" for k in range(13)))
    tables = [Table("Accuracy (%) under corruptions, 10 layers a stage", columns, {
                  name: tuple(None if a is None else Mean(a, 0.123, 3) for _ in columns)
                  for name, (a, _) in FAMILIES.items()}),
              Table("Sensitivity", ("factor",), {
                  name: (None if b is None else Mean(b, None, 3),) for name, (_, b) in FAMILIES.items()}, False)]
    draw("corruption", tables[:1], out / "corruption.png")
    study = out / "corruption.html"
    study.write_text(report.page_of_study(
        "corruption", Grid(), tables, 18, ["digits-dense-cpl-depth10-control0-epochs100-seed0-corrupted: the loss is "
                                           "nan in epoch 3; lower lr"],
        out / "corruption.png", "diffincl experiment corruption --out out/dense"), encoding="utf-8")
    return {"check": check, "study": study}


def texts(browser, table, column):
    """A column of the body of a table, as it stands."""
    return browser.ask(f"[...document.querySelectorAll('table')[{table}].tBodies[0].rows]"
                       f".map(row => row.cells[{column}].textContent)")


def ways(browser, table):
    """How the headings of a table say that they sort it."""
    return browser.ask(f"[...document.querySelectorAll('table')[{table}].querySelectorAll('th[scope=col]')]"
                       ".map(th => th.getAttribute('aria-sort'))")


def beyond(browser, width, selector):
    """Elements that reach out of the window to the right."""
    return browser.ask(f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => "
                       f"e.getBoundingClientRect().right > {width + 0.5}).map(e => e.outerHTML.slice(0, 80))")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_a_complaint_and_fits_the_window(browser, pages, name, width, dark, tmp_path):
    browser.open(pages[name], width=width, dark=dark)
    assert browser.complaints == []
    assert browser.requests == [pages[name].resolve().as_uri()]  # nothing from elsewhere
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert beyond(browser, width, "main *:not(.scroll *)") == []
    boxes = browser.ask("[...document.querySelectorAll('.scroll')].map(e => [e.clientWidth, e.scrollWidth])")
    assert any(inside > box for box, inside in boxes) == (width == 360 or name == "study")
    assert all(browser.ask("[...document.images].map(i => i.complete && i.naturalWidth > 600)"))
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")
    browser.screenshot(tmp_path / "page.png")
    shot = (tmp_path / "page.png").read_bytes()
    assert int.from_bytes(shot[16:20]) == width
    assert int.from_bytes(shot[20:24]) > 1000


@pytest.mark.parametrize("name", PAGES)
def test_the_parts_of_a_page_have_names(browser, pages, name):
    """Language, title, encoding, viewport; captions, scopes, alternative texts, contents that lead somewhere."""
    browser.open(pages[name])
    assert browser.ask("[document.documentElement.lang, document.characterSet, document.compatMode]") == [
        "en", "UTF-8", "CSS1Compat"]
    assert browser.ask("document.title").startswith("diffincl ")
    assert browser.ask("document.querySelector('meta[name=viewport]').content") == "width=device-width, initial-scale=1"
    assert browser.ask("document.querySelectorAll('h1').length") == 1
    assert browser.ask("document.querySelectorAll('table').length") == {"check": 5, "study": 2}[name]
    assert browser.ask("[...document.querySelectorAll('table')].every(t => t.caption.textContent.length > 10)")
    for place, scope in (("thead", "col"), ("tbody", "row")):
        assert set(browser.ask(f"[...document.querySelectorAll('{place} th')].map(th => th.scope)")) == {scope}
    assert browser.ask("[...document.querySelectorAll('tbody tr')].every(r => r.cells.length === "
                       "r.closest('table').tHead.rows[0].cells.length && r.querySelectorAll('th').length === 1)")
    assert all(len(alternative) > 100 for alternative in browser.ask("[...document.images].map(i => i.alt)"))
    assert browser.ask("[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0 && e.ariaLabel)")
    assert browser.ask("[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))")
    names = browser.ask("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(names) == len(set(names)) > 2


def test_headings_sort_their_table_by_mouse_and_by_keyboard(browser, pages):
    """Numbers as numbers, what is unknown last in both directions, a third time as it was."""
    browser.open(pages["study"])
    original = list(FAMILIES)
    heading = "table:not(.wide) thead th:nth-child(2) button"
    browser.click(heading)
    assert texts(browser, 1, 1) == ["0.05", "9.5", "1.2e+03", "1.3e+04", "inf", "–"]
    assert ways(browser, 1) == [None, "ascending"]
    browser.ask(f"document.querySelector({json.dumps(heading)}).focus()")
    browser.press("Enter", "\r")
    assert texts(browser, 1, 1) == ["inf", "1.3e+04", "1.2e+03", "9.5", "0.05", "–"]
    assert ways(browser, 1) == [None, "descending"]
    browser.press(" ", " ")
    assert texts(browser, 1, 0) == original
    assert ways(browser, 1) == [None, None]
    browser.press("Enter", "\r")
    browser.click("table:not(.wide) thead th:nth-child(1) button")
    assert texts(browser, 1, 0) == sorted(original)
    assert ways(browser, 1) == ["ascending", None]
    assert texts(browser, 0, 0) == original  # the other table is left alone
    browser.click("table.wide thead th:nth-child(2) button")
    assert texts(browser, 0, 1) == ["5.1 ±\xa012.3", "35.0 ±\xa012.3", "50.0 ±\xa012.3", "98.7 ±\xa012.3",
                                    "100.0 ±\xa012.3", "–"]
    assert browser.complaints == []


def test_the_keyboard_alone_reaches_the_headings(browser, pages):
    browser.open(pages["check"])
    browser.ask("document.querySelector('nav li:last-child a').focus()")
    for _ in range(4):  # the box of the table, then its headings
        browser.press("Tab")
    assert browser.ask("document.activeElement.textContent") == "what it says"
    assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter", "\r")
    assert ways(browser, 0)[2] == "ascending"
    said = texts(browser, 0, 2)
    assert said == sorted(said, key=str.casefold)


def test_labels_sort_by_their_numbers_and_verdicts_by_what_is_not_shown(browser, pages):
    """D3 before D10; ratios that round to the same by their digits; controls by their ratio."""
    browser.open(pages["check"])
    browser.click("thead th:nth-child(1) button")
    assert texts(browser, 0, 0) == ["D1", "D3", "D10", "L3"]
    found = json.loads((pages["check"].parent / "report.json").read_text())["statements"]
    for column, key in ((4, lambda s: s["worst_ratio"]), (5, lambda s: float(s["control"]["worst_ratio"]))):
        browser.click(f"thead th:nth-child({column}) button")
        assert texts(browser, 0, 0) == [s["label"] for s in sorted(found, key=key)]


@pytest.mark.parametrize("name", PAGES)
def test_without_scripts_everything_is_there(browser, pages, name):
    browser.open(pages[name])
    words = browser.ask("document.querySelector('main').innerText")
    browser.open(pages[name], scripts=False)
    assert browser.ask("document.querySelectorAll('button').length") == 0
    assert browser.ask("document.querySelector('main').innerText.replace(/\\s+/g, ' ')") == " ".join(words.split())
    assert "diffincl " in words


@pytest.mark.parametrize("name", PAGES)
def test_on_paper_nothing_is_cut_off_or_dark(browser, pages, name, tmp_path):
    browser.open(pages[name], width=PAPER, dark=True)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=dark)
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.ask("document.documentElement.scrollWidth") <= PAPER
    assert beyond(browser, PAPER, "main *") == []
    assert set(browser.ask("[...document.querySelectorAll('.scroll')].map(e => getComputedStyle(e).overflowX)")) == {
        "visible"}
    assert browser.ask("getComputedStyle(document.querySelector('tr')).breakInside") == "avoid"
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


CONTRASTS = """(() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => { const [r, g, b] = channels(colour).map(c => c / 255).map(
    c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => { while (e && channels(getComputedStyle(e).backgroundColor)[3] === 0) e = e.parentElement;
    return getComputedStyle(e ?? document.body).backgroundColor; };
  const found = {};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.textContent.trim() || e.tagName === "SCRIPT") continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    found[getComputedStyle(e).color + " on " + behind(e)] = (a + 0.05) / (b + 0.05);
  }
  return found;
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_contrast_meets_aa(browser, pages, name, dark):
    """4.5 to 1 for every text, WCAG 2.2, 1.4.3."""
    browser.open(pages[name], dark=dark)
    found = browser.ask(CONTRASTS)
    assert len(found) >= 4
    assert {colours: ratio for colours, ratio in found.items() if ratio < 4.5} == {}


@pytest.mark.parametrize(("body", "complaint"), [
    ("<script>throw new Error('a fault')</script>", "a fault"),
    ("<script>setTimeout(() => { nowhere() }, 0)</script>", "nowhere is not defined"),
    ("<script>let = ;</script>", "SyntaxError"),
    ("<script>console.error('said so')</script>", "said so"),
    ("<script>Promise.reject(new Error('broken promise'))</script>", "broken promise"),
    ("<img src='missing.png' alt=''>", "ERR_FILE_NOT_FOUND"),
])
def test_the_browser_notices_a_page_that_fails(browser, body, complaint, tmp_path):
    """So that an empty list of complaints means something."""
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><title>a page</title>{body}")
    browser.open(path)
    browser.ask("new Promise(done => setTimeout(done, 50))")
    assert any(complaint in said for said in browser.complaints)
