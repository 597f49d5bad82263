"""A comparison as a page: what is in the file, and what a real browser makes of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.console.comparison_page import MOST_LEAVES, page, shares
from pipeline.records.comparison import Verdict
from tests.console import comparisons as made
from tests.console.browser import Browser
from tests.console.comparisons import HOSTILE, artifact, comparison, leaf

EXAMPLES = {
    "realistic": made.realistic(),
    "inputs": made.other_inputs(),
    "agreeing": made.agreeing(),
    "several": made.several(),
    "rebuilt": made.rebuilt(),
    "hostile": made.hostile(),
    "large": made.large(),
    "empty": comparison(Verdict.INCOMPLETE, problems=["both sides hold no files"], scope="files"),
}
#: An element by an element of ours: what a browser may find in a page, and nothing else.
ELEMENTS = frozenset(
    {
        *("html", "head", "meta", "title", "style", "body", "script", "noscript", "header", "nav", "main"),
        *("section", "aside", "div", "p", "h1", "h2", "h3", "span", "bdi", "b", "code", "a", "button"),
        *("ul", "li", "dl", "dt", "dd", "label", "input", "kbd", "details", "summary", "pre"),
    }
)


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts and its style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag if tag in self.texts else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[self._inside].append(data)


def embedded(text: str) -> Any:
    """Returns the data in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_page_is_made_of_our_elements_alone(name: str) -> None:
    """A parser finds no element, no handler and no address that came out of a name or a value."""
    seen = Elements(page(EXAMPLES[name])).found
    assert {tag for tag, _ in seen} <= ELEMENTS
    assert [tag for tag, _ in seen].count("script") == 2
    for tag, attributes in seen:
        assert not [key for key in attributes if key.startswith("on") or key in ("style", "src", "srcdoc")]
        assert tag != "a" or str(attributes["href"]).startswith("#")


def test_of_several_builders_groups_and_every_two_are_told() -> None:
    """Beside the tree: who is equal, what every two are, and each other pair's places, to be opened."""
    text = re.sub(r"</?(?:bdi|span|b)[^>]*>", "", page(made.several()))
    assert "<li>build1, build2</li><li>build3</li><li>build4</li>" in text
    assert "None of the groups is the right one." in text
    assert "<dt>build2 and build3</dt><dd>DIFFER as build1 and build3</dd>" in text
    assert re.findall(r"<summary>(build[^<]*)</summary>", text) == ["build1 and build4", "build3 and build4"]
    assert "./when" in text
    assert "./both" in text
    assert 'id="groups"' not in page(made.realistic())


def test_the_policy_names_the_digests_of_what_is_in_the_page() -> None:
    """Nothing runs but the one script and the one style whose digests the policy has; nothing is fetched."""
    elements = Elements(page(EXAMPLES["hostile"]))
    policy = next(str(a["content"]) for t, a in elements.found if a.get("http-equiv"))
    digests = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (elements.texts["style"][0], elements.texts["script"][1])
    ]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digests[0]}'; ")
    assert f"script-src 'sha256-{digests[1]}';" in policy
    assert "unsafe" not in policy


def test_data_cannot_end_its_script() -> None:
    """No angle bracket or ampersand is in the data as such, and it is read back as it was."""
    text = page(EXAMPLES["hostile"])
    raw = text.split('id="data">')[1].split("</script>")[0]
    assert not set("<>&\u2028\u2029") & set(raw)
    assert {each["name"] for each in embedded(text)["artifacts"]} >= {"<!--<script>", "__proto__", ""}


def test_a_page_holds_a_bounded_number_of_leaves() -> None:
    """Of two artifacts with too many leaves both are shown, a small one whole; the rest is counted."""
    assert shares([5, 100, 100], 105) == [5, 50, 50]
    assert shares([0, 0], 10) == [0, 0]
    many = [leaf("b", f"f{n}") for n in range(MOST_LEAVES)]
    found = comparison(
        Verdict.DIFFER, artifact("a", Verdict.DIFFER, *many), artifact("b", Verdict.DIFFER, *many[:7])
    )
    data = embedded(page(found))
    assert [each["tree"][3] for each in data["artifacts"]] == [MOST_LEAVES - 7, 7]
    assert data["omitted"] == 7


