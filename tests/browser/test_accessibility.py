"""What axe-core finds on every view, wide and narrow, in both schemes: nothing that WCAG 2.2 AA forbids."""

from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.site import Site
from tests.service.harness import ADMIN_KEY

Act = Callable[[Page], None]
WIDTHS = (1280, 768, 340)
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
# One call for all sizes and schemes would be one evaluation of axe's script: it is by far the largest part.
_RUN = """async (options) => {
    const still = Promise.all(document.getAnimations().map((each) => each.finished.catch(() => 0)));
    await Promise.race([still, new Promise((resolve) => setTimeout(resolve, 5000))]); // some have no end
    const { violations } = await axe.run(document, options);
    return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 200)}`));
}"""


def find_faults(page: Page, **options: Any) -> list[str]:
    """Return what axe-core finds on what is visible; its script is evaluated once in each document."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    chosen = {"resultTypes": ["violations"], "preload": False, "runOnly": RULES, **options}
    return [str(fault) for fault in page.evaluate(_RUN, chosen)]


def find_faults_everywhere(page: Page) -> list[str]:
    """Return what axe-core finds in a wide and a narrow window: in the dark by colours, of which no other rule asks."""
    found = list[str]()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 860})
        if width != WIDTHS[1]:  # between them only the place of things is another
            found += [f"{width}: {fault}" for fault in find_faults(page)]
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            found.append(f"{width}: it scrolls to the side")
    page.set_viewport_size({"width": WIDTHS[0], "height": 860})
    page.emulate_media(color_scheme="dark")
    found += [f"dark: {fault}" for fault in find_faults(page, runOnly=["color-contrast"])]
    page.emulate_media(color_scheme="light")
    return found


def _open_filtered(page: Page) -> None:
    if page.locator("#filters-panel").is_hidden():
        page.click("#filters-button")
    page.locator("[data-facet=tags] .facet").first.click()
    expect(page.locator("#chips .chip")).to_have_count(1)
    expect(page.locator("#facets [aria-pressed=true]")).to_have_count(1)
    expect(page.locator("#results figure").first).to_be_visible()


def _choose(page: Page) -> None:
    page.locator("#results a.frame").nth(1).press("x")
    expect(page.locator("#chosen")).to_contain_text("1 picture chosen")


def _open_files(page: Page) -> None:
    for name in "ab":
        page.set_input_files("#add-files", {"name": f"{name}.png", "mimeType": "image/png", "buffer": b"nothing"})
    page.click("text=Add a value")
    page.click("#add-start")
    expect(page.locator("#add-list [data-state=failed]")).to_have_count(2)


def _open_large(page: Page) -> None:
    page.locator("#results a.frame").first.click()
    expect(page.locator("dialog .facts")).to_be_visible()


def _edit(page: Page) -> None:
    _open_large(page)
    page.click("dialog >> text=Edit …")
    page.click("dialog >> text=Add a value")


def _open_menu(page: Page) -> None:
    page.click("#menu-button")
    expect(page.locator("#administration-link")).to_be_visible()


def _open_key(page: Page) -> None:
    page.click("#menu-button")
    page.click("#key-button")
    expect(page.locator("dialog #key")).to_be_visible()


def _open_details(page: Page) -> None:
    page.locator("#languages summary", has_text="Details").first.click()
    page.click("text=What the figures mean")


def _give_word(page: Page) -> None:
    expect(page.locator("form.word h2")).to_be_visible()
    page.keyboard.type("gair")
    page.keyboard.press("Enter")
    expect(page.locator("ul.kept li")).to_have_count(1)


def _check_rows(page: Page) -> None:
    rows = b"caption,english\n" + b"".join(b"kelma %d,word %d\n" % (number, number) for number in range(9))
    page.set_input_files("#teach-file", {"name": "rows.csv", "mimeType": "text/csv", "buffer": rows})
    page.click("text=More formats")
    page.click("text=Check the rows")
    expect(page.locator("#teach-report")).not_to_be_empty()


def _make_key(page: Page) -> None:
    page.fill("#keys-form [name=label]", "a key")
    page.click("text=Make a key")
    expect(page.locator("#new-key")).to_be_visible()
    expect(page.locator("#keys-body li").first).to_be_visible()


def _wait(selector: str) -> Act:
    return lambda page: expect(page.locator(selector).first).to_be_visible()


WALK: tuple[tuple[str, Act], ...] = (
    ("#search", _wait("#results figure")),
    ("#search?q=red+apple&language=en&mode=both", _choose),
    ("#search", _open_menu),
    ("#search", _open_large),
    ("#search?collection=shown", _edit),
    ("#search?q=apple&minus=red&language=ar", _open_filtered),
    ("#search?is=place:nowhere", _wait("#results .nothing")),
    ("#search?picture=emoji-1f34e", _wait("#captions section")),
    ("#add", _open_files),
    ("#duplicates", _wait("#duplicates-body :is(.nothing, figure)")),
    ("#languages", _open_details),
    ("#teach?language=ar", _wait("#teach-last li")),
    ("#teach?language=gv&way=words", _give_word),
    ("#teach?language=ar&way=file", _check_rows),
    ("#proposals?language=ar", _wait("#proposals-body li")),
    ("#caption?language=ar", _wait("#caption :is(form, .nothing)")),
    ("#administration", _wait("#administration .state")),
    ("#keys", _make_key),
    ("#audit", _wait("#audit .acts li")),
    ("#releases", _wait("#releases-body li")),
    ("#releases", _open_key),
)


@pytest.fixture(scope="module", autouse=True)
def _shown(site: Site) -> None:
    """A picture with everything that a record can have."""
    record = {
        "collection": "shown",
        "tags": ["bridge", "a tag of several words"],
        "metadata": {"place": "Chur", "year": 1950, "taken_at": "1950-06-01", "public": True, "people": ["Anna"]},
        "captions": {"en": ["an iron bridge"], "he": ["גשר ברזל"], "rm": ["ina punt"]},
    }
    headers = {"Content-Type": "application/merge-patch+json"}
    site.client.patch(f"/v1/pictures/{site.gallery[0].id}", json=record, headers=headers).raise_for_status()
    proposal = {"picture": site.gallery[1].id, "text": "شيء", "name": "Anna"}
    site.client.post("/v1/languages/ar/captions", json=proposal).raise_for_status()


def open_with_key(context: BrowserContext) -> Page:
    page = context.new_page()
    page.goto("/static/icon.svg")
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    page.goto("/")
    return page


def go(page: Page, address: str) -> None:
    """Go to another part of the page as a person does: it is not loaded anew."""
    for _ in range(page.locator("dialog").count()):
        page.locator("dialog").last.press("Escape")
    page.evaluate("address => (location.hash = address)", address)
    expect(page.locator("main h1:visible")).to_be_attached()
    expect(page.locator(".waiting")).to_have_count(0)


def test_nothing_on_any_view_keeps_anybody_out(context: BrowserContext) -> None:
    page = open_with_key(context)
    faults = {}
    for number, (address, act) in enumerate(WALK):
        go(page, address)
        act(page)
        faults[f"{number} {address}"] = find_faults_everywhere(page)
    page.goto("/versions/1/report")
    expect(page.locator("table").first).to_be_visible()
    faults["report"] = find_faults_everywhere(page)
    assert faults == {each: [] for each in faults}


def test_a_label_that_is_taken_away_is_found(page: Page) -> None:
    assert find_faults(page) == []
    page.click("#filters-button")
    page.evaluate("document.querySelector('#mode').previousElementSibling.remove()")
    page.evaluate("document.getElementById('min-score').removeAttribute('aria-label')")
    page.evaluate("document.querySelector('.closeness').replaceWith(document.getElementById('min-score'))")
    assert sorted(each.partition(":")[0] for each in find_faults(page)) == ["label", "select-name"]
