"""Moving to another base on the page, and back: what it takes, how far it is, what changes."""

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.service.harness import ADMIN_KEY, wait_until
from tests.service.test_moving import get_base, move_base, serve
from tests.tiny import write_tiny_base


def test_a_move_is_asked_for_followed_and_taken_back(chromium: Browser, tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path)
    with serve(tmp_path / "home", open=True) as (service, _):
        registry = service.context.registry
        registry.initialise(service.context.encoder.base_fingerprint, "first")
        session = chromium.new_context(base_url=service.url)
        page = session.new_page()
        page.goto("/#releases")
        page.fill("#key", ADMIN_KEY)
        page.click("text=Use this key")
        shown = page.locator("#base-body")
        expect(shown).to_contain_text("read by the base “first” now: version 0, in release 2.")
        page.fill("#base-body input", base)
        page.get_by_role("button", name="Move …").click()
        expect(page.locator("dialog")).to_contain_text("taught again: German")
        page.locator("dialog").get_by_role("button", name="Move", exact=True).click()
        expect(shown.locator("progress")).to_be_visible()
        expect(shown).to_contain_text("Waiting for its turn")
        registry.expansions.cancel(registry.expansions.list()[0].id)

        release = move_base(registry)
        wait_until(lambda: get_base(service) == release.base)
        page.reload()
        expect(shown).to_contain_text(
            f"read by the base “other” now: version {release.base}, in release {release.number}."
        )
        expect(page.locator("#releases-body li").first).to_contain_text("Moved from base first to base other")
        page.get_by_role("button", name="Back to first").click()
        expect(page.locator("dialog")).to_contain_text("Release 2 is served again, exactly as it was.")
        page.get_by_role("button", name="Go back").click()
        expect(shown).to_contain_text(f"read by the base “first” now: version 0, in release {release.number + 1}.")
        expect(page.locator("#releases-body li").first).to_contain_text("Back to base first")
        session.close()
