"""The page in narrow windows and in the dark scheme; the headers that the server sends with it."""

from typing import Literal

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.site import ADMIN_KEY, Site
from tests.patience import PATIENCE

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def test_a_narrow_window_is_filled_and_nothing_is_wider(page: Page) -> None:
    page.set_viewport_size({"width": 340, "height": 700})
    shelf = page.locator("#results .shelf").first
    assert shelf.locator("figure").count() == 2
    filled = shelf.evaluate("row => row.clientWidth - row.lastElementChild.getBoundingClientRect().right")
    assert abs(filled) < 2 or shelf.locator("figure").count()

    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    page.set_viewport_size({"width": 340, "height": 700})
    for part in ("search", "languages", "teach?language=ar", "releases", "administration"):
        page.goto(f"/#{part}")
        expect(page.locator(f"#{part.split('?')[0]} h1")).to_be_visible()
        expect(page.locator(".waiting")).to_have_count(0)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), part


@pytest.mark.parametrize(("width", "height", "most"), [(1280, 860, 200), (390, 844, 220)])
def test_pictures_begin_near_the_top(page: Page, width: int, height: int, most: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    for address in ("/#search", "/#search?q=red+apple&language=en"):
        page.goto(address)
        expect(page.locator("#results figure").first).to_be_visible()
        expect(page.locator(".waiting")).to_have_count(0)
        assert page.locator("#results .frame").first.evaluate("link => link.getBoundingClientRect().top") <= most


def test_the_dark_scheme_is_dark_and_text_has_enough_contrast_in_both(page: Page) -> None:
    grounds = set[str]()
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for name in ("--ink", "--quiet", "--accent", "--loss"):
            assert page.evaluate(_CONTRAST, [name, "--paper"]) >= 4.5, (scheme, name)
        assert page.evaluate(_CONTRAST, ["--on-accent", "--accent"]) >= 4.5, scheme
    assert len(grounds) == 2


def test_a_dialog_does_not_stay_over_another_part_of_the_page(page: Page) -> None:
    page.click("#menu-button")
    page.click("#key-button")
    expect(page.locator("dialog #key")).to_be_visible()
    page.evaluate("location.hash = '#administration'")
    expect(page.locator(".heat")).to_be_visible()
    expect(page.locator("dialog")).to_have_count(0)


def test_every_control_has_a_name(page: Page) -> None:
    for part in ("search", "languages", "teach"):
        page.goto(f"/#{part}?language=ar")
        expect(page.locator(".waiting")).to_have_count(0)
        for control in page.locator(f"#{part} :is(button, input, select, a):visible").all():
            assert control.evaluate(_NAME), control.evaluate("element => element.outerHTML")


def test_an_unreachable_server_is_reported(page: Page, context: BrowserContext) -> None:
    context.set_offline(True)
    page.fill("#text", "anything")
    page.keyboard.press("Enter")
    expect(page.locator("#trouble")).to_contain_text("cannot be reached")
    context.set_offline(False)


def test_the_page_comes_with_a_strict_policy(site: Site) -> None:
    policy = httpx.get(site.url, timeout=PATIENCE).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_an_unchanged_file_is_not_sent_again(site: Site) -> None:
    first = httpx.get(f"{site.url}/static/main.js", timeout=PATIENCE)
    again = httpx.get(f"{site.url}/static/main.js", timeout=PATIENCE, headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


@pytest.mark.parametrize("name", ["none.js", "__init__.py", "..%2F__init__.py"])
def test_nothing_but_the_page_is_under_static(site: Site, name: str) -> None:
    answer = httpx.get(f"{site.url}/static/{name}", timeout=PATIENCE)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


_NAME = """element => (element.getAttribute("aria-label") || element.textContent || element.querySelector("img")?.alt ||
    [...(element.labels ?? [])].map((label) => label.textContent).join("")).trim()"""

# WCAG 2.2 relative luminance, from what the browser itself resolves the two colours to.
_CONTRAST = """([front, back]) => {
    const luminance = (name) => {
        const probe = document.createElement("i");
        probe.style.color = `var(${name})`;
        document.body.append(probe);
        const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3);
        probe.remove();
        const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = parts.map((part) => linear(part / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const [light, dark] = [luminance(front), luminance(back)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
}"""
