"""What a report says beside recall: fertility, the language-ID confusion matrix, AA and F of the shared table so far.

Pure functions of captions, token ids and earlier reports; encodes nothing and decides nothing.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from model.detection import Detector
from model.evaluation import average_accuracy, forgetting
from model.segmentation import spaced
from store.versions import Version

UNSURE = "shared"  # the table that reads a text whose language is not sure
_FIGURE = "R@1"


def fertility(tokens: Sequence[Sequence[int]], captions: Sequence[str]) -> dict[str, float | None]:
    """Tokens a word and a character; None where nothing was counted, and a word where scripts put no spaces."""
    count = sum(map(len, tokens))
    words = sum(len(caption.split()) for caption in captions)
    characters = sum(len(word) for caption in captions for word in caption.split())
    return {
        "per_word": count / words if words and spaced(captions) else None,
        "per_character": count / characters if characters else None,
    }


def confusion(detector: Detector, captions: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """The language-ID confusion matrix: for each language, how many of its captions are taken for which one.

    One row a language, the most frequent first. The detector chooses among all its languages, as in a search.
    """
    matrix: dict[str, dict[str, int]] = {}
    for language, texts in captions.items():
        guesses = (detector.guess(text, detector.counts).language for text in texts)
        matrix[language] = dict(Counter(guess or UNSURE for guess in guesses).most_common())
    return matrix


def so_far(chain: Sequence[Version], language: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """AA and F of t2i R@1 over the shared table's `chain` (oldest first) and the language that `report` adds to it.

    It counts the languages that the chain has learned and that could be measured now. A past figure is the one in the
    report of that step. English is measured on other texts with every dataset, so its past figures are those of this
    report alone: of the base, of the table before, of the table after.
    """
    now = report["shared"]["languages"]
    turns = {version.language: version for version in chain if version.language != language}  # the newest turn counts
    steps = sorted((turns[tag] for tag in now if tag in turns and _learned(turns[tag], now)), key=lambda v: v.number)
    if not report["t2i"]:
        return {"languages": [], "AA": None, "F": None}
    triangle: list[list[float]] = []
    for place, step in enumerate(steps):
        last = place == len(steps) - 1
        past = [_past(step, other, now, triangle[-1][at], last) for at, other in enumerate(steps[:place])]
        triangle.append([*past, _learned(step, now)[_FIGURE]])
    triangle.append([*(now[step.language]["after"][_FIGURE] for step in steps), report["t2i"][_FIGURE]])
    counted = [*(step.language for step in steps), language]
    return {"languages": counted, "AA": average_accuracy(triangle), "F": forgetting(triangle)}


def _learned(step: Version, now: Mapping[str, Any]) -> Mapping[str, float]:
    """Recall of a language right after its own turn; a base has no report, so of English as measured now."""
    recall: Mapping[str, float] = step.report.get("t2i") or now.get(step.language, {}).get("learned") or {}
    return recall


def _past(step: Version, other: Version, now: Mapping[str, Any], before: float, last: bool) -> float:
    """The figure of `other` after an earlier `step`; where no comparable one was measured, the one before."""
    if other.parent is None:
        return float(now[other.language]["before"][_FIGURE]) if last else before
    measured = step.report.get("shared", {}).get("languages", {}).get(other.language)
    return float(measured["after"][_FIGURE]) if measured else before
