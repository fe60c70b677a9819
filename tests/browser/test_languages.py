"""Teaching, cancelling, rolling back and restoring on the page; the list of releases."""

from playwright.sync_api import Page, Route, expect

from tests.browser.site import ADMIN_KEY, Site


def give_key(page: Page) -> None:
    """Answer the dialog that asks for a key."""
    page.fill("#key", ADMIN_KEY)
    page.click("text=Use this key")


def fill_form(page: Page, tag: str, content: bytes) -> None:
    """Open the teaching form and fill it."""
    page.goto("/#teach")
    page.fill("#teach-tag", tag)
    page.set_input_files("#teach-file", {"name": f"{tag}.jsonl", "mimeType": "text/plain", "buffer": content})


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
    page.goto("/#languages")
    page.get_by_role("button", name="Roll back Arabic").click()
    give_key(page)
    page.locator("dialog button[type=submit]").click()
    return keys


def test_the_name_of_a_tag_is_shown(page: Page) -> None:
    page.goto("/#teach")
    page.fill("#teach-tag", "tr")
    expect(page.locator("#teach-name")).to_have_text("Türkçe · Turkish")


def test_a_file_is_checked_without_teaching_anything(page: Page, site: Site) -> None:
    content = site.build_dataset("fr")
    fill_form(page, "fr", content + b'{"caption": ""}\n')
    page.click("text=Check the file")
    rows = len(content.splitlines())
    expect(page.locator("#teach-report")).to_contain_text(f"{rows} of {rows + 1} usable")
    expect(page.locator("#teach-report")).to_contain_text(f"with neither another text nor a picture (line {rows + 1})")
    assert "fr" not in site.list_languages()


def test_a_table_of_words_is_checked_as_a_dictionary(page: Page) -> None:
    words = "".join(f'mot{n};a word {n};"{n}, ""quoted"""\r\n' for n in range(70))
    fill_form(page, "fr", f"\ufeffword;english\r\n{words}une phrase de six mots entiers;sentence\r\nvide;\r\n".encode())
    page.check("#teach-dictionary")
    page.click("text=Check the file")
    report = page.locator("#teach-report")
    expect(report).to_contain_text("70 of 72 entries are taken")
    expect(report).to_contain_text("1 with too long a headword")
    expect(report).to_contain_text("1 without an equivalent")
    expect(report).to_contain_text("mot0 – word 0")


def test_a_file_that_is_no_dataset_is_refused_with_a_sentence(page: Page) -> None:
    fill_form(page, "fr", b'{"caption": "un chat"}\n' * 5)
    page.click("text=Check the file")
    expect(page.locator("#teach-trouble")).to_contain_text("Dataset invalid")
    expect(page.locator("#teach-file[aria-invalid]")).to_be_focused()
    expect(page.locator("#teach-tag[aria-invalid]")).to_have_count(0)


def test_the_field_that_is_refused_turns_red_and_names_are_drawn_as_code(page: Page) -> None:
    fill_form(page, "no tag", b"caption,german\na,b\n")
    page.click("text=Check the file")
    expect(page.locator("#teach-trouble")).to_contain_text("not a valid language tag")
    expect(page.locator("#teach-tag[aria-invalid]")).to_be_focused()
    page.fill("#teach-tag", "fr")
    expect(page.locator("#teach-form [aria-invalid]")).to_have_count(0)
    page.click("text=Check the file")
    expect(page.locator("#teach-file[aria-invalid]")).to_be_focused()
    expect(page.locator("#teach-trouble code").first).to_have_text("caption")
    expect(page.locator("#teach-trouble")).not_to_contain_text("`")


def test_teaching_shows_a_progress_bar_and_then_the_language_can_be_chosen(page: Page, site: Site) -> None:
    fill_form(page, "de", site.build_dataset("de"))
    page.click("#teach-start")
    entry = page.locator("#expansions-body li[data-expansion]").first
    expect(entry.locator("progress")).to_be_visible()
    page.evaluate(
        """() => {
            window.bars = [];
            const note = () => document.querySelectorAll("progress").forEach((bar) => window.bars.push(bar.value));
            const list = document.getElementById("expansions-body");
            new MutationObserver(note).observe(list, { childList: true, subtree: true });
        }"""
    )
    expect(entry).to_have_attribute("data-state", "succeeded", timeout=240_000)
    expect(entry).to_contain_text("R@1")
    bars = page.evaluate("window.bars")
    assert bars == sorted(bars)
    assert len(set(bars)) > 2, "the bar moved while it was learned"
    expect(page.locator("#language option[value=de]")).to_be_attached()


