"""Teaching on the page as far as it needs no worker: typed words, rows that wait, and columns that are swapped."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.service.harness import ADMIN_KEY, Service, running

NOUNS = (("c'hi", "dog"), ("c'hazh", "cat"), ("ti", "house"), ("wezenn", "tree"), ("vag", "boat"), ("marc'h", "horse"),
         ("labous", "bird"), ("heol", "sun"))  # fmt: skip
ADJECTIVES = (("bras", "big"), ("bihan", "little"), ("gwenn", "white"), ("du", "black"), ("ruz", "red"),
              ("kozh", "old"), ("nevez", "new"), ("brav", "beautiful"))  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("taught"), open=True) as service:
        yield service


@pytest.fixture
def page(chromium: Browser, service: Service) -> Iterator[Page]:
    context = chromium.new_context(base_url=service.url, viewport={"width": 1280, "height": 860})
    context.add_init_script(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    page = context.new_page()
    page.goto("/#teach")
    yield page
    context.close()


def test_what_is_typed_waits_and_swapped_columns_are_turned_by_one_press(page: Page, service: Service) -> None:
    page.fill("#teach-tag", "brezhoneg")
    page.fill("#teach-lines", "kazh = cat\nki = dog\n")
    page.click("text=Check the file")
    expect(page.locator("#teach-report")).to_contain_text("The first rows: Breton | English. Is that right?")
    expect(page.locator("#teach-report .pairs li").first).to_have_text("kazh | cat")
    page.click("#teach-start")
    expect(page.locator("#teach-report")).to_contain_text("2 rows of the 64 that teaching Breton needs are kept.")
    rows = [(f"ar {noun} {kind}", f"the {quality} {thing}") for noun, thing in NOUNS for kind, quality in ADJECTIVES]
    table = "caption,english\n" + "".join(f"{english},{breton}\n" for breton, english in rows)
    page.fill("#teach-tag", "br")
    page.set_input_files("#teach-file", {"name": "br.csv", "mimeType": "text/csv", "buffer": table.encode()})
    page.click("#teach-start")
    expect(page.locator("#teach-report")).to_contain_text("The columns seem to be swapped")
    page.click("#teach-swap")
    expect(page.locator("#expansions-body li[data-expansion]").first).to_contain_text("waiting for a worker")
    (newest, *_) = service.context.registry.expansions.list()
    lines = (service.context.settings.home / str(newest.dataset_path)).read_text()
    assert '{"caption": "ar c\'hi bras", "english": "the big dog"}' in lines and '"kazh"' in lines
