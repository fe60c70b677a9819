"""Records on the page: adding pictures, changing what is said of them, deleting them."""

import base64
import hashlib
import io
import re
from random import Random
from typing import Any

import pytest
from PIL import Image
from pillow_heif import register_heif_opener
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import await_look
from tests.browser.site import Site
from tests.browser.test_languages import give_key
from tests.service.harness import ADMIN_KEY

MERGE = {"Content-Type": "application/merge-patch+json"}


def draw_png(seed: int, size: tuple[int, int] = (24, 16)) -> bytes:
    """Return a picture that no other test has."""
    picture = Image.frombytes("RGB", size, Random(seed).randbytes(size[0] * size[1] * 3))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def put(site: Site, id: str, seed: int, record: dict[str, Any], size: tuple[int, int] = (24, 16)) -> None:
    site.client.put(f"/v1/pictures/{id}", files={"picture": draw_png(seed, size)}).raise_for_status()
    site.client.patch(f"/v1/pictures/{id}", json=record, headers=MERGE).raise_for_status()


def open_editor(page: Page, collection: str) -> None:
    """Open the only picture of a collection, and its form."""
    page.goto(f"/#search?collection={collection}")
    expect(page.locator("#results figure")).to_have_count(1)
    page.locator("#results a.frame").click()
    page.click("dialog >> text=Edit …")
    expect(page.locator("dialog form.record")).to_be_visible()


