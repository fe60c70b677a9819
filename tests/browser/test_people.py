"""People at the page: they sign in and out, have a key remembered, see pictures; what administrators see and change."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from oidc_provider_mock import User, run_server_in_thread
from playwright.sync_api import Browser, BrowserContext, Page, Response, Route, expect

from tests.browser.conftest import KEYED, open_context
from tests.launcher import find_free_port
from tests.service.harness import ADMIN_KEY, Service, picture, running, wait_until

GROUPS = {"keepers": {"scope": "admin"}, "readers": {"scope": "search"}}
PEOPLE = [
    User(sub="anna", claims={"name": "Anna Bauer", "groups": ["keepers"]}),
    User(sub="ben", claims={"name": "Ben", "groups": ["readers"]}),
    User(sub="eve", claims={"name": "Eve", "groups": []}),
]
MANY = 24  # a page of the gallery


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service where people sign in, with three pictures."""
    home, port = tmp_path_factory.mktemp("people"), find_free_port()
    address = {"port": port, "public_url": f"http://127.0.0.1:{port}", "oidc_client_secret": "x"}
    with (
        run_server_in_thread(user_claims=PEOPLE, require_nonce=True) as issuer,
        running(
            home,
            oidc_issuer=f"http://localhost:{issuer.server_port}",
            groups=json.dumps(GROUPS),
            keep_originals=True,
            **address,
        ) as service,
    ):
        for number in range(3):
            service.put(f"picture-{number}", en=[f"picture {number}"]).raise_for_status()
        yield service


@pytest.fixture
def browser(chromium: Browser, service: Service) -> Iterator[BrowserContext]:
    """A browser of its own, on a page without errors."""
    with open_context(chromium, service.url) as context:
        yield context


def sign_in(browser: BrowserContext, sub: str, address: str = "/") -> Page:
    page = browser.new_page()
    page.goto(address)
    page.click("dialog a.button")
    page.click(f"button[value={sub}]")
    return page


def enter_key(browser: BrowserContext, address: str, *, remembered: bool, key: str = ADMIN_KEY) -> Page:
    page = browser.new_page()
    page.goto(address)
    page.fill("#key", key)
    page.set_checked("#key-remembered", remembered)
    page.click("text=Use this key")
    return page


def give_key(page: Page, key: str) -> None:
    page.click("#menu-button")
    page.click("#key-button")
    page.fill("#key", key)
    page.click("text=Use this key")


def test_a_person_signs_in_uses_the_page_and_signs_out(browser: BrowserContext) -> None:
    page = sign_in(browser, "anna", "/#keys")
    expect(page.locator("#keys-form")).to_be_visible()  # back where the person was
    page.fill("#keys-form [name=label]", "by Anna")
    page.click("text=Make a key")  # a change, with the cookie and our Origin
    expect(page.locator("#new-key")).to_be_visible()
    page.keyboard.press("Escape")
    page.click("#menu-button")
    expect(page.locator("#caller")).to_have_text("You are Anna Bauer")
    expect(page.locator("#administration-link")).to_be_visible()
    expect(page.locator("#sign-in")).to_be_hidden()
    assert page.evaluate("document.cookie") == ""
    page.click("#sign-out")
    page.wait_for_url("**/end_session*")
    page.goto("/")
    expect(page.locator("dialog a.button", has_text="Sign in")).to_be_visible()


def test_who_opens_a_report_signs_in_and_is_back_there(browser: BrowserContext) -> None:
    page = sign_in(browser, "ben", "/versions/0/report")
    expect(page.locator("#report h1")).to_be_visible()
    assert page.url.endswith("/versions/0/report")


