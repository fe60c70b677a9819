"""How the version that encodes a query is chosen, and what the detector of languages counts."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from index.snapshot import Snapshot
from model.lexicon import Detector
from store.errors import LanguageTagInvalid
from store.releases import Release
from tests.doubles import make_view
from tests.tiny import make_detector

CAPTIONS = {
    "en": ["a red apple on the table", "two dogs are playing in the snow", "the bus drives through the city"],
    "cy": ["afal coch ar y bwrdd", "mae dau gi yn chwarae yn yr eira", "mae'r bws yn gyrru drwy'r ddinas"],
}
DETECTOR = make_detector(CAPTIONS)


def snapshot(languages: Collection[str], detector: Detector = DETECTOR) -> Snapshot:
    """Make a release of these languages with no pictures or captions."""
    views = {tag: make_view(version, tag) for version, tag in enumerate(languages)}
    release = Release(1, 0, {tag: view.version for tag, view in views.items()}, datetime.now(UTC), "", "", {})
    return Snapshot(release, views, make_view(9), {}, detector)


def route(requested: str, text: str, languages: Collection[str], detector: Detector = DETECTOR) -> Any:
    return snapshot(languages, detector).route(requested, text)


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
    with pytest.raises(LanguageTagInvalid):
        many.route("french", "une pomme rouge")


@pytest.mark.parametrize("text", ["12345", "తెలుగు", "zzz", "xylophon quizzed"])
def test_where_no_language_is_claimed_there_is_no_confidence_in_one(text: str) -> None:
    choice = route("auto", text, CAPTIONS)
    assert (choice.source, choice.confidence) == ("shared", 0.0)


def test_a_tie_gives_a_warning() -> None:
    twins = make_detector({"en": CAPTIONS["en"], "sco": CAPTIONS["en"]})
    assert route("auto", "the dogs", ["en", "sco"], twins).warnings == ("detection_tie",)
