"""A benchmark from files: pictures in folders and their captions. Which files those are is in `papers`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.emoji36.data import Test, Vectors, digest, encode_pictures
from benchmarks.emoji36.errors import Refused
from model.encoder import Encoder
from model.objectives import NO_PICTURE, Corpus
from model.pictures import read_rgb
from store.errors import PictoglotError
from worker.prepare import compute_teacher_features

GALLERY = "seen"  # the report takes the figures of this gallery
ENGLISH = "en"
_BLOCK = 4096  # pictures kept in one file: what a stopped run need not encode again


class Said(NamedTuple):
    """One clean caption; `picture` is the name of the picture that it is about."""

    caption: str
    picture: str | None
    english: str | None = None


def choose_languages(languages: str | None, known: Sequence[str]) -> list[str]:
    """Return the languages that `--languages` selects: a number, tags with commas, or all; in the order of `known`."""
    if languages is None:
        return list(known)
    if languages.isdecimal():
        if not 1 <= int(languages) <= len(known):
            raise Refused(f"--languages: {languages} is not a number from 1 to {len(known)}")
        return list(known)[: int(languages)]
    tags = languages.split(",")
    strange = [tag for tag in tags if tag not in known]
    if strange:
        raise Refused(f"--languages: {strange[0]!r} is neither a number nor one of {', '.join(known)}")
    return [tag for tag in known if tag in tags]


@dataclass(frozen=True)
class Side:
    """One side, training or test: picture files by name, the captions of a language, and the files of these."""

    pictures: Mapping[str, Path]
    said: Callable[[str], Sequence[Said]]
    sources: Sequence[Path]


class FileData:
    """`Data` of two sides. All tests are read at once, so that a faulty one ends the run before any training."""

    def __init__(
        self, encoder: Encoder, languages: Sequence[str], training: Side, test: Side, cache_folder: Path
    ) -> None:
        for path in (*training.pictures.values(), *test.pictures.values()):
            if not path.is_file():
                raise Refused(f"{path}: no such picture")
        self.languages = languages
        self._encoder, self._training = encoder, training
        self._tests = {language: _test(test, language) for language in languages}
        self._rows = {name: row for row, name in enumerate(training.pictures)}
        self._pictures = torch.from_numpy(_load_vectors(encoder, training, "taught", cache_folder))
        self.galleries = {GALLERY: _load_vectors(encoder, test, "asked", cache_folder)}
        self.sizes = {"train": len(training.pictures), "test": len(test.pictures)}
        self.fingerprint = _hash_files(encoder, training, test)
        # The teacher's features of every English text met so far; row 0 stands for captions that have none
        self._english: dict[str | None, int] = {None: 0}
        self._features = torch.full((1, encoder.dimension), torch.nan)

    def build_corpus(self, language: str) -> Corpus:
        """Return the training side of the language; English captions are their own translation, as in the paper."""
        said = self._training.said(language)
        english = [each.caption if language == ENGLISH else each.english for each in said]
        owner = [NO_PICTURE if each.picture is None else self._rows[each.picture] for each in said]
        captions = [each.caption for each in said]
        features = self._english_features(english)
        return Corpus(language, captions, features, self._pictures, torch.tensor(owner), english)

    def tests(self, language: str) -> dict[str, Test]:
        """Return every caption of the test side."""
        return {"captions": self._tests[language]}

    def digests(self) -> dict[str, str]:
        """Hash the test side alone: the training side is read later, and `fingerprint` names its files."""
        return {language: digest([], self.tests(language)) for language in self.languages}

    def _english_features(self, texts: Sequence[str | None]) -> torch.Tensor:
        new = [text for text in dict.fromkeys(texts) if text is not None and text not in self._english]
        if new:
            self._features = torch.cat([self._features, compute_teacher_features(self._encoder, new, lambda: None)])
            self._english |= {text: row for row, text in enumerate(new, len(self._english))}
        return self._features[[self._english[text] for text in texts]]


def _test(side: Side, language: str) -> Test:
    rows = {name: row for row, name in enumerate(side.pictures)}
    pairs = [(each.caption, rows[each.picture]) for each in side.said(language) if each.picture is not None]
    owner = np.array([row for _, row in pairs], dtype=np.int64)
    return Test([caption for caption, _ in pairs], owner, (GALLERY,))


def _load_vectors(encoder: Encoder, side: Side, name: str, folder: Path) -> Vectors:
    paths = list(side.pictures.values())
    parts = [np.empty((0, encoder.dimension), dtype=np.float32)]
    for start in range(0, len(paths), _BLOCK):
        parts.append(encode_pictures(encoder, paths[start : start + _BLOCK], name, folder, _stamp, _decode_picture))
    return np.concatenate(parts)


def _decode_picture(path: Path) -> Image.Image:
    """Decode a picture as the service would."""
    try:
        return read_rgb(path.read_bytes())
    except PictoglotError as error:
        raise Refused(f"{path}: {error.detail}") from error


def _stamp(path: Path) -> str:
    """Return names a file's content by size and time; stays the same when the whole tree moves."""
    status = path.stat()
    return f"{path.parent.name}/{path.name} {status.st_size} {status.st_mtime_ns}"


def _hash_files(encoder: Encoder, *sides: Side) -> str:
    """Return names all that a run reads: an earlier run is continued only if this is the same."""
    files = [path for side in sides for path in (*side.sources, *side.pictures.values())]
    return sha256("\n".join([encoder.image_fingerprint, *map(_stamp, files)]).encode()).hexdigest()
