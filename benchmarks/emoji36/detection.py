"""How well, and how fast, the language of a text is told among 36: our n-grams of the captions, and a package.

`python -m benchmarks.emoji36.detection` counts 9,600 captions a language and asks scenes of three objects and single
names. The package is py3langid, restricted to the languages of the 36 that it knows; it has no Māori.
"""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from py3langid.langid import _get_identifier
from rich.console import Console
from rich.table import Table

from benchmarks.emoji36 import lexicon, scenes
from benchmarks.emoji36.lexicon import LANGUAGES, Lexicon, plain
from benchmarks.emoji36.scenes import Sizes
from model.detection import Detector, count
from model.text import clean

WORK = Path(".cache/emoji36")
_ASKED = 100  # texts a language and kind
_THEIR_TAGS = {"fil": "tl", "quz": "qu"}

Tell = Callable[[str], str | None]


def questions(words: Lexicon) -> dict[str, dict[str, list[str]]]:
    """Texts by kind and language; no scene among them was counted."""
    emojis = scenes.shared_emojis(words)
    asked = scenes.test_scenes(emojis, _ASKED)
    singles = scenes.single_scenes(emojis, _ASKED)
    return {
        "scenes": {tag: [clean(said) for said in scenes.captions(asked, words, tag)] for tag in words},
        "names": {tag: [clean(words[tag][plain(one.objects[0].characters)].name) for one in singles] for tag in words},
    }


def ours(words: Lexicon) -> Tell:
    """The product's detector, of each language's training captions."""
    taught = scenes.training_scenes(scenes.shared_emojis(words), Sizes().train)
    detector = Detector()
    for tag in words:
        detector = detector.with_counts(tag, count([clean(said) for said in scenes.captions(taught, words, tag)]))
    return lambda text: detector.guess(text, LANGUAGES).language


def theirs() -> Tell:
    """The package's guess, in our tags."""
    identifier = _get_identifier()
    tags = {_THEIR_TAGS.get(tag, tag): tag for tag in LANGUAGES}
    identifier.set_languages([tag for tag in tags if tag in identifier.nb_classes])
    return lambda text: tags[identifier.classify(text)[0]]


def main() -> None:
    """Print one row a detector and kind of text, and what ours most often takes for something else."""
    words = lexicon.cldr(WORK / "npm")
    asked = questions(words)
    table = Table("detector", "texts", "right", "unsure", "wrong", "ms a text")
    mistaken: Counter[tuple[str, str]] = Counter()
    for name, tell in (("n-grams of the captions", ours(words)), ("py3langid", theirs())):
        for kind, texts in asked.items():
            started, found = time.perf_counter(), Counter[str]()
            for tag in LANGUAGES:
                for text in texts[tag]:
                    guess = tell(text)
                    found["right" if guess == tag else "unsure" if guess is None else "wrong"] += 1
                    if name != "py3langid" and guess not in (tag, None):
                        mistaken[tag, str(guess)] += 1
            took, total = 1000 * (time.perf_counter() - started) / found.total(), found.total()
            shares = (f"{found[key] / total:.1%}" for key in ("right", "unsure", "wrong"))
            table.add_row(name, kind, *shares, f"{took:.2f}")
    Console().print(table)
    pairs = ", ".join(f"{tag} for {guess} {times}" for (tag, guess), times in mistaken.most_common(10))
    Console().print(f"most often taken for another: {pairs}")


if __name__ == "__main__":
    main()
