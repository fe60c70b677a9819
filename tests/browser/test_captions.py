"""*Caption this* and *Give words* on a telephone; terms, special letters and withdrawal on the page."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import KEYED, await_look, open_context
from tests.browser.site import Site
from tests.browser.test_accessibility import find_faults
from tests.client.test_export import teach
from tests.service.harness import ADMIN_KEY, running

OWNER = {"owner": "Ti ar Brezhoneg", "licence": "CC-BY-4.0", "statement": "Ask us first."}
TELEPHONE = {"width": 390, "height": 844}


def open_captions(page: Page, tag: str, name: str) -> None:
    page.set_viewport_size(TELEPHONE)  # type: ignore[arg-type]
    page.goto(f"/#caption?language={tag}")
    page.locator("#caption-name").fill(name)
    page.get_by_role("button", name="Show the pictures").click()
    expect(page.locator("form.caption-this img")).to_be_visible()


def read_picture(page: Page) -> str:
    return page.locator("form.caption-this").get_attribute("data-picture") or ""


def test_two_people_caption_a_picture_on_a_telephone(page: Page, site: Site) -> None:
    open_captions(page, "br", "Anna")
    image = page.locator("form.caption-this img")
    page.wait_for_function("() => document.querySelector('form.caption-this img').naturalWidth > 0")
    assert image.evaluate("image => image.clientWidth") > 300, "large"
    first, field = read_picture(page), page.locator("#caption-text")
    expect(field).to_be_focused()
    page.keyboard.type("un dra c'hlas")
    page.keyboard.press("Enter")
    expect(page.locator("form.caption-this")).not_to_have_attribute("data-picture", first)
    second = read_picture(page)
    page.get_by_role("button", name="Skip").click()
    expect(page.locator("form.caption-this")).not_to_have_attribute("data-picture", second)
    expect(page.locator("#captions-progress")).to_have_text("0 of 64 until it can be taught")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert find_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= TELEPHONE["width"]

    open_captions(page, "br", "Yann")
    expect(page.locator("form.caption-this")).to_have_attribute("data-picture", first)
    page.get_by_role("button", name="I agree: un dra c'hlas").click()
    expect(page.locator("#captions-progress")).to_have_text("1 of 64 until it can be taught")
    assert site.client.get(f"/v1/pictures/{first}").json()["own"]["br"] == ["un dra c'hlas"]


def test_a_keeper_accepts_and_refuses_what_people_propose(page: Page, site: Site) -> None:
    pictures = [outline.id for outline in site.gallery[5:8]]
    for picture, text in zip(pictures, ("hen goed", "dim byd", "hen dŷ"), strict=True):
        proposal = {"picture": picture, "text": text, "name": "Anna"}
        site.client.post("/v1/languages/cy/captions", json=proposal).raise_for_status()
    page.goto("/#proposals?language=cy")
    expect(page.locator("#proposals-title")).to_have_text("Proposed captions in Welsh")
    waiting = page.locator("li[data-proposal]")
    expect(waiting).to_have_count(3)
    expect(waiting.filter(has_text="hen goed")).to_contain_text("Anna")
    page.get_by_role("button", name="Accept: hen goed").click()
    page.fill("#key", ADMIN_KEY)
    page.click("text=Use this key")
    expect(waiting).to_have_count(2)
    expect(page.locator("#proposals-said")).to_have_text("Accepted: hen goed")
    page.get_by_role("button", name="Refuse: dim byd").focus()
    page.keyboard.press("Enter")
    expect(waiting).to_have_count(1)
    expect(page.get_by_role("button", name="Accept: hen dŷ")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#proposals-body")).to_contain_text("No caption waits.")
    own = [site.client.get(f"/v1/pictures/{picture}").json()["own"].get("cy") for picture in pictures]
    assert own == [["hen goed"], None, ["hen dŷ"]]


def test_a_tag_is_offered_for_a_name(page: Page) -> None:
    page.goto("/#caption")
    page.locator("#caption-tag").press_sequentially("Bretonis")
    first = page.locator("#caption-tag-names option").first
    expect(first).to_have_attribute("value", "br")
    expect(first).to_contain_text("brezhoneg · Breton")


def test_what_is_typed_does_not_go_with_a_late_answer(page: Page) -> None:
    page.set_viewport_size(TELEPHONE)  # type: ignore[arg-type]
    held: list[Route] = []
    page.route("**/captions/wanted*", lambda route: held.append(route))
    page.goto("/#caption?language=gd")
    page.locator("#caption-name").fill("Anna")
    expect(page.locator("#caption-body")).to_contain_text("Looking")
    page.get_by_role("button", name="Show the pictures").click()
    while len(held) < 2:  # of the address, and of the press
        page.wait_for_timeout(20)
    held[1].continue_()
    page.locator("#caption-text").fill("rud")
    with await_look(page, "/captions/wanted"):
        held[0].continue_()
    expect(page.locator("#caption-text")).to_have_value("rud")


def test_captions_are_asked_for_where_the_languages_are(page: Page) -> None:
    page.goto("/#languages")
    expect(page.get_by_role("link", name="Or caption pictures in your language")).to_have_attribute("href", "#caption")
    page.get_by_role("link", name="Caption pictures in Arabic").click()
    expect(page.locator("#caption-tag")).to_have_value("العربية")


def test_special_letters_are_inserted_at_the_caret(page: Page, site: Site) -> None:
    words = {"words": [{"english": "thing", "captions": ["mba'e ñ ỹ"]}]}
    site.client.post("/v1/languages/gn/words", json=words).raise_for_status()
    open_captions(page, "gn", "Ana")
    expect(page.get_by_role("group", name="Special letters").get_by_role("button")).to_have_text(["ñ", "ỹ"])
    page.keyboard.type("abd")
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="ñ", exact=True).click()
    expect(page.locator("#caption-text")).to_have_value("abñd")
    expect(page.locator("#caption-text")).to_be_focused()
    page.keyboard.type("o")
    expect(page.locator("#caption-text")).to_have_value("abñod")
    assert page.evaluate("document.documentElement.scrollWidth") <= TELEPHONE["width"]


def test_a_tap_below_the_special_letters_is_no_tap_in_vain(chromium: Browser, site: Site) -> None:
    words = {"words": [{"english": "thing", "captions": ["mba'e ñ ỹ"]}]}
    site.client.post("/v1/languages/gn/words", json=words).raise_for_status()
    with chromium.new_context(base_url=site.url, has_touch=True, is_mobile=True) as telephone:
        page = telephone.new_page()
        open_captions(page, "gn", "Ana")
        expect(page.get_by_role("group", name="Special letters")).to_be_visible()
        first = read_picture(page)
        page.keyboard.type("mba'e")
        page.get_by_role("button", name="Keep").tap()
        expect(page.locator("form.caption-this")).not_to_have_attribute("data-picture", first, timeout=10_000)


def test_terms_stand_beside_a_language_in_answers_and_in_its_report(page: Page, site: Site) -> None:
    label = {"name": "TK Ours", "label_text": "Name us."}
    site.client.put("/v1/languages/ar/terms", json={**OWNER, "tk_labels": [label]}).raise_for_status()
    page.goto("/#languages")
    line = "Ti ar Brezhoneg · CC-BY-4.0 · TK Ours"
    expect(page.locator("li[data-language=ar] .terms summary")).to_have_text(line)
    page.goto("/#search")
    page.locator("#language").select_option("ar")
    expect(
        page.get_by_role("group", name="Special letters").get_by_role("button", name="ب", exact=True)
    ).to_be_visible()
    page.locator("#text").fill("تفاحة")
    page.locator("#text").press("Enter")
    expect(page.locator("#reading .terms summary")).to_have_text(line)
    page.locator("#reading .terms summary").click()
    expect(page.locator("#reading .terms")).to_contain_text("Ask us first.")
    expect(page.locator("#reading .terms")).to_contain_text("TK Ours Name us.")
    assert find_faults(page) == []
    site.client.put("/v1/languages/ar/terms", json={}).raise_for_status()


def test_terms_are_sent_with_a_file(page: Page, site: Site) -> None:
    project = {"tk_labels": [{"name": "TK Ours", "label_text": "Ask."}], "bc_labels": []}
    page.goto("/#teach?language=oc&way=file")
    rows = "".join(json.dumps({"caption": f"causa {n}", "english": f"thing {n}"}) + "\n" for n in range(70))
    page.set_input_files("#teach-file", {"name": "r.jsonl", "mimeType": "text/plain", "buffer": rows.encode()})
    page.get_by_text("Terms of the language").click()
    page.locator("#teach-terms [name=owner]").fill("Occitània")
    labels = json.dumps(project).encode()
    page.set_input_files(
        "#teach-terms [name=labels]", {"name": "p.json", "mimeType": "application/json", "buffer": labels}
    )
    page.click("text=Check the rows")
    page.click("#teach-start")
    expect(page.locator("#teach-last li")).to_contain_text("occitan", ignore_case=True)
    terms = site.client.get("/v1/languages/oc").json()["terms"]
    assert (terms["owner"], [each["name"] for each in terms["labels"]]) == ("Occitània", ["TK Ours"])
    newest = site.client.get("/v1/expansions?limit=1").json()["items"][0]
    site.client.post(f"/v1/expansions/{newest['id']}/cancel")


def test_a_withdrawal_shows_what_goes_and_what_remains_and_gives_a_certificate(
    chromium: Browser, tmp_path: Path
) -> None:
    with running(tmp_path, open=True) as service, open_context(chromium, service.url, KEYED) as context:
        teach(service, "cy", b"llun")
        page = context.new_page()
        page.goto("/#languages")
        page.locator("#languages-body summary", has_text="Details Welsh").click()
        page.get_by_role("button", name="Withdraw Welsh").click()
        dialog = page.locator("dialog.withdraw")
        expect(dialog).to_contain_text("1 version, 1 dataset,")
        expect(dialog.locator("li").filter(has_text="Backups that were made before")).to_have_count(1)
        assert find_faults(page) == []
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).to_have_count(0)
        expect(page.get_by_role("button", name="Withdraw Welsh")).to_be_focused()
        page.get_by_role("button", name="Withdraw Welsh").press("Enter")
        dialog.get_by_label("Reason").fill("ours")
        page.route("**/withdraw", lambda route: (route.fetch(), route.abort("connectionreset")), times=1)
        dialog.get_by_role("button", name="Withdraw Welsh").click()
        expect(page.get_by_role("heading", name="Welsh is withdrawn")).to_be_visible()
        with page.expect_download() as saved:
            page.get_by_text("Save the certificate").click()
        certificate = json.loads(saved.value.path().read_text())
        assert certificate == service.admin.get("/v1/admin/languages/cy/withdrawal").json()
        page.locator("dialog .actions button").click()
        expect(page.locator("#main")).to_be_focused()
        expect(page.locator("#languages-body [data-language=cy]")).to_have_count(0)
        page.goto("/#releases")
        expect(page.locator("li.serving .what")).to_contain_text("Welsh is withdrawn")


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
    asked = site.client.get("/v1/languages/he/words").json()
    assert asked["answered"] == 1 and not {first, second} & {each["english"] for each in asked["items"]}
    assert third in {each["english"] for each in asked["items"]}  # skipped: somebody else may know it
    assert page.evaluate("document.documentElement.scrollWidth") <= TELEPHONE["width"]
    assert site.client.get("/v1/languages/ar/words").json()["needed"] == 1  # other rows have taught it


def test_sixty_four_answers_are_taught_by_one_press(page: Page, site: Site) -> None:
    words = [{"english": f"thing {n}", "captions": [f"peth {n}"]} for n in range(62)]
    site.client.post("/v1/languages/br/words", json={"words": words}).raise_for_status()
    asked = re.compile(r"(?<=/words\?count=)\d+")
    page.route(asked, lambda route: route.continue_(url=asked.sub("2", route.request.url)))
    open_words(page, "br")
    expect(page.locator("#words-teach")).to_be_disabled()
    for left in (1, 0):
        last = read_word(page)
        page.keyboard.type("tra")
        page.keyboard.press("Enter")
        expect(page.locator("#words-progress")).to_have_text(
            f"{64 - left} of 64 until it can be taught" if left else "64 answers can be taught"
        )
        expect(page.locator("form.word h2")).not_to_have_text(
            last
        )  # after the second, too: the next ones are asked for
    page.click("#words-teach")
    expect(page.locator("#teach-last li")).to_contain_text(re.compile("brezhoneg|Breton"))
    newest = site.client.get("/v1/expansions?limit=1").json()["items"][0]
    assert newest["language"] == "br"
    with page.expect_request(asked):  # those that nobody answered yet
        page.click("#teach-ways >> text=Words we need")
    expect(page.locator("form.word h2")).to_be_visible()
    site.client.post(f"/v1/expansions/{newest['id']}/cancel")


def test_a_word_of_searches_is_kept_beside_the_answer_to_its_english_word(page: Page, site: Site) -> None:
    page.evaluate(
        """async () => (await import("/static/api.js")).ask("/v1/languages/gd/words", {
            json: { words: [{ english: "cat", captions: ["cat"] }] } })"""
    )
    asked = site.client.get("/v1/languages/gd/words").json()
    asked["items"] = [{"english": "", "word": "chat", "pictures": [], "asked_for": 2}]
    page.route("**/gd/words?count=*", lambda route: route.fulfill(json=asked), times=1)
    open_words(page, "gd")
    page.keyboard.type("cat")
    page.keyboard.press("Enter")
    expect(page.locator("#words-progress")).to_have_text("2 of 64 until it can be taught")


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


@pytest.mark.parametrize(
    ("part", "trouble", "field"),
    [("captions", "#caption-trouble", "#caption-text"), ("words", "#word-trouble", "#word-answer")],
)
def test_what_is_refused_stays_in_its_field(page: Page, part: str, trouble: str, field: str) -> None:
    if part == "words":
        open_words(page, "gd")
    else:
        open_captions(page, "gd", "Anna")
    problem = {"code": "registry_unavailable", "status": 503, "title": "Registry unavailable", "request_id": "r1"}
    page.route(f"**/{part}", lambda route: route.fulfill(status=503, body=json.dumps(problem)))
    page.keyboard.type("facal")
    page.keyboard.press("Enter")
    expect(page.locator(trouble)).to_contain_text("nothing can be changed now")
    expect(page.locator(field)).to_have_value("facal")
