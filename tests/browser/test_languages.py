"""Teaching, cancelling, rolling back and restoring on the page; the list of releases; moving to another base."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.site import Site
from tests.service.harness import ADMIN_KEY, wait_until
from tests.service.test_moving import get_base, move_base, serve
from tests.tiny import write_tiny_base


def give_key(page: Page) -> None:
    """Answer the dialog that asks for a key."""
    page.fill("#key", ADMIN_KEY)
    page.click("text=Use this key")


def fill_form(page: Page, tag: str, content: bytes) -> None:
    """Open the way to teach a language by a file, and choose one."""
    page.goto(f"/#teach?language={tag}&way=file")
    page.set_input_files("#teach-file", {"name": f"{tag}.jsonl", "mimeType": "text/plain", "buffer": content})


def open_roll_back(page: Page, name: str) -> None:
    page.goto("/#languages")
    page.locator("#languages-body summary", has_text=f"Details {name}").click()
    page.get_by_role("button", name=f"Roll back {name}").click()


def restore(site: Site, release: int, expected: int) -> None:
    answer = site.client.post(f"/v1/admin/releases/{release}/restore", json={"expected": expected})
    assert answer.is_success, answer.text


def roll_back_arabic(page: Page, lost: int) -> list[str]:
    """Roll Arabic back while the first `lost` answers do not arrive; the idempotency keys that were sent."""
    keys: list[str] = []

    def lose(route: Route) -> None:
        if "expected" not in (route.request.post_data_json or {}):
            route.continue_()
            return
        keys.append(route.request.headers["idempotency-key"])
        answer = route.fetch()
        if len(keys) <= lost:
            route.abort("connectionreset")
        else:
            route.fulfill(response=answer)

    page.route("**/rollback", lose)
    open_roll_back(page, "Arabic")
    give_key(page)
    page.locator("dialog button[type=submit]").click()
    return keys


@pytest.mark.parametrize("name", ["Breton", "brezhoneg", "br", "Bretonisch"])
def test_a_language_is_chosen_by_its_name_in_any_language(page: Page, name: str) -> None:
    page.goto("/#languages")
    page.fill("#languages-name", name)
    page.keyboard.press("Enter")
    expect(page.locator("#teach-title")).to_have_text("Teach Breton")
    expect(page).to_have_title("Teach Breton – pictoglot")
    expect(page.locator("#teach-ways a")).to_have_text(["Type", "Words we need", "A file"])
    expect(page.locator("#teach-ways a[aria-current]")).to_have_text("Type")


def test_a_name_that_no_language_has_is_refused_where_it_was_typed(page: Page) -> None:
    page.goto("/#languages")
    for name, said in (("1234567", "No language of this name or tag is known"), ("English", "English is built in")):
        page.fill("#languages-name", name)
        page.keyboard.press("Enter")
        expect(page.locator("#languages-trouble")).to_contain_text(said)
        expect(page.locator("#languages-name")).to_be_focused()


def test_a_file_is_checked_without_teaching_anything(page: Page, site: Site) -> None:
    content = site.build_dataset("fr")
    fill_form(page, "fr", content + b'{"caption": ""}\n')
    page.click("text=Check the rows")
    rows = len(content.splitlines())
    expect(page.locator("#teach-report")).to_contain_text(f"{rows} of {rows + 1} rows can be used")
    expect(page.locator("#teach-report")).to_contain_text(f"without its meaning beside it (line {rows + 1})")
    expect(page.locator("#teach-start")).to_be_focused()
    assert "fr" not in site.list_languages()


def test_a_table_of_words_is_checked_as_a_dictionary(page: Page) -> None:
    words = "".join(f'mot{n};a word {n};"{n}, ""quoted"""\r\n' for n in range(70))
    fill_form(page, "fr", f"\ufeffword;english\r\n{words}une phrase de six mots entiers;sentence\r\nvide;\r\n".encode())
    page.check("#teach-dictionary")
    page.click("text=Check the rows")
    report = page.locator("#teach-report")
    expect(report).to_contain_text("70 of 72 entries are taken")
    expect(report).to_contain_text("1 with too long a headword")
    expect(report).to_contain_text("1 without an equivalent")
    expect(report).to_contain_text("mot0 – word 0")


