"""More than a text on the page: pictures like one that is there, also with a text; words; duplicates."""

import io
from typing import Any

from PIL import Image
from playwright.sync_api import Page, Request, Route, expect

from tests.browser.site import Site
from tests.browser.test_search import ANSWERED, read_first_ids
from tests.service.harness import ADMIN_KEY

APPLE = "emoji-1f34e"
MERGE = {"Content-Type": "application/merge-patch+json"}


def find_ids(site: Site, **question: Any) -> list[str]:
    answer = site.client.post("/v1/search/pictures", json={"limit": 24, **question})
    answer.raise_for_status()
    return [hit["id"] for hit in answer.json()["items"]]


def test_more_like_a_picture_is_asked_for_by_its_id_page_after_page_and_together_with_a_text(
    page: Page, site: Site
) -> None:
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    page.goto(f"/#search?q={APPLE}")
    page.goto(f"/#search?picture={APPLE}")
    expect(page.locator("#results-title")).to_have_text("Similar pictures")
    like = find_ids(site, picture=APPLE)
    assert read_first_ids(page, 24) == like and APPLE not in like
    expect(page.locator("#results figure").nth(47)).to_be_attached()
    assert len(set(read_first_ids(page, 48))) == 48
    assert all("multipart" not in request.headers["content-type"] for request in sent), "nothing is uploaded again"

    page.fill("#text", "green")
    page.keyboard.press("Enter")
    expect(page.locator("#query figcaption")).to_contain_text("together with the text")
    expect(page.locator("#reading")).to_have_text(ANSWERED)
    both = find_ids(site, picture=APPLE, text="green")
    assert read_first_ids(page, 24) == both != like
    page.click("#filters-button")
    page.select_option("#mode", "words")  # a picture has no words: the text's, beside what the picture shows
    expect(page.locator("#results figure").first).to_be_visible()
    assert read_first_ids(page, 24) == find_ids(site, picture=APPLE, text="green", mode="both")
    page.get_by_role("button", name="Search without this picture").click()
    expect(page.locator("#query")).to_be_hidden()
    assert "q=green" in page.url and APPLE not in page.url


def test_words_are_searched_in_tags_and_the_address_says_so(page: Page, site: Site) -> None:
    tagged = site.gallery[30].id
    site.client.patch(f"/v1/pictures/{tagged}", json={"tags": ["zeppelin"]}, headers=MERGE).raise_for_status()
    page.click("#filters-button")
    page.select_option("#mode", "words")
    page.fill("#text", "zeppelin")
    page.keyboard.press("Enter")
    expect(page.locator("#results figure")).to_have_count(1)
    assert read_first_ids(page) == [tagged]
    expect(page.locator("#results .score")).to_have_text("words 100 %")
    page.reload()
    expect(page.locator("#mode")).to_have_value("words")
    expect(page.locator("#results figure")).to_have_count(1)
    page.fill("#text", "nobodyhasthisword")
    page.keyboard.press("Enter")
    expect(page.locator("#results")).to_contain_text("No picture has these words.")


def test_what_the_pictures_should_not_show_is_said_beside_the_text(page: Page, site: Site) -> None:
    page.click("#filters-button")
    without = page.get_by_label("But not")
    page.fill("#text", "face")
    without.fill("smiling face")
    without.press("Enter")
    expect(page.locator("#reading")).to_have_text(ANSWERED)
    asked = {"text": "face", "minus": {"text": "smiling face"}}
    assert read_first_ids(page, 24) == find_ids(site, **asked) != find_ids(site, text="face")
    page.goto(f"/#search?picture={APPLE}&minus=red")
    expect(page.locator("#results-title")).to_have_text("Similar pictures")
    assert (
        read_first_ids(page, 24)
        == find_ids(site, picture=APPLE, minus={"text": "red"})
        != find_ids(site, picture=APPLE)
    )
    expect(without).to_have_value("red")
    page.select_option("#language", "ar")
    expect(without).to_have_attribute("dir", "rtl")
    page.goto("/#search?minus=red")
    expect(page.locator("#trouble")).to_contain_text("Say what the pictures should show, too")
    expect(page.locator("#results figure").first).to_be_visible()


