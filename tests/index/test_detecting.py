"""The detector is updated to the served languages, from a version's own counts or the gallery's captions."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from index.snapshot import Snapshot
from index.tail import MemoryTail
from index.vectors import Entry, Identity, VectorRows, VectorSet
from model.detection import count
from model.table import View
from model.tokenizer import english_words
from store.releases import Release
from tests.doubles import weightless_view
from tests.index.conftest import numbered
from tests.index.world import World

ENGLISH = ["a red apple", "a small dog", "the sea and the sun"]
WELSH = ["afal coch", "ci bach", "y môr a'r haul"]


def snapshot(views: Mapping[str, View], **captions: list[str]) -> Snapshot:
    """A release of these languages with these captions in the gallery."""
    languages = {tag: view.version for tag, view in views.items()}
    identities = [Identity("captions", "f", 8, tag, version) for tag, version in languages.items()]
    sets = {identity: captioned(identity, captions.get(identity.language or "", [])) for identity in identities}
    release = Release(1, 0, languages, datetime.now(UTC), "test", "", {})
    shown = Snapshot(release, views, weightless_view(0), sets)
    return shown.add_detector(None, lambda identity, most: captions[str(identity.language)][:most])


def captioned(identity: Identity, texts: list[str]) -> VectorSet:
    blocks = {
        f"p{place}": VectorRows(numbered(place + 1), (Entry(f"p{place}", text),), np.eye(8, dtype=np.float32)[[place]])
        for place, text in enumerate(texts)
    }
    return VectorSet(identity, 1, 0, (), MemoryTail.make_empty(8)).replace_rows(blocks, 1)


def test_a_language_taught_without_pictures_is_known_by_its_version() -> None:
    views = {"en": weightless_view(0), "cy": weightless_view(1, "cy", count(WELSH))}
    assert snapshot(views, en=ENGLISH).detector.guess("ci coch", ["en", "cy"]).language == "cy"
    blind = snapshot({**views, "cy": weightless_view(1, "cy")}, en=ENGLISH)
    assert blind.detector.guess("ci coch", ["en", "cy"]).language != "cy"


def test_english_is_known_by_the_gallerys_captions() -> None:
    english = snapshot({"en": weightless_view(0)}, en=ENGLISH)
    assert english.detector.guess("the small apple", ["en"]).language == "en"
    assert english.counted == {"en": (0, 3)}


def test_english_is_known_without_a_single_english_caption() -> None:
    views = {"en": weightless_view(0, "en", count(english_words())), "cy": weightless_view(1, "cy", count(WELSH))}
    detector = snapshot(views, cy=WELSH).detector
    assert detector.guess("the small house on the hill", ["en", "cy"]).language == "en"
    assert detector.guess("ci bach", ["en", "cy"]).language == "cy"


def test_of_many_captions_some_are_counted(world: World) -> None:
    world.put("p", 1, {"en": [f"caption {number}" for number in range(4_000)]})
    asked = list[int]()

    def read(identity: Identity, most: int) -> list[str]:
        asked.append(most)
        return world.gallery.sample_captions(str(identity.language), [], most)

    served = world.started().current
    assert replace(served, counted={}).add_detector(None, read).counted == {"en": (0, 4_000)}
    assert asked == [2_000] and 1_800 < len(read(served.captions["en"].identity, 2_000)) < 2_200
    assert len({*world.gallery.sample_captions("en", [], 4_000)}) == 4_000
