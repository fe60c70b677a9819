"""The page in people's languages: as the browser asks for, as somebody chooses, and as a community brings."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import KEYED, open_context
from tests.browser.test_accessibility import find_faults
from tests.service.harness import Service, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a few pictures, to which a community brought Breton."""
    home = tmp_path_factory.mktemp("spoken")
    with running(home, open=True) as service:
        for number in range(3):
            service.put(f"picture-{number}").raise_for_status()
        (home / "texts").mkdir()
        (home / "texts" / "br.json").write_text(json.dumps({"Search": "Klask", "Add": "Ouzhpennañ"}), encoding="utf-8")
        (home / "texts" / "cy.json").write_text("[1, 2]", encoding="utf-8")
        yield service


@contextmanager
def open_page(chromium: Browser, service: Service, locale: str) -> Iterator[Page]:
    """Open the page in a browser that asks for a language; it may have no error."""
    with open_context(chromium, service.url, locale=locale) as context:
        page = context.new_page()
        page.goto("/")
        expect(page.locator("#results figure")).to_have_count(3)
        yield page


@pytest.mark.parametrize(
    ("locale", "tag", "direction", "search"),
    [
        ("en-GB", "en", "ltr", "Search"),
        ("de-AT", "de", "ltr", "Suchen"),
        ("ar-EG", "ar", "rtl", "بحث"),
        ("br-FR", "br", "ltr", "Klask"),
        ("cy-GB", "en", "ltr", "Search"),
    ],
)
def test_the_page_speaks_what_the_browser_asks_for(
    chromium: Browser, service: Service, locale: str, tag: str, direction: str, search: str
) -> None:
    with open_page(chromium, service, locale) as page:
        expect(page.locator("html")).to_have_attribute("lang", tag)
        expect(page.locator("html")).to_have_attribute("dir", direction)
        expect(page.locator("nav a").first).to_have_text(search)
        for part in ("search", *(("languages", "teach?language=br") if tag == "ar" else ())):
            page.evaluate("part => (location.hash = part)", part)
            expect(page.locator("main h1:visible")).to_be_attached()
            expect(page.locator(".waiting")).to_have_count(0)
            assert tag != "ar" or find_faults(page) == [], part
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_another_language_is_chosen_by_hand_and_kept(chromium: Browser, service: Service) -> None:
    with open_page(chromium, service, "en-GB") as page:
        page.click("#menu-button")
        expect(page.locator("#page-language option")).to_have_count(9)
        expect(page.locator("#unchecked")).to_be_hidden()
        page.select_option("#page-language", "hi")
        expect(page.locator("nav a").first).to_have_text("खोजें")
        page.reload()
        expect(page.locator("html")).to_have_attribute("lang", "hi")
        page.click("#menu-button")
        expect(page.locator("#unchecked")).to_contain_text("मातृभाषी")


def test_what_is_wrong_with_the_server_is_told_in_the_language_of_the_page(chromium: Browser, tmp_path: Path) -> None:
    full = "Die Festplatte des Servers ist voll. Suchen gehen noch; hinzufügen lässt sich jetzt nichts."
    with running(tmp_path, open=True, free_bytes=1 << 60) as service:
        service.context.registry.encodings.record_first("torch", "float32", "bfloat16 is too coarse")
        with open_context(chromium, service.url, KEYED, locale="de-AT") as context:
            page = context.new_page()
            page.goto("/#administration")
            expect(page.locator("#banner")).to_have_text(full)
            told = page.locator("#state-body .wrong-list li")
            expect(told).to_have_count(3)
            assert told.all_inner_texts()[:2] == [
                "Die Vektoren werden auf andere Weise berechnet als verlangt.",
                full,
            ]
            expect(told.last).to_have_attribute("lang", "en")  # the server's own sentence
            expect(told.last).to_contain_text("too coarse")


def test_without_texts_storage_or_a_readable_address_the_page_is_there_in_english(
    chromium: Browser, service: Service
) -> None:
    places = ("localStorage", "sessionStorage")
    gone = [f"Object.defineProperty(window, '{place}', {{ get() {{ throw new Error('no') }} }})" for place in places]
    with open_context(chromium, service.url, *gone, locale="de-AT") as context:
        context.route("**/static/texts-de.json", lambda route: route.abort())
        page = context.new_page()
        page.goto("/#picture/%E0")
        expect(page.locator("#results figure")).to_have_count(3)
        expect(page.locator("html")).to_have_attribute("lang", "en")
        expect(page.locator("nav a").first).to_be_visible()


def test_a_page_whose_scripts_never_come_is_seen_after_a_while(chromium: Browser, service: Service) -> None:
    context = chromium.new_context(base_url=service.url, reduced_motion="reduce")
    context.route("**/static/*.js", lambda route: route.abort())
    page = context.new_page()
    page.goto("/")
    expect(page.locator("nav a").first).to_be_hidden()
    page.evaluate("document.getAnimations().forEach((animation) => animation.finish())")
    expect(page.locator("nav a").first).to_be_visible()
    context.close()


def test_where_nothing_has_a_chance_nonsense_is_not_said_to_be_found(chromium: Browser, service: Service) -> None:
    with open_page(chromium, service, "en-GB") as page:
        page.set_viewport_size({"width": 390, "height": 844})
        page.evaluate("location.hash = '#search?q=tax+return&language=en'")
        expect(page.locator("#reading")).to_contain_text("Whether these show it cannot be told here")
        assert page.locator("#results figure").first.evaluate("each => each.getBoundingClientRect().top") <= 220


def test_messages_have_the_plurals_of_their_language(chromium: Browser, service: Service) -> None:
    said = """async () => {
        const { t } = await import("/static/text.js");
        const message = "{count, plural, one {# picture was deleted.} other {# pictures were deleted.}}";
        return [1, 2, 5, 11, 1000].map((count) => t(message, { count }));
    }"""
    with open_page(chromium, service, "de") as page:
        assert page.evaluate(said)[0:5:4] == ["1 Bild wurde gelöscht.", "1.000 Bilder wurden gelöscht."]
        assert page.evaluate("import('/static/dom.js').then(({ points }) => [0.123, -0.0201, 0].map(points))") == [
            *("+12,3", "−2,0", "±0,0")
        ]
    with open_page(chromium, service, "ar") as page:
        assert len(set(page.evaluate(said))) == 5
    with open_page(chromium, service, "en") as page:
        assert page.evaluate(said)[:2] == ["1 picture was deleted.", "2 pictures were deleted."]


def test_each_language_of_the_package_can_be_read(service: Service) -> None:
    brought = service.http.get("/static/texts.json")
    assert brought.json() == {"br": "brezhoneg"}  # the other one is no object of texts
    for name, status in {"texts-br.json": 200, "texts-cy.json": 404, "texts-xx.json": 404, "texts-..json": 404}.items():
        assert service.http.get(f"/static/{name}").status_code == status, name
    static = Path(__file__).parents[2] / "service" / "pages" / "static"
    for file in static.glob("texts-*.json"):
        answer = service.http.get(f"/static/{file.name}")
        assert answer.headers["content-type"] == "application/json" and len(answer.json()) > 100
