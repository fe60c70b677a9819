"""One site and one Chromium for all browser tests; no page may use another server or break its policy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from demo.shots import CHROMIUM, CHROMIUM_ARGUMENTS
from tests.browser.site import Site, choose_outlines
from tests.launcher import share_launcher
from tests.service.harness import ADMIN_KEY

KEYED = f"if (location.host) sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')"  # for pages of `running`
expect.set_options(timeout=60_000)
_LOOK = """part => {
    const read = Response.prototype.json;
    window.looked = new Promise((resolve) => {
        Response.prototype.json = async function () {
            const content = await read.call(this);
            if (this.url.includes(part)) setTimeout(resolve); // after all that the page does with it at once
            return content;
        };
    });
}"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"))


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running site that has learned Arabic."""
    folder, gallery = tmp_path_factory.mktemp("site"), choose_outlines(singles=70, scenes=30)
    site = Site(folder / "home", "bundled", folder / "log", share_launcher(), gallery=gallery)
    try:
        site.fill()
        site.teach("ar", epochs=4)
        yield site
    finally:
        site.close()


@pytest.fixture(scope="package")
def indonesian(site: Site) -> int:
    """The version of a second language."""
    return int(site.teach("id", epochs=1)["version"])


@pytest.fixture(scope="package")  # its event loop holds the thread: nothing after these tests could run one
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def open_context(chromium: Browser, url: str, *scripts: str, **more: Any) -> Iterator[BrowserContext]:
    """A browser session whose pages have no error; `scripts` run before each page's own."""
    context = chromium.new_context(base_url=url, **{"viewport": {"width": 1280, "height": 860}, **more})
    for script in scripts:
        context.add_init_script(script)
    broken: list[str] = []
    context.on("weberror", lambda error: broken.append(str(error.error)))
    yield context
    context.close()
    assert broken == []


@contextmanager
def await_look(page: Page, part: str) -> Iterator[None]:
    """Wait at the end of the block until the page has seen the answer from an address with this part, and acted."""
    page.evaluate(_LOOK, part)
    yield
    page.evaluate("window.looked")


@pytest.fixture
def context(chromium: Browser, site: Site) -> Iterator[BrowserContext]:
    """A fresh browser session; fails the test when the page used another server, or had an error."""
    requested: list[str] = []
    said: list[str] = []
    with open_context(chromium, site.url) as context:
        context.on("request", lambda request: requested.append(request.url))
        context.on("console", lambda message: said.append(message.text))
        yield context
    assert [url for url in requested if not url.startswith((site.url, f"blob:{site.url}"))] == []
    assert [text for text in said if "Content Security Policy" in text] == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """The page, opened at the search."""
    page = context.new_page()
    page.goto("/")
    expect(page.locator("#language option[value=ar]")).to_be_attached()
    expect(page.locator("#results figure").first).to_be_visible()
    return page
