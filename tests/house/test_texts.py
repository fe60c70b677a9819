"""What the page says is found by its English text, and each language says all of it."""

import re

import pytest

from scripts.texts import LANGUAGES, PAGES, list_texts, list_unmarked, read_texts


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
    assert list_unmarked("make(`there are ${count} of them`)") == ["there are ${count} of them"]
    assert list_unmarked('t("Delete it"); // Not this\nkey === "ArrowUp"; make("p", { class: "fine hint" })') == []


@pytest.mark.parametrize("tag", LANGUAGES)
def test_a_language_says_what_the_page_says(tag: str) -> None:
    texts, said = read_texts(tag), list_texts()
    assert set(texts) == set(said), "python -m scripts.texts tells what is missing, and takes out what is not said"
    assert {each: text for each, text in texts.items() if list_holes(each) != list_holes(text)} == {}
    assert {each for each, text in texts.items() if each.count("{") and text.count("{") != text.count("}")} == set()
