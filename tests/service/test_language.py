"""How the version that reads a query is chosen."""

import pytest

from model.detection import Detector
from model.errors import LanguageNotFound, LanguageTagInvalid
from service.language import choose, served
from tests.tiny import counted

CAPTIONS = {
    "en": ["a red apple on the table", "two dogs are playing in the snow", "the bus drives through the city"],
    "cy": ["afal coch ar y bwrdd", "mae dau gi yn chwarae yn yr eira", "mae'r bws yn gyrru drwy'r ddinas"],
}
DETECTOR = counted(CAPTIONS)


def test_a_told_tag_is_made_canonical_and_must_be_served() -> None:
    assert served("EN", ["en", "cy"]) == "en"
    assert served("eng", ["en", "cy"]) == "en"
    with pytest.raises(LanguageNotFound):
        served("de", ["en", "cy"])
    with pytest.raises(LanguageTagInvalid):
        served("en_US", ["en"])


@pytest.mark.parametrize(("text", "tag"), [("mae ci coch ar y bwrdd", "cy"), ("the dogs are on the table", "en")])
def test_a_text_is_read_in_the_language_that_it_is_in(text: str, tag: str) -> None:
    choice = choose("auto", text, CAPTIONS, DETECTOR)
    assert (choice.used, choice.source) == (tag, "detected")
    assert choice.warnings == ()


def test_a_text_that_could_be_any_is_read_by_the_shared_version() -> None:
    choice = choose("auto", "12345", CAPTIONS, DETECTOR)
    assert (choice.used, choice.source, choice.warnings) == ("shared", "shared", ())


@pytest.mark.parametrize("text", ["12345", "తెలుగు", "zzz", "xylophon quizzed"])
def test_where_no_language_is_claimed_there_is_no_confidence_in_one(text: str) -> None:
    choice = choose("auto", text, CAPTIONS, DETECTOR)
    assert (choice.source, choice.confidence) == ("shared", 0.0)


def test_a_tie_is_said() -> None:
    twins = counted({"en": CAPTIONS["en"], "sco": CAPTIONS["en"]})
    assert choose("auto", "the dogs", ["en", "sco"], twins).warnings == ("detection_tie",)


def test_a_script_nobody_learned_is_said() -> None:
    assert choose("auto", "తెలుగు", CAPTIONS, DETECTOR).warnings == ("language_not_supported",)
    assert choose("auto", "తెలుగు", {**CAPTIONS, "te": []}, DETECTOR).warnings == ("language_not_supported",)


def test_before_any_caption_is_known_nothing_is_said() -> None:
    choice = choose("auto", "anything", ["en"], Detector())
    assert (choice.used, choice.warnings) == ("shared", ())


def test_shared_is_shared_whatever_the_text() -> None:
    choice = choose("shared", "mae ci coch", CAPTIONS, DETECTOR)
    assert (choice.used, choice.source, choice.confidence) == ("shared", "shared", None)