def test_who_may_only_search_sees_nothing_that_changes_anything(browser: BrowserContext, service: Service) -> None:
    page = sign_in(browser, "ben")
    expect(page.locator(".top nav a:visible")).to_have_text(["Search", "Languages"])
    expect(page.locator("#results figure")).to_have_count(3)
    page.click("#menu-button")
    expect(page.locator("#caller")).to_have_text("You are Ben")
    expect(page.locator("#administration-link")).to_be_hidden()
    page.goto("/#picture/picture-0")
    with page.expect_download() as saving:
        page.get_by_role("button", name="Original").click()
    expect(page.locator(".lightbox .side button:visible")).to_have_text(["Original"])
    page.goto("/#add")
    expect(page.locator("#search")).to_be_visible()
    page.locator("#results a.frame").first.press("x")
    expect(page.locator("#results .pick:visible, #chosen:visible")).to_have_count(0)
    service.learn("br")
    page.reload()
    page.goto("/#teach?language=br")
    breton = page.locator("#languages-body li[data-language=br]")
    breton.locator("summary", has_text="Details").click()
    expect(page.locator("#languages").locator("a.button, button, input").filter(visible=True)).to_have_count(0)
    page.goto("/#languages")
    writer = service.admin.post("/v1/admin/keys", json={"scope": "write", "label": "a writer"}).json()["key"]
    give_key(page, writer)
    expect(breton.get_by_role("button", name="Teach Breton")).to_be_visible()
    expect(page.locator(".top nav a:visible")).to_have_text(["Search", "Add", "Languages"])
    expect(breton.locator(".actions > *:visible")).to_have_text(["Terms …"])  # the others are an administrator's
    breton.get_by_role("button", name="Terms of Breton").click()
    labels = json.dumps({"tk_labels": [{"name": "TK Ours", "default_text": "Name us."}]}).encode()
    page.fill("dialog [name=owner]", "Bro Gerne")
    page.set_input_files("dialog [name=labels]", {"name": "p.json", "mimeType": "", "buffer": labels})
    page.click("dialog >> text=Save")
    expect(breton.locator(".terms summary")).to_have_text("Bro Gerne · TK Ours")
    expect(breton.locator(".actions > *:visible")).to_have_count(0)  # terms that stand, too
    give_key(page, ADMIN_KEY)
    breton.get_by_role("button", name="Terms of Breton").click()
    expect(page.locator("dialog [name=owner]")).to_have_value("Bro Gerne")
    page.fill("dialog [name=statement]", "Ask us first.")
    page.click("dialog >> text=Save")
    expect(breton.locator(".terms")).to_contain_text("Ask us first.")
    terms = service.admin.get("/v1/languages/br").json()["terms"]
    assert (terms["owner"], [each["text"] for each in terms["labels"]]) == ("Bro Gerne", ["Name us."])
    assert saving.value.path().read_bytes() == picture(sum(b"picture-0"))
    page.evaluate("sessionStorage.clear()")
    page.goto("/#keys")
    expect(page.locator("#key-why")).to_have_text("This needs more rights than you have here.")


def test_who_has_no_group_is_told_so_and_can_sign_out(browser: BrowserContext) -> None:
    page = sign_in(browser, "eve")
    expect(page.locator("#key-why")).to_contain_text("nobody has given you access yet")
    page.keyboard.press("Escape")
    page.click("#menu-button")
    expect(page.locator("#sign-out")).to_be_visible()


def test_who_is_refused_by_the_issuer_is_told_so(browser: BrowserContext) -> None:
    page = browser.new_page()
    page.goto("/signin")
    page.click("text=Deny")
    expect(page.locator("dialog .sorry").first).to_contain_text("Signing in did not work")


def test_a_key_is_remembered_by_the_browser_alone(browser: BrowserContext) -> None:
    page = enter_key(browser, "/", remembered=True)
    expect(page.locator("#results figure")).to_have_count(3)
    stored = "[document.cookie, ...Object.values(sessionStorage), ...Object.values(localStorage)].join()"
    assert ADMIN_KEY not in page.evaluate(stored) and "ps_" not in page.evaluate(stored)
    other = browser.new_page()
    other.goto("/#keys")
    expect(other.locator("#keys-body .nothing, #keys-body li").first).to_be_visible()
    other.click("#menu-button")
    other.click("#sign-out")
    expect(other.locator("dialog #key")).to_be_visible()


def test_a_key_that_is_not_to_be_remembered_is_of_one_tab(browser: BrowserContext) -> None:
    page = enter_key(browser, "/", remembered=False)
    expect(page.locator("#results figure")).to_have_count(3)
    assert browser.cookies() == []
    other = browser.new_page()
    other.goto("/")
    expect(other.locator("dialog #key")).to_be_visible()


def test_administrators_make_and_revoke_keys(browser: BrowserContext, service: Service) -> None:
    page = enter_key(browser, "/#keys", remembered=False)
    page.fill("#keys-form [name=label]", "reading room")
    page.fill("#keys-form [name=collections]", "prints, maps")
    page.select_option("#keys-form [name=scope]", "write")
    page.fill("#keys-form [name=until]", "2999-12-31")
    page.click("text=Make a key")
    key = page.locator("#new-key").input_value()
    assert service.http.get("/v1/pictures", headers={"X-API-Key": key}).status_code == 200
    page.click("dialog .actions >> text=Close")
    entry = page.locator("#keys-body > .keys li", has_text="reading room")
    expect(entry).to_contain_text("Only in prints, maps")
    entry.locator("button").click()
    page.click("dialog button.danger")
    expect(page.locator("#keys-body > .keys li", has_text="reading room")).to_have_count(0)
    assert service.http.get("/v1/pictures", headers={"X-API-Key": key}).status_code == 401
    page.select_option("#keys-form [name=scope]", "admin")
    page.fill("#keys-form [name=collections]", "prints")
    page.click("text=Make a key")
    expect(page.locator("#keys-trouble .sorry")).to_be_visible()


