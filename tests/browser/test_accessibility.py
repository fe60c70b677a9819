"""What axe-core finds on every part of the page: nothing serious."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.site import ADMIN_KEY, Site

Act = Callable[[Page], None]


def find_serious(page: Page, **options: Any) -> list[str]:
    """Return what axe-core finds that keeps people out; it looks at what is visible."""
    page.evaluate(
        "Promise.all(document.getAnimations().map((each) => each.finished.catch(() => 0)))"
    )  # nothing half faded in
    found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False, **options}).response["violations"]
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def _open_filtered(page: Page) -> None:
    page.click("#filters-button")
    page.locator("[data-facet=tags] .facet").first.click()
    expect(page.locator("#chips .chip")).to_have_count(1)
    expect(page.locator("#facets [aria-pressed=true]")).to_have_count(1)
    expect(page.locator("#results figure").first).to_be_visible()


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


def _open_key(page: Page) -> None:
    page.click("#menu-button")
    page.click("#key-button")
    expect(page.locator("dialog #key")).to_be_visible()


def _wait(selector: str) -> Act:
    return lambda page: expect(page.locator(selector).first).to_be_visible()


WALK: tuple[tuple[str, Act], ...] = (
    ("/#search", _open_filtered),
    ("/#search", _open_large),
    ("/#search?collection=shown", _edit),
    ("/#search?q=red+apple&language=en&mode=both", _wait("#results figure")),
    ("/#search?q=apple&minus=red&language=ar", _wait("#results figure")),
    ("/#search?is=place:nowhere", _wait("#results .nothing")),
    ("/#search?picture=emoji-1f34e", _wait("#captions section")),
    ("/#add", _open_files),
    ("/#duplicates", _wait("#duplicates-body :is(.nothing, figure)")),
    ("/#languages", _wait(".heat")),
    ("/#teach", _wait("#expansions-body li")),
    ("/#releases", _wait("#releases-body li")),
    ("/#releases", _open_key),
    ("/versions/1/report", _wait("table")),
)
# Each colour of the dark scheme is on one of these
DARK = (_open_filtered, _edit, _open_files, "/#languages", "/versions/1/report")


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
    site.http.patch(f"/v1/pictures/{site.gallery[0].id}", json=record, headers=headers).raise_for_status()


def test_nothing_on_the_page_keeps_anybody_out(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/static/icon.svg")
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    faults = {}
    for address, act in WALK:
        page.goto("about:blank")
        page.goto(address)
        expect(page.locator("main h1:visible")).to_be_visible()
        expect(page.locator(".waiting")).to_have_count(0)
        act(page)
        page.emulate_media(color_scheme="light")
        light = find_serious(page)
        page.emulate_media(color_scheme="dark")
        dark = find_serious(page, runOnly=["color-contrast"]) if act in DARK or address in DARK else []
        faults[f"{address} {act.__name__}"] = light + dark
    assert faults == {each: [] for each in faults}


def test_a_label_that_is_taken_away_is_found(page: Page) -> None:
    assert find_serious(page) == []
    page.click("#filters-button")
    page.evaluate("document.getElementById('collection').closest('label').hidden = false")
    page.evaluate("document.querySelector('#collection-label .unseen').remove()")
    page.evaluate("document.getElementById('min-score').removeAttribute('aria-label')")
    page.evaluate("document.querySelector('.closeness').replaceWith(document.getElementById('min-score'))")
    assert [re.sub(":.*", "", each) for each in find_serious(page)] == ["label", "select-name"]