def test_inputs_that_differ_stand_before_causes() -> None:
    """Where inputs differ, nothing follows from the leaves: the page says so at its top and beside them."""
    text = page(made.other_inputs())
    assert '<a href="#inputs">2 inputs of the two sides differ</a>' in text
    assert text.index('id="inputs-title"') < text.index('<h2 id="why">')
    usual = page(made.realistic())
    assert (
        usual.index('<h2 id="why">')
        < usual.index('id="inputs-title"')
        < usual.index('id="environment-title"')
    )


def test_causes_of_one_name_are_one_filter() -> None:
    """Two causes of a name, and one that only a leaf has, each lead to the leaves of that name."""
    causes = [made.realistic().causes[0], *made.realistic().causes]
    found = made.realistic().model_copy(update={"causes": causes})
    text = page(found)
    assert embedded(text)["causes"] == ["timestamp", "umask", "path", "follows"]
    assert re.findall(r'data-cause="(\d*)"', text) == ["", "0", "0", "1", "2", "3"]


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real browser for all tests of this module."""
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every example as a file, under a name that is hostile itself."""
    folder = tmp_path_factory.mktemp("pages")
    files = {name: folder / f"{name} #?'\"%41.html" for name in EXAMPLES}
    for name, file in files.items():
        file.write_text(page(EXAMPLES[name]), encoding="utf-8")
    return files


#: Opens everything that can be opened, page by page.
OPEN_ALL = """(() => {
  for (let round = 0; round < 60; round += 1) {
    const row = document.querySelector('[aria-expanded="false"] > .row, .more > .row');
    if (!row) return round;
    row.click();
  }
})()"""

