"""Assessing a language on the page, and what is said of it before it is taught again."""

from playwright.sync_api import Page, Route, expect

from tests.browser.site import Site
from tests.browser.test_languages import fill_form, give_key


def test_a_language_is_assessed_before_it_is_taught(page: Page, site: Site) -> None:
    fill_form(page, "es", site.build_dataset("es"))
    page.locator("#teach-form > details summary", has_text="Details").click()
    page.click("#teach-assess")
    entry = page.locator("#teach-last li[data-expansion]")
    expect(entry).to_contain_text("assessment")
    expect(entry).to_have_attribute("data-state", "succeeded", timeout=240_000)
    expect(entry.locator(".told")).to_contain_text("Spanish")
    expect(entry.locator(".told")).to_contain_text("find what they mean among the first ten")
    assert page.evaluate("document.getElementById('teach-file').files.length"), "what was assessed may be taught next"
    assert "es" not in site.list_languages()
    page.click("nav a[href='#languages']")
    row = page.locator("li[data-language=es]")
    reads = site.http.get("/v1/expansions?limit=1").json()["items"][0]["report"]["reads"]  # of so few it may be chance
    expect(row.locator(".reads")).to_have_text("Read without having been taught." if reads else "Not taught yet.")
    row.locator("summary", has_text="Details").click()
    expect(row.locator("dl")).to_contain_text("too few")  # held-out captions
    expect(row.get_by_role("button")).to_have_text(["Teach"])
    expect(page.locator("#language option[value=es]")).to_have_count(0)


def pretend_taught(route: Route) -> None:
    """Answer the list of expansions as if each language had been taught before."""
    answer = route.fetch()
    listing = answer.json()
    for item in listing["items"]:
        item["report"] = (item["report"] or {}) | {"joined": {"datasets": 1, "rows": 1700}}
    route.fulfill(response=answer, json=listing)


def test_the_page_says_what_a_language_gained_and_what_it_is_taught_from_again(page: Page, site: Site) -> None:
    entries = page.locator("#expansions-body li[data-expansion]")
    page.goto("/#administration")
    give_key(page)
    entries.last.locator("summary").click()
    expect(entries.last).to_contain_text("Arabic is")  # taught by the fixture, with `force`
    expect(entries.last).to_contain_text("by version 0")
    assert not page.is_checked("#teach-force")
    page.route("**/v1/expansions?*", pretend_taught)
    page.reload()
    entries.last.locator("summary").click()
    expect(entries.last).to_contain_text("with 1,700 captions of 1 earlier dataset")
    fill_form(
        page, "ar", b"\n".join(site.build_dataset("ar").splitlines()[1:])
    )  # another file than the one it was taught
    page.locator("#teach-form > details summary", has_text="Details").click()
    for replaces in (False, True):
        page.set_checked("#teach-replace", replaces)
        page.click("text=Check the rows")
        expect(page.locator("#teach-report")).to_contain_text("Is that right?")
        for said, shown in (("Replaces", replaces), ("Taught again beside it", not replaces)):
            expect(page.locator("#teach-report dt", has_text=said)).to_have_count(int(shown))