def drop(page: Page, *contents: bytes) -> None:
    transfer = page.evaluate_handle(
        """contents => contents.reduce((transfer, content, place) => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            transfer.items.add(new File([bytes], `${place}.png`, { type: "image/png" }));
            return transfer;
        }, new DataTransfer())""",
        [base64.b64encode(content).decode() for content in contents],
    )
    page.dispatch_event("main", "dragover", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_contain_text(f"Drop {len(contents)} pictures here to add them")
    page.dispatch_event("main", "drop", {"dataTransfer": transfer})


def test_dropped_pictures_are_described_and_added_and_each_refusal_is_said(page: Page, site: Site) -> None:
    reader = site.client.post("/v1/admin/keys", json={"scope": "search", "label": "a reader"}).json()["key"]
    page.evaluate("key => sessionStorage.setItem('pictoglot.key', key)", reader)  # it may not write
    large = io.BytesIO()
    Image.new("L", (8100, 8100)).save(large, "JPEG")
    drop(page, draw_png(1), b"no picture", draw_png(2), large.getvalue())
    entries = page.locator("#add-list > li")
    expect(entries).to_have_count(4)
    words = entries.nth(0).locator(".words")
    words.fill("grains of sand")
    entries.nth(0).get_by_role("button", name="Add a caption").click()
    language = entries.nth(0).locator(".language").nth(1)
    language.fill("Arabic")
    language.press("Tab")
    expect(language).to_have_value("العربية")
    expect(entries.nth(0).locator(".words").nth(1)).to_have_attribute("dir", "rtl")
    entries.nth(0).locator(".words").nth(1).fill("حبات رمل")
    page.get_by_label("Add to: Tags").fill("noise, of two kinds")
    expect(page.get_by_label("Add to: Tags")).to_have_value("of two kinds")
    page.keyboard.press("Enter")
    page.get_by_label("Add to: Tags").fill("sand")
    page.locator("#add-form").get_by_label("Collection", exact=True).fill("Grandma's Levrioù")
    page.click("#add-start")
    expect(page.locator("#key-why")).to_have_text("This needs more rights than you have here.")
    give_key(page)
    expect(page.locator("#add-summary")).to_contain_text("2 pictures added, 2 refused.")
    expect(entries.nth(3).locator(".became")).to_contain_text(
        "At most 64 megapixels are taken (PICTOGLOT_PICTURE_PIXELS)."
    )
    expect(entries.nth(1).locator(".became")).to_have_text(
        "refused: This file is not a picture in a format that is read here: JPEG, PNG, WebP, AVIF, TIFF or HEIC."
    )
    expect(page.locator("#add-start")).to_have_text("Try 2 refused pictures again")
    items = site.client.get("/v1/pictures", params={"collection": "Grandma's Levrioù"}).json()["items"]
    assert [item["tags"] for item in items] == [["noise", "of two kinds", "sand"]] * 2
    assert items[0]["captions"] == {"en": ["grains of sand"], "ar": ["حبات رمل"]}
    assert [item["metadata"] for item in items] == [{"file_name": "0.png"}, {"file_name": "2.png"}]

    page.click("#add-summary a")
    expect(page.locator("#results figure")).to_have_count(2)
    expect(page.locator("#chips .chip")).to_have_count(3)
    expect(page.locator("#collection")).to_have_value("Grandma's Levrioù")


@pytest.mark.parametrize(("form", "more"), [("JPEG", {}), ("HEIF", {"quality": 50})])
def test_a_photograph_stands_in_the_month_when_it_was_taken(
    page: Page, site: Site, form: str, more: dict[str, int]
) -> None:
    register_heif_opener()
    exif = Image.Exif()
    exif[0x0110] = "Box 2"
    exif.get_ifd(0x8769).update({0x9003: "2011:08:03 17:20:01", 0x9011: "+02:00"})
    content = io.BytesIO()
    with Image.open(io.BytesIO(draw_png(40 + len(form)))) as picture:
        picture.resize((96, 64)).save(content, form, exif=exif.tobytes(), **more)
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    page.goto("/#add")
    page.set_input_files(
        "#add-files", {"name": "a.jpg", "mimeType": f"image/{form.lower()}", "buffer": content.getvalue()}
    )
    page.locator("#add-form").get_by_label("Collection", exact=True).fill(form)
    page.click("#add-start")
    page.click("#add-summary a")
    expect(page.locator("#results")).to_contain_text("August 2011")
    (item,) = site.client.get("/v1/pictures", params={"collection": form}).json()["items"]
    assert item["metadata"] == {"taken_at": "2011-08-03T17:20:01+02:00", "camera": "Box 2", "file_name": "a.jpg"}


def test_a_picture_that_is_there_keeps_its_record_and_one_that_is_left_out_is_not_sent(page: Page, site: Site) -> None:
    files = {"picture": draw_png(30)}
    there = site.client.post("/v1/pictures", files=files, data={"tags": '["by a curator"]'}).json()
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    sent: list[Route] = []

    def hold(route: Route) -> None:
        sent.append(route)
        if len(sent) > 1:
            route.continue_()

    page.route("**/v1/pictures", hold)
    drop(page, draw_png(30), draw_png(31), draw_png(32))
    entries = page.locator("#add-list > li")
    expect(entries).to_have_count(3)
    for place in (0, 1):
        entries.nth(place).locator(".words").fill("a caption from the page")
    page.get_by_label("Add to: Tags").fill("from the page")
    page.click("#add-start")
    expect(entries.nth(0)).to_have_attribute("data-state", "sending")
    entries.nth(2).locator(".words").press("Enter")  # while they are sent
    expect(page.get_by_role("button", name="Leave out 0.png")).to_be_disabled()
    page.get_by_role("button", name="Leave out 2.png").click()
    sent[0].continue_()  # so long was the first one held
    expect(page.locator("#add-summary")).to_contain_text("1 picture added, 1 there already.")
    expect(entries.nth(0).locator(".became")).to_have_text("was there already; its record was left as it is")
    assert site.client.get(f"/v1/pictures/{there['id']}").json()["etag"] == there["etag"]
    new, left_out = (hashlib.sha256(draw_png(seed)).hexdigest() for seed in (31, 32))
    item = site.client.get(f"/v1/pictures/{new}").json()
    assert (item["tags"], item["own"]) == (["from the page"], {"en": ["a caption from the page"]})
    assert site.client.get(f"/v1/pictures/{left_out}").status_code == 404 and len(sent) == 2


def test_what_is_said_of_a_picture_is_sent_again_where_it_was_refused(page: Page, site: Site) -> None:
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    drop(page, draw_png(33), b"no picture")
    entry = page.locator("#add-list > li").first
    entry.locator(".language").fill("no language is called so")
    with await_look(page, "limit=1"):  # it looks for the language
        entry.locator(".words").fill("not lost")
    expect(entry.locator(".words")).to_be_focused()  # who writes on is not taken back
    page.click("#add-start")
    expect(page.locator("#add-trouble")).to_contain_text("No language of this name or tag is known.")
    entry.locator(".language").fill("en-a")
    page.click("#add-start")
    expect(entry.locator(".became")).to_contain_text("refused: The picture is there, but not what is said of it.")
    entry.locator(".language").fill("en")
    page.click("#add-start")
    expect(entry.locator(".became")).to_have_text("added")
    item = site.client.get(f"/v1/pictures/{hashlib.sha256(draw_png(33)).hexdigest()}").json()
    assert item["own"] == {"en": ["not lost"]}


def test_saving_changes_nothing_that_nobody_touched(page: Page, site: Site) -> None:
    record = {"metadata": {"note": "one line\nanother", "place": "Chur"}, "collection": "touched"}
    site.client.patch("/v1/pictures/emoji-1f34e", json=record, headers=MERGE).raise_for_status()
    before = site.client.get("/v1/pictures/emoji-1f34e").json()
    taught = [text for text in before["captions"]["ar"] if text not in before["own"].get("ar", [])]
    open_editor(page, "touched")
    form = page.locator("dialog form.record")
    expect(form.locator(".brought")).to_contain_text(taught[0])
    details, values = (form.locator(".row.metadata").get_by_label(name, exact=True) for name in ("Detail", "Value"))
    expect(details.nth(1)).to_have_value("Place")
    values.nth(1).fill("Thusis")
    form.get_by_role("button", name="Add a value").click()
    details.last.fill("title")  # or Title, as it is called
    values.last.fill("Ours")
    form.get_by_role("button", name="Add a caption").click()
    form.locator(".row .words").last.fill("another word for it")
    with page.expect_request(lambda request: request.method == "PATCH") as sent:
        form.get_by_role("button", name="Save").click()
    english = [*before["own"]["en"], "another word for it"]
    assert sent.value.post_data_json == {"captions": {"en": english}, "metadata": {"place": "Thusis", "title": "Ours"}}
    expect(form).to_have_count(0)
    assert site.client.get("/v1/pictures/emoji-1f34e").json()["own"] == before["own"] | {"en": english}
    back = {
        "collection": "default",
        "metadata": {"note": None, "place": None, "title": None},
        "captions": before["own"],
    }
    site.client.patch("/v1/pictures/emoji-1f34e", json=back, headers=MERGE).raise_for_status()


def test_a_record_is_changed_and_what_others_changed_meanwhile_is_shown_and_kept(page: Page, site: Site) -> None:
    put(site, "shared-1", 3, {"collection": "shared", "tags": ["old"], "metadata": {"year": 1950, "place": "Chur"}})
    open_editor(page, "shared")
    form = page.locator("dialog form.record")
    form.locator(".words").fill("a coarse carpet")
    page.mouse.click(3, 3)  # beside the dialog: what was typed is not lost
    form.get_by_role("button", name="Add a value").click()
    row = form.locator(".row.metadata").last
    row.get_by_label("Detail").fill("width")
    row.get_by_label("Kind of value").select_option("number")
    row.get_by_label("Value", exact=True).fill("narrow")
    form.get_by_role("button", name="Save").click()
    expect(form.locator(".wrong")).to_have_text("This is no number. Numbers look like 1950 or 3.5.")
    expect(row.get_by_label("Value", exact=True)).to_be_focused()
    row.get_by_label("Value", exact=True).fill("2.5")
    form.get_by_role("button", name="Remove this value").nth(0).click()

    theirs = {"tags": ["new"], "captions": {"de": ["ein Teppich"]}}
    site.client.patch("/v1/pictures/shared-1", json=theirs, headers=MERGE).raise_for_status()
    form.get_by_role("button", name="Save").click()
    notice = form.locator(".changed")
    expect(notice).to_contain_text("Nothing was saved: this record was changed in the meantime.")
    expect(notice.locator("li")).to_have_text(["Captions: de: ein Teppich", "Tags: new"])
    assert site.client.get("/v1/pictures/shared-1").json()["metadata"] == {"year": 1950, "place": "Chur"}
    notice.get_by_role("button", name="Save my changes on top of it").click()
    expect(form).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator("#results figcaption")).to_contain_text("a coarse carpet")
    item = site.client.get("/v1/pictures/shared-1").json()
    assert (item["tags"], item["metadata"]) == (["new"], {"place": "Chur", "width": 2.5})
    assert item["captions"] | item["waiting"] == {"en": ["a coarse carpet"], "de": ["ein Teppich"]}

    open_editor(page, "shared")
    site.client.delete("/v1/pictures/shared-1").raise_for_status()
    page.locator("dialog .words").first.fill("too late")
    page.locator("dialog").get_by_role("button", name="Save").click()
    expect(page.locator("dialog .sorry")).to_contain_text("this picture was deleted in the meantime")
    page.locator("dialog .sorry").get_by_role("button", name="Close").click()
    expect(page.locator("#results figure")).to_have_count(0)


