"""How the version that encodes a query is chosen."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from index.snapshot import Route, Snapshot, Withdrawn
from model.detection import Detector
from store.errors import LanguageNotFound, LanguageTagInvalid
from store.releases import Release
from tests.doubles import weightless_view
from tests.tiny import counted

CAPTIONS = {
    "en": ["a red apple on the table", "two dogs are playing in the snow", "the bus drives through the city"],
    "cy": ["afal coch ar y bwrdd", "mae dau gi yn chwarae yn yr eira", "mae'r bws yn gyrru drwy'r ddinas"],
}
DETECTOR = counted(CAPTIONS)


def snapshot(languages: Collection[str], detector: Detector = DETECTOR) -> Snapshot:
    """A release of these languages with no pictures or captions."""
    views = {tag: weightless_view(version, tag) for version, tag in enumerate(languages)}
    release = Release(1, 0, {tag: view.version for tag, view in views.items()}, datetime.now(UTC), "", "", {})
    return Snapshot(release, views, weightless_view(9), {}, detector)


def route(requested: str, text: str, languages: Collection[str], detector: Detector = DETECTOR) -> Route:
    return snapshot(languages, detector).route(requested, text)


def test_a_given_tag_is_made_canonical_and_must_be_served() -> None:
    assert snapshot(["en", "cy"]).require_served("EN") == "en"
    assert snapshot(["en", "cy"]).require_served("eng") == "en"
    with pytest.raises(LanguageNotFound):
        snapshot(["en", "cy"]).require_served("de")
    with pytest.raises(LanguageTagInvalid):
        snapshot(["en"]).require_served("en_US")


@pytest.mark.parametrize(("text", "tag"), [("mae ci coch ar y bwrdd", "cy"), ("the dogs are on the table", "en")])
def test_a_text_is_read_in_the_language_that_it_is_in(text: str, tag: str) -> None:
    choice = route("auto", text, CAPTIONS)
    assert (choice.used, choice.source) == (tag, "detected")
    assert choice.warnings == ()


def test_a_base_of_many_languages_reads_a_language_that_was_not_taught() -> None:
    many = replace(snapshot(CAPTIONS), built_in=("en", "de"))
    assert (many.require_readable("en-GB"), many.route("en-GB", "a cat").used) == (
        "en-GB",
        "en",
    )  # captions of a kind stay its own
    choice = many.route("FR", "une pomme rouge")
    assert (choice.used, choice.source, choice.view.version) == ("fr", "requested", 0)
    assert choice.warnings == ("language_not_taught",)
    assert many.route("cy", "afal coch").warnings == ()
    assert many.route("auto", "తెలుగు").warnings == (), "the shared table may well read it"
    assert many.require_readable("fr") == "fr"
    with pytest.raises(LanguageNotFound):
        many.require_served("fr")  # it has no captions
    with pytest.raises(LanguageTagInvalid):
        many.route("french", "une pomme rouge")


def test_a_base_of_english_alone_does_not() -> None:
    for ask in (snapshot(CAPTIONS).require_readable, lambda tag: snapshot(CAPTIONS).route(tag, "une pomme")):
        with pytest.raises(LanguageNotFound):
            ask("fr")


@pytest.mark.parametrize("text", ["12345", "తెలుగు", "zzz", "xylophon quizzed"])
def test_where_no_language_is_claimed_there_is_no_confidence_in_one(text: str) -> None:
    choice = route("auto", text, CAPTIONS)
    assert (choice.source, choice.confidence) == ("shared", 0.0)


def test_a_text_in_a_withdrawn_language_is_not_taken_for_another_one() -> None:
    dutch = counted(
        {"nl": ["een rode appel op de tafel", "twee honden spelen in de sneeuw", "de bus rijdt door de stad"]}
    )
    both = DETECTOR.with_counts("nl", dutch.counts["nl"])
    without, text = snapshot(CAPTIONS, both), "een hond in de bus"
    assert without.route("auto", text).used == "en", "the nearest one that is left"
    gone = replace(without, withdrawn={"nl": Withdrawn(3, dutch.counts["nl"])})
    choice = gone.route("auto", text)
    assert (choice.used, choice.confidence, choice.warnings) == ("shared", 0.0, ("language_not_supported",))
    assert replace(gone, built_in=("en", "nl")).route("auto", text).warnings == ()
    assert gone.route("auto", "the dogs are on the table").used == "en"
    left = snapshot([*CAPTIONS, "nl"], both).restrict_to(CAPTIONS)
    assert left.withdrawn["nl"].version == 2


def test_captions_that_were_taught_under_a_wrong_tag_first_are_still_told() -> None:
    twice = DETECTOR.with_counts("br", DETECTOR.counts["cy"])
    corrected = replace(snapshot(CAPTIONS, twice), withdrawn={"br": Withdrawn(3, DETECTOR.counts["cy"])})
    assert corrected.route("auto", "mae ci coch ar y bwrdd").used == "cy"


def test_a_tie_gives_a_warning() -> None:
    twins = counted({"en": CAPTIONS["en"], "sco": CAPTIONS["en"]})
    assert route("auto", "the dogs", ["en", "sco"], twins).warnings == ("detection_tie",)


def test_a_script_of_no_served_language_gives_a_warning() -> None:
    assert route("auto", "తెలుగు", CAPTIONS).warnings == ("language_not_supported",)
    assert route("auto", "తెలుగు", [*CAPTIONS, "te"]).warnings == ("language_not_supported",)
