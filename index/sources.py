"""Sources of the rows of vector sets: the gallery's tables, and an encoder for what has no vector there yet.

What is computed here is stored, so that nothing is encoded twice. Reads no segment.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from index.captions import BATCH_SIZE, Caption, EncoderId, split_batches
from index.gallery import Gallery
from index.set_states import PRUNED, PartRecord
from index.vectors import Entry, Identity, Vector, VectorRows, VectorSet
from model.pictures import read_rgb
from store.errors import CorruptFolder, InvalidInput, PictureDamaged, UnsupportedMedia

if TYPE_CHECKING:  # torch takes seconds, and a process that seals needs none
    from model.encoder import Encoder, View

_log = logging.getLogger(__name__)
_DECODED = 16  # decoded pictures in memory at a time, 3 MB each
_LAST = 2**31 - 1  # the tables have no higher key


class VectorsMissing(Exception):
    """A picture or caption has no vector yet, and there is no encoder here to make it."""


class FeedPruned(Exception):
    """A set may have missed deletions: it has no change after `upto` yet, and not all up to there are in the feed."""

    def __init__(self, upto: int) -> None:
        super().__init__(upto)
        self.upto = upto

    def is_missed_by(self, vector_set: VectorSet) -> bool:
        """Whether a set has to be opened again. One without any change has nothing that could have been deleted."""
        return 0 < vector_set.change < self.upto


@dataclass(frozen=True)
class PictureSource:
    """Source of picture vectors: one for each picture, from the image tower, which all versions share.

    A picture whose file cannot be read is left out. Without an `encoder`, another one without a vector raises
    `VectorsMissing`: what is sealed without it would never have it.
    """

    gallery: Gallery
    identity: Identity
    encoder: "Encoder | None" = None

    @classmethod
    def create(cls, encoder: "Encoder", gallery: Gallery) -> "PictureSource":
        """Make the source of the pictures as this encoder sees them."""
        return cls(gallery, Identity("pictures", encoder.image_fingerprint, encoder.dimension), encoder)

    def make_rows(self, pictures: Sequence[str], captions: Sequence[Caption] | None = None) -> dict[str, VectorRows]:
        """Make the rows of each of `pictures` as of now; encode those that have no vector (of a new image tower)."""
        placed = self.gallery.find_content_keys(pictures)
        needed = sorted({place.content_sha256 for place in placed.values()})
        vectors = self.gallery.find_content_vectors(needed, self.identity.fingerprint)
        missing = [content for content in needed if content not in vectors]
        if missing:  # files of what was deleted meanwhile stay for a day, and nothing waits for their vectors
            shown = {place.content_sha256 for place in self.gallery.find_content_keys(pictures).values()}
            missing = [content for content in missing if content in shown]
        for batch in split_batches(missing, _DECODED):
            images = {content: image for content in batch if (image := self._read_image(content))}
            if images:
                if self.encoder is None:
                    raise VectorsMissing
                new = dict(zip(images, self.encoder.encode_pictures(list(images.values())), strict=True))
                self.gallery.put_picture_vectors(self.identity.fingerprint, new)
                vectors |= self.gallery.find_content_vectors(list(images), self.identity.fingerprint)
        rows: dict[str, list[tuple[int, Entry, Vector]]] = {picture: [] for picture in pictures}
        for picture, (key, content) in placed.items():
            if content in vectors:
                rows[picture].append((key, Entry(picture), vectors[content]))
        return _group_rows(rows, self.identity.dimension)

    def list_pictures(self, first: int = 0, last: int = _LAST) -> list[str]:
        """List the pictures that have a row whose key is from `first` to `last`."""
        return self.gallery.list_with_keys(first, last)

    def sample_texts(self, most: int) -> list[str]:
        return []

    def _read_image(self, content: str) -> Image.Image | None:
        try:
            return read_rgb(self.gallery.files.read(content))
        # deleted meanwhile, or damaged
        except (FileNotFoundError, InvalidInput, UnsupportedMedia, CorruptFolder, PictureDamaged):
            _log.warning("a stored picture cannot be read; searches will not find it", extra={"content": content})
            return None


@dataclass(frozen=True)
class CaptionSource:
    """Source of caption vectors: of one language, as one version encodes them.

    Captions added with a picture belong to every version, those of `expansions` to this one (`find_visible`).
    Without `encoder` and `view`, a caption without a vector raises `VectorsMissing`.
    """

    gallery: Gallery
    identity: Identity
    expansions: frozenset[str]
    encoder: "Encoder | None" = None
    view: "View | None" = None

    def make_rows(self, pictures: Sequence[str], captions: Sequence[Caption] | None = None) -> dict[str, VectorRows]:
        """Make the rows that each of `pictures` should have in this set now.

        `captions` are all their captions, in every language; read here if not given. Those that this version has not
        encoded yet are encoded, all in one call.
        """
        if captions is None:
            captions = self.gallery.find_captions(pictures, self.identity.language)
        ids: dict[str, dict[str, int]] = {picture: {} for picture in pictures}
        for caption in captions:
            visible = caption.expansion is None or caption.expansion in self.expansions
            if visible and caption.language == self.identity.language and caption.picture in ids:
                ids[caption.picture].setdefault(caption.text, caption.id)  # once, even when added twice
        vectors = self._encode_texts({id: text for texts in ids.values() for text, id in texts.items()})
        rows = {
            picture: [(id, Entry(picture, text), vectors[id]) for text, id in texts.items() if id in vectors]
            for picture, texts in ids.items()
        }
        return _group_rows(rows, self.identity.dimension)

    def list_pictures(self, first: int = 0, last: int = _LAST) -> list[str]:
        assert self.identity.language is not None
        return self.gallery.list_with_captions(self.identity.language, first, last)

    def sample_texts(self, most: int) -> list[str]:
        """Return about `most` of the captions, as `Gallery.sample_captions` chooses them."""
        assert self.identity.language is not None
        return self.gallery.sample_captions(self.identity.language, self.expansions, most)

    def _encode_texts(self, texts: Mapping[int, str]) -> dict[int, Vector]:
        assert self.identity.version is not None
        if not texts:
            return {}  # as for most pictures, in most of the languages that a base reads
        by = EncoderId(self.identity.version, self.identity.fingerprint)
        vectors = self.gallery.find_caption_vectors(list(texts), by)
        if missing := [id for id in texts if id not in vectors]:
            if self.encoder is None or self.view is None:
                raise VectorsMissing
            computed = self.encoder.encode_texts([(self.view, texts[id]) for id in missing]).vectors
            self.gallery.put_caption_vectors(by, dict(zip(missing, computed, strict=True)))
            vectors |= self.gallery.find_caption_vectors(missing, by)  # another process may have been first
        return vectors


Source = PictureSource | CaptionSource


def make_source(
    identity: Identity, gallery: Gallery, encoder: "Encoder | None" = None, view: "View | None" = None
) -> Source:
    """Make the source of a set's vectors; without an encoder, and the `view` of its version, the tables alone."""
    if identity.kind == "pictures":
        return PictureSource(gallery, identity, encoder)
    assert identity.language is not None and identity.version is not None
    visible = gallery.registry.releases.find_visible(identity.language, identity.version)
    return CaptionSource(gallery, identity, visible, encoder, view)