def test_a_file_that_is_no_dataset_is_refused_with_a_sentence_and_the_field_is_marked(page: Page) -> None:
    fill_form(page, "fr", b'{"caption": "un chat"}\n' * 5)
    page.click("text=Check the rows")
    expect(page.locator("#teach-trouble")).to_contain_text("This cannot teach")
    expect(page.locator("#teach-trouble")).to_contain_text("without its meaning beside it: lines 1, 2, 3")
    expect(page.locator("#teach-file[aria-invalid]")).to_be_focused()
    fill_form(page, "fr", b"caption,german\na,b\n")
    expect(page.locator("#teach-form [aria-invalid]")).to_have_count(0)
    page.click("text=Check the rows")
    expect(page.locator("#teach-file[aria-invalid]")).to_be_focused()
    expect(page.locator("#teach-trouble code").first).to_have_text("caption")  # names are drawn as code
    expect(page.locator("#teach-trouble")).not_to_contain_text("`")


def test_progress_is_said_in_words_and_the_result_names_what_is_missed_and_what_works(page: Page, site: Site) -> None:
    fill_form(page, "de", site.build_dataset("de"))
    page.click("text=Check the rows")
    page.click("#teach-start")
    entry = page.locator("#teach-last li[data-expansion]")
    expect(entry.locator("progress")).to_be_visible()
    page.evaluate(
        """() => {
            window.bars = [];
            const note = () => document.querySelectorAll("progress").forEach((bar) => window.bars.push(bar.value));
            const list = document.getElementById("teach-last");
            new MutationObserver(note).observe(list, { childList: true, subtree: true });
        }"""
    )
    expect(entry).to_contain_text(re.compile("Waiting for its turn|Reading the rows|Learning"))
    expect(entry).to_have_attribute("data-state", "succeeded", timeout=240_000)
    bars = page.evaluate("window.bars")
    assert bars == sorted(bars)
    assert len(set(bars)) > 1, "the bar moved while it was learned"
    expect(page.locator("#language option[value=de]")).to_be_attached()

    test = site.client.get("/v1/expansions?limit=1").json()["items"][0]["report"]["test"]
    asked, found, missed = test["asked"], test["found"], test["missed"]
    sentence = f"Of {asked} test captions, {found} {'is' if found == 1 else 'are'} found"
    expect(entry).to_contain_text(sentence)
    expect(entry.locator(".missed bdi")).to_have_text(missed)
    expect(entry).to_contain_text("Every other language still answers as before.")
    expect(entry.locator("details")).to_contain_text("R@1")
    expect(entry).not_to_contain_text("shared table")  # that is for administrators
    if missed:
        entry.locator(".missed a").first.click()
        expect(page.locator("#teach-lines")).to_have_value(f"{missed[0]} = ")
        expect(page.locator("#teach-lines")).to_be_focused()
    tried = entry.locator(".tries a").first
    word = tried.locator("bdi").inner_text()
    tried.click()
    expect(page.locator("#text")).to_have_value(word)
    expect(page.locator("#results figure").first).to_be_visible()


def test_teaching_can_be_cancelled(page: Page, site: Site) -> None:
    fill_form(page, "ko", site.build_dataset("ko"))
    page.click("text=Check the rows")
    page.click("#teach-start")
    entry = page.locator("#teach-last li[data-expansion]")
    entry.get_by_role("button").click()
    page.get_by_role("button", name="Cancel it").click()
    expect(entry).to_have_attribute("data-state", "cancelled", timeout=60_000)
    expect(entry).to_contain_text("Nothing was changed.")
    assert "ko" not in site.list_languages()


def test_a_language_is_rolled_back_behind_a_dialog_that_says_what_changes_and_what_stays(
    page: Page, site: Site, indonesian: int
) -> None:
    before = site.client.get("/v1/languages").json()["release"]
    open_roll_back(page, "Indonesian")
    give_key(page)
    expect(page.locator("dialog .changes")).to_contain_text("Indonesian is no longer available")
    expect(page.locator("dialog .stays")).to_contain_text("English")
    expect(page.locator("dialog .stays")).to_contain_text("bit for bit the same")
    assert "id" in site.list_languages(), "showing what would change changes nothing"
    page.fill("#reason", "a test")
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("dialog")).to_contain_text("Indonesian is no longer available")
    page.get_by_role("button", name="Close").last.click()
    expect(page.locator("li[data-language=id]")).to_have_count(0)
    assert "id" not in site.list_languages()
    newest = site.client.get("/v1/admin/releases").json()["items"][0]
    assert newest["reason"] == "a test"
    restore(site, before, newest["number"])


