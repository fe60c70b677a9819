"""`python -m tests.browser.screenshots`: pictures of the page for docs/screenshots/, of the demo in four languages."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright

from demo.gallery import outlines
from tests.browser.site import ADMIN_KEY, CHROMIUM, CHROMIUM_ARGUMENTS, Site

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
LANGUAGES = ("de", "ar", "ja", "fr")
WIDE, NARROW = (1280, 860), (390, 844)


@dataclass(frozen=True)
class Shot:
    """One picture: where the page stands, and what is done before it is taken."""

    name: str
    address: str
    act: Callable[[Page, Site], None] = lambda page, site: None
    size: tuple[int, int] = WIDE
    scheme: Literal["light", "dark"] = "light"


def drop(page: Page, site: Site) -> None:
    """Search with a picture."""
    content = site.http.get("/v1/pictures/emoji-1f34e/content").content
    page.set_input_files("#picture", {"name": "apple.webp", "mimeType": "image/webp", "buffer": content})
    expect(page.locator("#captions section")).to_have_count(len(LANGUAGES) + 1)
    expect(page.locator("#results figure").first).to_be_visible()


def teach(page: Page, site: Site) -> None:
    """Check a file, then catch its expansion half-way."""
    page.fill("#teach-tag", "es")
    page.set_input_files("#teach-file", {"name": "es.jsonl", "mimeType": "text/plain", "buffer": site.dataset("es")})
    page.click("#teach-start")
    expect(page.locator(".phases .now").first).to_have_text("train", timeout=120_000)
    while page.locator("progress").evaluate("bar => bar.value") < 0.3:
        page.wait_for_timeout(100)


def roll_back(page: Page, site: Site) -> None:
    """Stop before the last word."""
    page.get_by_role("button", name="Roll back German").click()
    expect(page.locator("dialog .stays")).to_be_visible()


SHOTS = (
    Shot("search", "/#search?q=roter+Apfel&language=de"),
    Shot("search-dark", "/#search?q=red+apple", scheme="dark"),
    Shot("search-rtl", "/#search?q=تفاح أحمر&language=ar"),
    Shot("search-narrow", "/#search?q=赤リンゴ&language=ja", size=NARROW),
    Shot("picture", "/#search", drop),
    Shot("languages", "/#languages", size=(1280, 1180)),
    Shot("languages-dark", "/#languages", size=(1280, 1180), scheme="dark"),
    Shot("languages-narrow", "/#languages", size=NARROW),
    Shot("rollback", "/#languages", roll_back),
    Shot("releases", "/#releases"),
    Shot("report", "/versions/4/report", size=(1280, 1560)),
    Shot("teach", "/#teach", teach),
)


def take(browser: Browser, site: Site, shot: Shot) -> None:
    """Take one picture."""
    width, height = shot.size
    context = browser.new_context(
        base_url=site.url, viewport={"width": width, "height": height}, color_scheme=shot.scheme
    )
    page = context.new_page()
    page.goto("/static/icon.svg")
    page.evaluate(f"sessionStorage.setItem('pictoglot.key', '{ADMIN_KEY}')")
    page.goto(shot.address)
    expect(page.locator("main h1:visible")).to_be_visible()
    expect(page.locator(".waiting")).to_have_count(0)
    shot.act(page, site)
    page.wait_for_timeout(1_000)  # pictures fade in
    page.screenshot(path=FOLDER / f"{shot.name}.png")
    context.close()


def main(names: list[str]) -> None:
    """Take all of them, or those that are named."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        site = Site(Path(home), outlines())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        try:
            site.start()
            for tag in LANGUAGES:
                site.teach(tag, seconds=900)
            for shot in SHOTS:
                if not names or shot.name in names:
                    take(browser, site, shot)
        finally:
            browser.close()
            site.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
