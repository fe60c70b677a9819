"""How many pairs a language needs, and what an aligned start saves: each taught on the base, as the product does.

Full length is what `LearnSettings` gives a dataset of that size; a share of 0 trains nothing.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.emoji36.data import Data
from benchmarks.emoji36.methods import TRAININGS
from benchmarks.emoji36.run import plainly, score
from model import storage
from model.corpus import Corpus
from model.encoder import Encoder
from model.learn_settings import LearnSettings
from model.table import Table

LANGUAGES = ("de", "ar", "zh", "ru", "hi", "ko", "el", "th")  # eight scripts
PAIRS, SHARES = (200, 1_000), (0.0, 0.25, 1.0)
# "aligned" in results is the aligned start of before: IBM's first model in one direction, nothing drawn (decision 41)
STARTS = {"plain": "free-base", "agreed": "aligned-base"}


@dataclass(frozen=True)
class Point:
    """One training: a language, how many of its pairs, from which start, and which share of the full length."""

    language: str
    pairs: int
    start: str
    share: float
    seed: int


def points(languages: tuple[str, ...], seed: int) -> Iterator[Point]:
    """All of them, the cheapest first, so that a run that is stopped has whole curves of some lengths."""
    for pairs, share in sorted(product(PAIRS, SHARES), key=lambda each: each[0] * each[1]):
        yield from (Point(tag, pairs, start, share, seed) for tag, start in product(languages, STARTS))


def measure(encoder: Encoder, data: Data, point: Point, folder: Path) -> dict[str, Any]:
    """Teach and score one; what it took is in seconds of the process."""
    training = TRAININGS[STARTS[point.start]]
    settings = training.settled(LearnSettings(seed=point.seed))
    epochs = max(1, round(point.share * settings.epochs_for(point.pairs)))
    rate = settings.learning_rate if point.share else 0.0
    settings = replace(settings, epochs=epochs, learning_rate=rate)
    corpus, started = first(data.corpus(point.language), point.pairs), time.process_time()
    trainer = training.method.trainer(encoder, encoder.base_view, corpus, folder, settings)
    view = encoder.extend(encoder.base_view, 1, point.language, trainer.learn(lambda _: False))
    seconds = round(time.process_time() - started, 1)
    storage.remove(folder)
    scores, _ = score(plainly(encoder), data, [view], point.language)
    steps = trainer.steps if point.share else 0
    found = {name: {way: recall[way]["R@1"] for way in ("t2i", "i2t")} for name, recall in scores.items()}
    return {**vars(point), "epochs": epochs if steps else 0, "steps": steps, "seconds": seconds, **found}


def first(corpus: Corpus, pairs: int) -> Corpus:
    """The first pairs of a corpus, which are in random order."""
    owner = corpus.owner[:pairs]
    return Corpus(
        corpus.language, corpus.captions[:pairs], corpus.english[:pairs], corpus.pictures, owner, corpus.texts[:pairs]
    )


def run(
    encoder: Encoder, data: Data, held: list[dict[str, Any]], seed: int, folder: Path, tell: Callable[[Any], None]
) -> None:
    """Measure what `held` lacks; `tell` gets each point as soon as it is there."""
    done = {Point(**{key: each[key] for key in Point.__annotations__}) for each in held}
    for point in points(tuple(tag for tag in LANGUAGES if tag in data.languages), seed):
        if point not in done:
            storage.remove(folder)
            tell(measure(encoder, data, point, folder))
            encoder.table = Table(encoder.base.table)  # nothing reads its rows any more
