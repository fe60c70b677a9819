"""Names and keywords of emoji, as Unicode's npm packages hold them."""

from pathlib import Path

import pytest

from benchmarks.emoji36 import lexicon
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.lexicon import LANGUAGES
from tests.benchmarks.emoji_folder import EMOJIS, UNNAMED, name, write_annotations, write_drawing, write_npm

SUN, FIRE, HUNDRED, RUNNER = "\u2600", "\U0001f525", "\U0001f4af", "\U0001f3c3\u200d\u2642"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plainly = {
        SUN: {"tts": ["sun"], "default": ["bright", "weather", "sun"]},
        FIRE: {"tts": ["fire, flame"], "default": ["weather", "hot", "bright", "weather map", "🔥"]},
        HUNDRED: {"tts": ["hundred points"], "default": ["100", "full"]},
        "\u2614": {"default": ["has no name"]},
    }
    derived = {f"{RUNNER}\ufe0f": {"tts": ["man running"], "default": ["man"]}}
    write_annotations(tmp_path, "en", plainly, derived)
    return tmp_path


def test_names_come_from_both_packages_under_keys_without_the_selector(folder: Path) -> None:
    (words,) = lexicon.read_cldr(folder, ["en"]).values()
    assert {key: word.name for key, word in words.items()} == {
        SUN: "sun",
        FIRE: "fire",  # the alternative after the comma is none
        HUNDRED: "hundred points",
        RUNNER: "man running",
    }


def test_all_languages_are_read_in_the_papers_order(tmp_path: Path) -> None:
    words = lexicon.read_cldr(write_npm(tmp_path))
    assert tuple(words) == LANGUAGES and len(words) == 36
    assert {tag: len(names) for tag, names in words.items() if len(names) < len(EMOJIS)} == {"mi": len(EMOJIS) - 1}
    assert words["quz"][lexicon.strip_selector(UNNAMED.characters)].name == name("quz", UNNAMED)


def test_what_was_not_fetched_is_refused_with_the_command_that_fetches_it(folder: Path) -> None:
    for ask in (lambda: lexicon.read_cldr(folder, ["en", "quz"]), lambda: lexicon.find_noto(folder)):
        with pytest.raises(Refused, match=r"python -m benchmarks\.emoji36 data") as refused:
            ask()
        assert str(refused.value).startswith(str(folder)) and "\n" not in str(refused.value)
    with pytest.raises(Refused, match="no names in quz"):
        lexicon.read_cldr(folder, ["en", "quz"])
    write_drawing(folder, "2600")
    assert [path.name for path in lexicon.find_noto(folder).iterdir()] == ["2600.png"]
