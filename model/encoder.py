"""The only inference surface: texts of any mix of languages, and pictures, to unit vectors. Trains nothing.

The physical rows of all versions are in one table; the view of a version says which of them each token reads.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model import checkpoint
from model.base import Base
from model.lexicon import NO_WORDS, Lexicon, ReadText, count_ngrams
from model.pictures import Frame
from model.reading import Reading
from model.tokenizer import Tokenizer, list_english_words
from model.towers import TorchTowers, Towers
from store.bases import Encoding
from store.data_root import DataRoot
from store.errors import PictoglotError, VersionCorrupt
from store.registry import Registry
from store.versions import Version

Vectors = NDArray[np.float32]
_BATCH = 256  # texts in one forward pass
_RESERVED = 1_000_000  # rows
NO_ROW = -1  # of a token that the tokenizer has, but no language ever trained
_NO_IDS = np.empty(0, dtype=np.int64)


class PhysicalRows:
    """All rows of a table as of one moment. `rows[numbers]` is (…, width) float32 for physical numbers (…) int64."""

    def __init__(self, base: Tensor, added: Tensor) -> None:
        self._base, self._added = base, added
        self.device, self.width = base.device, base.shape[1]

    def __getitem__(self, numbers: Tensor) -> Tensor:
        first = len(self._base)
        rows = self._base[numbers.clamp(max=first - 1)].float()
        if len(self._added):
            is_added = numbers >= first
            rows[is_added] = self._added[numbers[is_added] - first]
        return rows


class Table:
    """All rows of all opened versions, append-only: a row once written never changes.

    The first are the base's own, which may be halves and memory-mapped: they are neither copied nor changed. Readers
    take `rows` once and index it; an append either writes behind the rows they know or moves the added ones to a larger
    tensor, so neither disturbs the other.
    """

    def __init__(self, base: Tensor) -> None:
        self.rows = PhysicalRows(base, base.new_empty((0, base.shape[1]), dtype=torch.float32))
        self._base = base
        self._added = self.rows._added
        self._count = 0
        self._lock = Lock()

    def append(self, rows: Tensor) -> NDArray[np.int32]:
        """Write `rows` (n, width) behind the others; returns their physical numbers (n,)."""
        with self._lock:
            first, self._count = self._count, self._count + len(rows)
            if self._count > len(self._added):
                larger = self._allocate(max(self._count, len(self._added) + len(self._added) // 4))
                larger[:first] = self._added[:first]
                self._added = larger
                self.rows = PhysicalRows(self._base, larger)
            self._added[first : self._count] = rows
            return np.arange(first, self._count, dtype=np.int32) + np.int32(len(self._base))

    def _allocate(self, rows: int) -> Tensor:
        """Return a tensor of at least `rows` rows; in main memory of a million, since unwritten pages take no memory.

        So added rows hardly ever move to a larger one, when both would be in memory. NumPy allocates it, since torch
        fills new tensors in its deterministic mode.
        """
        if self._base.device.type != "cpu":
            return self._added.new_empty((rows, self._base.shape[1]))
        return torch.from_numpy(np.empty((max(rows, _RESERVED), self._base.shape[1]), dtype=np.float32))


@dataclass(frozen=True)
class View:
    """A version opened for encoding: its tokenizer and, for each token id, the physical row it reads.

    `physical` (size,) int32, `NO_ROW` where nothing was trained. `trained` has, for each language between version 0 and
    this version, the token ids (n,) of its corpora.
    """

    version: int
    language: str | None
    tokenizer: Tokenizer
    reading: Reading
    physical: NDArray[np.int32] = field(repr=False)
    trained: Mapping[str, NDArray[np.int64]] = field(repr=False)
    ngrams: Mapping[str, int] = field(default_factory=dict, repr=False)  # for language identification
    lexicon: Lexicon = NO_WORDS  # of its language

    @staticmethod
    def create_for_base(tokenizer: Tokenizer, reading: Reading, ngrams: Mapping[str, int], version: int = 0) -> "View":
        """Return the base's own tokenizer and rows, which are this version."""
        return View(version, "en", tokenizer, reading, np.arange(reading.vocabulary, dtype=np.int32), {}, ngrams)

    def extend(
        self,
        version: int,
        language: str,
        tokenizer: Tokenizer,
        ids: NDArray[np.int64],
        rows: NDArray[np.int32],
        ngrams: Mapping[str, int],
        lexicon: Lexicon = NO_WORDS,
    ) -> "View":
        """Return the view of a version on top of this one, which stays as it is.

        Its tokens `ids` (n,) read the physical `rows` (n,), in place of those before.
        """
        physical = np.full(tokenizer.size, NO_ROW, dtype=np.int32)
        physical[: len(self.physical)] = self.physical
        physical[ids] = rows
        own = np.union1d(self.trained.get(language, ids[:0]), ids)
        trained = {**self.trained, language: own}
        return View(version, language, tokenizer, self.reading, physical, trained, ngrams, lexicon)

    @cached_property
    def key(self) -> tuple[int, bool]:
        """What decides which vector a text gets: the version, and whether a lexicon rewrites the text first."""
        return self.version, bool(self.lexicon.words)

    @cached_property
    def shared(self) -> "View":
        """Return this version as it reads texts of any language: by every row that it has, and by no lexicon."""
        return replace(self, lexicon=NO_WORDS)

    def read(self, text: str) -> ReadText:
        """Return a cleaned text in words that its language was taught; English ones that the base knows stay."""
        return self.lexicon.read(text, self.tokenizer.pieces.has_word) if self.lexicon.words else ReadText(text)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids of cleaned texts without specials; a token without a row is cut into parts that have one."""
        return [
            ids
            if (self.physical[ids] != NO_ROW).all()
            else [part for number in ids for part in self.find_trained_parts(number, self.tokenizer)]
            for ids in self.tokenizer.encode([self.read(text).text for text in texts])
        ]

    def build_sequence(self, ids: Sequence[int]) -> tuple[NDArray[np.int32], bool]:
        """Return physical rows (length,) of a text within the base's prefix and suffix; and whether it was cut."""
        reading, most = self.reading, self.reading.most_tokens
        return self.physical[[*reading.prefix, *ids[:most], *reading.suffix]], len(ids) > most

    def count_frequency(self, ids: NDArray[np.int64], language: str) -> NDArray[np.int64]:
        """Return TEIR's f of each id: 2 for the base's rows, else 1, and 1 for each other language that trained it."""
        counts = np.where(ids < self.reading.vocabulary, 2, 1)
        for other, trained_ids in self.trained.items():
            if other != language:
                counts += np.isin(ids, trained_ids)
        return counts

    def find_trained_parts(self, number: int, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Return the token if it is trained, else its trained parts; `tokenizer` may continue this view's."""
        if number < len(self.physical) and self.physical[number] != NO_ROW:
            return (number,)
        left, right = tokenizer.get_parts(number)
        return self.find_trained_parts(left, tokenizer) + self.find_trained_parts(right, tokenizer)


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
        self._placed = dict[VersionFolder, NDArray[np.int32]]()  # rows in the table, of each version that was opened
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

        Of its ancestors only rows are kept, and none that a later one replaces. Raises `VersionCorrupt`.
        """
        steps, replaced = list[tuple[VersionFolder, checkpoint.VersionContent, NDArray[np.int32]]](), _NO_IDS
        for folder in reversed(folders):
            content, manifest = checkpoint.read_version(folder.path, folder.manifest_sha256, proof=folder.is_proof)
            if manifest.get("text_fingerprint") != self.base_fingerprint:
                raise VersionCorrupt(f"version {folder.number} was made for another base model")
            ids, rows = content.rows.ids, self._place(folder, content.rows, replaced)
            if steps:  # only the last is read by n-grams and words
                content = replace(content, ngrams={}, lexicon=())
            steps.append((folder, replace(content, rows=checkpoint.TokenRows(ids, torch.empty(0))), rows))
            replaced = np.union1d(replaced, ids)
        view = onto or self.base_view
        for folder, content, rows in reversed(steps):
            view = _extend(view, folder.number, folder.language, content, rows)
        return view

    def extend(self, view: View, number: int, language: str, content: checkpoint.VersionContent) -> View:
        """Return the view of what an expansion learned on top of `view`, before or after it is a version on disk."""
        return _extend(view, number, language, content, self._append(number, content.rows.rows))

    def _place(
        self, folder: VersionFolder, rows: checkpoint.TokenRows, replaced: NDArray[np.int64]
    ) -> NDArray[np.int32]:
        """Return the physical rows of a version, each written once; `NO_ROW` of tokens whose row is `replaced`."""
        placed = self._placed.setdefault(folder, np.full(len(rows.ids), NO_ROW, dtype=np.int32))
        missing = (placed == NO_ROW) & ~np.isin(rows.ids, replaced)
        placed[missing] = self._append(folder.number, rows.rows[torch.from_numpy(missing)])
        return placed

    def _append(self, number: int, rows: Tensor) -> NDArray[np.int32]:
        if rows.shape[1] != self.base.table.shape[1]:
            raise VersionCorrupt(f"the rows of version {number} have another width than the base's")
        return self.table.append(rows)

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
        lengths = [len(sequence) if reading.pad is None else reading.context for sequence in sequences]
        for places, length in self.towers.make_batches(lengths, most):
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


def _extend(
    view: View, number: int, language: str, content: checkpoint.VersionContent, rows: NDArray[np.int32]
) -> View:
    tokenizer = content.extend_tokenizer(view.tokenizer)
    return view.extend(number, language, tokenizer, content.rows.ids, rows, content.ngrams, Lexicon(content.lexicon))


class Views:
    """The versions that an encoder was asked to open: each once, on top of its nearest open ancestor. Thread-safe.

    A version's rows stay in the encoder's table when its view is closed; to open it again adds none.
    """

    def __init__(self, encoder: Encoder, registry: Registry, root: DataRoot, *, proof: bool = False) -> None:
        """With `proof`, open versions as they were before they were taught what is held out."""
        self._encoder, self._registry, self._root, self._proof = encoder, registry, root, proof
        self._base = encoder.base_view.version
        self._open = {self._base: encoder.base_view}
        self._lock = Lock()

    @cached_property
    def proofs(self) -> "Views":
        """Return the same versions before they were taught what is held out: to be measured by that, never to serve."""
        return Views(self._encoder, self._registry, self._root, proof=True)

    def open(self, number: int) -> View:
        """Return the view of a version, verified with its ancestors; raises `VersionCorrupt` or `VersionNotFound`."""
        with self._lock:
            if number not in self._open:
                lineage = self._registry.versions.trace_lineage(number)  # the base last
                steps = [*takewhile(lambda step: step.number not in self._open, lineage)]
                if len(steps) == len(lineage):
                    raise VersionCorrupt(f"version {number} was made for another base model")
                fetched = (VersionFolder.fetch(step, self._root) for step in reversed(steps))
                folders = [replace(folder, is_proof=self._proof) for folder in fetched]
                self._open[number] = self._encoder.open(folders, onto=self._open[lineage[len(steps)].number])
            return self._open[number]

    def close_others(self, versions: Iterable[int]) -> None:
        """Close every view except those of `versions`."""
        with self._lock:
            kept = {self._base, *versions}
            self._open = {number: view for number, view in self._open.items() if number in kept}


def _normalize(features: Vectors) -> Vectors:
    """Return the features as unit vectors; raise `PictoglotError` if one is not finite."""
    unit: Vectors = torch.nn.functional.normalize(torch.from_numpy(features), dim=-1).numpy()
    if not np.isfinite(unit).all():
        raise PictoglotError("the encoder returned a vector that is not finite")
    return unit


def pad(
    sequences: Sequence[NDArray[np.int32]], reading: Reading, length: int | None = None, filler: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return row numbers stacked to (n, length) int64, and the place (n,) where each text is read off.

    Where the tower reads pads they are filled up to the context, with `filler` or else with the base's own pad row.
    Elsewhere each is filled up with its last number, to `length` or else to the longest.
    """
    last = torch.tensor([len(sequence) - 1 for sequence in sequences])
    if reading.pad is not None:
        length, filler = reading.context, reading.pad if filler is None else filler
    stacked = np.empty((len(sequences), length or int(last.max()) + 1), dtype=np.int64)
    for line, sequence in zip(stacked, sequences, strict=True):
        line[: len(sequence)] = sequence
        line[len(sequence) :] = sequence[-1] if filler is None else filler
    if reading.at == "last":
        last = torch.full_like(last, stacked.shape[1] - 1)
    return torch.from_numpy(stacked), last