def ensure_picture_vectors(encoder: "Encoder", gallery: Gallery, ids: Sequence[str]) -> dict[str, Vector]:
    """Return vectors of those pictures that can be read, in the order of `ids`; encode first what has none yet."""
    vectors = gallery.find_picture_vectors(ids, encoder.image_fingerprint)
    missing = sorted(gallery.find_known([id for id in ids if id not in vectors]))
    if missing:
        PictureSource.create(encoder, gallery).make_rows(missing, [])
        vectors = gallery.find_picture_vectors(ids, encoder.image_fingerprint)
    return vectors


def apply_changes(
    sets: Mapping[Identity, VectorSet], sources: Mapping[Identity, Source], gallery: Gallery, most: int | None = None
) -> Mapping[Identity, VectorSet]:
    """Apply every change of the gallery up to now, or the next `most`, to sets; return `sets` itself without any.

    Raises `FeedPruned` unless every deletion after the last change of each set is in the feed.
    """
    upto = gallery.read_last_change()
    since = min(vector_set.change for vector_set in sets.values())
    if since >= upto:
        return sets
    changes = gallery.list_changes(since, most)
    if most is not None and len(changes) == most:
        upto = max(changes.values())
    pruned = FeedPruned(changes.pop(PRUNED, 0))
    if any(map(pruned.is_missed_by, sets.values())):
        raise pruned
    changed: dict[Identity, dict[str, VectorRows]] = {identity: {} for identity in sets}
    for batch in split_batches(list(changes)):
        captions = gallery.find_captions(batch)
        for identity, vector_set in sets.items():
            outdated = [picture for picture in batch if changes[picture] > vector_set.change]
            if outdated:
                changed[identity] |= sources[identity].make_rows(outdated, captions)
    return {identity: vector_set.replace_rows(changed[identity], upto) for identity, vector_set in sets.items()}


def add_lost_rows(source: Source, readable: VectorSet, lost: Iterable[PartRecord]) -> VectorSet:
    """Add the rows of segments that cannot be read, from the tables."""
    for record in lost:
        readable = fill_from_tables(readable, source, record.first, record.last)
    return readable


def fill_from_tables(
    vector_set: VectorSet,
    source: Source,
    first: int = 0,
    last: int = _LAST,
    shard: int = BATCH_SIZE,
    step: Callable[[VectorSet, int, int], VectorSet] = lambda vector_set, *_: vector_set,
) -> VectorSet:
    """Read the rows with these keys from the tables: those of a segment that cannot be read, or all.

    After each `shard` pictures, `step` is called with how many were read, and of how many: it may make room in memory.
    """
    pictures, read = source.list_pictures(first, last), 0
    for batch in split_batches(pictures, shard):
        read += len(batch)
        vector_set = step(vector_set.replace_rows(source.make_rows(batch), vector_set.change), read, len(pictures))
    return vector_set


def _group_rows(found: Mapping[str, Sequence[tuple[int, Entry, Vector]]], dimension: int) -> dict[str, VectorRows]:
    """Make the rows of each picture, from key, entry and vector of each."""
    grouped = {picture: VectorRows.make_empty(dimension) for picture in found}
    for picture, each in found.items():
        if each:
            keys, entries, vectors = zip(*each, strict=True)
            grouped[picture] = VectorRows(np.array(keys, dtype=np.int64), entries, np.stack(vectors))
    return grouped
