"""The list of languages and the heat map, in words: what is read, measured and has happened; assessing a language."""

import json
import re

from playwright.sync_api import Page, Route, expect

from tests.browser.site import Site
from tests.browser.test_languages import fill_form, give_key, restore


def test_a_language_says_in_words_what_it_reads_and_its_figures_are_behind_details(page: Page, site: Site) -> None:
    report = next(item for item in site.client.get("/v1/languages").json()["items"] if item["language"] == "ar")[
        "report"
    ]
    captions, words = report["rows"]["captions"], report["rows"]["words"]
    assert captions + words == report["dataset"]["taught"]

    def more(route: Route) -> None:
        answer = route.fetch()
        listing = answer.json()
        next(item for item in listing["items"] if item["language"] == "ar")["report"]["pairs"] = 20
        route.fulfill(response=answer, json=listing)

    page.goto("/#languages")
    row = page.locator("li[data-language=ar]")
    expect(row.locator(".native")).to_have_text("العربية")
    expect(row.locator(".native")).to_have_attribute("dir", "rtl")
    found, asked = report["test"]["found"], report["test"]["asked"]
    expect(row.locator(".reads")).to_contain_text(
        f"Finds {found} of {asked} test captions. Taught by {captions} captions"
    )
    expect(row.locator(".reads")).to_contain_text("Last changed")
    expect(row.get_by_role("button", name="Teach")).to_have_count(1)
    expect(row.locator("dl")).to_be_hidden()
    row.locator("summary", has_text="Details").click()
    expect(row.locator("dl .none[title*='too few']")).to_have_text([re.compile(r"too few held out: \d+")] * 2)
    page.route("**/v1/languages", more)
    page.reload()
    expect(row.locator(".bar")).to_have_count(2)
    expect(page.locator("li[data-language=en]")).to_contain_text("Built in.")
    expect(page.locator("li[data-language=en] button")).to_have_count(0)


def test_the_heat_map_shows_what_a_version_did_to_english(page: Page, site: Site) -> None:
    versions = site.client.get("/v1/versions").json()["items"]
    arabic = next(version for version in reversed(versions) if version["language"] == "ar")  # the oldest, as the row
    after = arabic["report"]["shared"]["languages"]["en"]["after"]["R@1"]
    page.goto("/#administration")
    row = page.locator(".heat tbody tr").first
    expect(row.locator("td").first.locator(".value")).to_have_text(f"{after * 100:.1f}")
    expect(row.locator("td.own")).to_contain_text("learned")


def test_a_version_is_marked_while_it_is_not_in_the_shared_table(page: Page, site: Site) -> None:
    marked = page.locator(".heat tbody tr").first.locator(".tag")
    page.goto("/#administration")
    expect(page.locator(".heat tbody tr").first).to_be_visible()
    expect(marked).to_have_count(0)
    before = site.client.get("/v1/languages").json()["release"]
    after = site.client.post("/v1/admin/languages/ar/rollback", json={}).json()["release"]
    page.reload()
    expect(marked).to_have_text("not shared")
    restore(site, before, after)


def test_what_the_gate_refused_is_marked_and_its_figures_are_what_would_have_been(page: Page, site: Site) -> None:
    rows = [json.loads(line) for line in site.build_dataset("it").splitlines()]
    wrong = "\n".join(json.dumps({**row, "caption": " ".join([row["caption"]] * 40)[:900]}) for row in rows)  # cut
    form = {"language": "it", "settings": '{"epochs": 1}'}
    sent = site.client.post("/v1/languages", data=form, files={"dataset": ("it.jsonl", wrong.encode())}).json()
    item = site.wait_for_end(sent["expansion"]["id"])
    assert item["error"]["code"] == "gate_failed", item
    refused = next(each for each in site.client.get("/v1/versions").json()["items"] if each["language"] == "it")
    page.goto("/#administration")
    row = page.locator(".heat tbody tr", has=page.locator(f"a[href='{refused['report_page']}']"))
    expect(row.locator(".tag")).to_have_text("refused")
    expect(row.locator("td.own")).to_contain_text("not served")
    expect(row.locator("td.apart").first).to_have_attribute("title", re.compile("would have been"))
    expect(row.locator("td:is(.loss, .gain, .same)")).to_have_count(0)
    expect(page.locator(".heat tbody tr").first.locator("td.apart")).to_have_count(0)
    page.goto(refused["report_page"])
    expect(page.locator(".verdict")).to_contain_text("This version never served")
    expect(page.locator("h2", has_text="effect")).to_contain_text("would have been")
    expect(page.locator(".moves:not(.match) .change:not(.same)")).to_have_count(0)


def test_languages_of_one_name_are_told_apart_by_their_tags(page: Page) -> None:
    def namesakes(route: Route) -> None:
        answer = route.fetch()
        listing = answer.json()
        arabic = next(item for item in listing["items"] if item["language"] == "ar")
        quechua = [{**arabic, "language": tag, "native_name": "Runasimi", "direction": "ltr"} for tag in ("qu", "quz")]
        route.fulfill(response=answer, json={**listing, "items": listing["items"] + quechua})

    page.route("**/v1/languages", namesakes)
    page.goto("/#languages")
    expect(page.locator("#languages .native[lang=qu]")).to_have_text("Runasimi (qu)")
    expect(page.locator("#languages .native[lang=quz]")).to_have_text("Runasimi (quz)")
    expect(page.locator("#languages .native[lang=ar]")).to_have_text("العربية")


def test_what_was_measured_without_pictures_says_so_and_how_many_rows_taught_it(page: Page) -> None:
    def texts(route: Route) -> None:
        answer = route.fetch()
        listing = answer.json()
        arabic = next(item for item in listing["items"] if item["language"] == "ar")
        arabic["report"] |= {"pairs": 20, "against": "english", "dataset": {"usable": 1908}}
        route.fulfill(response=answer, json=listing)

    page.route("**/v1/languages", texts)
    page.goto("/#languages")
    page.locator("li[data-language=ar] summary", has_text="Details").click()
    expect(page.locator("li[data-language=ar] dl .hint")).to_have_text(["taught with 1,908 rows"])
    terms = page.locator("li[data-language=ar] dl dt", has_text="R@1")
    expect(terms).to_have_text(["Text → English text R@1", "English text → text R@1"])
    expect(page.locator("li[data-language=en] dl dt", has_text="R@1").first).to_have_text("Text → picture R@1")


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
    reads = site.client.get("/v1/expansions?limit=1").json()["items"][0]["report"][
        "reads"
    ]  # of so few it may be chance
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
