"""Figures of a report, worked out by hand."""

from datetime import UTC, datetime
from typing import Any

import pytest

from store.versions import Version
from tests.tiny import make_detector
from worker.evaluate import count_confusion, measure_chain, measure_fertility

ENGLISH = ["a red apple", "a small dog", "the sea and the sun", "the big house"]
WELSH = ["afal coch", "ci bach", "y môr a'r haul", "tŷ mawr"]


@pytest.mark.parametrize(
    ("tokens", "captions", "per_word", "per_character"),
    [
        ([[1, 2, 3], [4, 5, 6]], ["afal  coch", "môr"], 6 / 3, 6 / 11),
        ([[1, 2]], ["赤いリンゴと犬"], None, 2 / 7),  # no spaces between words
        ([[1, 2]], ["แอปเปิ้ลสีแดง"], None, 2 / 13),
        ([[1, 2, 3]], ["빨간 사과"], 3 / 2, 3 / 4),
        ([[1, 2, 3, 4]], ["the small dog 東京"], 4 / 4, 4 / 13),  # a foreign name changes nothing
        ([], [], None, None),
    ],
)
def test_fertility_counts_tokens_a_word_and_a_character(
    tokens: list[list[int]], captions: list[str], per_word: float | None, per_character: float | None
) -> None:
    assert measure_fertility(tokens, captions) == {
        "per_word": per_word and pytest.approx(per_word),
        "per_character": per_character and pytest.approx(per_character),
    }


def test_confusion_says_as_what_each_languages_captions_would_be_read() -> None:
    detector = make_detector({"en": ENGLISH, "cy": WELSH})
    matrix = count_confusion(detector, {"cy": ["ci coch", "afal mawr", "the red dog"], "en": ["xyzzy", "12"], "fr": []})
    assert matrix == {"cy": {"cy": 2, "en": 1}, "en": {"shared": 2}, "fr": {}}


def test_a_language_that_nobody_counted_is_never_guessed() -> None:
    assert count_confusion(make_detector({"en": ENGLISH}), {"cy": ["afal coch"]}) == {"cy": {"shared": 1}}


def version(number: int, language: str, own: float | None = None, **after: float) -> Version:
    shared = {tag: {"after": {"R@1": figure}} for tag, figure in after.items()}
    report = {"t2i": {"R@1": own} if own is not None else {}, "shared": {"languages": shared}}
    parent = number - 1 if number else None
    return Version(number, parent, language, "e", "f", "", 1, 1, report if number else {}, datetime.now(UTC))


def report(own: float | None, learned: float = 0.9, **moves: tuple[float, float]) -> dict[str, Any]:
    languages = {tag: {"before": {"R@1": a}, "after": {"R@1": b}, "learned": {}} for tag, (a, b) in moves.items()}
    if "en" in languages:
        languages["en"]["learned"] = {"R@1": learned}
    return {"t2i": {} if own is None else {"R@1": own}, "shared": {"languages": languages}}


VERSION_0 = version(0, "en")


# The chain of a table, the language that is taught now with its report, and what was said of them: languages, AA, F.
CHAINS: dict[str, tuple[list[Version], str, dict[str, Any], list[str], float, float]] = {
    "the first language averages with English, which may have lost": (
        [VERSION_0], "de", report(0.5, en=(0.9, 0.7)), ["en", "de"], 0.6, 0.2,
    ),
    "of the best past figure of each: English as by version 0, German after French; French has gained": (
        [VERSION_0, version(1, "de", 0.6, en=0.1), version(2, "fr", 0.5, de=0.7, en=0.2)],
        "cy", report(0.4, en=(0.8, 0.8), de=(0.7, 0.5), fr=(0.5, 0.6)),
        ["en", "de", "fr", "cy"], (0.8 + 0.5 + 0.6 + 0.4) / 4, ((0.9 - 0.8) + (0.7 - 0.5) + (0.5 - 0.6)) / 3,
    ),
    "English may have been at its best in the table before": (
        [VERSION_0, version(1, "de", 0.6, en=0.1)], "cy", report(0.4, learned=0.8, en=(0.9, 0.7), de=(0.6, 0.6)),
        ["en", "de", "cy"], (0.7 + 0.6 + 0.4) / 3, (0.2 + 0.0) / 2,
    ),
    "a language outside the chain counts for nothing": (
        [VERSION_0], "cy", report(0.5, en=(0.9, 0.9), de=(0.3, 0.1)), ["en", "cy"], 0.7, 0.0,
    ),
    "of a language taught twice the newer turn counts": (
        [VERSION_0, version(1, "de", 0.9), version(2, "fr", 0.5, de=0.9), version(3, "de", 0.6, fr=0.4)],
        "cy", report(0.4, de=(0.6, 0.6), fr=(0.4, 0.4)), ["fr", "de", "cy"], (0.4 + 0.6 + 0.4) / 3, (0.1 + 0.0) / 2,
    ),
    "taught again itself, a language has its turn now": (
        [VERSION_0, version(1, "de", 0.9)], "de", report(0.5, en=(0.9, 0.9)), ["en", "de"], 0.7, 0.0,
    ),
    "where a step measured nothing, the figure before stands": (
        [VERSION_0, version(1, "de", 0.6), version(2, "fr", 0.5)], "cy", report(0.4, de=(0.6, 0.5), fr=(0.5, 0.5)),
        ["de", "fr", "cy"], (0.5 + 0.5 + 0.4) / 3, (0.1 + 0.0) / 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHAINS)
def test_accuracy_and_forgetting_of_a_chain(case: str) -> None:
    chain, language, now, languages, accuracy, forgetting = CHAINS[case]
    figures = measure_chain(chain, language, now)
    assert figures == {"languages": languages, "AA": pytest.approx(accuracy), "F": pytest.approx(forgetting)}


def test_without_a_figure_of_its_own_there_is_no_average() -> None:
    assert measure_chain([VERSION_0], "cy", report(None, en=(0.9, 0.9))) == {"languages": [], "AA": None, "F": None}
