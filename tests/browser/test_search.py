"""Searching on the page: by text, by picture, from right to left, with the keyboard, in narrow windows."""

import base64
import re

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.conftest import await_look
from tests.browser.site import Site
from tests.service.harness import ADMIN_KEY

ANSWERED = re.compile("Read as|Detected|not certain")


def search(page: Page, text: str, language: str = "auto") -> None:
    page.select_option("#language", language)
    page.fill("#text", text)
    page.keyboard.press("Enter")
    expect(page.locator("#reading")).to_have_text(ANSWERED)
    expect(page.locator("#results")).not_to_have_attribute("aria-busy", "true")


def read_first_ids(page: Page, count: int = 5) -> list[str | None]:
    figures = page.locator("#results figure").all()[:count]
    return [figure.get_attribute("data-picture") for figure in figures]


def test_the_gallery_is_shown_without_a_query_and_the_picker_names_languages_in_their_own_script(page: Page) -> None:
    expect(page.locator("#results h2").first).to_have_text(re.compile(r"^[A-Z][a-z]+ \d{4}$"))  # a month
    page.locator("#results img").first.evaluate("image => image.decode()")
    assert page.locator("#results img").first.evaluate("image => image.naturalWidth") > 0

    option = page.locator("#language option[value=ar]")
    expect(option).to_contain_text("العربية")
    expect(option).to_have_attribute("lang", "ar")

    followed = "named => import('/static/search.js').then((search) => search.follow(new URLSearchParams(named)))"
    for named in ("", "xx"):  # as when somebody searches before the list has come; a withdrawn one
        page.evaluate(followed, f"q=red+apple&language={named}")
        assert page.input_value("#language") == "auto"