def set_matches(page: Page, *chances: float) -> None:
    """Let the hits of each answer have these chances, and the last one all others: no small gallery is calibrated."""

    def change(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        for place, item in enumerate(body["items"]):
            item["match"] = chances[min(place, len(chances) - 1)] if item["rank"] <= 24 else chances[-1]
            item["likely"] = item["match"] >= 0.5
        body["warnings"] = [] if any(item["likely"] for item in body["items"]) else ["nothing_likely"]
        route.fulfill(response=answer, json=body)

    page.route("**/v1/search/pictures", change)


def test_where_no_chance_is_known_of_a_taught_language_that_is_said(page: Page) -> None:
    page.goto("/#search?q=zzz&language=ar")
    expect(page.locator("#reading")).to_contain_text("Whether these show it cannot be told here")
    set_matches(page, 0.9)
    page.reload()
    expect(page.locator("#results .score").first).to_contain_text("match 90 %")
    expect(page.locator("#reading")).not_to_contain_text("cannot be told")
    page.unroute_all(behavior="wait")


def test_what_matches_less_well_stands_below_a_line(page: Page) -> None:
    set_matches(page, 0.97, 0.6, 0.49)
    page.fill("#text", "face")
    page.keyboard.press("Enter")
    expect(page.locator("#results h2")).to_have_text(["These match less well"])
    expect(page.locator("#results .score").first).to_contain_text("match 97 %")
    expect(page.locator("#results h2 ~ .shelf figure").first).to_be_visible()
    assert page.locator("#results .shelf").first.locator("figure").count() == 2
    page.locator("#results a.frame").nth(1).focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#results a.frame").nth(2)).to_be_focused()

    page.unroute_all(behavior="wait")
    set_matches(page, 0.2)
    page.fill("#text", "zzz qqq")
    page.locator("#text").press("Enter")
    expect(page.locator("#results h2")).to_have_text(["Whether these show it is not certain:"])
    page.unroute_all(behavior="wait")
    set_matches(page, 0.1)
    page.fill("#text", "qqq zzz")
    page.locator("#text").press("Enter")
    expect(page.locator("#results h2")).to_have_text(["Nothing here seems to show this. These come nearest:"])
    page.unroute_all(behavior="wait")
    expect(page.locator("#results figure").first).to_be_visible()


def test_a_mistyped_word_is_named_and_what_is_meant_is_a_click_away(page: Page) -> None:
    page.select_option("#language", "en")
    page.fill("#text", "red aplpe")
    page.keyboard.press("Enter")
    said = "No caption has aplpe, and nobody taught it. Did you mean apple?"
    expect(page.locator("#reading .note").last).to_have_text(said)
    page.click("#reading .note a")
    expect(page.locator("#text")).to_have_value("red apple")
    expect(page.locator("#reading .note")).to_have_count(0)


def test_a_file_is_searched_with_a_text_and_an_address_does_not_hold_it(page: Page, site: Site) -> None:
    content = site.client.get(f"/v1/pictures/{APPLE}/content").content
    page.set_input_files("#picture", {"name": "my apple.jpg", "mimeType": "image/jpeg", "buffer": content})
    expect(page.locator("#results figure").first).to_have_attribute("data-picture", APPLE)
    page.fill("#text", "green")
    page.keyboard.press("Enter")
    expect(page.locator("#query figcaption")).to_contain_text("together with the text")
    page.go_back()
    expect(page.locator("#query figcaption")).to_contain_text("A text in the field above")
    expect(page.locator("#captions section").first).to_be_visible()
    page.reload()
    expect(page.locator("#trouble")).to_contain_text("An address does not hold the picture my apple.jpg.")


def test_duplicates_are_shown_in_groups_and_deleted_one_by_one(page: Page, site: Site) -> None:
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    with Image.open(io.BytesIO(site.client.get(f"/v1/pictures/{APPLE}/content").content)) as picture:
        for quality in (70, 95):
            copy = io.BytesIO()
            picture.convert("RGB").save(copy, "JPEG", quality=quality)
            files = {"picture": copy.getvalue()}
            site.client.put(f"/v1/pictures/copy-{quality}", files=files, data={"collection": "copies"})
    page.goto("/#duplicates?collection=copies")
    group = page.locator(".group")
    expect(group).to_have_count(1)
    assert {figure.get_attribute("data-picture") for figure in group.locator("figure").all()} == {"copy-70", "copy-95"}
    expect(group.locator("figcaption").first).to_contain_text("256 × 256 · copies")
    page.select_option("#duplicates select", "")
    expect(page.locator(f".group:has([data-picture={APPLE}]) figure")).to_have_count(3)
    page.get_by_role("button", name="Delete copy-70").click()
    expect(page.locator(f".group:has([data-picture={APPLE}]) figure")).to_have_count(2)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(f".group:has([data-picture={APPLE}]) figure")).to_have_count(3)
    page.get_by_role("button", name="Delete copy-70").click()
    expect(page.locator(f".group:has([data-picture={APPLE}]) figure")).to_have_count(2)
    page.get_by_role("button", name="Delete copy-95").click()
    expect(page.locator(f"[data-picture={APPLE}]:visible")).to_have_count(0)  # it is alone: no group any more
    assert [site.client.get(f"/v1/pictures/copy-{quality}").status_code for quality in (70, 95)] == [404, 404]
    page.goto("/#duplicates?collection=nowhere&min_score=0.99")
    expect(page.locator("#duplicates-body")).to_contain_text("No two pictures are that similar.")
