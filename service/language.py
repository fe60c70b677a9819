"""Which language's version reads a query: told, detected or shared. Encodes nothing and opens no view."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from model.detection import Detector, Guess
from model.errors import LanguageNotFound
from model.languages import canonical, in_script

AUTO, SHARED = "auto", "shared"


@dataclass(frozen=True)
class Choice:
    """The version a text is read with, and how that came about."""

    requested: str
    used: str
    source: Literal["told", "detected", "shared"]
    confidence: float | None
    warnings: tuple[str, ...] = ()


def served(tag: str, languages: Iterable[str]) -> str:
    """The canonical form of a tag that is served; raises `LanguageTagInvalid` or `LanguageNotFound`."""
    tag, known = canonical(tag), sorted(languages)
    if tag not in known:
        raise LanguageNotFound(f"this language is not learned; learned are: {', '.join(known)}", languages=known)
    return tag


def choose(requested: str, text: str, languages: Iterable[str], detector: Detector) -> Choice:
    """How a cleaned text is to be read; raises `LanguageTagInvalid` or `LanguageNotFound` for a told tag."""
    known = sorted(languages)
    if requested == SHARED:
        return Choice(requested, SHARED, "shared", None)
    if requested != AUTO:
        return Choice(requested, served(requested, known), "told", None)
    guess = detector.guess(text, known)
    if guess.language is not None:
        return Choice(requested, guess.language, "detected", guess.confidence)
    return Choice(requested, SHARED, "shared", 0.0, tuple(_doubts(text, known, detector, guess)))


def _doubts(text: str, known: Iterable[str], detector: Detector, guess: Guess) -> Iterable[str]:
    never_seen = any(detector.totals.values()) and guess.known == 0 and any(c.isalpha() for c in text)
    if never_seen or all(in_script(text, tag) is False for tag in known):
        yield "language_not_supported"
    elif guess.ties:
        yield "detection_tie"