def test_a_late_list_of_languages_leaves_the_chosen_one(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/languages", lambda route: held.append(route))
    page.goto("/#add")
    page.goto("/#search")
    while len(held) < 2:  # one of each part
        page.wait_for_timeout(20)
    page.select_option("#language", "ar")
    for route in held:
        with await_look(page, "/v1/languages"):
            route.continue_()
    assert page.input_value("#language") == "ar"


def test_what_is_typed_while_the_page_is_late_stays(page: Page) -> None:
    held: list[Route] = []
    page.route("**/readyz", lambda route: held.append(route))
    page.reload()
    page.fill("#text", "red apple")
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    expect(page.locator("#results figure").first).to_be_visible()
    expect(page.locator("#text")).to_have_value("red apple")


def test_rows_that_more_is_added_to_keep_their_heading_and_the_focus(page: Page) -> None:
    headings, focus = page.evaluate("""async () => {
        const { Wall } = await import("/static/wall.js");
        const place = document.body.appendChild(document.createElement("div"));
        const entry = (title) => {
            const figure = document.createElement("figure");
            figure.tabIndex = 0;
            return { figure, ratio: 1, title };
        };
        const [wall, held] = [new Wall(place), entry("May")];
        wall.add([entry("June"), held]);
        held.figure.focus();
        wall.add([entry("May")]);
        return [[...place.querySelectorAll("h2")].map((h2) => h2.textContent), document.activeElement === held.figure];
    }""")
    assert headings == ["June", "May"]
    assert focus


def test_months_with_few_pictures_share_a_row_until_one_fills_its_own(page: Page) -> None:
    before, after, stands_above = page.evaluate("""async () => {
        const { Wall } = await import("/static/wall.js");
        const place = document.body.appendChild(document.createElement("div"));
        place.style.width = "700px";
        const entry = (title) => ({ figure: document.createElement("figure"), ratio: 1, title });
        const titles = (row) => [row, ...row.querySelectorAll("h2")].filter((one) => one.matches("h2"));
        const rows = () => [...place.children].map((row) => titles(row).map((h2) => h2.textContent).join(" "));
        const wall = new Wall(place);
        wall.add(["June", "May"].map(entry));
        const before = rows();
        wall.add(["May", "May", "May", "April", "March", "March"].map(entry));
        const title = [...place.querySelectorAll("h2")].at(-1);
        const left = (element) => Math.round(element.getBoundingClientRect().left);
        const figures = [...place.querySelectorAll("figure")].map(left);
        return [before, rows(), figures.indexOf(left(title)) === figures.length - 2];
    }""")
    assert before == ["June May"]
    assert after == ["June", "May", "", "April March"]
    assert stands_above


def test_keys_that_are_commands_of_the_browser_choose_and_move_nothing(page: Page) -> None:
    frames = page.locator("#results a.frame")
    frames.nth(1).press("Control+x")
    frames.nth(1).press("Control+ArrowRight")
    expect(frames.nth(1)).to_be_focused()
    expect(page.locator("#results .pick:checked")).to_have_count(0)


def test_a_text_finds_its_picture_which_leads_to_similar_ones_and_the_address_keeps_the_search(page: Page) -> None:
    search(page, "red apple", "en")
    expect(page.locator("#reading")).to_have_text("Read as English")  # and no word of an administrator

    before = read_first_ids(page)
    assert "emoji-1f34e" in before
    page.reload()
    expect(page.locator("#reading")).to_have_text(ANSWERED)
    assert page.input_value("#text") == "red apple"
    assert page.input_value("#language") == "en"
    assert read_first_ids(page) == before

    page.locator("#results a.frame").first.click()
    expect(page.locator("dialog dd[lang=en]").first).to_be_visible()
    expect(page.locator("dialog dd[lang=ar]").first).to_be_visible()

    page.locator("dialog").get_by_role("link", name="More like this").click()
    expect(page.locator("#results-title")).to_have_text("Similar pictures")
    expect(page.locator("#captions section").first).to_be_visible()


def test_more_pictures_come_as_one_scrolls(page: Page) -> None:
    search(page, "face", "en")
    for _ in range(2):
        shown = page.locator("#results figure").count()
        page.mouse.wheel(0, 5_000)
        expect(page.locator("#results figure").nth(shown)).to_be_attached()
    ids = read_first_ids(page, 1_000)
    assert len(ids) == len(set(ids))


def test_a_right_to_left_language_changes_the_direction_of_field_and_captions(page: Page) -> None:
    page.select_option("#language", "ar")
    assert page.locator("#text").evaluate("field => getComputedStyle(field).direction") == "rtl"
    search(page, "تفاحة حمراء", "ar")
    expect(page.locator("#reading bdi")).to_have_text("العربية")
    caption = page.locator("#results figcaption p[lang=ar]").first
    expect(caption).to_have_attribute("dir", "rtl")
    page.select_option("#language", "en")
    assert page.locator("#text").evaluate("field => getComputedStyle(field).direction") == "ltr"


def test_a_minimum_score_above_all_results_gives_a_sentence(page: Page) -> None:
    page.locator("#min-score").evaluate("input => { input.value = '0.95'; input.dispatchEvent(new Event('input')) }")
    search(page, "zzz qqq", "en")
    expect(page.locator("#results")).to_contain_text("No picture has such a high score")


def test_a_dropped_picture_gets_captions_in_every_language_and_similar_pictures(page: Page, site: Site) -> None:
    content = base64.b64encode(site.client.get("/v1/pictures/emoji-1f34e/content").content).decode()
    transfer = page.evaluate_handle(
        """content => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "apple.webp", { type: "image/webp" }));
            return transfer;
        }""",
        content,
    )
    page.dispatch_event("main", "dragover", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("main", "drop", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_hidden()
    expect(page.locator("#captions section[data-language=en] li").first).to_contain_text("apple")
    expect(page.locator("#captions section[data-language=ar] ol")).to_have_attribute("dir", "rtl")
    expect(page.locator("#results figure").first).to_have_attribute("data-picture", "emoji-1f34e")


def test_a_file_that_is_no_picture_is_refused_with_a_sentence(page: Page) -> None:
    page.set_input_files("#picture", {"name": "x.png", "mimeType": "image/png", "buffer": b"not a picture at all"})
    expect(page.locator("#trouble")).to_contain_text("not a picture in a format that is read here")
    expect(page.locator("#query figcaption")).to_contain_text("x.png")
    expect(page.locator("#query img")).to_have_count(0)  # the browser would draw a broken one


def test_while_one_language_is_known_none_is_detected(page: Page) -> None:
    def alone(route: Route) -> None:
        answer = route.fetch()
        listing = answer.json()
        route.fulfill(
            response=answer, json={**listing, "items": [i for i in listing["items"] if i["language"] == "en"]}
        )

    search(page, "red apple")
    expect(page.locator("#reading")).to_contain_text(re.compile(r"Detected English \(\d+ % sure\)"))
    page.route("**/v1/languages", alone)
    page.reload()
    expect(page.locator("#reading")).to_contain_text("Read as English")


def test_while_pictures_are_added_the_page_says_so(context: BrowserContext, site: Site) -> None:
    page = context.new_page()
    page.clock.install()
    with page.expect_response("**/v1/collections"):
        page.goto("/")
    expect(page.locator("#results figure").first).to_be_visible()
    apple = site.client.get("/v1/pictures/emoji-1f34e/content").content
    site.client.put("/v1/pictures/one-more", files={"picture": apple}).raise_for_status()
    try:
        expect(page.locator("#growing")).to_be_hidden()
        page.clock.fast_forward(5_000)
        expect(page.locator("#growing")).to_contain_text("Pictures are being added now")
        page.clock.fast_forward(5_000)
        expect(page.locator("#growing")).to_be_hidden()
    finally:
        site.client.delete("/v1/pictures/one-more").raise_for_status()


def test_similar_pictures_have_captions_in_the_chosen_language_and_more_of_one(page: Page, site: Site) -> None:
    content = site.client.get("/v1/pictures/emoji-1f34e/content").content
    page.select_option("#language", "ar")
    page.set_input_files("#picture", {"name": "a.webp", "mimeType": "image/webp", "buffer": content})
    expect(page.locator("#results-title")).to_have_text("Similar pictures")
    expect(page.locator("#results figure p[lang=ar]").first).to_be_visible()
    expect(page.locator("#results figure p[lang=en]").first).to_be_visible()

    page.select_option("#language", "auto")
    expect(page.locator("#captions section")).to_have_count(len(site.list_languages()))
    page.select_option("#captions select", "ar")
    expect(page.locator("#captions section")).to_have_count(1)
    expect(page.locator("#captions li").nth(4)).to_be_visible()

    held: list[Route] = []
    page.select_option("#captions select", "")
    page.route("**/v1/search/captions", lambda route: held.append(route))
    page.select_option("#captions select", "ar")
    expect(page.locator("#captions section")).to_have_count(0)
    while not held:
        page.wait_for_timeout(20)
    page.select_option("#captions select", "")  # before the answer comes
    with await_look(page, "/v1/search/captions"):
        held[0].continue_()
    expect(page.locator("#captions section")).to_have_count(len(site.list_languages()))


def test_everything_works_with_the_keyboard_and_focus_is_visible(page: Page) -> None:
    page.locator("body").press("/")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("red apple")
    page.keyboard.press("Enter")
    expect(page.locator("#reading")).to_have_text(ANSWERED)
    expect(page.locator("#results figure .score").first).to_be_visible()
    pictures = page.locator("#results a.frame")
    for _ in range(12):  # past the clear button, picker, file, both buttons
        page.keyboard.press("Tab")
        if pictures.first.evaluate("link => link === document.activeElement"):
            break
    expect(pictures.first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(pictures.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(pictures.nth(1)).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.evaluate("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2


def test_one_picture_has_an_address_neighbours_and_a_way_back_to_its_place(page: Page, site: Site) -> None:
    first, second, third = read_first_ids(page, 3)
    before = page.url
    page.locator("#results a.frame").first.click()
    expect(page).to_have_url(f"{site.url}/#picture/{first}")
    page.wait_for_function("() => document.querySelector('.stage img').naturalWidth > 0")
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="The next picture").click()
    expect(page).to_have_url(f"{site.url}/#picture/{third}")
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(f"{site.url}/#picture/{second}")
    for kind, x in (("pointerdown", 300), ("pointerup", 200)):  # a finger that moves to the left
        page.locator(".stage").dispatch_event(kind, {"pointerType": "touch", "clientX": x, "clientY": 200})
    expect(page).to_have_url(f"{site.url}/#picture/{third}")
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(f"{site.url}/#picture/{second}")
    page.go_back()  # once, however many were looked at
    expect(page.locator("dialog")).to_have_count(0)
    assert page.url == before
    expect(page.locator("#results a.frame").nth(1)).to_be_focused()
    page.goto("about:blank")
    page.goto(f"/#picture/{third}")
    expect(page.locator(".lightbox .facts")).to_contain_text(str(third))
    expect(page.get_by_role("button", name="Original")).to_have_count(0)  # it is not kept here
    page.keyboard.press("Escape")
    expect(page.locator("#results figure").first).to_be_visible()


def test_a_caption_is_added_in_the_language_that_one_searches_in(page: Page, site: Site) -> None:
    own = site.client.get("/v1/pictures/emoji-1f34e").json()["own"]
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    page.goto("/#search?q=تفاحة&language=ar")
    expect(page.locator("#results figure").first).to_be_visible()
    page.goto("/#picture/emoji-1f34e")
    field = page.locator(".lightbox .caption input")
    expect(field).to_have_attribute("lang", "ar")
    expect(field).to_have_attribute("dir", "rtl")
    field.fill("تفاحة لذيذة")
    page.keyboard.press("Enter")
    expect(page.locator(".lightbox dd[lang=ar]", has_text="تفاحة لذيذة")).to_be_visible()
    assert "تفاحة لذيذة" in site.client.get("/v1/pictures/emoji-1f34e").json()["own"]["ar"]
    back = {"captions": {"ar": own.get("ar")}}
    headers = {"Content-Type": "application/merge-patch+json"}
    site.client.patch("/v1/pictures/emoji-1f34e", json=back, headers=headers).raise_for_status()


def test_a_narrow_window_is_filled(page: Page) -> None:
    page.set_viewport_size({"width": 340, "height": 700})
    shelf = page.locator("#results .shelf").first
    expect(shelf.locator("figure")).to_have_count(2)
    ends = "row => [row, row.lastElementChild].map((each) => each.getBoundingClientRect().right)"
    row, last = shelf.evaluate(ends)
    assert last == pytest.approx(row, abs=2)


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
