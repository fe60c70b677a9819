"""The detector is updated to the served languages, from a version's own counts or the gallery's captions."""

from datetime import UTC, datetime

import numpy as np

from index.detecting import detect
from index.vectors import Entry, VectorSet, segment
from model.detection import count
from model.registry import Release
from model.tokenizer import english_words
from tests.doubles import WeightlessView

ENGLISH = ["a red apple", "a small dog", "the sea and the sun"]
WELSH = ["afal coch", "ci bach", "y môr a'r haul"]


def release(**languages: int) -> Release:
    return Release(1, 0, {"en": 0, **languages}, datetime.now(UTC), "test", "", {})


def captioned(texts: list[str]) -> VectorSet:
    entries = [Entry(f"p{place}", text) for place, text in enumerate(texts)]
    return VectorSet.from_generation("g", 1, segment(np.eye(len(texts), 8, dtype=np.float32), entries))


def test_a_language_taught_without_pictures_is_known_by_its_version() -> None:
    captions = {"en": captioned(ENGLISH), "cy": VectorSet.empty("none", 8)}
    views = {"en": WeightlessView(0), "cy": WeightlessView(1, "cy", count(WELSH))}
    detector, _ = detect(None, release(cy=1), views, captions)
    assert detector.guess("ci coch", ["en", "cy"]).language == "cy"
    blind, _ = detect(None, release(cy=1), {**views, "cy": WeightlessView(1, "cy")}, captions)
    assert blind.guess("ci coch", ["en", "cy"]).language != "cy"


def test_english_is_known_by_the_gallerys_captions() -> None:
    detector, counted = detect(None, release(), {"en": WeightlessView(0)}, {"en": captioned(ENGLISH)})
    assert detector.guess("the small apple", ["en"]).language == "en"
    assert counted == {"en": (0, 3)}


def test_english_is_known_without_a_single_english_caption() -> None:
    captions = {"en": VectorSet.empty("none", 8), "cy": captioned(WELSH)}
    views = {"en": WeightlessView(0, "en", count(english_words())), "cy": WeightlessView(1, "cy", count(WELSH))}
    detector, _ = detect(None, release(cy=1), views, captions)
    assert detector.guess("the small house on the hill", ["en", "cy"]).language == "en"
    assert detector.guess("ci bach", ["en", "cy"]).language == "cy"
