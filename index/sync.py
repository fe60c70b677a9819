"""What a set of vectors should hold for any picture, from the registry's tables, and bringing a set up to date with it.

Vectors that were never computed are encoded here and kept, so that none is encoded twice. Reads no generation.
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
from index.rows import Caption, batches
from index.vectors import Block, Entry, VectorSet
from model.registry import Registry

_log = logging.getLogger(__name__)
_BATCH = 500  # pictures read from the tables at a time
_DECODED = 16  # pictures held in memory at a time, 3 MB each


class Source(Protocol):
    """Where the vectors of one set come from."""

    @property
    def identity(self) -> Identity:
        """What the set is a set of."""
        ...

    def blocks(self, pictures: Sequence[str], captions: Sequence[Caption]) -> dict[str, Block]:
        """What each of `pictures` has in this set now; `captions` are all of theirs, in every language."""
        ...


@dataclass(frozen=True)
class PictureSource:
    """Picture vectors: one a picture, by the image tower that all versions share."""

    encoder: Encoder
    gallery: Gallery

    @property
    def identity(self) -> Identity:
        """As `Source.identity`."""
        return Identity("pictures", self.encoder.image_fingerprint, self.encoder.dimension)

    def blocks(self, pictures: Sequence[str], captions: Sequence[Caption]) -> dict[str, Block]:
        """As `Source.blocks`; a picture without a vector (the base was exchanged) is encoded from its stored file."""
        contents = self.gallery.contents(pictures)
        wanted = sorted(set(contents.values()))
        vectors = self.gallery.content_vectors(wanted, self.encoder.image_fingerprint)
        for some in batches([content for content in wanted if content not in vectors], _DECODED):
            images = {content: image for content in some if (image := self._image(content))}
            if images:
                new = dict(zip(images, self.encoder.pictures(list(images.values())), strict=True))
                self.gallery.put_picture_vectors(self.encoder.image_fingerprint, new)
                vectors |= self.gallery.content_vectors(list(images), self.encoder.image_fingerprint)
        found = {picture: vectors.get(content) for picture, content in contents.items()}
        dimension = self.encoder.dimension
        return {picture: _block({Entry(picture): found.get(picture)}, dimension) for picture in pictures}

    def _image(self, content: str) -> Image.Image | None:
        try:
            return read_rgb(self.gallery.read(content))
        except (FileNotFoundError, PictureCorrupt):  # deleted meanwhile, or damaged
            _log.warning("a stored picture cannot be read and is not searchable")
            return None


@dataclass(frozen=True)
class CaptionSource:
    """Caption vectors of one language as one version encodes them.

    Captions put with a picture belong to every version, those of `expansions` to this one: see `expansions_of`.
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
        """As `Source.blocks`; captions that this version has not encoded yet are encoded, all in one call."""
        wanted = set(pictures)
        ids: dict[Entry, int] = {}
        texts: dict[int, str] = {}
        for caption in captions:
            if caption.picture in wanted and self._holds(caption):
                id = ids.setdefault(Entry(caption.picture, caption.text), caption.id)  # once, whoever brought it
                texts[id] = caption.text
        vectors = self._vectors(texts)
        found: dict[str, dict[Entry, Vector | None]] = {picture: {} for picture in pictures}
        for entry, id in ids.items():
            found[entry.picture][entry] = vectors.get(id)
        return {picture: _block(entries, self.encoder.dimension) for picture, entries in found.items()}

    def _holds(self, caption: Caption) -> bool:
        ours = caption.expansion is None or caption.expansion in self.expansions
        return ours and caption.language == self.language

    def _vectors(self, texts: Mapping[int, str]) -> dict[int, Vector]:
        vectors = self.gallery.caption_vectors(list(texts), self.version)
        missing = [id for id in texts if id not in vectors]
        if missing:
            computed = self.encoder.texts([(self.view, texts[id]) for id in missing]).vectors
            self.gallery.put_caption_vectors(self.version, dict(zip(missing, computed, strict=True)))
            vectors |= self.gallery.caption_vectors(missing, self.version)  # another process may have been first
        return vectors


def expansions_of(registry: Registry, language: str, version: int) -> frozenset[str]:
    """The expansions whose captions a version of a language shows.

    Its own, and those of the language's earlier versions that were served and not taken back when this one was first
    served: neither captions that were taken back nor those of a cancelled lesson come with the next one.
    """
    shown = registry.releases.history(language, version)
    made = [made.expansion for made in registry.versions.of(language) if made.number in shown]
    return frozenset(expansion for expansion in made if expansion is not None)


def caught_up(
    sets: Mapping[Identity, VectorSet], sources: Mapping[Identity, Source], gallery: Gallery
) -> dict[Identity, VectorSet]:
    """The sets with every change of the gallery up to now taken in; each starts from its own last change."""
    upto = gallery.change()
    since = min(found.change for found in sets.values())
    if since >= upto:
        return dict(sets)
    changes = gallery.changes_since(since)
    blocks: dict[Identity, dict[str, Block]] = {identity: {} for identity in sets}
    for batch in batches(list(changes), _BATCH):
        captions = gallery.captions(batch)
        for identity, found in sets.items():
            behind = [picture for picture in batch if changes[picture] > found.change]
            if behind:
                blocks[identity] |= sources[identity].blocks(behind, captions)
    return {identity: found.changed(blocks[identity], upto) for identity, found in sets.items()}


def _block(entries: Mapping[Entry, Vector | None], dimension: int) -> Block:
    """The entries that have a vector."""
    rows = [vector for vector in entries.values() if vector is not None]
    matrix: Matrix = np.stack(rows) if rows else np.empty((0, dimension), dtype=np.float32)
    return Block(tuple(entry for entry, vector in entries.items() if vector is not None), matrix)
