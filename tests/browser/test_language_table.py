"""The list of languages and the heat map: what is read, in words; what is measured, against what; what has happened."""

import json
import re

from playwright.sync_api import Page, Route, expect

from tests.browser.site import Site
from tests.browser.test_languages import restore


def test_a_language_says_in_words_what_it_reads_and_its_figures_are_behind_details(page: Page, site: Site) -> None:
    report = next(item for item in site.http.get("/v1/languages").json()["items"] if item["language"] == "ar")["report"]
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
    versions = site.http.get("/v1/versions").json()["items"]
    arabic = next(version for version in versions if version["language"] == "ar")
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
    before = site.http.get("/v1/languages").json()["release"]
    after = site.http.post("/v1/admin/languages/ar/rollback", json={}).json()["release"]
    page.reload()
    expect(marked).to_have_text("not shared")
    restore(site, before, after)


def test_what_the_gate_refused_is_marked_and_its_figures_are_what_would_have_been(page: Page, site: Site) -> None:
    rows = [json.loads(line) for line in site.build_dataset("it").splitlines()]
    wrong = "\n".join(json.dumps({**row, "caption": " ".join([row["caption"]] * 40)[:900]}) for row in rows)  # cut
    form = {"language": "it", "settings": '{"epochs": 1}'}
    sent = site.http.post("/v1/languages", data=form, files={"dataset": ("it.jsonl", wrong.encode())}).json()
    while (item := site.http.get(f"/v1/expansions/{sent['expansion']['id']}").json())["state"] in ("queued", "running"):
        page.wait_for_timeout(200)
    assert item["error"]["code"] == "gate_failed", item
    refused = next(each for each in site.http.get("/v1/versions").json()["items"] if each["language"] == "it")
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
