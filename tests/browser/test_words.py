"""*Words we need* on a telephone: words beside their pictures, answered by keyboard, kept at once."""

import json
import re

from playwright.sync_api import Page, Route, expect

from tests.browser.site import Site
from tests.browser.test_accessibility import find_faults

TELEPHONE = {"width": 390, "height": 844}


def open_words(page: Page, tag: str) -> None:
    page.set_viewport_size(TELEPHONE)  # type: ignore[arg-type]
    page.goto(f"/#teach?language={tag}&way=words")
    expect(page.locator("form.word h2")).to_be_visible()


def read_word(page: Page) -> str:
    return page.locator("form.word h2").inner_text()


def test_words_are_answered_with_the_keyboard_alone_and_kept_at_once(page: Page, site: Site) -> None:
    open_words(page, "he")
    first, field = read_word(page), page.locator("#word-answer")
    expect(field).to_be_focused()
    assert field.get_attribute("dir") == "rtl"
    page.wait_for_function("() => document.querySelector('form.word img').naturalWidth > 0")
    page.keyboard.type("מילה, עוד")
    page.keyboard.press("Enter")
    expect(page.locator("#words-progress")).to_have_text("2 of 64 until it can be taught")
    expect(field).to_be_focused()
    second = read_word(page)
    assert second != first
    page.get_by_role("button", name="Not a word of ours").click()
    expect(page.locator("ul.kept li")).to_have_count(2)
    third = read_word(page)
    page.get_by_role("button", name="Skip").click()
    expect(page.locator("form.word h2")).not_to_have_text(third)
    page.get_by_role("button", name=f"Change: {first}").click()
    expect(field).to_have_value("מילה, עוד")
    field.fill("אחרת")
    page.keyboard.press("Enter")
    expect(page.locator("#words-progress")).to_have_text("1 of 64 until it can be taught")
    asked = site.http.get("/v1/languages/he/words").json()
    assert asked["answered"] == 1 and not {first, second} & {each["english"] for each in asked["items"]}
    assert third in {each["english"] for each in asked["items"]}  # skipped: somebody else may know it
    assert page.evaluate("document.documentElement.scrollWidth") <= TELEPHONE["width"]
    assert site.http.get("/v1/languages/ar/words").json()["needed"] == 1  # other rows have taught it


def test_sixty_four_answers_are_taught_by_one_press(page: Page, site: Site) -> None:
    words = [{"english": f"thing {n}", "captions": [f"peth {n}"]} for n in range(63)]
    site.http.post("/v1/languages/br/words", json={"words": words}).raise_for_status()
    open_words(page, "br")
    expect(page.locator("#words-teach")).to_be_disabled()
    page.keyboard.type("tra")
    page.keyboard.press("Enter")
    expect(page.locator("#words-progress")).to_have_text("64 answers can be taught")
    page.click("#words-teach")
    expect(page.locator("#teach-last li")).to_contain_text(re.compile("brezhoneg|Breton"))
    newest = site.http.get("/v1/expansions?limit=1").json()["items"][0]
    assert newest["language"] == "br"
    site.http.post(f"/v1/expansions/{newest['id']}/cancel")


def test_the_words_keep_nobody_out(page: Page) -> None:
    open_words(page, "cy")
    page.keyboard.type("gair")
    page.keyboard.press("Enter")
    expect(page.locator("ul.kept li")).to_have_count(1)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert find_faults(page) == []


def test_what_is_typed_for_the_next_word_stays_when_the_last_answer_is_kept(page: Page) -> None:
    open_words(page, "ga")
    held: list[Route] = []
    page.route("**/languages/ga/words", lambda route: held.append(route))
    page.keyboard.type("focal")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Skip").click()
    page.locator("#word-answer").fill("an focal eile")
    held[0].continue_()
    expect(page.locator("ul.kept li")).to_have_count(1)
    expect(page.locator("#word-answer")).to_have_value("an focal eile")


def test_a_refused_answer_stays_in_its_field(page: Page) -> None:
    open_words(page, "gd")
    problem = {"code": "registry_unavailable", "status": 503, "title": "Registry unavailable", "request_id": "r1"}
    page.route("**/words", lambda route: route.fulfill(status=503, body=json.dumps(problem)))
    page.keyboard.type("facal")
    page.keyboard.press("Enter")
    expect(page.locator("#word-trouble")).to_contain_text("nothing can be changed now")
    expect(page.locator("#word-answer")).to_have_value("facal")