def test_a_language_is_saved_as_a_file_and_brought_in_after_a_look_into_it(page: Page, site: Site) -> None:
    before = site.client.get("/v1/languages").json()["release"]
    page.goto("/#languages")
    page.locator("#languages-body summary", has_text="Details Arabic").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save Arabic as a file").click()
        give_key(page)
    saved = download.value.path()
    assert download.value.suggested_filename == "ar.pictoglot"

    page.locator("#import summary").first.click()
    page.click("text=Look into the file")
    expect(page.locator("#import-file[aria-invalid]")).to_be_focused()
    page.set_input_files("#import-file", {"name": "ar.pictoglot", "mimeType": "", "buffer": saved.read_bytes()[:-9]})
    page.click("text=Look into the file")
    expect(page.locator("#import-trouble .sorry")).to_be_visible()

    page.set_input_files("#import-file", saved)
    page.click("text=Look into the file")
    expect(page.locator("#import-report")).to_contain_text("Arabic, taught for the base")
    expect(page.locator("#import-report")).to_contain_text("It is signed with this key.")
    expect(page.locator("#import-report .signer")).to_have_text(re.compile(r"^RW[A-Za-z0-9+/]{54}$"))
    assert site.client.get("/v1/languages").json()["release"] == before, "a look changes nothing"
    page.get_by_role("button", name="Bring in Arabic").click()
    entry = page.locator("#languages-running li[data-expansion]")
    expect(entry).to_have_attribute("data-state", "succeeded", timeout=240_000)
    restored = site.client.post(f"/v1/admin/releases/{before}/restore", json={"expected": before + 1})
    assert restored.is_success, restored.text


def test_a_rollback_shows_the_new_plan_when_another_release_was_published_meanwhile(page: Page, site: Site) -> None:
    before = site.client.get("/v1/languages").json()["release"]
    open_roll_back(page, "Arabic")
    give_key(page)
    expect(page.locator("dialog .fine").first).to_contain_text(f"Based on release {before},")
    page.fill("#reason", "kept")
    restore(site, before, before)
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("dialog .moved")).to_contain_text("Something changed in the meantime")
    expect(page.locator("dialog .fine").first).to_contain_text(f"Based on release {before + 1},")
    assert page.input_value("#reason") == "kept"
    assert "ar" in site.list_languages()
    page.get_by_role("button", name="Keep it").click()
    expect(page.locator("dialog")).to_have_count(0)


def test_a_rollback_whose_answer_is_lost_is_sent_again_and_happens_once(page: Page, site: Site) -> None:
    before = site.client.get("/v1/languages").json()["release"]
    keys = roll_back_arabic(page, lost=1)
    expect(page.locator("dialog")).to_contain_text(f"Arabic is no longer available. Release {before + 1} serves.")
    assert len(keys) == 2 and len(set(keys)) == 1
    restore(site, before, before + 1)


def test_a_rollback_without_any_answer_is_not_called_undone(page: Page, site: Site) -> None:
    before = site.client.get("/v1/languages").json()["release"]
    keys = roll_back_arabic(page, lost=9)
    expect(page.locator("dialog h2")).to_have_text("It is not known whether Arabic was rolled back.")
    expect(page.locator("li[data-language=ar]")).to_have_count(1)
    page.get_by_role("button", name="Look again").click()
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator("li[data-language=ar]")).to_have_count(0)
    assert len(keys) == 2
    restore(site, before, before + 1)


def test_a_wrong_key_is_reported_and_the_right_one_is_kept_for_this_tab_only(page: Page) -> None:
    page.goto("/#releases")
    page.fill("#key", "pk_wrong_key")
    page.click("text=Use this key")
    expect(page.locator("#releases-body")).to_contain_text("This key is not valid")
    page.click("text=Enter a key")
    give_key(page)
    expect(page.locator("li[data-release='1']")).to_be_attached()
    assert page.evaluate("sessionStorage.length") == 1
    assert page.evaluate("localStorage.length") == 0
    assert ADMIN_KEY not in page.url


def test_the_history_names_each_release_and_the_one_that_serves(page: Page, site: Site) -> None:
    page.goto("/#releases")
    give_key(page)
    serving = site.client.get("/v1/languages").json()["release"]
    expect(page.locator("li.serving")).to_have_attribute("data-release", str(serving))
    expect(page.locator("li[data-release='2'] .what")).to_contain_text("العربية")


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
