"""Benchmarks that are one file each: losses of a chain by hand, doubts about short files, differences of answers."""

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import golden
from benchmarks.doubts import ask
from benchmarks.forgetting import measure_backward_transfer, measure_english_forgetting
from model.lexicon import Detector, count_ngrams


@pytest.mark.parametrize(
    ("a", "english", "transfer"),
    [
        ([[80.0], [70.0, 60.0], [75.0, 40.0, 50.0]], 80 - 75, ((75 - 80) + (40 - 60)) / 2),
        ([[50.0], [70.0, 60.0], [60.0, 65.0, 50.0]], 70 - 60, ((60 - 50) + (65 - 60)) / 2),
        ([[80.0]], 0.0, 0.0),
    ],
)
def test_losses_are_from_the_best_past_score_and_transfer_from_the_languages_own(
    a: list[list[float]], english: float, transfer: float
) -> None:
    assert measure_english_forgetting(a) == pytest.approx(english)
    assert measure_backward_transfer(a) == pytest.approx(transfer)


# --- Doubts about short files of a language that was taught: too little text for the library's detector ---


THINGS = (
    "apple arm bird boat book bread bridge cat chair child church cloud cow cup dog door ear egg eye field fish flower "
    "foot garden hand hat head hill horse house island key king knife lake leaf light milk moon mouse mountain nose "
    "path rain river road roof rose sand sea sheep ship shoe sky snow spoon star stone street sun table tooth tree "
    "wall water wheel wind window wolf wood"
)
ENGLISH_WORDS = THINGS.split()
DRAW = random.Random(0)
SYLLABLES = [first + vowel for first in "bdgklmnprstv" for vowel in ("a", "e", "o", "u")]
INVENTED = ["".join(DRAW.choices(SYLLABLES, k=3)) for _ in range(400)]
TAUGHT = (
    Detector()
    .replace_counts("en", count_ngrams(ENGLISH_WORDS))
    .replace_counts("x-toy", count_ngrams([f"{one} {other}" for one, other in pairwise(INVENTED)]))
)
WORDS = [*zip(INVENTED, ENGLISH_WORDS, strict=False)]


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([(english, word) for word, english in WORDS], "columns_swapped"),
        ([(english, english) for _, english in WORDS], "other_language"),
    ],
    ids=["swapped", "English twice"],
)
def test_single_words_of_a_taught_language_are_said_to_be_swapped_where_they_are(
    pairs: list[tuple[str, str]], code: str
) -> None:
    assert [doubt.code for doubt in ask(pairs, "x-toy", TAUGHT)] == [code]


# --- Golden answers: what counts as a difference between two recordings ---


BEFORE = {
    "search": {"language": {"source": "told", "confidence": 0.9}, "items": [{"id": "a", "score": 0.5, "match": 0.3}]}
}


def compare(folder: Path, monkeypatch: pytest.MonkeyPatch, after: object, *options: str) -> int:
    files = []
    for name, answers in (("before", BEFORE), ("after", after)):
        files.append(folder / name)
        files[-1].write_text(json.dumps(answers))
    monkeypatch.setattr("sys.argv", ["golden", "compare", *map(str, files), *options])
    return golden.main()


def change(old: str, new: str) -> object:
    return json.loads(json.dumps(BEFORE).replace(old, new))


@pytest.mark.parametrize(
    ("after", "options", "status"),
    [
        (BEFORE, (), 0),
        (change("0.5", "0.500001"), (), 0),
        (change("0.5", "0.51"), (), 1),
        (change("0.3", "0.31"), (), 0),
        (change("0.3", "0.4"), (), 1),
        (change('"a"', '"b"'), (), 1),
        (change('"told"', '"requested"'), (), 1),
        (change('"told"', '"requested"'), ("--renamed", "told=requested"), 0),
        (change('"score": 0.5, ', ""), (), 1),
        (change('"score": 0.5, ', ""), ("--without", "score"), 0),
        ({}, (), 1),
    ],
)
def test_what_differs_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: object, options: tuple[str, ...], status: int
) -> None:
    assert compare(tmp_path, monkeypatch, after, *options) == status