def test_captions_that_a_language_brought_stay_and_the_page_says_so(page: Page, site: Site) -> None:
    taught = site.client.get("/v1/pictures/emoji-1f34e").json()["captions"]["ar"]
    both = {"collection": "one", "captions": {"ar": taught}}  # the record has them as well
    site.client.patch("/v1/pictures/emoji-1f34e", json=both, headers=MERGE).raise_for_status()
    open_editor(page, "one")
    rows = page.locator("dialog .row")
    place = [row.locator(".language").input_value() for row in rows.all()].index("العربية")
    rows.nth(place).get_by_role("button").click()
    page.locator("dialog").get_by_role("button", name="Save").click()
    expect(page.locator("dialog .sorry")).to_contain_text(
        f"came with the file that taught their language, and stay: {', '.join(taught)}."
    )
    assert "ar" not in site.client.get("/v1/pictures/emoji-1f34e").json()["own"]
    back = {"collection": "default"}
    site.client.patch("/v1/pictures/emoji-1f34e", json=back, headers=MERGE).raise_for_status()


def test_a_picture_is_deleted_and_brought_back_where_it_is_large(page: Page, site: Site) -> None:
    for number in (0, 1):
        put(site, f"gone-{number}", 10 + number, {"collection": "gone", "captions": {"en": [f"number {number}"]}})
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    page.goto("/#search?collection=gone")
    expect(page.locator("#results figure")).to_have_count(2)
    page.locator("#results [data-picture=gone-0] a.frame").click()
    delete = page.locator("dialog").get_by_role("button", name="Delete", exact=True)
    delete.click()
    expect(page.locator("#results figure")).to_have_count(1)
    expect(page.locator("#picture-title")).to_have_text("number 1")  # the next one
    undo = page.locator("dialog #chosen").get_by_role("button", name="Undo")
    undo.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#picture-title")).to_have_text("number 0")
    expect(page.locator("#results figure")).to_have_count(2)
    assert site.client.get("/v1/pictures/gone-0").json()["captions"] == {"en": ["number 0"]}
    delete.click()
    expect(page.locator("#picture-title")).to_have_text("number 1")
    page.keyboard.press("Escape")
    expect(page.locator("body > #chosen")).to_contain_text("1 picture was deleted.")  # it can still be undone
    expect(page.locator("#results [data-picture=gone-1] a.frame")).to_be_focused()
    statuses = [site.client.get(f"/v1/pictures/gone-{number}").status_code for number in (0, 1)]
    assert statuses == [404, 200]


