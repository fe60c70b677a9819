"""Quality and speed of language identification among 36 languages: our n-grams of the captions, and a package.

`python -m benchmarks.emoji36.detection` counts captions of each language and tests on scenes of three objects and on
single names; no tested scene, and no emoji whose name is tested, was counted. The package is py3langid, restricted
to the languages of the 36 that it knows; it has no Māori.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from py3langid.langid import _get_identifier
from rich.console import Console
from rich.table import Table

from benchmarks.emoji36 import lexicon, scenes
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.lexicon import LANGUAGES, Lexicon, plain
from benchmarks.emoji36.scenes import Sizes
from demo.gallery import Outline
from model.detection import Detector, count
from model.text import clean

WORK = Path(".cache/emoji36")
_TESTED = 100  # texts for each language and kind
_THEIR_TAGS = {"fil": "tl", "quz": "qu"}
_BINS = (0.65, 0.8, 0.95, 1.0)  # how sure a guess says it is

Tell = Callable[[str], tuple[str | None, float]]  # a text to its language, None when unsure, and how sure that is


class Answer(NamedTuple):
    """One text: its language, the guess, the confidence, and how long the guess took."""

    language: str
    guess: str | None
    confidence: float
    milliseconds: float


def questions(words: Lexicon, singles: Sequence[Outline]) -> dict[str, dict[str, list[str]]]:
    """Texts by kind and language."""
    shown = scenes.test_scenes(scenes.shared_emojis(words), _TESTED)
    return {
        "scenes": {tag: [clean(said) for said in scenes.captions(shown, words, tag)] for tag in words},
        "names": {tag: [clean(words[tag][plain(one.objects[0].characters)].name) for one in singles] for tag in words},
    }


def ours(words: Lexicon, left_out: Sequence[Outline]) -> Tell:
    """The product's detector, of each language's training captions that show no emoji of `left_out`."""
    hidden = {each.characters for outline in left_out for each in outline.objects}
    taught = scenes.training_scenes(scenes.shared_emojis(words), Sizes().train)
    shown = [scene for scene in taught if not hidden & {each.characters for each in scene.objects}]
    detector = Detector()
    for tag in words:
        detector = detector.with_counts(tag, count([clean(said) for said in scenes.captions(shown, words, tag)]))

    def tell(text: str) -> tuple[str | None, float]:
        guess = detector.guess(text, LANGUAGES)
        return guess.language, guess.confidence

    return tell


def theirs() -> Tell:
    """The package's guess, in our tags; it is never unsure."""
    identifier = _get_identifier()
    tags = {_THEIR_TAGS.get(tag, tag): tag for tag in LANGUAGES}
    identifier.set_languages([tag for tag in tags if tag in identifier.nb_classes])
    return lambda text: (tags[identifier.classify(text)[0]], 1.0)


def ask(tell: Tell, texts: dict[str, list[str]]) -> list[Answer]:
    """Every text, in order."""
    answers = []
    for tag in LANGUAGES:
        for text in texts[tag]:
            started = time.perf_counter()
            guess, confidence = tell(text)
            answers.append(Answer(tag, guess, confidence, 1000 * (time.perf_counter() - started)))
    return answers


def main() -> None:
    """Print a row for each detector and kind of text, our calibration, and the most frequent mistakes."""
    try:
        words = lexicon.cldr(WORK / "npm")
    except Refused as refusal:
        raise SystemExit(str(refusal)) from refusal
    singles = scenes.single_scenes(scenes.shared_emojis(words), _TESTED)
    texts_by_kind = questions(words, singles)
    table = Table("detector", "texts", "right", "unsure", "wrong", "ms: median", "95 %", "longest")
    own: list[Answer] = []
    for name, tell in (("n-grams of the captions", ours(words, singles)), ("py3langid", theirs())):
        for kind, texts in texts_by_kind.items():
            answers = ask(tell, texts)
            own += answers if name != "py3langid" else []
            table.add_row(name, kind, *_shares(answers), *_times(answers))
    Console().print(table)
    Console().print(_reliability(own))
    mistaken = Counter((each.language, each.guess) for each in own if each.guess not in (each.language, None))
    pairs = ", ".join(f"{tag} for {guess} {times}" for (tag, guess), times in mistaken.most_common(10))
    Console().print(f"most frequent mistakes: {pairs}")


def _shares(answers: list[Answer]) -> list[str]:
    kinds = Counter(
        "unsure" if each.guess is None else "right" if each.guess == each.language else "wrong" for each in answers
    )
    return [f"{kinds[kind] / len(answers):.1%}" for kind in ("right", "unsure", "wrong")]


def _times(answers: list[Answer]) -> list[str]:
    took = np.array([each.milliseconds for each in answers])
    return [f"{value:.2f}" for value in (*np.percentile(took, [50, 95]), took.max())]


def _reliability(answers: list[Answer]) -> Table:
    """Calibration: how often a guess of some confidence is right."""
    table = Table("says it is sure to", "texts", "mean it says", "right")
    for low, high in zip(_BINS, (*_BINS[1:], 2.0), strict=True):
        some = [each for each in answers if each.guess is not None and low <= each.confidence < high]
        if some:
            right = np.mean([each.guess == each.language for each in some])
            said = np.mean([each.confidence for each in some])
            table.add_row(f"{low:.0%} or more", f"{len(some):,}", f"{said:.1%}", f"{right:.1%}")
    return table


if __name__ == "__main__":
    main()
