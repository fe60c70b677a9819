"""Brings vector sets up to date with the gallery's tables. Reads no segment.

Vectors that are not in the tables yet are computed here and stored, so that nothing is encoded twice.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from index.encoding import Encoder
from index.feed import PRUNED
from index.gallery import Gallery
from index.pictures import read_rgb
from index.rows import Caption, Captions, ReadBy, batches
from index.snapshot import Snapshot
from index.vectors import Block, Entry, Identity, Matrix, Vector, VectorSet
from model.errors import CorruptFolder, InvalidInput, UnsupportedMedia
from model.registry import Registry

_log = logging.getLogger(__name__)
_BATCH = 500  # pictures read from the tables at a time
_DECODED = 16  # decoded pictures in memory at a time, 3 MB each


class VectorsMissing(Exception):
    """A picture or caption has no vector yet, and there is no encoder here to make it."""


class FeedPruned(Exception):
    """A set may have missed deletions: it has no change after `upto` yet, and those up to there are not all told."""

    def __init__(self, upto: int) -> None:
        super().__init__(upto)
        self.upto = upto

    def missed_by(self, vector_set: VectorSet) -> bool:
        """Whether a set has to be opened again. One without any change has nothing that could have been deleted."""
        return 0 < vector_set.change < self.upto


class Source(Protocol):
    """Where the vectors of one set come from: pictures, or captions of one (language, version)."""

    @property
    def gallery(self) -> Gallery:
        """The gallery whose tables these are."""
        ...

    @property
    def identity(self) -> Identity:
        """The identity of the set."""
        ...

    def blocks(self, pictures: Sequence[str], captions: Sequence[Caption]) -> dict[str, Block]:
        """What each of `pictures` should have in this set now; `captions` are all their captions, in every language."""
        ...

    def between(self, first: int, last: int) -> list[str]:
        """The pictures that have a row whose key is from `first` to `last`."""
        ...


@dataclass(frozen=True)
class PictureSource:
    """Picture vectors: one for each picture, from the image tower, which all versions share.

    A picture whose file cannot be read is left out. Without an `encoder`, another one without a vector raises
    `VectorsMissing`: what is sealed without it would never have it.
    """

    gallery: Gallery
    identity: Identity
    encoder: Encoder | None = None

    @classmethod
    def of(cls, encoder: Encoder, gallery: Gallery) -> "PictureSource":
        """That of the pictures as this encoder sees them."""
        return cls(gallery, Identity("pictures", encoder.image_fingerprint, encoder.dimension), encoder)

    def blocks(self, pictures: Sequence[str], captions: Sequence[Caption]) -> dict[str, Block]:
        """As `Source.blocks`; encodes stored pictures that have no vector (after a change of the image tower)."""
        placed = self.gallery.placed(pictures)
        needed = sorted({place.content_sha256 for place in placed.values()})
        fingerprint, dimension = self.identity.fingerprint, self.identity.dimension
        vectors = self.gallery.content_vectors(needed, fingerprint)
        for batch in batches([content for content in needed if content not in vectors], _DECODED):
            images = {content: image for content in batch if (image := self._image(content))}
            if images:
                if self.encoder is None:
                    raise VectorsMissing
                new = dict(zip(images, self.encoder.pictures(list(images.values())), strict=True))
                self.gallery.put_picture_vectors(fingerprint, new)
                vectors |= self.gallery.content_vectors(list(images), fingerprint)
        blocks = {picture: _block({}, dimension) for picture in pictures}
        for picture, place in placed.items():
            vector = vectors.get(place.content_sha256)
            if vector is not None:
                blocks[picture] = Block((place.key,), (Entry(picture),), vector[None])
        return blocks

    def between(self, first: int, last: int) -> list[str]:
        """As `Source.between`."""
        return self.gallery.keyed(first, last)

    def _image(self, content: str) -> Image.Image | None:
        try:
            return read_rgb(self.gallery.files.read(content))
        except (FileNotFoundError, InvalidInput, UnsupportedMedia, CorruptFolder):  # deleted meanwhile, or damaged
            _log.warning("a stored picture cannot be read; searches will not find it")
            return None


@dataclass(frozen=True)
class CaptionSource:
    """Caption vectors of one language as one version encodes them.

    Captions added with a picture belong to every version, those of `expansions` to this one: see `expansions_of`.
    Without `encoder` and `view`, a caption without a vector raises `VectorsMissing`.
    """

    gallery: Gallery
    identity: Identity
    expansions: frozenset[str]
    encoder: Encoder | None = None
    view: Any = None

    @classmethod
    def of(
        cls, encoder: Encoder, view: Any, gallery: Gallery, language: str, version: int, expansions: frozenset[str]
    ) -> "CaptionSource":
        """That of the captions as `view` of this encoder reads them."""
        identity = Identity("captions", encoder.text_fingerprint, encoder.dimension, language, version)
        return cls(gallery, identity, expansions, encoder, view)

    def blocks(self, pictures: Sequence[str], captions: Sequence[Caption]) -> dict[str, Block]:
        """As `Source.blocks`; encodes the captions that this version has not encoded yet, all in one call."""
        requested = set(pictures)
        ids: dict[Entry, int] = {}
        texts: dict[int, str] = {}
        for caption in captions:
            if caption.picture in requested and self._includes(caption):
                id = ids.setdefault(Entry(caption.picture, caption.text), caption.id)  # once, even when added twice
                texts[id] = caption.text
        vectors = self._vectors(texts)
        by_picture: dict[str, dict[Entry, int]] = {picture: {} for picture in pictures}
        for entry, id in ids.items():
            if id in vectors:
                by_picture[entry.picture][entry] = id
        return {
            picture: _block({entry: (id, vectors[id]) for entry, id in entries.items()}, self.identity.dimension)
            for picture, entries in by_picture.items()
        }

    def between(self, first: int, last: int) -> list[str]:
        """As `Source.between`."""
        assert self.identity.language is not None
        return self.gallery.captioned_between(self.identity.language, first, last)

    def _includes(self, caption: Caption) -> bool:
        visible = caption.expansion is None or caption.expansion in self.expansions
        return visible and caption.language == self.identity.language

    def _vectors(self, texts: Mapping[int, str]) -> dict[int, Vector]:
        assert self.identity.version is not None
        by = ReadBy(self.identity.version, self.identity.fingerprint)
        vectors = self.gallery.caption_vectors(list(texts), by)
        missing = [id for id in texts if id not in vectors]
        if missing:
            if self.encoder is None:
                raise VectorsMissing
            computed = self.encoder.texts([(self.view, texts[id]) for id in missing]).vectors
            self.gallery.put_caption_vectors(by, dict(zip(missing, computed, strict=True)))
            vectors |= self.gallery.caption_vectors(missing, by)  # another process may have been first
        return vectors


def picture_vectors(encoder: Encoder, gallery: Gallery, ids: Sequence[str]) -> dict[str, Vector]:
    """Vectors of these pictures, in the order of `ids`; those that have none of this encoder yet are encoded first.

    Unknown pictures, and those whose file cannot be read, are left out.
    """
    vectors = gallery.picture_vectors(ids, encoder.image_fingerprint)
    missing = sorted(gallery.known([id for id in ids if id not in vectors]))
    if missing:
        PictureSource.of(encoder, gallery).blocks(missing, [])
        vectors = gallery.picture_vectors(ids, encoder.image_fingerprint)
    return vectors


def expansions_of(registry: Registry, language: str, version: int) -> frozenset[str]:
    """The expansions whose captions belong to a version of a language.

    These are its own expansion and those of the language's earlier versions that were served, and not rolled back, when
    this one was first served. Captions that were rolled back, or of a cancelled expansion, are not in later versions.
    """
    visible = registry.releases.history(language, version)
    expansions = [other.expansion for other in registry.versions.of(language) if other.number in visible]
    return frozenset(expansion for expansion in expansions if expansion is not None)


def encode_captions(
    encoder: Encoder, gallery: Gallery, snapshot: Snapshot, captions: Mapping[str, Captions]
) -> dict[str, dict[tuple[str, str, ReadBy], Vector]]:
    """Vectors of captions, given by picture, in the served languages, except captions that a picture already has.

    By picture, then by language, text and what read them.
    """
    existing = gallery.captions_for(list(captions))
    missing = [
        (picture, tag, text)
        for picture, by_tag in captions.items()
        for tag, texts in by_tag.items()
        if tag in snapshot.views
        for text in dict.fromkeys(texts)
        if text not in existing[picture].get(tag, ())
    ]
    encoded: dict[str, dict[tuple[str, str, ReadBy], Vector]] = {picture: {} for picture in captions}
    if missing:
        vectors = encoder.texts([(snapshot.views[tag], text) for _, tag, text in missing]).vectors
        by = {tag: ReadBy(version, encoder.text_fingerprint) for tag, version in snapshot.release.languages.items()}
        for (picture, tag, text), vector in zip(missing, vectors, strict=True):
            encoded[picture][tag, text, by[tag]] = vector
    return encoded


def caught_up(
    sets: Mapping[Identity, VectorSet],
    sources: Mapping[Identity, Source],
    gallery: Gallery,
    most: int | None = None,
    begun: int = 0,
) -> Mapping[Identity, VectorSet]:
    """The sets with every change of the gallery up to now applied, or the next `most`; `sets` itself without any.

    Raises `FeedPruned` unless every deletion is told that a set may need: those after its last change or, of a set that
    is made from nothing in several calls, those after `begun`.
    """
    upto = gallery.change()
    since = min(vector_set.change for vector_set in sets.values())
    if since >= upto:
        return sets
    changes = gallery.changes_since(since, most)
    if most is not None and len(changes) == most:
        upto = max(changes.values())
    pruned = FeedPruned(changes.pop(PRUNED, 0))
    if pruned.upto > begun and any(map(pruned.missed_by, sets.values())):
        raise pruned
    blocks: dict[Identity, dict[str, Block]] = {identity: {} for identity in sets}
    for batch in batches(list(changes), _BATCH):
        captions = gallery.captions(batch)
        for identity, vector_set in sets.items():
            outdated = [picture for picture in batch if changes[picture] > vector_set.change]
            if outdated:
                blocks[identity] |= sources[identity].blocks(outdated, captions)
    return {identity: vector_set.changed(blocks[identity], upto) for identity, vector_set in sets.items()}


def refilled(
    vector_set: VectorSet,
    source: Source,
    first: int,
    last: int,
    flushed: Callable[[VectorSet], VectorSet] = lambda vector_set: vector_set,
) -> VectorSet:
    """The set with the rows of these keys read from the tables again, because their segment cannot be read.

    `flushed` is called after each batch: it may make room in memory.
    """
    for batch in batches(source.between(first, last), _BATCH):
        blocks = source.blocks(batch, source.gallery.captions(batch))
        vector_set = flushed(vector_set.changed(blocks, vector_set.change))
    return vector_set


def _block(rows: Mapping[Entry, tuple[int, Vector]], dimension: int) -> Block:
    """A block of these entries, with key and vector."""
    vectors = [vector for _, vector in rows.values()]
    matrix: Matrix = np.stack(vectors) if vectors else np.empty((0, dimension), dtype=np.float32)
    return Block(tuple(key for key, _ in rows.values()), tuple(rows), matrix)
