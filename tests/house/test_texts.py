"""What the page says is found by its English text, and each language says all of it."""

import re

import pytest

from scripts.texts import LANGUAGES, PAGES, list_texts, list_unmarked, read_texts

# Codes that only a program or an administrator can meet, and those that a part of the page tells itself.
OTHERS = {
    *("invalid_encoding", "malformed_multipart", "malformed_request", "too_many_headers"),
    *("method_not_allowed", "idempotency_key_reused", "invalid_cursor", "key_not_found", "release_not_found"),
    *("version_not_found", "withdrawal_not_found", "version_pruned", "base_serves", "base_unusable", "no_earlier_base"),
    *("disk_too_small", "dataset_doubted", "original_not_kept"),
}


def list_holes(text: str) -> set[str]:
    """List the names of the values in a message: they are of Latin letters in every language."""
    return set(re.findall(r"\{([a-z]\w*)[,}]", text, re.ASCII | re.IGNORECASE))


def test_every_text_is_looked_up() -> None:
    # that one names languages, each in its own
    modules = {file.stem: file.read_text(encoding="utf-8") for file in PAGES.glob("*.js") if file.stem != "text"}
    found = {name: list_unmarked(text) for name, text in modules.items()}
    assert {name: texts for name, texts in found.items() if texts} == {}, "wrap each in t() of text.js"


def test_a_text_that_is_not_looked_up_is_found() -> None:
    assert list_unmarked('make("p", {}, "Delete it")') == ["Delete it"]
    assert list_unmarked('make("span", { class: "tag" }, "serving")') == ["serving"]
    assert list_unmarked("make(`there are ${count} of them`)") == ["there are ${count} of them"]
    assert list_unmarked('t("Delete it"); // Not this\nkey === "ArrowUp"; make("p", { class: "fine hint" })') == []


@pytest.mark.parametrize("tag", LANGUAGES)
def test_a_language_says_what_the_page_says(tag: str) -> None:
    texts, said = read_texts(tag), list_texts()
    assert set(texts) == set(said), "python -m scripts.texts tells what is missing, and takes out what is not said"
    assert {each: text for each, text in texts.items() if list_holes(each) != list_holes(text)} == {}
    assert {each for each, text in texts.items() if each.count("{") and text.count("{") != text.count("}")} == set()


def test_each_refusal_that_a_person_can_meet_has_a_text() -> None:
    said = set(re.findall(r"^  (\w+): t\(", (PAGES / "api.js").read_text(encoding="utf-8"), re.MULTILINE))
    listed = (PAGES.parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    codes = set(re.findall(r"^\| `(\w+)` \| \d", listed, re.MULTILINE))  # of answers
    assert codes - said == OTHERS


def test_each_fault_of_the_service_has_a_text() -> None:
    said = set(re.findall(r"^  (\w+): t\(", (PAGES / "administration.js").read_text(encoding="utf-8"), re.MULTILINE))
    guide = (PAGES.parents[2] / "docs" / "operate.md").read_text(encoding="utf-8")
    (row,) = (line for line in guide.splitlines() if line.startswith("| `pictoglot_degraded`"))
    assert said == set(re.findall(r"`(\w+)`", row)) - {"pictoglot_degraded", "code"}


def test_each_outcome_in_the_list_of_changes_has_a_text() -> None:
    said = (PAGES / "audit.js").read_text(encoding="utf-8")
    house = [file for name in ("store", "index") for file in (PAGES.parents[2] / name).rglob("*.py")]
    lines = [line for file in house for line in file.read_text(encoding="utf-8").splitlines()]
    where = re.compile(r"note_act\(|^ExpansionKind = |^Outcome = |^_ACTS = ")
    written = {word for line in lines if where.search(line) for word in re.findall(r'(?:[:,] |\[)"([a-z ]+)"', line)}
    kinds = {word for line in lines for word in re.findall(r'change = .*"kind": "(\w+)"', line)}
    releases = (PAGES / "releases.js").read_text(encoding="utf-8")
    assert {kind for kind in kinds if f'kind === "{kind}"' not in releases} == {"initial"}
    written |= kinds
    assert {"queued", "created", "caption accepted", "restored", "import", "withdraw"} < written
    # the first release is nobody's act; what was kept or is missing was not changed
    assert {word for word in written if f't("{word}")' not in said} == {"initial", "kept", "missing"}