@pytest.mark.parametrize(("bound", "shown"), [(["prints"], "prints"), (["prints", "maps"], ""), (None, "default")])
def test_add_names_the_collection_of_what_names_none(
    browser: BrowserContext, service: Service, bound: list[str] | None, shown: str
) -> None:
    made = service.admin.post("/v1/admin/keys", json={"label": "x", "scope": "write", "collections": bound})
    page = enter_key(browser, "/#add", remembered=False, key=made.json()["key"])
    expect(page.locator("#add-form [aria-label=Collection]")).to_have_attribute("placeholder", shown)


def test_administrators_see_who_is_signed_in_and_end_a_session(
    browser: BrowserContext, chromium: Browser, service: Service
) -> None:
    other = chromium.new_context(base_url=service.url)
    ben = sign_in(other, "ben")
    expect(ben.locator("#results figure")).to_have_count(3)
    page = enter_key(browser, "/#keys", remembered=False)
    entries = page.locator("#sessions-body li", has_text="oidc:ben")  # newest first, with those of other tests
    expect(entries.first).to_contain_text("Ben")
    count = entries.count()
    entries.first.locator("button").click()
    page.click("dialog button.danger")
    expect(entries).to_have_count(count - 1)
    ben.reload()
    expect(ben.locator("dialog a.button", has_text="Sign in")).to_be_visible()
    other.close()


def test_administrators_see_who_changed_what_and_take_it_with_them(browser: BrowserContext, service: Service) -> None:
    page = enter_key(browser, "/#audit", remembered=False)
    expect(page.locator(".acts > li").first).to_be_visible()
    for number in range(60):
        service.admin.put("/v1/languages/cy/terms", json={"owner": f"Owner {number}"}).raise_for_status()
    page.click("#audit-form >> text=Show")
    page.reload()
    expect(page.locator(".acts > li")).to_have_count(50)
    page.click("#audit-more")
    expect(page.locator(".acts > li").nth(60)).to_be_attached()
    page.locator(".acts a", has_text="terms of cy").first.click()
    expect(page.locator("#audit-form [name=target]")).to_have_value("terms of cy")
    page.fill("#audit-form [name=since]", "2020-01-01")
    page.fill("#audit-form [name=until]", "2999-12-31")
    page.click("#audit-form >> text=Show")
    expect(page.locator(".acts > li")).to_have_count(50)
    with page.expect_download() as saving:
        page.click("#audit-export")
    rows = list(csv.DictReader(saving.value.path().read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == 60 and {row["act"] for row in rows} == {"PUT /v1/languages/{tag}/terms"}
    page.fill("#audit-form [name=actor]", "nobody")
    page.click("#audit-form >> text=Show")
    expect(page.locator("#audit-body .nothing")).to_be_visible()


def test_changes_and_releases_are_told_in_the_language_of_the_page(chromium: Browser, service: Service) -> None:
    def gain(route: Route) -> None:
        listing = route.fetch().json()
        listing["items"][0]["reason"] = "+1.5 ± 0.4 points over version 0"
        route.fulfill(json=listing)

    service.learn("gd")
    with open_context(chromium, service.url, KEYED, locale="de-AT") as context:
        page = context.new_page()
        page.route("**/v1/admin/releases?*", gain)
        page.goto("/#releases")
        expect(page.locator("#releases-body li").first).to_contain_text("+1,5 ± 0,4 Punkte gegenüber Version 0")
        expect(page.locator("#releases-body [lang=en]:not(bdi)")).to_have_count(0)
        page.goto("/#audit")
        expect(page.locator("#audit-body .targets", has_text="Stand").first).to_contain_text("in Gebrauch nehmen")
        expect(page.locator("#audit-body [lang=en]")).to_have_count(0)
        page.goto("/#audit?target=picture-0")
        expect(page.locator("#audit-body .targets", has_text="picture-0").first).to_contain_text("angelegt")


def test_administrators_see_how_the_service_is(browser: BrowserContext) -> None:
    page = enter_key(browser, "/#administration", remembered=False)
    expect(page.locator("#state-body dd")).to_have_count(4)
    expect(page.locator("#state-body")).to_contain_text("No backup is known here.")
    expect(page.locator(".top nav a")).to_have_text(["Search", "Add", "Languages"])


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