#: Every piece of text with less contrast to what is behind it than WCAG 2.2 wants for AA.
UNREADABLE = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= 10 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c[3] !== 0) return c;
    }
    return [255, 255, 255];
  };
  const bad = new Map();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let looked = 0;
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.getClientRects().length || e.closest('script, .skip')) continue;
    looked += 1;
    const style = getComputedStyle(e);
    const size = parseFloat(style.fontSize);
    const wanted = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const [a, b] = [light(parse(style.color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < wanted) bad.set(e.className || e.tagName, ratio.toFixed(2));
  }
  return { looked, bad: Object.fromEntries(bad) };
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_nothing_of_a_name_runs(browser: Browser, pages: dict[str, Path], name: str, dark: bool) -> None:
    """Opened from a file, whatever its names: no script but ours, no request but the file, no complaint."""
    browser.open(pages[name], dark=dark)
    browser.run(OPEN_ALL)
    assert browser.run("window.stolen === undefined && document.scripts.length === 2")
    assert browser.run("document.querySelectorAll('img, svg, iframe, object, link, base, form').length") == 0
    assert browser.complaints() == []
    assert browser.requests() == [pages[name].as_uri()]


def test_every_hostile_name_is_read_as_text(browser: Browser, pages: dict[str, Path]) -> None:
    """What a name holds is seen letter by letter, with what does not print as its escape."""
    browser.open(pages["hostile"])
    shown = set(
        browser.run("[...document.querySelectorAll('.artifact > .row bdi')].map((e) => e.textContent)")
    )
    assert {"</script><script>window.stolen=2</script>", "invoice\\u202egpj.exe", "bytes \\xe9\\xff"} <= shown
    assert len(shown) == len(HOSTILE)


def test_the_policy_bites(browser: Browser, pages: dict[str, Path]) -> None:
    """Even a script of the page's own could not make mark-up of a text, run a text, or fetch anything."""
    browser.open(pages["realistic"])
    tries = {
        "document.body.innerHTML = '<img src=x>'": "TypeError",
        "eval('window.stolen = 1')": "EvalError",
        "document.createElement('script').text = 'window.stolen = 1'": "TypeError",
    }
    for attempt, error in tries.items():
        name = f"(() => {{ try {{ {attempt}; return 'done'; }} catch (e) {{ return e.name; }} }})()"
        assert browser.run(name) == error
    assert browser.run("fetch('https://example.invalid/').then(() => 'done', (e) => e.name)") == "TypeError"
    assert browser.run("document.querySelectorAll('img').length") == 0
    assert [url for url in browser.requests() if "example" in url and not url.startswith("file:")] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_everything_can_be_read(browser: Browser, pages: dict[str, Path], name: str, dark: bool) -> None:
    """In light and dark, every text has the contrast of WCAG AA; at 360 pixels nothing runs off the side."""
    browser.open(pages[name], dark=dark, width=360, height=740)
    if name != "large":
        browser.run(OPEN_ALL)
    found = browser.run(UNREADABLE)
    assert found["bad"] == {}
    assert found["looked"] > 15
    assert browser.run("document.documentElement.scrollWidth") == 360


FOCUSED = "document.activeElement.querySelector('.row')?.textContent ?? document.activeElement.id"


def test_a_keyboard_is_enough(browser: Browser, pages: dict[str, Path]) -> None:
    """From Tab to the tree, through it by arrows, into the search by / and back by Escape."""
    browser.open(pages["realistic"])
    for _ in range(12):
        browser.press("Tab")
        if browser.run("document.activeElement.getAttribute('role')") == "treeitem":
            break
    top = browser.run(FOCUSED)
    assert "cloudstack-management" in top
    outline = "getComputedStyle(document.activeElement.querySelector('.row')).outlineStyle"
    assert browser.run(outline) == "solid"
    browser.press("ArrowLeft")
    assert browser.run("document.activeElement.getAttribute('aria-expanded')") == "false"
    browser.press("ArrowDown")
    assert "cloudstack-ui" in browser.run(FOCUSED)
    browser.press("ArrowUp", "ArrowRight")
    assert browser.run("document.activeElement.getAttribute('aria-expanded')") == "true"
    browser.press("ArrowRight")
    assert "control.tar.xz › data › ./md5sums" in browser.run(FOCUSED)
    assert browser.run("document.activeElement.getAttribute('aria-level')") == "2"
    browser.press("ArrowLeft", "ArrowLeft")
    assert browser.run(FOCUSED) == top
    browser.press("End")
    assert "cloudstack-docs" in browser.run(FOCUSED)
    browser.press("*")
    assert browser.run("document.querySelectorAll('.artifact[aria-expanded=\"false\"]').length") == 0
    browser.press("Home", "/", *"color.less", "Enter")
    assert browser.run("document.getElementById('found').textContent") == "2 of 10 places found"
    assert browser.run("document.querySelectorAll('.artifact').length") == 2
    browser.press("/", "Escape")
    assert browser.run("document.getElementById('search').value") == ""
    assert browser.run(FOCUSED) == top
    assert browser.run('document.querySelectorAll(\'[role="treeitem"][tabindex="0"]\').length') == 1


def test_a_tree_is_one_for_a_screen_reader(browser: Browser, pages: dict[str, Path]) -> None:
    """Roles, levels, places and states are there, and what a row is called is its text."""
    browser.open(pages["realistic"])
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes]
    assert roles.count("tree") == 1
    assert roles.count("treeitem") >= 15
    names = [str(node.get("name", {}).get("value")) for node in nodes if node["role"]["value"] == "treeitem"]
    assert any("cloudstack-management_4.21.0.0-SNAPSHOT_all.deb" in name for name in names)
    assert {"heading", "status"} <= set(roles)


def test_ten_thousand_leaves_are_no_trouble(browser: Browser, pages: dict[str, Path]) -> None:
    """Few rows are made at first, more when asked for; one of 10,000 is found, and memory stays small."""
    browser.open(pages["large"])
    paint = browser.run("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0")
    assert paint < 5_000
    assert browser.run("document.querySelectorAll('*').length") < 2_000
    assert "10,000 of 10,321 places" in browser.run("document.getElementById('found').textContent")
    browser.run("document.querySelector('.more > .row').click()")
    browser.press("/", *"service9871.class", "Enter")
    browser.until("document.getElementById('found').textContent === '1 of 10,000 places found'")
    assert "Service9871.class" in browser.run("document.getElementById('tree').textContent")
    browser.press("/", "Escape")
    browser.run("document.querySelector('button[data-cause=\"\"]').click()")
    assert browser.run("document.getElementById('found').textContent") == "2,500 of 10,000 places unexplained"
    browser.run("gc()")
    assert browser.run("performance.memory.usedJSHeapSize") < 64 << 20
    assert browser.complaints() == []


