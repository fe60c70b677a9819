"""Trains all languages by one training and scores every row that reads it; resumes where it was stopped.

Each language's version is written as the product writes it, so a run that is stopped, or killed, resumes within it.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from benchmarks.emoji36.data import Data, Vectors
from benchmarks.emoji36.errors import Refused
from benchmarks.emoji36.methods import NOTHING, TRAININGS, Overrides, Training
from model import checkpoint
from model.checkpoint import VersionContent
from model.encoder import NO_ROW, Encoder, View
from model.evaluation import measure_recalls
from model.objectives import Corpus
from model.text import is_word
from model.tokenizer import Tokenizer
from model.training import LearnSettings, Progress
from store import files

JOINT = "joint"
CODE = ("benchmarks", "model", "index", "service", "demo", "worker")  # what results depend on
Scores = dict[str, Any]  # gallery -> {"t2i": {"R@1": ...}, "i2t": ..., "pairs": n}
Encode = Callable[[Sequence[tuple[View, str]]], Vectors]  # texts and their views to unit vectors (n, dimension)


@dataclass(frozen=True)
class Taught:
    """One language: what was learned, the view that reads it, and what it cost."""

    language: str
    learned: VersionContent
    view: View
    facts: dict[str, Any]


def teach(
    encoder: Encoder, data: Data, name: str, settings: LearnSettings, folder: Path, overrides: Overrides = NOTHING
) -> Iterator[Taught]:
    """Yield every language of a training in order, from disk as far as an earlier run came; `joint` is one for all."""
    training = TRAININGS[name]
    grown = encoder.base.make_tokenizer if training.tokenizer is Tokenizer else training.tokenizer
    view = base = replace(encoder.base_view, tokenizer=grown())
    claim(folder / "training.json", training.described(settings, overrides), folder.glob("*/version"))
    for number, language in enumerate((JOINT,) if training.onto == "joint" else data.languages, 1):
        parent = {"chain": view, "tokens": _drop_rows(view, base)}.get(training.onto, base)
        place = folder / f"{number:02d}-{language}"
        with FileLock(f"{place}.lock"):  # two rows may read one training, and two runs reach it at once
            if not (place / "version").exists():
                teach_one(
                    encoder,
                    parent,
                    _join_corpus(data, language),
                    place,
                    training,
                    training.settle_settings(settings, overrides),
                )
        learned, facts = checkpoint.read_version(place / "version")
        view = encoder.extend(parent, number, language, learned)
        yield Taught(language, learned, view, {**facts, "bytes": _measure_size(place / "version")})


class Spent:
    """What a training took, kept at `path` from attempt to attempt: also of steps that had to be done again."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock, self._started = path, clock, clock()
        self._before = float(json.loads(path.read_text())["seconds"]) if path.is_file() else 0.0

    def seconds(self) -> float:
        """Return the seconds of all attempts, by this clock."""
        return self._before + self._clock() - self._started

    def on_step(self, progress: Progress) -> bool:
        """Keep them every now and then; as `Trainer.learn` calls it."""
        if progress.step % 25 == 0 or progress.step == progress.steps:
            files.write_json(self._path, {"seconds": self.seconds()})
        return False


def claim(path: Path, described: dict[str, Any], made: Iterable[Path] = ()) -> None:
    """Record at `path` how the results beside it are made; raises `Refused` where they were made in another way.

    Also where results are `made` already, and `path` is missing.
    """
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8")) != described:
            raise Refused(f"{path}: the results here were made in another way; move them away")
        return
    unknown = next((each for each in made if each.exists()), None)
    if unknown is not None:
        raise Refused(f"{path}: missing, so it is unknown how {unknown} was made; move that away")
    files.write_json(path, described)


def commit() -> str:
    """Return the commit that is checked out, if git knows; `-dirty` where the code differs from it."""
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*"]
    head = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    differs = ["git", "diff", "--quiet", "HEAD", "--", *(f":/{folder}" for folder in CODE)]
    return f"{head}-dirty" if subprocess.run(differs, capture_output=True, check=False).returncode == 1 else head


def _drop_rows(view: View, base: View) -> View:
    """Return the base's rows alone, read with the tokenizer of `view`."""
    more = view.tokenizer.size - len(base.physical)
    return replace(base, tokenizer=view.tokenizer, physical=np.pad(base.physical, (0, more), constant_values=NO_ROW))


def teach_one(
    encoder: Encoder, parent: View, corpus: Corpus, place: Path, training: Training, settings: LearnSettings
) -> None:
    """Write the version of one language, taught on top of `parent`, into `place`; resumes an earlier attempt there."""
    spent = Spent(place / "seconds.json")
    learned = training.method.trainer(encoder, parent, corpus, place / "checkpoints", settings).learn(spent.on_step)
    facts = {
        "language": corpus.language,
        "text_fingerprint": encoder.text_fingerprint,
        "seconds": round(spent.seconds(), 1),
        "settings": asdict(settings),
        "bfloat16": settings.can_use_bfloat16(encoder.base.device),
        "commit": commit(),
    }
    checkpoint.write_version(place / "version", learned, facts)
    files.remove(place / "checkpoints")


def _join_corpus(data: Data, language: str) -> Corpus:
    """Return the corpus of one language, or of all of them, one behind the other."""
    if language != JOINT:
        return data.build_corpus(language)
    parts = [data.build_corpus(tag) for tag in data.languages]
    return Corpus(
        JOINT,
        [caption for part in parts for caption in part.captions],
        torch.cat([part.pivot_features for part in parts]),
        parts[0].pictures,
        torch.cat([part.picture_rows for part in parts]),
        listed={entry[0] for part in parts for entry in part.entries if is_word(*entry)},
    )


def encode_plainly(encoder: Encoder) -> Encode:
    """Return encodes each text by its view, every time."""
    return lambda items: encoder.encode_texts(items).vectors


def remember_encoded(encoder: Encoder) -> Encode:
    """Return encodes each text by each view once: a view never changes. The views must outlive the function."""
    known: dict[tuple[int, str], Vectors] = {}

    def encode(items: Sequence[tuple[View, str]]) -> Vectors:
        new = {(id(view), text): (view, text) for view, text in items if (id(view), text) not in known}
        known.update(zip(new, encoder.encode_texts([*new.values()]).vectors, strict=True))
        return np.stack([known[id(view), text] for view, text in items])

    return encode


def score(encode: Encode, data: Data, views: list[View], language: str) -> tuple[Scores, str]:
    """Return recall on one language's tests, each text read by its view; and a digest of the vectors, bit for bit.

    `views` holds one view for all texts, or one for each text of all tests in order.
    """
    scores, digest = Scores(), sha256()
    tests = data.tests(language)
    total = sum(len(test.captions) for test in tests.values())
    each = iter(views * total if len(views) == 1 else views)
    for test in tests.values():
        vectors = encode([(next(each), caption) for caption in test.captions])
        digest.update(np.ascontiguousarray(vectors).tobytes())
        for gallery in test.galleries:
            scores[gallery] = measure_recalls(vectors, data.galleries[gallery], test.owner)
    return scores, digest.hexdigest()


def _measure_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
