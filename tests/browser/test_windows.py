"""The page in narrow windows and in the dark scheme; the headers that the server sends with it."""

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.site import ADMIN_KEY


def test_a_narrow_window_is_filled_and_nothing_is_wider(page: Page) -> None:
    page.set_viewport_size({"width": 340, "height": 700})
    shelf = page.locator("#results .shelf").first
    expect(shelf.locator("figure")).to_have_count(2)
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


def test_a_dialog_does_not_stay_over_another_part_of_the_page(page: Page) -> None:
    page.click("#menu-button")
    page.click("#key-button")
    expect(page.locator("dialog #key")).to_be_visible()
    page.evaluate("location.hash = '#languages'")
    expect(page.locator("#languages-body li").first).to_be_visible()
    expect(page.locator("dialog")).to_have_count(0)


def test_an_unreachable_server_is_reported(page: Page, context: BrowserContext) -> None:
    context.set_offline(True)
    page.fill("#text", "anything")
    page.keyboard.press("Enter")
    expect(page.locator("#trouble")).to_contain_text("cannot be reached")
    context.set_offline(False)
