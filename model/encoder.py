"""The only inference surface: texts of any mix of languages, and pictures, to unit vectors. Trains nothing."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model import checkpoint
from model.base import Base
from model.lexicon import Lexicon, count_ngrams
from model.pictures import Frame
from model.table import Table, View, pad
from model.tokenizer import list_english_words
from model.towers import TorchTowers, Towers
from store.bases import Encoding
from store.data_root import DataRoot
from store.errors import PictoglotError, VersionCorrupt
from store.registry import Registry
from store.versions import Version

Vectors = NDArray[np.float32]
_BATCH = 256  # texts in one forward pass


@dataclass(frozen=True)
class VersionFolder:
    """The folder of a version, and the hash that the registry has of its manifest."""

    number: int
    language: str
    path: Path
    manifest_sha256: str | None
    is_proof: bool = False  # opened as it was before it was taught what is held out

    @staticmethod
    def fetch(version: Version, root: DataRoot) -> "VersionFolder":
        """Return the folder of a registered version, copied from the store if need be; raises `VersionCorrupt`."""
        if version.folder is None:
            raise VersionCorrupt(f"version {version.number} has no folder")
        path = root.open(version.folder, version.manifest_sha256, VersionCorrupt)
        return VersionFolder(version.number, version.language, path, version.manifest_sha256)


@dataclass(frozen=True)
class EncodedTexts:
    """Vectors (n, dimension) of unit length; per text whether it was cut to the context, and how many tokens it had."""

    vectors: Vectors
    truncated: list[bool]
    tokens: list[int]
    tokenizing_seconds: float = 0.0  # seconds, of all texts together


class Encoder:
    """One base and the rows of every version opened so far; its views stay valid for its life. Thread-safe."""

    def __init__(self, base: Base, towers: Towers | None = None, version: int = 0) -> None:
        """Compute with `towers`, by default with torch in float32; `version` is what the base is."""
        self.base = base
        self.towers = towers or TorchTowers(base)
        self.table = Table(base.table.to(base.device))
        self.base_view = View.create_for_base(
            base.make_tokenizer(), base.reading, count_ngrams(list_english_words()), version
        )
        self.dimension, self.languages = base.dimension, base.languages
        self.things, self.unseen, self.curves = base.things, base.unseen, base.curves
        self.frame: Frame | None = base.frame  # into which pictures may be put before, without any change of vectors
        self.encoded_count = 0  # texts and pictures so far
        self.base_fingerprint = base.text_fingerprint
        self.image_fingerprint = self.encoding.compute_fingerprint(base.image_fingerprint)
        self.text_fingerprint = self.encoding.compute_fingerprint(base.text_fingerprint)

    @property
    def encoding(self) -> Encoding:
        return self.towers.encoding

    def open(self, folders: Sequence[VersionFolder], onto: View | None = None) -> View:
        """Return the view of a version by its lineage, oldest first; `onto` is an open ancestor, by default the base.

        Raises `VersionCorrupt`.
        """
        view = onto or self.base_view
        for folder in folders:
            content, manifest = checkpoint.read_version(folder.path, folder.manifest_sha256, proof=folder.is_proof)
            if manifest.get("text_fingerprint") != self.base_fingerprint:
                raise VersionCorrupt(f"version {folder.number} was made for another base model")
            view = self.extend(view, folder.number, folder.language, content)
        return view

    def extend(self, view: View, number: int, language: str, content: checkpoint.VersionContent) -> View:
        """Return the view of what an expansion learned on top of `view`, before or after it is a version on disk."""
        if content.rows.rows.shape[1] != self.base.table.shape[1]:
            raise VersionCorrupt(f"the rows of version {number} have another width than the base's")
        tokenizer = content.extend_tokenizer(view.tokenizer)
        lexicon = Lexicon(content.lexicon)
        return view.extend(number, language, tokenizer, self.table, content.rows, content.ngrams, lexicon)

    def encode_texts(self, items: Sequence[tuple[View, str]], *, alone: bool = False) -> EncodedTexts:
        """Return unit vectors of cleaned texts, each read through its own view, in the order given.

        With `alone`, a text's vector has the same bits whatever else is encoded with it. Otherwise the last bits may
        depend on that, where this is faster.
        """
        started = time.perf_counter()
        sequences, truncated, tokens = [], [], []
        for view, text in items:
            (ids,) = view.tokenize([text])
            sequence, cut = view.build_sequence(ids)
            sequences.append(sequence)
            truncated.append(cut)
            tokens.append(len(ids))
        tokenising = time.perf_counter() - started
        most = 1 if alone and not self.towers.independent else _BATCH
        features = self.compute_text_features(sequences, most)
        self.encoded_count += len(items)
        return EncodedTexts(_normalize(features), truncated, tokens, tokenising)

    def compute_text_features(
        self, sequences: Sequence[NDArray[np.int32]], most: int, check: Callable[[], None] = lambda: None
    ) -> Vectors:
        """Return features (n, dimension), not normalised, of physical rows; `check` runs before each batch."""
        features = np.empty((len(sequences), self.dimension), dtype=np.float32)
        rows, reading = self.table.rows, self.base.reading
        for places, length in self.towers.make_batches(
            [reading.measure_length(len(sequence)) for sequence in sequences], most
        ):
            check()
            numbers, last = pad([sequences[place] for place in places], reading, length)
            features[places] = self.towers.encode_texts(rows[numbers.to(rows.device)], last)
        return features

    def encode_pictures(self, images: Sequence[Image.Image], batch: int = 64) -> Vectors:
        """Return unit vectors (n, dimension) of RGB pictures."""
        self.encoded_count += len(images)
        parts = list[Vectors]()
        for start in range(0, len(images), batch):
            pixels = torch.stack([self.base.preprocess(image) for image in images[start : start + batch]])
            parts.append(_normalize(self.towers.encode_pictures(pixels)))
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), dtype=np.float32)


class Views:
    """The versions that an encoder has open: each once, on top of its nearest open ancestor. Thread-safe.

    A version's rows stay in the encoder's table when its view is closed; to open it again adds them once more.
    """

    def __init__(self, encoder: Encoder, registry: Registry, root: DataRoot, *, proof: bool = False) -> None:
        """With `proof`, open versions as they were before they were taught what is held out."""
        self._encoder, self._registry, self._root, self._proof = encoder, registry, root, proof
        self._base = encoder.base_view.version
        self._open = {self._base: encoder.base_view}
        self._parents: dict[int, int] = {}  # of the open views
        self._lock = Lock()

    @cached_property
    def proofs(self) -> "Views":
        """Return the same versions before they were taught what is held out: to be measured by that, never to serve."""
        return Views(self._encoder, self._registry, self._root, proof=True)

    def open(self, number: int) -> View:
        """Return the view of a version, verified with its ancestors; raises `VersionCorrupt` or `VersionNotFound`."""
        with self._lock:
            if number not in self._open:
                for step in reversed(self._registry.versions.trace_lineage(number)):  # the base first
                    if step.number in self._open:
                        continue
                    if step.parent is None:
                        raise VersionCorrupt(f"version {number} was made for another base model")
                    folder = replace(VersionFolder.fetch(step, self._root), is_proof=self._proof)
                    self._open[step.number] = self._encoder.open([folder], onto=self._open[step.parent])
                    self._parents[step.number] = step.parent
            return self._open[number]

    def close_others(self, versions: Iterable[int]) -> None:
        """Close every view except those of `versions` and of what they build upon."""
        with self._lock:
            kept = {self._base}
            for number in versions:
                while number not in kept:
                    kept.add(number)
                    number = self._parents.get(number, self._base)
            self._open = {number: view for number, view in self._open.items() if number in kept}
            self._parents = {number: parent for number, parent in self._parents.items() if number in kept}


def _normalize(features: Vectors) -> Vectors:
    """Return the features as unit vectors; raise `PictoglotError` if one is not finite."""
    unit: Vectors = torch.nn.functional.normalize(torch.from_numpy(features), dim=-1).numpy()
    if not np.isfinite(unit).all():
        raise PictoglotError("the encoder returned a vector that is not finite")
    return unit
