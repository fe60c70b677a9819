"""Teaches a language as a worker does, from pairs alone, and asks its captions among the pictures."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from benchmarks.emoji36.run import commit
from benchmarks.methods import addressed
from benchmarks.stamps.data import Stamp
from benchmarks.stamps.english import encode_gallery
from model import checkpoint, dataset
from model.checkpoint import VersionContent
from model.dataset.rows import Row
from model.encoder import Encoder, Vectors, View
from model.evaluation import compute_ranks
from model.languages import ENGLISH
from model.objectives import NO_PICTURE, Corpus
from model.text import clean
from model.training import LearnSettings, Trainer
from store import files
from store.errors import InvalidInput
from worker.prepare import compute_teacher_features

GALLERIES = ("photographs", "all")
Asked = dict[str, list[int]]  # by picture, the rank of that, from 0, in each of the galleries, seed after seed
_VERSION = "version"  # folder of what was learned, in that of a training


@dataclass(frozen=True)
class Pair:
    """A caption of a picture, clean, and the text beside it."""

    picture: str
    caption: str
    other: str


@dataclass(frozen=True)
class Taught:
    """What a language's training made: the view that reads it, and what is said of it in a result."""

    view: View
    learned: VersionContent
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Bench:
    """A base and the stamps; `folder` has what was measured with them so far, and `work` what can be made again."""

    encoder: Encoder
    shown: Sequence[Stamp]
    work: Path
    settings: LearnSettings = field(default_factory=LearnSettings)

    @cached_property
    def folder(self) -> Path:
        """One for each base, its towers, set of pictures with what is said of them, and settings."""
        texts = [(stamp.path, stamp.path.with_suffix(".txt").read_bytes()) for stamp in self.shown]
        said = [[path.name, path.stat().st_size, sha256(text).hexdigest()] for path, text in texts]
        belongs = [self.encoder.text_fingerprint, self.encoder.image_fingerprint, asdict(self.settings), said]
        return self.work / "results" / sha256(json.dumps(belongs).encode()).hexdigest()[:12]

    @cached_property
    def photographs(self) -> Sequence[Stamp]:
        """What is taught and asked; cartoons and symbols are only among the candidates of the gallery `all`."""
        return [stamp for stamp in self.shown if stamp.is_photograph]

    @cached_property
    def galleries(self) -> Mapping[str, tuple[Mapping[str, int], Vectors]]:
        """Of each gallery the row of each picture by its name, and unit vectors (n, dimension)."""
        with FileLock(self.work / "pictures.lock"):
            vectors = encode_gallery(self.encoder, self.shown, self.work)
        names = [stamp.name for stamp in self.shown]
        photographs = [place for place, stamp in enumerate(self.shown) if stamp.is_photograph]
        return {
            "photographs": ({names[place]: row for row, place in enumerate(photographs)}, vectors[photographs]),
            "all": ({name: row for row, name in enumerate(names)}, vectors),
        }

    def list_pairs(self, language: str, pivot: str = ENGLISH) -> list[Pair]:
        """List photographs with a caption in both languages, by name; without captions that the service refuses."""
        found = []
        for stamp in self.photographs:
            if language in stamp.captions and pivot in stamp.captions:
                with suppress(InvalidInput):
                    found.append(Pair(stamp.name, clean(stamp.captions[language]), clean(stamp.captions[pivot])))
        return found

    def teach(
        self, language: str, pairs: Sequence[Pair], place: Path, parent: View | None = None, pivot: View | None = None
    ) -> Taught:
        """Return the language learned on the `parent`, from texts that `pivot` reads; without them, the base is both.

        What `place` has is not trained again; a training that was stopped goes on.
        """
        onto = parent or self.encoder.base_view
        with FileLock(f"{make_folder(place)}.lock"):
            if not (place / _VERSION).exists():
                self._train(language, pairs, place, onto, pivot)
            learned, facts = checkpoint.read_version(place / _VERSION)
        view = self.encoder.extend(onto, onto.version + 1, language, learned)
        return Taught(view, learned, {name: facts[name] for name in ("pairs", "epochs", "seconds", "commit")})

    def _train(self, language: str, pairs: Sequence[Pair], place: Path, onto: View, pivot: View | None) -> None:
        started = time.monotonic()
        corpus = self.build_corpus(language, pairs, place, pivot)
        trainer = Trainer(self.encoder, onto, corpus, place / "checkpoints", self.settings)
        learned, count = trainer.learn(lambda _: False), len(corpus.captions)
        facts = {
            "text_fingerprint": self.encoder.base_fingerprint,
            "pairs": count if pivot else len({*zip(corpus.captions, corpus.pivot_texts, strict=True)}),
            "epochs": trainer.settings.choose_epochs(count),
            "seconds": round(time.monotonic() - started, 1),  # of the last attempt
            "commit": commit(),
        }
        checkpoint.write_version(place / _VERSION, learned, facts)
        files.remove(place / "checkpoints")

    def teach_adapted(
        self, language: str, pairs: Sequence[Pair], place: Path, adapter: addressed.Adapter
    ) -> addressed.Taught:
        """Return the language learned on the base with an adapter of its own beside its rows."""
        corpus = self.build_corpus(language, pairs, place)
        return addressed.teach(self.encoder, corpus, place / "checkpoints", self.settings, adapter)

    def build_corpus(self, language: str, pairs: Sequence[Pair], place: Path, pivot: View | None = None) -> Corpus:
        """Return rows as `model.dataset` reads them of a file, all to be trained on, none with a picture."""
        other = ENGLISH if pivot is None else str(pivot.language)
        lines = [
            {"caption": pair.caption, "pivot": {"language": other, "text": pair.other}, "split": "train"}
            for pair in pairs
        ]
        file = place / "pairs.jsonl"
        files.write_bytes(file, "".join(json.dumps(line) + "\n" for line in lines).encode())
        rows: Sequence[Row] = dataset.read(file).rows
        listed = {pair.caption for pair in pairs} - {pair.caption for pair in pairs if pair.picture}
        if listed:  # beside a list, as a worker repeats them
            entries = [(row.caption, row.pivot and row.pivot.text, row.caption in listed) for row in rows]
            settings = self.settings.resolve(entries, self.encoder.base_view.tokenizer.new_row_kind)
            rows = settings.repeat_captions(rows, {row for row in rows if row.caption in listed})
        texts = [row.pivot.text for row in rows if row.pivot is not None]
        return Corpus(
            language,
            [row.caption for row in rows],
            compute_teacher_features(self.encoder, texts, lambda: None, pivot),
            torch.empty((0, self.encoder.dimension)),
            torch.full((len(rows),), NO_PICTURE),
            texts if pivot is None else [None] * len(rows),  # as a worker: what the base reads itself
            listed,
        )

    def ask(
        self, pairs: Sequence[Pair], read: View | Callable[[str], View], reader: Encoder | None = None
    ) -> tuple[Asked, str]:
        """Return the ranks of the pairs' own pictures, each caption read by a view; and a digest of the vectors' bits.

        `reader` is what encodes them if not the bench's encoder.
        """
        vectors = self.encode([pair.caption for pair in pairs], read, reader)
        return self.rank(pairs, vectors), sha256(np.ascontiguousarray(vectors).tobytes()).hexdigest()

    def encode(
        self, texts: Sequence[str], read: View | Callable[[str], View], reader: Encoder | None = None
    ) -> Vectors:
        """Encode texts, each read by a view: unit vectors (n, dimension)."""
        views = [read if isinstance(read, View) else read(text) for text in texts]
        return (reader or self.encoder).encode_texts([*zip(views, texts, strict=True)]).vectors

    def rank(self, pairs: Sequence[Pair], vectors: Vectors) -> Asked:
        """Return the rank of each pair's own picture for its vector, in each of the galleries."""
        found: Asked = {pair.picture: [] for pair in pairs}
        for name in GALLERIES:
            places, pictures = self.galleries[name]
            owner = np.array([places[pair.picture] for pair in pairs], dtype=np.int64)
            for pair, rank in zip(pairs, compute_ranks(vectors, pictures, owner).tolist(), strict=True):
                found[pair.picture].append(rank)
        return found


def sort_by_hash(pairs: Sequence[Pair], seed: str) -> list[tuple[float, Pair]]:
    """Return the pairs by a hash of their caption, in 0..1, which comes with each; equal captions stay together."""
    hashed = [
        (int.from_bytes(sha256(f"{seed} {pair.caption}".encode()).digest()[:8]) / math.ldexp(1, 64), pair)
        for pair in pairs
    ]
    return sorted(hashed, key=lambda each: each[0])


def make_folder(folder: Path) -> Path:
    """Return the folder, which is made unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