def test_a_caption_that_is_kept_late_stays_with_its_picture(page: Page, site: Site) -> None:
    for number in (0, 1):
        put(site, f"late-{number}", 40 + number, {"collection": "latest"})
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    page.goto("/#search?collection=latest")
    held: list[Route] = []
    page.route(
        "**/v1/pictures/late-*",
        lambda route: held.append(route) if route.request.method == "PATCH" else route.continue_(),
    )
    page.locator("#results a.frame").first.click()
    first = page.locator("dialog .facts .id").inner_text()
    page.locator("dialog form.caption input").fill("a late caption")
    page.locator("dialog form.caption input").press("Enter")
    while not held:
        page.wait_for_timeout(20)
    page.get_by_role("button", name="The next picture").click()
    expect(page.locator("dialog .facts .id")).not_to_have_text(first)
    held[0].continue_()
    expect(page.locator(f"#results [data-picture={first}] figcaption")).to_contain_text("a late caption")
    expect(page.locator("dialog .facts .id")).not_to_have_text(first)
    expect(page.locator("#results figcaption", has_text="a late caption")).to_have_count(1)


def test_a_picture_shows_its_record_and_its_tags_lead_to_others(page: Page, site: Site) -> None:
    put(site, "told-1", 20, {"collection": "told", "tags": ["a, b"], "metadata": {"people": ["Anna", "<b>"]}})
    site.client.patch("/v1/pictures/told-1", json={"captions": {"en": ["<img src=x>"]}}, headers=MERGE)
    page.goto("/#search?collection=told")
    expect(page.locator("#results figcaption p").first).to_have_text("<img src=x>")  # what people said is text
    page.locator("#results a.frame").click()
    expect(page.locator("dialog .facts")).to_contain_text(re.compile("peopleAnna, <b>.*Collectiontold.*Size24 × 16"))
    page.locator("dialog .chips a").click()
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator("#chips .chip")).to_have_text(["Tagsa, b×"])
    expect(page.locator("#results figure")).to_have_count(1)


