"""Teaching on the page as far as it needs no worker: typed words, rows that wait, and columns that are swapped."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import KEYED, open_context
from tests.model.spreadsheets import write_xlsx
from tests.service.harness import Service, share_service
from tests.store.steps import submit

NOUNS = (("c'hi", "dog"), ("c'hazh", "cat"), ("ti", "house"), ("wezenn", "tree"), ("vag", "boat"), ("marc'h", "horse"),
         ("labous", "bird"), ("heol", "sun"))  # fmt: skip
ADJECTIVES = (("bras", "big"), ("bihan", "little"), ("gwenn", "white"), ("du", "black"), ("ruz", "red"),
              ("kozh", "old"), ("nevez", "new"), ("brav", "beautiful"))  # fmt: skip


service = share_service(open=True)


@pytest.fixture
def page(chromium: Browser, service: Service) -> Iterator[Page]:
    with open_context(chromium, service.url, KEYED) as context:
        page = context.new_page()
        page.goto("/#teach?language=br")
        yield page


def test_what_is_typed_waits_and_swapped_columns_are_turned_by_one_press(page: Page, service: Service) -> None:
    expect(page.locator("#teach-lines")).to_be_visible()
    page.locator("#teach-lines").focus()
    page.keyboard.type("kazh = cat\nlabous\nki – dog\n")
    for _ in range(10):  # by the keyboard alone
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('button[type=submit]')"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#teach-report")).to_contain_text("The first rows: Breton | English. Is that right?")
    expect(page.locator("#teach-report .pairs li").first).to_have_text("kazh | cat")
    expect(page.locator("#teach-report .left li")).to_have_text(["line 2: labous"])
    expect(page.locator("#teach-start")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#teach-report")).to_contain_text("2 rows are kept of the 64 that teaching Breton needs.")
    expect(page.locator("#teach-lines")).to_have_value("labous")
    rows = [(f"ar {noun} {kind}", f"the {quality} {thing}") for noun, thing in NOUNS for kind, quality in ADJECTIVES]
    page.click("#teach-ways >> text=A file")
    bare = "".join(f"{breton},{english}\n" for breton, english in rows).encode()
    book = write_xlsx(rows)
    for name, content, answer, first in (
        ("bare.csv", bare, "Sentences", "ar c'hi bras | the big dog"),
        ("bare.csv", bare, "Words", ""),
        ("bare.xlsx", book, "Words", ""),
    ):
        page.set_checked("#teach-dictionary", False)
        page.set_input_files("#teach-file", {"name": name, "mimeType": "text/csv", "buffer": content})
        page.click("text=Check the rows")
        page.click(f"#teach-trouble button:has-text('{answer}')")
        expect(page.locator("#teach-report .pairs li").first).to_contain_text(first)
    table = "caption,english\n" + "".join(f"{english},{breton}\n" for breton, english in rows)
    page.set_checked("#teach-dictionary", False)
    page.set_input_files("#teach-file", {"name": "br.csv", "mimeType": "text/csv", "buffer": table.encode()})
    page.click("text=Check the rows")
    expect(page.locator("#teach-report")).to_contain_text("The columns seem to be swapped")
    for is_dictionary in (True, False):
        page.set_checked("#teach-dictionary", is_dictionary)
        expect(page.locator("#teach-report")).to_be_hidden()
        page.click("text=Check the rows")
        expect(page.locator("#teach-report")).to_contain_text("The columns seem to be swapped")
    page.click("#teach-swap")
    expect(page.locator("#teach-last li[data-expansion]")).to_contain_text("Waiting for its turn")
    (newest, *_) = service.context.registry.expansions.list()
    lines = (service.context.settings.home / str(newest.dataset_path)).read_text()
    assert '{"caption": "ar c\'hi bras", "english": "the big dog"}' in lines and '"kazh"' in lines


def test_doubts_are_in_the_language_of_the_page(chromium: Browser, service: Service) -> None:
    rows = [(f"ar {noun} {kind}", f"the {quality} {thing}") for noun, thing in NOUNS for kind, quality in ADJECTIVES]
    files = {
        "br": (
            [(english, breton) for breton, english in rows],
            "Die Spalten scheinen vertauscht zu sein: Was Bretonisch sein sollte, ist Englisch.",
        ),
        "cy": ([(english, english) for _, english in rows], "Was Walisisch sein sollte, sieht nach Englisch aus."),
        "ru": (rows, "Spalten vertauscht"),
    }
    with open_context(chromium, service.url, KEYED, locale="de-AT") as context:
        page = context.new_page()
        for tag, (pairs, said) in files.items():
            page.goto(f"/#teach?language={tag}")
            table = "caption,english\n" + "".join(f"{caption},{english}\n" for caption, english in pairs)
            page.click("#teach-ways >> text=Datei")
            page.set_input_files("#teach-file", {"name": "x.csv", "mimeType": "text/csv", "buffer": table.encode()})
            page.click("#teach-form button[type=submit]")
            expect(page.locator(".sorry:visible p").first).to_contain_text(said)
            expect(page.locator("#teach-swap")).to_have_count(int(tag != "cy"))
            expect(page.locator(".sorry [lang=en]:visible")).to_have_count(0)
        whole = {b"\xff\xfea\0": "Die Buchstaben dieser Datei", b"a,b\n": "ihre erste Zeile nennt sie"}
        for content, said in whole.items():
            page.set_input_files("#teach-file", {"name": "x", "mimeType": "", "buffer": content})
            page.click("#teach-form button[type=submit]")
            expect(page.locator("#teach-trouble p").first).to_contain_text(said)
            expect(page.locator(".sorry [lang=en]:visible")).to_have_count(0)


def test_seven_languages_that_wait_leave_the_page_its_connections(page: Page, service: Service) -> None:
    registry = service.context.registry
    for tag in ("cy", "eu", "fo", "ga", "gd", "gv", "kw"):
        submit(registry, tag)
    page.goto("/#languages")
    waiting = page.locator("#languages-running [data-state=queued]")
    expect(waiting.nth(6)).to_be_visible()
    page.goto("/#releases")
    expect(page.locator("#releases-body li").first).to_be_visible(timeout=10_000)
    with page.expect_response(re.compile(r"/v1/expansions\?")):
        page.goto("/#languages")
    expect(waiting.nth(6)).to_be_visible()
    for expansion in registry.expansions.list():
        registry.expansions.cancel(expansion.id)
    expect(page.locator("#languages-running [data-state=cancelled]").nth(6)).to_be_visible()


def test_a_dictionary_whose_letters_cannot_be_read_is_refused(page: Page) -> None:
    page.goto("/#teach?language=fr&way=file")
    expect(page.locator("#teach-title")).to_have_text("Teach French")
    content = "mot;word\nélève;pupil\n".encode("latin-1")
    page.set_input_files("#teach-file", {"name": "mots.csv", "mimeType": "text/csv", "buffer": content})
    page.check("#teach-dictionary")
    page.click("text=Check the rows")
    expect(page.locator("#teach-trouble")).to_contain_text("The letters of this file cannot be read.")