def test_more_of_a_place_comes_by_key(browser: Browser, pages: dict[str, Path]) -> None:
    """The row that says how many more there are is reached by arrows, and what it adds is gone on from."""
    browser.open(pages["large"])
    browser.run("document.querySelector('.more').focus()")
    before = browser.run("document.querySelectorAll('.place').length")
    assert "Show 50 more of" in browser.run(FOCUSED)
    browser.press("Enter")
    assert browser.run("document.querySelectorAll('.place').length") == before + 50
    assert "Service" in browser.run(FOCUSED)


def test_what_asks_for_attention_is_open(browser: Browser, pages: dict[str, Path]) -> None:
    """Artifacts with places or a problem are open when the page is; those that agree are not."""
    browser.open(pages["realistic"])
    row = "[e.querySelector('.badge').textContent, e.ariaExpanded]"
    opened = browser.run(f"[...document.querySelectorAll('.artifact')].map((e) => {row})")
    assert opened == [
        ["DIFFER", "true"],
        ["DIFFER", "true"],
        ["INCOMPLETE", "true"],
        ["AGREE-NORMALISED", "true"],
        ["AGREE", "false"],
        ["AGREE", "false"],
    ]
    assert "ends in the middle of a member" in browser.run("document.getElementById('tree').textContent")


def test_a_cause_shows_its_places(browser: Browser, pages: dict[str, Path]) -> None:
    """Its button leaves only its places in the tree, says so, and gives all back when pressed again."""
    browser.open(pages["realistic"])
    button = "document.querySelector('button[data-cause=\"0\"]')"
    browser.run(f"{button}.click()")
    assert browser.run("document.getElementById('found').textContent") == "3 of 10 places of cause timestamp"
    causes = "[...document.querySelectorAll('#tree .cause')].map((e) => e.textContent)"
    assert browser.run(causes) == ["timestamp"] * 3
    assert browser.run(f"{button}.getAttribute('aria-pressed')") == "true"
    browser.run(f"{button}.click()")
    assert browser.run("document.getElementById('found').textContent") == "10 places"


def test_it_prints_dark_on_white(browser: Browser, pages: dict[str, Path]) -> None:
    """On paper there is no search and no dark ground, also for who reads in the dark; it becomes a PDF."""
    browser.open(pages["realistic"], dark=True)
    dark = browser.run("getComputedStyle(document.body).backgroundColor")
    browser.ask(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)" != dark
    assert browser.run("getComputedStyle(document.querySelector('.tools')).display") == "none"
    assert browser.run(UNREADABLE)["bad"] == {}
    pdf = base64.b64decode(browser.ask("Page.printToPDF")["data"])
    browser.ask("Emulation.setEmulatedMedia", media="")
    assert pdf.startswith(b"%PDF-")


def test_without_scripts_there_is_a_list(browser: Browser, pages: dict[str, Path]) -> None:
    """Who lets no script run still reads the verdict, the artifacts, their places and the causes."""
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(pages["realistic"])
        nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    finally:
        browser.ask("Emulation.setScriptExecutionDisabled", value=False)
    text = "\n".join(str(node.get("name", {}).get("value")) for node in nodes)
    assert "Without scripts there is no tree, but this list." in text
    assert "data.tar.xz › data › ./usr/share/cloudstack-ui/color.less" in text
    assert "Set project.build.outputTimestamp in the root POM." in text


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("name", ["realistic", "hostile"])
def test_pictures_are_taken(
    browser: Browser, pages: dict[str, Path], name: str, width: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What a reader sees is kept below pytest's folder for whoever wants to look; dark is not light."""
    taken = {}
    for dark in (False, True):
        place = (
            tmp_path_factory.getbasetemp() / f"comparison-{name}-{width}-{'dark' if dark else 'light'}.png"
        )
        browser.open(pages[name], dark=dark, width=width, height=1400)
        browser.screenshot(place)
        taken[dark] = place.read_bytes()
        assert len(taken[dark]) > 20_000
    assert taken[True] != taken[False]
