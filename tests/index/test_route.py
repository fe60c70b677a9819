"""How the version that encodes a query is chosen, and what the detector of languages counts."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from index.loader import add_detector, restrict_to
from index.snapshot import FormerLanguage, Route, Snapshot
from index.vectors import Entry, Identity, MemoryTail, VectorRows, VectorSet
from model.lexicon import Detector, count_ngrams
from model.table import View
from model.tokenizer import list_english_words
from store.errors import LanguageTagInvalid
from store.releases import Release
from tests.doubles import make_view
from tests.index.conftest import numbered
from tests.index.world import World
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


def route(requested: str, text: str, languages: Collection[str], detector: Detector = DETECTOR) -> Route:
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


def test_a_text_in_a_language_no_longer_served_is_not_taken_for_another_one() -> None:
    dutch = make_detector(
        {"nl": ["een rode appel op de tafel", "twee honden spelen in de sneeuw", "de bus rijdt door de stad"]}
    )
    both = DETECTOR.replace_counts("nl", dutch.counts["nl"])
    without, text = snapshot(CAPTIONS, both), "een hond in de bus"
    assert without.route("auto", text).used == "en", "the nearest one that is left"
    gone = replace(without, no_longer_served={"nl": FormerLanguage(3, dutch.counts["nl"])})
    choice = gone.route("auto", text)
    assert (choice.used, choice.confidence, choice.warnings) == ("shared", 0.0, ("language_not_supported",))
    assert replace(gone, built_in=("en", "nl")).route("auto", text).warnings == ()
    assert gone.route("auto", "the dogs are on the table").used == "en"
    left = restrict_to(snapshot([*CAPTIONS, "nl"], both), CAPTIONS)
    assert left.no_longer_served["nl"].version == 2


def test_captions_that_were_taught_under_a_wrong_tag_first_are_still_told() -> None:
    twice = DETECTOR.replace_counts("br", DETECTOR.counts["cy"])
    corrected = replace(snapshot(CAPTIONS, twice), no_longer_served={"br": FormerLanguage(3, DETECTOR.counts["cy"])})
    assert corrected.route("auto", "mae ci coch ar y bwrdd").used == "cy"


def test_a_tie_gives_a_warning() -> None:
    twins = make_detector({"en": CAPTIONS["en"], "sco": CAPTIONS["en"]})
    assert route("auto", "the dogs", ["en", "sco"], twins).warnings == ("detection_tie",)


ENGLISH = ["a red apple", "a small dog", "the sea and the sun"]
WELSH = ["afal coch", "ci bach", "y môr a'r haul"]


def make_counting_snapshot(views: Mapping[str, View], **captions: list[str]) -> Snapshot:
    """Make a release of these languages with these captions in the gallery."""
    languages = {tag: view.version for tag, view in views.items()}
    identities = [Identity("captions", "f", 8, tag, version) for tag, version in languages.items()]
    sets = {identity: make_caption_set(identity, captions.get(identity.language or "", [])) for identity in identities}
    release = Release(1, 0, languages, datetime.now(UTC), "test", "", {})
    shown = Snapshot(release, views, make_view(0), sets)
    return add_detector(shown, None, lambda identity, most: captions[str(identity.language)][:most])


def make_caption_set(identity: Identity, texts: list[str]) -> VectorSet:
    blocks = {
        f"p{place}": VectorRows(numbered(place + 1), (Entry(f"p{place}", text),), np.eye(8, dtype=np.float32)[[place]])
        for place, text in enumerate(texts)
    }
    return VectorSet(identity, 1, 0, (), MemoryTail.make_empty(8)).replace_rows(blocks, 1)


def test_a_language_taught_without_pictures_is_known_by_its_version() -> None:
    views = {"en": make_view(0), "cy": make_view(1, "cy", count_ngrams(WELSH))}
    assert make_counting_snapshot(views, en=ENGLISH).detector.guess("ci coch", ["en", "cy"]).language == "cy"
    blind = make_counting_snapshot({**views, "cy": make_view(1, "cy")}, en=ENGLISH)
    assert blind.detector.guess("ci coch", ["en", "cy"]).language != "cy"


def test_english_is_known_by_the_gallerys_captions() -> None:
    english = make_counting_snapshot({"en": make_view(0)}, en=ENGLISH)
    assert english.detector.guess("the small apple", ["en"]).language == "en"
    assert english.ngram_sources == {"en": (0, 3)}


def test_english_is_known_without_a_single_english_caption() -> None:
    english, welsh = count_ngrams(list_english_words()), count_ngrams(WELSH)
    views = {"en": make_view(0, "en", english), "cy": make_view(1, "cy", welsh)}
    detector = make_counting_snapshot(views, cy=WELSH).detector
    assert detector.guess("the small house on the hill", ["en", "cy"]).language == "en"
    assert detector.guess("ci bach", ["en", "cy"]).language == "cy"


def test_of_many_captions_some_are_counted(world: World) -> None:
    world.put("p", 1, {"en": [f"caption {number}" for number in range(4_000)]})
    asked = list[int]()

    def read(identity: Identity, most: int) -> list[str]:
        asked.append(most)
        return world.gallery.sample_captions(str(identity.language), [], most)

    served = world.serve().current
    assert add_detector(replace(served, ngram_sources={}), None, read).ngram_sources == {"en": (0, 4_000)}
    assert asked == [2_000] and 1_800 < len(read(served.captions["en"].identity, 2_000)) < 2_200
    assert len({*world.gallery.sample_captions("en", [], 4_000)}) == 4_000
