"""Filters on the page: facets, collections, values and ranges, in searches and the gallery, kept by the address."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import Site
from tests.browser.test_search import ANSWERED, read_first_ids

PLACES = ("Chur", "Thusis", "Ilanz")
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture(scope="module", autouse=True)
def dated(site: Site) -> None:
    """Nine pictures with places, years and dates; three of them are in a collection of their own."""
    for number, outline in enumerate(site.gallery[10:19]):
        record = {
            "tags": ["dated", "even" if number % 2 == 0 else "odd"],
            "metadata": {
                "place": PLACES[number % 3],
                "year": 1950 + number,
                "taken_at": f"1950-06-{number + 1:02d}T23:00:00Z" if number % 2 else f"1950-06-{number + 1:02d}",
            },
            "collection": "late" if number > 5 else "default",
        }
        site.client.patch(f"/v1/pictures/{outline.id}", json=record, headers=MERGE).raise_for_status()


def list_left(site: Site, *must: dict[str, Any]) -> list[str]:
    """Return ids of the gallery that these conditions leave."""
    answer = site.client.get("/v1/pictures", params={"filter": json.dumps({"must": must}), "limit": 100})
    return [item["id"] for item in answer.json()["items"]]


def wait_until_shown(page: Page, ids: list[str]) -> None:
    expect(page.locator("#results figure")).to_have_count(len(ids))
    assert sorted(map(str, read_first_ids(page, 100))) == sorted(ids)


def see_the_oldest(page: Page) -> None:
    """Scroll to where those of 1950 are: keys of metadata are offered that were seen."""
    expect(page.locator("#results figure").first).to_be_visible()
    page.mouse.move(600, 600)
    page.mouse.wheel(0, 20_000)
    expect(page.locator("#results h2").last).to_have_text("June 1950")


def test_facets_narrow_the_gallery_and_searches_and_the_address_brings_them_back(page: Page, site: Site) -> None:
    chur = {"key": "place", "match": {"value": "Chur"}}
    even = {"key": "tags", "match": {"value": "even"}}
    see_the_oldest(page)
    page.click("#filters-button")
    places = page.locator("[data-facet=place] .facet")
    expect(places.filter(has_text="Chur").locator(".number")).to_have_text(str(len(list_left(site, chur))))
    places.filter(has_text="Chur").click()
    wait_until_shown(page, list_left(site, chur))
    expect(places).to_have_count(1)  # counted again among what is left
    expect(places).to_be_focused()
    page.locator("[data-facet=tags] .facet", has_text="even").click()
    both = list_left(site, chur, even)
    assert 0 < len(both) < len(list_left(site, chur))
    wait_until_shown(page, both)

    page.go_back()
    wait_until_shown(page, list_left(site, chur))
    page.go_forward()
    wait_until_shown(page, both)
    page.reload()
    wait_until_shown(page, both)
    expect(page.locator("#chips .chip")).to_have_text(["PlaceChur×", "Tagseven×"])

    page.fill("#text", "red apple")
    page.keyboard.press("Enter")
    expect(page.locator("#reading")).to_have_text(ANSWERED)
    question = {"text": "red apple", "limit": 24, "filter": {"must": [chur, even]}}
    found = site.client.post("/v1/search/pictures", json=question).json()["items"]
    wait_until_shown(page, [hit["id"] for hit in found])
    assert read_first_ids(page, 24) == [hit["id"] for hit in found]

    page.get_by_role("button", name="Remove the filter Place Chur").click()
    expect(page.locator("#chips .chip")).to_have_count(1)
    expect(page.locator("#chips button")).to_be_focused()
    assert "q=red+apple" in page.url and "Chur" not in page.url


def test_ranges_of_dates_and_numbers_include_both_ends(page: Page, site: Site) -> None:
    see_the_oldest(page)
    page.click("#filters-button")
    page.fill("#filter-key", "date taken")  # or the name of the key, for one of the gallery's own
    expect(page.locator("#filter-from")).to_have_attribute("type", "date")
    page.fill("#filter-from", "1950-06-02")
    page.fill("#filter-to", "1950-06-04")  # one was taken late on that day
    page.keyboard.press("Enter")
    wait_until_shown(page, [outline.id for outline in site.gallery[11:14]])
    page.fill("#filter-key", "year")
    page.fill("#filter-from", "1952")
    page.fill("#filter-to", "1953")
    page.keyboard.press("Enter")
    wait_until_shown(page, [outline.id for outline in site.gallery[12:14]])
    page.fill("#filter-key", "year")
    page.fill("#filter-is", "1953")
    page.keyboard.press("Enter")
    wait_until_shown(page, [site.gallery[13].id])

    page.fill("#filter-key", "year")
    page.fill("#filter-from", "long ago")
    page.keyboard.press("Enter")
    expect(page.locator("#filter-trouble")).to_have_text("A range is of numbers, or of dates as 1950-01-31.")
    expect(page.locator("#chips .chip")).to_have_count(3)


def test_a_value_of_a_key_that_was_not_seen_is_found_whatever_its_kind(page: Page, site: Site) -> None:
    kinds = {"number": 1951, "text": "1951", "true": True}
    for outline, (tag, weight) in zip(site.gallery[20:23], kinds.items(), strict=True):
        record = {"metadata": {"unseen": weight}, "tags": [tag], "collection": "unseen"}
        site.client.patch(f"/v1/pictures/{outline.id}", json=record, headers=MERGE).raise_for_status()
    page.goto("/#search?collection=unseen&is=tags:none")
    page.reload()  # nothing is known of any picture
    expect(page.locator("#results")).to_contain_text("No picture is left by these filters.")
    page.click("#filters-button")
    page.fill("#filter-key", "unseen")
    page.fill("#filter-is", "1951")
    page.keyboard.press("Enter")
    expect(page.locator("#chips .chip").nth(1)).to_have_text("unseen1951×")
    page.get_by_role("button", name="Remove the filter Tags none").click()
    wait_until_shown(page, [outline.id for outline in site.gallery[20:22]])
    page.reload()
    wait_until_shown(page, [outline.id for outline in site.gallery[20:22]])


def test_collections_are_picked_and_what_leaves_nothing_can_be_taken_away(page: Page, site: Site) -> None:
    page.click("#filters-button")
    page.select_option("#collection", "late")
    wait_until_shown(page, [outline.id for outline in site.gallery[16:19]])
    page.goto("/#search?collection=late&is=place:nowhere&range=year:x..y")
    expect(page.locator("#results")).to_contain_text("No picture is left by these filters.")
    expect(page.locator("#results")).not_to_contain_text("There is no collection")
    expect(page.locator("#chips .chip")).to_have_count(1)  # what the address says in vain is left out
    page.get_by_role("button", name="Remove the filters").click()
    expect(page.locator("#results figure").first).to_be_visible()
    assert page.input_value("#collection") == ""


def test_what_no_picture_has_is_named_when_filters_leave_nothing(page: Page) -> None:
    page.goto("/#search?collection=lost&is=plaec:Chur&range=year:1..2")
    said = page.locator("#results .nothing p").nth(1)
    expect(said).to_have_text("There is no collection “lost”. No picture has the detail “plaec”.")
    page.click("#filters-button")
    expect(page.locator("#facets")).to_have_text("No picture is left to choose from.")
