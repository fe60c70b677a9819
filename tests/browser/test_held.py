"""What a person holds on the page, and whether it stays so: files, choices, forms, lines, lists."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import KEYED, open_context
from tests.service.harness import Service, picture, share_service

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
