"""`python -m benchmarks.doubts`: right files and files with mistakes, and which of them a teacher is asked about.

Right files are people's translations of Tux Paint's descriptions, Unicode's names of emoji, and FreeDict's
dictionaries, whole and as lists of two hundred words. A mistake is one of six kinds in each of ten languages.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.emoji36 import lexicon
from benchmarks.emoji36.errors import Refused
from benchmarks.stamps.bench import make_folder
from benchmarks.stamps.data import fetch, read_stamps
from benchmarks.stamps.dictionaries import read_pairs
from model.dataset.doubts import ENOUGH, Doubt, OwnGuess, find_doubts
from model.dataset.rows import Pivot, Row
from model.languages import ENGLISH
from model.lexicon import Detector, count_ngrams
from model.tokenizer import list_english_words

Pairs = list[tuple[str, str]]
TEN = ("br", "cy", "eu", "gd", "hsb", "is", "kab", "mi", "qu", "sw")  # hsb and mi are unknown to the detector
OTHERS = ("fr", "es", "de", "ru", "pl", "pt", "it", "nl", "tr", "id")
DICTIONARIES = ("af", "cy", "fi", "ga", "hr", "ja", "ku", "tr")
LEAST, MOST, LIST = 64, 600, 200  # rows of a file, and words of a list


def read_right_files(work: Path) -> dict[str, tuple[str, Pairs]]:
    """Return pairs by the name of their source, with the tag of their language."""
    files: dict[str, tuple[str, Pairs]] = {}
    shown = read_stamps(fetch(work))
    for tag in sorted({tag for stamp in shown for tag in stamp.captions}):
        files[f"stamps {tag}"] = tag, [(each.captions[tag], each.english) for each in shown if tag in each.captions]
    folder = make_folder(work / "npm")
    english = lexicon.read_cldr(folder, [ENGLISH])[ENGLISH]
    for tag in lexicon.list_tags(folder):
        with suppress(Refused):  # variants name only what differs
            named = lexicon.read_cldr(folder, [tag])[tag]
            files[f"emoji {tag}"] = tag, [(named[each].name, english[each].name) for each in named if each in english]
    draw = random.Random(0)
    for tag in DICTIONARIES:
        pairs = read_pairs(make_folder(work / "freedict"), tag)
        files[f"dictionary {tag}"] = tag, pairs
        files[f"list {tag}"] = tag, draw.sample(pairs, LIST)
    foreign = {name: each for name, each in files.items() if each[0].partition("-")[0] != ENGLISH}
    return {name: (tag, pairs) for name, (tag, pairs) in foreign.items() if len(pairs) >= LEAST}


def make_mistakes(pairs: Pairs, other: Pairs, draw: random.Random) -> Iterator[tuple[str, Pairs]]:
    """Yield the six kinds of mistake that can be made with some pairs and those of another language."""
    captions, texts = [caption for caption, _ in pairs], [text for _, text in pairs]
    yield "swapped", [(text, caption) for caption, text in pairs]
    yield "other language", other[: len(pairs)]
    yield "English twice", [(text, text) for text in texts]
    yield "mixed", [*zip(captions, draw.sample(texts, len(texts)), strict=True)]
    yield "slipped", [*zip(captions, [*texts[1:], texts[0]], strict=True)]
    yield "half other", [*pairs[: len(pairs) // 2], *other[: len(pairs) // 2]]


def ask(pairs: Sequence[tuple[str, str]], tag: str, detector: Detector) -> list[Doubt]:
    """Return the doubts about a file; the language was taught before if the detector has counts of it."""
    rows = [Row(line, caption, Pivot(ENGLISH, text), None, None) for line, (caption, text) in enumerate(pairs, 1)]

    def guess(texts: Sequence[str], asked: str) -> list[OwnGuess]:
        taught = asked != ENGLISH and detector.totals.get(asked, 0) >= ENOUGH
        guesses = [(text, detector.guess(text, detector.counts)) for text in texts]
        return [
            OwnGuess(each.language, each.known, detector.measure_known(text, asked) if taught else None)
            for text, each in guesses
        ]

    return find_doubts(rows, tag, guess)


def main(work: Annotated[Path, typer.Option(help="Where packages are kept")] = Path(".cache/stamps")) -> None:
    """Print each right file that is doubted and each mistake that is not, and how many there are."""
    detector = Detector().replace_counts(ENGLISH, count_ngrams(list_english_words()))
    files, show, draw = read_right_files(work), typer.echo, random.Random(0)
    doubted = 0
    for name, (tag, pairs) in files.items():
        if doubts := ask(pairs[:MOST], tag, detector):
            doubted += 1
            show(f"doubted: {name}, {min(len(pairs), MOST)} rows: {doubts[0].code}: {doubts[0].detail}")
    again, unturned = 0, 0
    for name, (tag, pairs) in files.items():
        half = len(pairs) // 2
        taught = detector.replace_counts(tag, count_ngrams([caption for caption, _ in pairs[:half]]))
        swapped = ask([(text, caption) for caption, text in pairs[half:][:MOST]], tag, taught)
        if [doubt.code for doubt in swapped] != ["columns_swapped"]:
            unturned += 1
            show(f"swapped, taught before by {name}: {', '.join(each.code for each in swapped) or 'no doubt'}")
        for source, more in [(name, pairs[half:]), *((f"stamps {tag}", files.get(f"stamps {tag}", ("", []))[1]),)]:
            if source.partition(" ")[0] != "list" and len(more) >= LEAST and (doubts := ask(more[:MOST], tag, taught)):
                again += 1
                show(f"doubted, taught before by {name}: {source}: {doubts[0].code}: {doubts[0].detail}")
    served, asked = 0, 0
    for tag, another in zip(TEN, OTHERS, strict=True):
        pairs, other = (files.get(f"stamps {each}", files.get(f"emoji {each}", ("", [])))[1] for each in (tag, another))
        for kind, wrong in make_mistakes(pairs[:MOST], other, draw):
            asked += 1
            doubts = ask(wrong, tag, detector)
            show(f"{tag} {kind}: {', '.join(each.code for each in doubts) or 'SERVED WITHOUT A QUESTION'}")
            served += not doubts
    count = len({tag for tag, _ in files.values()})
    show(f"{again} doubted that join what was taught before")
    show(f"{unturned} of {len(files)} swapped files that join what was taught before are not said to be swapped")
    show(f"{served} of {asked} mistakes served without a question")
    show(f"{doubted} of {len(files)} right files in {count} languages doubted")


if __name__ == "__main__":
    typer.run(main)