def test_teaching_can_be_cancelled(page: Page, site: Site) -> None:
    fill_form(page, "ko", site.build_dataset("ko"))
    page.click("#teach-start")
    entry = page.locator("#expansions-body li[data-expansion]").first
    entry.get_by_role("button").click()
    page.get_by_role("button", name="Cancel it").click()
    expect(entry).to_have_attribute("data-state", "cancelled", timeout=60_000)
    assert "ko" not in site.list_languages()


def test_a_language_is_rolled_back_behind_a_dialog_that_says_what_changes_and_what_stays(
    page: Page, site: Site
) -> None:
    site.teach("tr", epochs=1)
    page.goto("/#languages")
    page.get_by_role("button", name="Roll back Turkish").click()
    give_key(page)
    expect(page.locator("dialog .changes")).to_contain_text("Turkish is no longer available")
    expect(page.locator("dialog .stays")).to_contain_text("English")
    expect(page.locator("dialog .stays")).to_contain_text("bit for bit the same")
    assert "tr" in site.list_languages(), "showing what would change changes nothing"
    page.fill("#reason", "a test")
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("dialog")).to_contain_text("Turkish is no longer available")
    page.get_by_role("button", name="Close").last.click()
    expect(page.locator("tr[data-language=tr]")).to_have_count(0)
    assert "tr" not in site.list_languages()
    assert site.http.get("/v1/admin/releases").json()["items"][0]["reason"] == "a test"


def test_a_rollback_shows_the_new_plan_when_another_release_was_published_meanwhile(page: Page, site: Site) -> None:
    before = site.http.get("/v1/languages").json()["release"]
    page.goto("/#languages")
    page.get_by_role("button", name="Roll back Arabic").click()
    give_key(page)
    expect(page.locator("dialog .fine").first).to_contain_text(f"Based on release {before},")
    page.fill("#reason", "kept")
    restored = site.http.post(f"/v1/admin/releases/{before}/restore", json={"expected": before})
    assert restored.is_success, restored.text
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("dialog .moved")).to_contain_text("Something changed in the meantime")
    expect(page.locator("dialog .fine").first).to_contain_text(f"Based on release {before + 1},")
    assert page.input_value("#reason") == "kept"
    assert "ar" in site.list_languages()
    page.get_by_role("button", name="Keep it").click()
    expect(page.locator("dialog")).to_have_count(0)


def test_a_rollback_that_arrives_twice_happens_once(page: Page, site: Site) -> None:
    before = site.http.get("/v1/languages").json()["release"]

    def twice(route: Route) -> None:
        if "expected" in (route.request.post_data_json or {}):
            route.fetch()
        route.continue_()

    page.route("**/rollback", twice)
    page.goto("/#languages")
    page.get_by_role("button", name="Roll back Arabic").click()
    give_key(page)
    page.locator("dialog button[type=submit]").click()
    expect(page.locator("dialog")).to_contain_text(f"Arabic is no longer available. Release {before + 1} serves.")
    restored = site.http.post(f"/v1/admin/releases/{before}/restore", json={"expected": before + 1})
    assert restored.is_success, restored.text


def test_a_rollback_whose_answer_is_lost_is_sent_again_and_happens_once(page: Page, site: Site) -> None:
    before = site.http.get("/v1/languages").json()["release"]
    keys = roll_back_arabic(page, lost=1)
    expect(page.locator("dialog")).to_contain_text(f"Arabic is no longer available. Release {before + 1} serves.")
    assert len(keys) == 2 and len(set(keys)) == 1
    restored = site.http.post(f"/v1/admin/releases/{before}/restore", json={"expected": before + 1})
    assert restored.is_success, restored.text


def test_a_rollback_without_any_answer_is_not_called_undone(page: Page, site: Site) -> None:
    before = site.http.get("/v1/languages").json()["release"]
    keys = roll_back_arabic(page, lost=9)
    expect(page.locator("dialog h2")).to_have_text("It is not known whether Arabic was rolled back.")
    expect(page.locator("tr[data-language=ar]")).to_have_count(1)
    page.get_by_role("button", name="Look again").click()
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator("tr[data-language=ar]")).to_have_count(0)
    assert len(keys) == 2
    restored = site.http.post(f"/v1/admin/releases/{before}/restore", json={"expected": before + 1})
    assert restored.is_success, restored.text


def test_a_rollback_can_be_cancelled(page: Page, site: Site) -> None:
    page.goto("/#languages")
    page.get_by_role("button", name="Roll back Arabic").click()
    give_key(page)
    page.get_by_role("button", name="Keep it").click()
    expect(page.locator("dialog")).to_have_count(0)
    assert "ar" in site.list_languages()


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
    serving = site.http.get("/v1/languages").json()["release"]
    expect(page.locator("li.serving")).to_have_attribute("data-release", str(serving))
    expect(page.locator("li[data-release='2'] .what")).to_contain_text("العربية")