def test_several_pictures_are_tagged_moved_and_deleted_at_once_and_that_is_taken_back(page: Page, site: Site) -> None:
    for number in range(4):
        put(site, f"many-{number}", 40 + number, {"collection": "many", "metadata": {"folder": "Holidays/Chur"}})

    def read(field: str) -> list[Any]:
        return [site.client.get(f"/v1/pictures/many-{number}").json().get(field) for number in range(4)]

    def find_there() -> list[int]:
        return [number for number, id in enumerate(read("id")) if id]

    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    page.goto("/#search?collection=many")
    picks, bar = page.locator("#results .pick"), page.locator("#chosen")
    expect(picks).to_have_count(4)
    picks.nth(0).check()
    picks.nth(2).click(modifiers=["Shift"])
    expect(bar).to_contain_text("3 pictures chosen")
    bar.get_by_role("button", name="Tag …").click()
    page.get_by_label("Add to: Tags").fill("sea, summer")
    page.get_by_role("button", name="Add the tags").click()
    expect(bar).to_contain_text("3 pictures were tagged.")
    page.click("#filters-button")
    expect(page.locator("#facets [data-key=tags]")).to_have_count(2)
    assert sorted(map(len, read("tags"))) == [0, 2, 2, 2]
    bar.get_by_role("button", name="Undo").click()
    expect(bar).to_be_hidden()
    expect(picks).to_have_count(4)
    assert read("tags") == [[]] * 4

    page.locator("#results a.frame").first.press("x")  # by the keyboard alone
    bar.get_by_role("button", name="Collection …").click()
    page.locator("dialog").get_by_label("Collection", exact=True).fill("few")
    page.get_by_role("button", name="Put them there").click()
    expect(picks).to_have_count(3)
    assert sorted(read("collection")) == ["few", "many", "many", "many"]
    expect(page.locator("#facets [data-key=tags]")).to_have_count(0)  # what was taken back, is chosen from no more
    expect(page.locator("#collection option", has_text="few (1)")).to_be_attached()
    bar.get_by_role("button", name="Undo").click()
    expect(picks).to_have_count(4)

    page.locator("#results a.frame").first.press("x")
    page.locator("#results a.frame").nth(1).press("x")
    bar.get_by_role("button", name="Delete").click()
    expect(bar).to_contain_text("2 pictures were deleted.")
    assert len(find_there()) == 2
    bar.get_by_role("button", name="Undo").click()
    expect(picks).to_have_count(4)
    assert find_there() == [0, 1, 2, 3]


def test_albums_and_times_are_chosen_and_pictures_keep_their_shape(page: Page, site: Site) -> None:
    albums = {(90, 30): "2019-07-02", (30, 60): "2019-07-01", (40, 40): "2021-01-01"}
    for number, (size, day) in enumerate(albums.items()):
        record = {"collection": "albums", "metadata": {"folder": f"Trips/{day[:4]}", "taken_at": day}}
        put(site, f"album-{number}", number, record, size)
    page.goto("/#search?collection=albums")
    expect(page.locator("#results h2")).to_have_text(["January 2021", "July 2019"])
    shapes = page.locator("#results .frame").evaluate_all("links => links.map((a) => a.clientWidth / a.clientHeight)")
    assert [round(shape, 1) for shape in shapes] == [1, 3, 0.5]
    page.click("#filters-button")
    page.get_by_role("button", name="2019: 2 pictures").first.click()
    expect(page.locator("#results figure")).to_have_count(2)
    expect(page.locator("#chips")).to_contain_text("Time2019")
    page.get_by_role("button", name="Remove the filter Time 2019").click()
    page.locator("[data-key=folder]", has_text="2021").click()
    expect(page.locator("#results figure")).to_have_count(1)
    expect(page.locator("#chips")).to_contain_text("AlbumTrips/2021")
