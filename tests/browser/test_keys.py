"""Pictures of a gallery that needs a key, and of one that needs none: each is asked for once."""

from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Response, expect

from tests.service.harness import ADMIN_KEY, running, wait_until

MANY = 24  # a page of the gallery


def count_answers(page: Page) -> Counter[tuple[str, int, str]]:
    """Return the answers for thumbnails that this page will get: path, status, what asked."""
    seen = Counter[tuple[str, int, str]]()

    def note(response: Response) -> None:
        if (path := urlsplit(response.url).path).endswith("/thumbnail"):
            seen[path, response.status, response.request.resource_type] += 1

    page.on("response", note)
    return seen


def count_shown(page: Page) -> int:
    """Return how many pictures have arrived."""
    return int(page.locator("#results img").evaluate_all("images => images.filter((one) => one.naturalWidth).length"))


def scroll_until_shown(page: Page, count: int) -> None:
    for figure in page.locator("#results figure").all()[::4]:
        figure.scroll_into_view_if_needed()
    wait_until(lambda: count_shown(page) == count)


def test_each_picture_is_asked_for_once_and_those_far_below_only_when_they_come_near(
    chromium: Browser, tmp_path: Path
) -> None:
    with running(tmp_path / "closed") as service, running(tmp_path / "open", open=True) as open_service:
        for each in (service, open_service):
            for number in range(MANY):
                each.put(f"picture-{number}", en=[f"picture {number}"]).raise_for_status()
        session = chromium.new_context(viewport={"width": 400, "height": 300})  # a part of the gallery
        page = session.new_page()
        page.goto(service.url)
        page.fill("#key", ADMIN_KEY)
        with_key = count_answers(page)
        page.click("text=Use this key")
        expect(page.locator("#results figure")).to_have_count(MANY)
        wait_until(lambda: count_shown(page))
        page.wait_for_load_state("networkidle")
        assert len(with_key) < MANY
        scroll_until_shown(page, MANY)
        assert {(status, times) for (_, status, _), times in with_key.items()} == {(200, 1)}, with_key
        assert len(with_key) == MANY

        without = count_answers(other := session.new_page())
        other.goto(open_service.url)
        expect(other.locator("#results figure")).to_have_count(MANY)
        scroll_until_shown(other, MANY)
        assert {(status, by, times) for (_, status, by), times in without.items()} == {(200, "image", 1)}, without
        session.close()
