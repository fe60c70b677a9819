"""Brings vector sets up to date with the gallery's tables. Reads no generation.

Vectors that are not in the tables yet are computed here and stored, so that nothing is encoded twice.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from index.encoding import Encoder
from index.engine import Matrix, Vector
from index.errors import PictureCorrupt
from index.gallery import Gallery
from index.generation import Identity
from index.pictures import read_rgb
from index.rows import Caption, Captions, ReadBy, batches
from index.snapshot import Snapshot
from index.vectors import Block, Entry, VectorSet
from model.registry import Registry

_log = logging.getLogger(__name__)
_BATCH = 500  # pictures read from the tables at a time
_DECODED = 16  # decoded pictures in memory at a time, 3 MB each


class Source(Protocol):
    """Where the vectors of one set come from: pictures, or captions of one (language, version)."""

    @property
    def identity(self) -> Identity:
        """The identity of the set."""
        ...

    def blocks(self, pictures: Sequence[str], captions: Sequence[Caption]) -> dict[str, Block]:
        """What each of `pictures` should have in this set now; `captions` are all their captions, in every language."""
        ...


@dataclass(frozen=True)
class PictureSource:
    """Picture vectors: one for each picture, from the image tower, which all versions share."""

    encoder: Encoder
    gallery: Gallery

    @property
    def identity(self) -> Identity:
        """As `Source.identity`."""
        return Identity("pictures", self.encoder.image_fingerprint, self.encoder.dimension)

    def blocks(self, pictures: Sequence[str], captions: Sequence[Caption]) -> dict[str, Block]:
        """As `Source.blocks`; encodes stored pictures that have no vector (after a change of the image tower)."""
        contents = self.gallery.contents(pictures)
        needed = sorted(set(contents.values()))
        vectors = self.gallery.content_vectors(needed, self.encoder.image_fingerprint)
        for batch in batches([content for content in needed if content not in vectors], _DECODED):
            images = {content: image for content in batch if (image := self._image(content))}
            if images:
                new = dict(zip(images, self.encoder.pictures(list(images.values())), strict=True))
                self.gallery.put_picture_vectors(self.encoder.image_fingerprint, new)
                vectors |= self.gallery.content_vectors(list(images), self.encoder.image_fingerprint)
        by_picture = {picture: vectors.get(content) for picture, content in contents.items()}
        dimension = self.encoder.dimension
        return {picture: _block({Entry(picture): by_picture.get(picture)}, dimension) for picture in pictures}

    def _image(self, content: str) -> Image.Image | None:
        try:
            return read_rgb(self.gallery.read(content))
        except (FileNotFoundError, PictureCorrupt):  # deleted meanwhile, or damaged
            _log.warning("a stored picture cannot be read; searches will not find it")
            return None


@dataclass(frozen=True)
class CaptionSource:
    """Caption vectors of one language as one version encodes them.

    Captions added with a picture belong to every version, those of `expansions` to this one: see `expansions_of`.
    """

    encoder: Encoder
    gallery: Gallery
    view: Any
    language: str
    version: int
    expansions: frozenset[str]

    @property
    def identity(self) -> Identity:
        """As `Source.identity`."""
        fingerprint, dimension = self.encoder.text_fingerprint, self.encoder.dimension
        return Identity("captions", fingerprint, dimension, self.language, self.version)

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
        by_picture: dict[str, dict[Entry, Vector | None]] = {picture: {} for picture in pictures}
        for entry, id in ids.items():
            by_picture[entry.picture][entry] = vectors.get(id)
        return {picture: _block(entries, self.encoder.dimension) for picture, entries in by_picture.items()}

    def _includes(self, caption: Caption) -> bool:
        visible = caption.expansion is None or caption.expansion in self.expansions
        return visible and caption.language == self.language

    def _vectors(self, texts: Mapping[int, str]) -> dict[int, Vector]:
        by = ReadBy(self.version, self.encoder.text_fingerprint)
        vectors = self.gallery.caption_vectors(list(texts), by)
        missing = [id for id in texts if id not in vectors]
        if missing:
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
        PictureSource(encoder, gallery).blocks(missing, [])
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
    encoder: Encoder, gallery: Gallery, snapshot: Snapshot, picture: str, captions: Captions
) -> dict[tuple[str, str, ReadBy], Vector]:
    """Vectors of a picture's captions in the served languages, except captions that it already has.

    They are by language, text and what read them.
    """
    existing = gallery.captions_for([picture], captions)[picture]
    new = [
        (tag, text)
        for tag, texts in captions.items()
        if tag in snapshot.views
        for text in dict.fromkeys(texts)
        if text not in existing.get(tag, ())
    ]
    if not new:
        return {}
    vectors = encoder.texts([(snapshot.views[tag], text) for tag, text in new]).vectors
    by = {tag: ReadBy(version, encoder.text_fingerprint) for tag, version in snapshot.release.languages.items()}
    return {(tag, text, by[tag]): vector for (tag, text), vector in zip(new, vectors, strict=True)}


def caught_up(
    sets: Mapping[Identity, VectorSet], sources: Mapping[Identity, Source], gallery: Gallery
) -> Mapping[Identity, VectorSet]:
    """The sets with every change of the gallery up to now applied; `sets` itself when there is none."""
    upto = gallery.change()
    since = min(vector_set.change for vector_set in sets.values())
    if since >= upto:
        return sets
    changes = gallery.changes_since(since)
    blocks: dict[Identity, dict[str, Block]] = {identity: {} for identity in sets}
    for batch in batches(list(changes), _BATCH):
        captions = gallery.captions(batch)
        for identity, vector_set in sets.items():
            outdated = [picture for picture in batch if changes[picture] > vector_set.change]
            if outdated:
                blocks[identity] |= sources[identity].blocks(outdated, captions)
    return {identity: vector_set.changed(blocks[identity], upto) for identity, vector_set in sets.items()}


def _block(entries: Mapping[Entry, Vector | None], dimension: int) -> Block:
    """A block of the entries that have a vector."""
    rows = [vector for vector in entries.values() if vector is not None]
    matrix: Matrix = np.stack(rows) if rows else np.empty((0, dimension), dtype=np.float32)
    return Block(tuple(entry for entry, vector in entries.items() if vector is not None), matrix)
