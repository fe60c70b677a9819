"""What a person holds on the page, and whether it stays so: files, choices, forms, lines, lists."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, Route, expect

from tests.browser.conftest import KEYED, await_look, open_context
from tests.service.harness import ADMIN_KEY, Service, picture, share_service

MERGE = {"Content-Type": "application/merge-patch+json"}
service = share_service(open=True)


@pytest.fixture
def page(chromium: Browser, service: Service) -> Iterator[Page]:
    with open_context(chromium, service.url, KEYED) as context:
        page = context.new_page()
        page.goto("/")
        yield page


def put(service: Service, collection: str, count: int, **record: Any) -> list[str]:
    """Put pictures into a collection; return their ids."""
    ids = [f"{collection}-{number}" for number in range(count)]
    for id in ids:
        service.put(id, picture(sum(map(ord, id)) * 7)).raise_for_status()
        patch = {"collection": collection, **record}
        service.admin.patch(f"/v1/pictures/{id}", json=patch, headers=MERGE).raise_for_status()
    return ids


def test_a_file_that_was_changed_or_moved_is_named_and_holds_up_no_other(page: Page, tmp_path: Path) -> None:
    said = "This file was changed or moved since it was chosen. Choose it again."
    files = [tmp_path / name for name in ("a.png", "b.png")]
    for number, file in enumerate(files):
        file.write_bytes(picture(900 + number))
    page.goto("/#add")
    page.set_input_files("#add-files", files)
    entries = page.locator("#add-list > li .became")
    expect(entries).to_have_count(2)
    later = files[0].stat().st_mtime + 60
    os.utime(files[0], (later, later))
    page.click("#add-start")
    expect(entries).to_have_text([f"refused: {said}", "added"])
    page.goto("/#teach?language=br&way=file")
    for file, is_dictionary in zip(files, (False, True), strict=True):
        page.set_input_files("#teach-file", file)
        page.set_checked("#teach-dictionary", is_dictionary)
        file.unlink()
        page.click("text=Check the rows")
        expect(page.locator("#teach-trouble")).to_contain_text(said)


def test_a_picture_whose_answer_was_lost_is_described_by_the_next_try(page: Page, service: Service) -> None:
    content, stored = picture(910), list[dict[str, Any]]()

    def lose(route: Route) -> None:
        stored.append(service.admin.post("/v1/pictures", files={"picture": ("x", content)}).json())
        route.abort("connectionreset")

    page.route("**/v1/pictures", lose, times=1)
    page.goto("/#add")
    page.set_input_files("#add-files", {"name": "lost.png", "mimeType": "image/png", "buffer": content})
    page.locator("#add-list .words").fill("not lost")
    page.click("#add-start")
    expect(page.locator("#add-trouble")).to_contain_text("cannot be reached")
    page.click("#add-start")
    expect(page.locator("#add-list .became")).to_have_text("added")
    item = service.admin.get(f"/v1/pictures/{stored[0]['id']}").json()
    assert (item["own"], item["metadata"]) == ({"en": ["not lost"]}, {"file_name": "lost.png"})


def test_chosen_pictures_stay_chosen_while_one_of_them_is_edited_and_leave_with_it(
    page: Page, service: Service
) -> None:
    first, second, third = put(service, "choice", 3)
    page.goto("/#search?collection=choice")
    bar, wall = page.locator("#chosen"), page.locator("#results")
    for id in (first, second):
        wall.locator(f"[data-picture={id}] .pick").check()
    wall.locator(f"[data-picture={first}] a.frame").click()
    page.click("dialog >> text=Edit …")
    page.locator("dialog form.record .words").fill("another caption")
    page.locator("dialog form.record").get_by_role("button", name="Save").click()
    expect(wall.locator(f"[data-picture={first}] figcaption")).to_contain_text("another caption")
    page.keyboard.press("Escape")
    expect(wall.locator(f"[data-picture={first}] .pick")).to_be_checked()
    expect(bar).to_contain_text("2 pictures chosen")

    wall.locator(f"[data-picture={third}]").evaluate("figure => (figure.title = 'the same')")
    bar.get_by_role("button", name="Tag …").click()
    page.get_by_label("Add to: Tags").fill("sea")
    page.get_by_role("button", name="Add the tags").click()
    expect(bar).to_contain_text("2 pictures were tagged.")
    expect(wall.locator(f"[data-picture={third}][title]")).to_be_visible()  # it is not another wall
    expect(wall.locator(".pick:checked")).to_have_count(0)

    for id in (first, second):
        wall.locator(f"[data-picture={id}] .pick").check()
    wall.locator(f"[data-picture={first}] a.frame").click()
    page.locator("dialog").get_by_role("button", name="Delete", exact=True).click()
    expect(wall.locator("figure")).to_have_count(2)
    page.keyboard.press("Escape")
    wall.locator(f"[data-picture={third}] .pick").check()
    expect(bar).to_contain_text("2 pictures chosen")


def test_what_two_people_add_to_one_record_is_kept_of_both(page: Page, service: Service) -> None:
    (id,) = put(service, "shared", 1, tags=["old", "gone"], captions={"en": ["first"]})
    page.goto("/#search?collection=shared")
    page.locator("#results a.frame").click()
    page.click("dialog >> text=Edit …")
    form = page.locator("dialog form.record")
    form.get_by_role("button", name="Add a caption").click()
    form.locator(".words").last.fill("mine")
    form.get_by_label("Add to: Tags").fill("my tag,")
    theirs = {"tags": ["old", "their tag"], "captions": {"en": ["first", "theirs"]}}
    service.admin.patch(f"/v1/pictures/{id}", json=theirs, headers=MERGE).raise_for_status()
    page.evaluate("sessionStorage.setItem('pictoglot.key', 'pk_wrong')")
    form.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog", name="Access key")).to_be_visible()  # over the form, with a name of its own
    page.fill("#key", ADMIN_KEY)
    page.click("text=Use this key")
    form.get_by_role("button", name="Save my changes on top of it").click()
    expect(form).to_have_count(0)
    item = service.admin.get(f"/v1/pictures/{id}").json()
    assert (item["own"], item["tags"]) == ({"en": ["first", "mine", "theirs"]}, ["old", "my tag", "their tag"])


def test_typed_lines_outlive_another_language_and_are_asked_about_before_they_are_dropped(page: Page) -> None:
    asked: list[str] = []

    def accept(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", accept)
    page.goto("/#teach?language=br")
    page.click("#teach-lines")
    page.keyboard.type("kazh = cat")
    page.goto("/#teach?language=cy")
    expect(page.locator("#teach-lines")).to_have_value("")
    page.goto("/#teach?language=br")
    expect(page.locator("#teach-lines")).to_have_value("kazh = cat")
    page.reload()
    assert asked == ["beforeunload"]
    expect(page.locator("#teach-lines")).to_be_visible()
    page.click("#teach-lines")
    page.reload()
    assert len(asked) == 1, "nothing is lost"


def test_a_fault_is_shown_as_long_as_it_lasts(page: Page) -> None:
    page.route("**/readyz", lambda route: route.fulfill(json={"degraded": ["storage_full"]}), times=1)
    page.clock.install()
    page.reload()
    expect(page.locator("#banner")).to_contain_text("disk is full")
    page.clock.fast_forward(31_000)
    expect(page.locator("#banner")).to_be_hidden()


def test_late_rows_of_another_question_are_not_added_to_the_list_of_changes(page: Page, service: Service) -> None:
    for number in range(51):
        service.admin.put("/v1/languages/gd/terms", json={"owner": f"Owner {number}"}).raise_for_status()
    service.admin.put("/v1/languages/ga/terms", json={"owner": "One"}).raise_for_status()
    held: list[Route] = []
    page.route("**/v1/admin/audit?*cursor=*", lambda route: held.append(route))
    page.goto("/#audit")
    page.click("#audit-more")
    page.fill("#audit-form [name=target]", "terms of ga")
    page.click("#audit-form >> text=Show")
    rows = page.locator(".acts > li")
    expect(rows).to_have_count(1)
    with await_look(page, "cursor="):
        held[0].continue_()
    expect(rows).to_have_count(1)


def test_pictures_that_were_skipped_come_again_after_all_others(page: Page, service: Service) -> None:
    put(service, "skipped", 22)
    wanted = len(service.admin.get("/v1/languages/gn/captions/wanted?count=1000").json()["items"])
    page.goto("/#caption?language=gn")
    seen: list[str | None] = []
    for _ in range(wanted + 1):
        card = page.locator("form.caption-this")
        if seen:
            expect(card).not_to_have_attribute("data-picture", seen[-1] or "")
        seen.append(card.get_attribute("data-picture"))
        card.get_by_role("button", name="Skip").click()
    assert len({*seen[:-1]}) == wanted > 20 and seen[-1] == seen[0]
