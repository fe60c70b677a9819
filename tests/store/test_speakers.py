"""What speakers give a language, in both databases: one answer takes the place of no other speaker's."""

import pytest

from store.errors import TooManyAnswers
from store.registry import Registry


def keep(registry: Registry, actor: str, *, more: bool = False, **answers: str) -> dict[str, str]:
    """Keep answers to words, with blanks between captions; return all that there are then, in the order of letters."""
    given = {english: captions.split() for english, captions in answers.items()}
    registry.answers.keep("kw", given, actor, more={*answers} if more else ())
    return {each.english: " ".join(sorted(each.captions)) for each in registry.answers.list("kw")}


def test_an_answer_takes_the_place_of_the_same_speakers_alone(registry: Registry) -> None:
    keep(registry, "a", cat="kath", dog="ki brathki", moor="", sea="")
    kept = keep(registry, "b", cat="pus kath", dog="", moor="hal", sea="")
    assert kept == {"cat": "kath pus", "dog": "brathki ki", "moor": "hal", "sea": ""}
    assert keep(registry, "a", dog="ki") == {**kept, "dog": "ki"}
    assert keep(registry, "a", more=True, dog="hound ki", moor="goon") == {
        **kept,
        "dog": "hound ki",
        "moor": "goon hal",
    }
    with pytest.raises(TooManyAnswers):
        keep(registry, "b", more=True, cat=" ".join(map(str, range(99))))
    registry.answers.keep("br", {"cat": ["kazh"]}, "a")
    assert keep(registry, "b", cat="", dog="") == {**kept, "cat": "kath", "dog": "hound ki", "moor": "goon hal"}
