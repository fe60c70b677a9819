"""Doubts about short files of a language that was taught: too little text for the library's detector."""

import random
from itertools import pairwise

import pytest

from benchmarks.doubts import ask
from model.detection import Detector, count_ngrams

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
