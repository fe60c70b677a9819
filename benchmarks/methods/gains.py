"""What settings of a training gain over others: both teach the same languages on the base, and the same captions ask.

The error is that of the sample of pictures: what is asked of one, in whatever language and after whichever seed,
succeeds and fails together.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.emoji36.data import Data, Test, encode_pictures
from benchmarks.methods import addressed
from benchmarks.methods.addressed import Adapter
from demo import dataset
from demo.emojis import LANGUAGES
from demo.gallery import Outline, draw, list_outlines
from model.encoder import Encoder, Table
from model.evaluation import KS, Gain, compute_ranks, measure_gain
from model.objectives import Corpus
from model.text import clean
from model.training import LearnSettings, Trainer
from store import files
from worker.prepare import compute_teacher_features

Settings = Mapping[str, Any]
Held = list[dict[str, Any]]  # trials with what was measured
EIGHT = ("de", "ar", "zh", "ru", "hi", "ko", "el", "th")  # of eight scripts


class DemoData:
    """The demo's datasets: 3,994 rows, most names in few of them; the held-out captions ask among all its pictures.

    With some pictures of the gallery alone, as if it had no others.
    """

    languages: Sequence[str] = LANGUAGES
    fingerprint = "demo"

    def __init__(self, encoder: Encoder, folder: Path, shown: Sequence[Outline] | None = None) -> None:
        self._encoder, shown = encoder, shown or list_outlines()
        self._places = {each.id: place for place, each in enumerate(shown)}
        vectors = encode_pictures(
            encoder, shown, "demo", folder, lambda each: f"{each.id} {each.caption} {each.drawing_set}", draw
        )
        self.galleries, self.sizes = {"all": vectors}, {"test": len(shown)}

    def build_corpus(self, language: str) -> Corpus:
        """Return the pairs in random order, the same for every language."""
        rows = self._rows(language, "train")
        random.Random("demo").shuffle(rows)
        texts = [clean(row["english"]) for row in rows]
        features, owner = (
            compute_teacher_features(self._encoder, texts, lambda: None),
            torch.from_numpy(self._owner(rows)),
        )
        pictures = torch.from_numpy(self.galleries["all"])
        return Corpus(language, [clean(row["caption"]) for row in rows], features, pictures, owner, texts)

    def tests(self, language: str) -> dict[str, Test]:
        rows = self._rows(language, "val")
        return {"held out": Test([clean(row["caption"]) for row in rows], self._owner(rows), ("all",))}

    def digests(self) -> dict[str, str]:
        return {}

    def _rows(self, language: str, split: str) -> list[dict[str, str]]:
        rows = (row for row in dataset.build_rows(language) if row["picture"] in self._places)
        return [row for row in rows if row["split"] == split]

    def _owner(self, rows: Sequence[dict[str, str]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.array([self._places[row["picture"]] for row in rows], dtype=np.int64)


@dataclass(frozen=True)
class Trial:
    """One training: a language, the first so many of its pairs (0: all), and all settings but the seed.

    With an `adapter`, that is trained beside the rows; without, the product is as it is.
    """

    data: str
    language: str
    pairs: int
    seed: int
    settings: tuple[tuple[str, Any], ...]
    adapter: Adapter | None = None


def measure(encoder: Encoder, data: Data, trial: Trial, folder: Path) -> dict[str, Any]:
    """Teach it, and rank each test caption's picture; what it took is in seconds of the process."""
    corpus = data.build_corpus(trial.language)
    corpus, started = first(corpus, trial.pairs or len(corpus.captions)), time.process_time()
    settings = LearnSettings(**{**dict(trial.settings), "seed": trial.seed})
    if trial.adapter is None:
        taught = _teach(encoder, corpus, folder, settings)
    else:
        taught = addressed.teach(encoder, corpus, folder, settings, trial.adapter)
    seconds = round(time.process_time() - started, 1)
    test = next(iter(data.tests(trial.language).values()))
    read = taught.reader.encode_texts([(taught.view, caption) for caption in test.captions]).vectors
    found = compute_ranks(read, data.galleries[test.galleries[0]], test.owner)
    encoder.table = Table(encoder.base.table)  # nothing reads its rows any more
    return {"steps": taught.steps, "seconds": seconds, "ranks": found.tolist(), "owner": test.owner.tolist()}


def first(corpus: Corpus, pairs: int) -> Corpus:
    """Return the first pairs of a corpus, which are in random order."""
    owner = corpus.picture_rows[:pairs]
    return Corpus(
        corpus.language,
        corpus.captions[:pairs],
        corpus.pivot_features[:pairs],
        corpus.pictures,
        owner,
        corpus.pivot_texts[:pairs],
    )


def _teach(encoder: Encoder, corpus: Corpus, folder: Path, settings: LearnSettings) -> addressed.Taught:
    files.remove(folder)
    trainer = Trainer(encoder, encoder.base_view, corpus, folder, settings)
    view = encoder.extend(encoder.base_view, 1, corpus.language, trainer.learn(lambda _: False))
    files.remove(folder)
    return addressed.Taught(view, encoder, trainer.steps)


def fill(
    encoder: Encoder, data: Data, trials: Sequence[Trial], held: Held, folder: Path, tell: Callable[[Any], None]
) -> None:
    """Measure what `held` lacks; `tell` gets each as soon as it is there. Works in a new folder inside of `folder`."""
    done = {read_trial(each) for each in held}
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as own:  # another comparison may run beside
        for trial in trials:
            if trial not in done:
                tell(asdict(trial) | measure(encoder, data, trial, Path(own) / "training"))


def conclude(held: Held, before: Sequence[Trial], after: Sequence[Trial]) -> dict[str, Any]:
    """Return what is kept of a comparison, as JSON: recalls in per cent; steps, and seconds of one core."""
    sides, by_trial = (before, after), {read_trial(each): each for each in held}
    found: dict[str, Any] = {
        name: [round(float(np.mean([by_trial[trial][name] for trial in side])), 1) for side in sides]
        for name in ("steps", "seconds")
    }
    for k in KS:
        gain = pool_gain(held, before, after, k)
        figures = {"before": gain.before, "after": gain.after, "gain": gain.mean, "error": gain.error}
        found[f"R@{k}"] = {name: round(100 * each, 2) for name, each in figures.items()}
    found["R@1 by language"] = {}
    for tag in dict.fromkeys(trial.language for trial in before):
        one, other = ([trial for trial in side if trial.language == tag] for side in sides)
        found["R@1 by language"][tag] = round(100 * pool_gain(held, one, other, 1).mean, 2)
    return found


def pool_gain(held: Held, before: Sequence[Trial], after: Sequence[Trial], k: int) -> Gain:
    """Return R@K of all trials together; the two settings' trials in the same order."""
    by_trial = {read_trial(each): each for each in held}
    pairs = [(by_trial[one], by_trial[other]) for one, other in zip(before, after, strict=True)]
    first, second = (np.concatenate([each["ranks"] for each in part]) for part in zip(*pairs, strict=True))
    return measure_gain(first, second, np.concatenate([each["owner"] for each, _ in pairs]), (k,))


def read_trial(held: Mapping[str, Any]) -> Trial:
    """Return the trial of what was measured, also as JSON has it."""
    settings = tuple((name, value) for name, value in held["settings"])
    adapter = Adapter(**held["adapter"]) if held.get("adapter") else None
    return Trial(held["data"], held["language"], held["pairs"], held["seed"], settings, adapter)
