"""The tables of pictures, captions and vectors: read, and vectors written. Encodes nothing.

Vectors are stored so that nothing is encoded twice: of pictures by content, of captions by version, of both by the
fingerprint of the tower. Every segment can be made again from them. They are rounded to halves once, here, and have a
checksum: a damaged one counts as none, so that it is computed again. Of searches only a bound key's by picture reads
these tables.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import ColumnElement, Select, delete, func, insert, literal, select, tuple_
from sqlalchemy.orm import Session

from index.captions import BATCH_SIZE, Caption, EncoderId, add_captions, find_captions, group_by_language, split_batches
from index.vectors import Vector
from store.database import append_crc, strip_crc
from store.registry import Registry
from store.tables import (
    CaptionRow,
    CaptionVectorRow,
    GalleryChangeRow,
    KeyRow,
    PictureRow,
    PictureVectorRow,
    PictureWordsRow,
)

T = TypeVar("T")
_log = logging.getLogger(__name__)


class ContentKey(NamedTuple):
    """A picture's `key` in the vector sets, and its content; each change of the content brings a new key."""

    key: int
    content_sha256: str


class PictureTables:
    """The tables of one registry that have pictures, captions and vectors; groups are `bound` to some collections."""

    def __init__(self, registry: Registry, bound: Collection[str] = ()) -> None:
        self.registry, self._bound = registry, bound

    def list_ids(self) -> list[str]:
        """List the ids of all pictures, sorted."""
        return sorted(self.registry.read_values(select(PictureRow.id)))

    def find_known(self, ids: Iterable[str]) -> set[str]:
        """Return the ids of those that exist."""
        return {*self.find_content_keys(sorted({*ids}))}

    def find_contents(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the content hash of each of these pictures that exists."""
        return {id: placed.content_sha256 for id, placed in self.find_content_keys(ids).items()}

    def find_content_keys(self, ids: Sequence[str]) -> dict[str, ContentKey]:
        """Return key and content hash of each of these pictures that exists."""
        columns = select(PictureRow.id, PictureRow.key, PictureRow.content_sha256)
        with self.registry.read() as session:
            return {
                id: ContentKey(key, content)
                for batch in split_batches(ids)
                for id, key, content in session.execute(columns.where(PictureRow.id.in_(batch)))
            }

    def list_with_keys(self, first: int, last: int) -> list[str]:
        """List the pictures whose key is from `first` to `last`, by key."""
        query = select(PictureRow.id).where(PictureRow.key.between(first, last)).order_by(PictureRow.key)
        return list(self.registry.read_values(query))

    def sample_vectors(
        self, share: float, fingerprint: str, collections: frozenset[str] | None = None
    ) -> Iterator[dict[str, Vector]]:
        """Yield the vectors of about this share of all pictures, or of those in some collections, some at a time.

        They are chosen by content hash, and come in its order.
        """
        place = tuple_(PictureRow.content_sha256, PictureRow.id)
        query = (
            select(PictureRow.id, PictureRow.content_sha256)
            .order_by(PictureRow.content_sha256, PictureRow.id)
            .limit(BATCH_SIZE)
        )
        if share < 1:
            query = query.where(PictureRow.content_sha256 < f"{int(share * 16**8):08x}")
        if collections is not None:
            query = query.where(PictureRow.collection.in_(sorted(collections)))
        page = query
        while True:
            found = self.registry.read_rows(page)
            if not found:
                return
            yield self.find_picture_vectors([row.id for row in found], fingerprint)
            page = query.where(place > tuple_(literal(found[-1].content_sha256), literal(found[-1].id)))

    def read_last_change(self) -> int:
        """Return the number of the last change, or 0."""
        return self.registry.read_last_change()

    def list_changes(self, change: int, most: int | None = None) -> dict[str, int]:
        """List the first `most` pictures that were changed or deleted after `change`, each with its last change.

        `set_states.PRUNED` is among them when the feed lacks deletions after `change`.
        """
        columns = select(GalleryChangeRow.picture_id, GalleryChangeRow.change)
        query = columns.where(GalleryChangeRow.change > change).order_by(GalleryChangeRow.change).limit(most)
        return {row.picture_id: row.change for row in self.registry.read_rows(query)}

    def group_captions(self, ids: Sequence[str], tags: Iterable[str] | None = None) -> dict[str, dict[str, list[str]]]:
        """Return the captions of each of these pictures by language: of `tags`, or of all."""
        texts: dict[str, dict[str, list[str]]] = {id: {} for id in ids}
        languages = None if tags is None else set(tags)
        for caption in self.find_captions(ids):
            if languages is None or caption.language in languages:
                texts[caption.picture].setdefault(caption.language, []).append(caption.text)
        return texts

    def find_own_captions(
        self, ids: Sequence[str], collections: frozenset[str] | None = None
    ) -> dict[str, dict[str, list[str]]]:
        """Return the captions added with each of these pictures by language, in order, of those in `collections`."""
        row = CaptionRow
        query = select(row.picture_id, row.language, row.text).where(row.picture_id.in_(ids), row.expansion.is_(None))
        if collections is not None:
            query = query.join(PictureRow, PictureRow.id == row.picture_id)
            query = query.where(PictureRow.collection.in_(collections))
        found: dict[str, list[tuple[str, str]]] = {id: [] for id in ids}
        with self.registry.read() as session:
            for picture, language, text in session.execute(query.order_by(row.picture_id, row.position)):
                found[picture].append((language, text))
        return {id: group_by_language(captions) for id, captions in found.items()}

    def find_captions(self, ids: Sequence[str], language: str | None = None) -> list[Caption]:
        """Find the captions of these pictures in one language, or in all, in the order of adding."""
        with self.registry.read() as session:
            return [caption for batch in split_batches(ids) for caption in find_captions(session, batch, language)]

    def list_captioned(self, language: str, expansions: Iterable[str]) -> list[str]:
        """List the pictures with a caption in this language, added with them or by one of these expansions, sorted."""
        query = select(CaptionRow.picture_id).where(CaptionRow.language == language, _is_visible(expansions))
        return sorted(self.registry.read_values(query.distinct()))

    def sample_captions(self, language: str, expansions: Iterable[str], most: int) -> list[str]:
        """Return about `most` texts in a language, added with pictures or by these expansions; chosen by hash.

        None are of collections that a key is or was bound to, or a group is: what is written there must change nothing
        for others.
        """
        row = CaptionRow
        with self.registry.read() as session:
            bound = session.scalars(select(KeyRow.collections).where(KeyRow.collections.is_not(None)))
            names = {*self._bound, *(name for collections in bound for name in collections or ())}
            query = select(row.text).where(row.language == language, _is_visible(expansions))
            if names:
                query = query.join(PictureRow).where(PictureRow.collection.not_in(sorted(names)))
            count = session.scalar(query.with_only_columns(func.count())) or 0
            if count > most:
                query = query.where(row.digest < f"{most * 16**8 // count:08x}")
            return list(session.scalars(query))

    def find_pictures_by_caption(self, language: str, texts: Iterable[str]) -> dict[str, set[str]]:
        """Find the pictures that have each of these texts as a caption in this language, whoever added it."""
        found: dict[str, set[str]] = {text: set() for text in texts}
        query = select(CaptionRow.text, CaptionRow.picture_id).where(CaptionRow.language == language)
        with self.registry.read() as session:
            for batch in split_batches([*found]):
                for text, picture in session.execute(query.where(CaptionRow.text.in_(batch))):
                    found[text].add(picture)
        return found

    def list_with_captions(self, language: str, first: int, last: int) -> list[str]:
        """List the pictures with a caption in this language whose id is from `first` to `last`, sorted."""
        query = select(CaptionRow.picture_id).where(CaptionRow.language == language, CaptionRow.id.between(first, last))
        return sorted(self.registry.read_values(query.distinct()))

    def add_captions(self, expansion: str, language: str, captions: Iterable[tuple[str, str]]) -> int:
        """Add an expansion's new captions (picture, text), and return their number; skip pictures that do not exist.

        Nothing is added to the change feed: these captions are visible from the expansion's version on, whose caption
        vectors are built after this.
        """
        added = 0
        for batch in split_batches(list(dict.fromkeys(captions))):
            with self.registry.begin() as session:
                added += add_captions(session, expansion, language, batch)
        return added

    def find_vector(
        self, content_sha256: str, fingerprint: str, collections: frozenset[str] | None = None
    ) -> Vector | None:
        """Return the vector of this content by the image tower with this fingerprint; None when it must be computed.

        It must be when no picture in these collections has this content: how long an upload takes must not tell what is
        in others.
        """
        row = PictureRow
        if collections is not None:
            shown = select(row.id).where(row.content_sha256 == content_sha256, row.collection.in_(collections)).limit(1)
            with self.registry.read() as session:
                if session.scalar(shown) is None:
                    return None
        return self.find_content_vectors([content_sha256], fingerprint).get(content_sha256)

    def find_content_vectors(self, contents: Sequence[str], fingerprint: str) -> dict[str, Vector]:
        """Return stored vectors by content hash; contents without one are left out."""
        query = select(PictureVectorRow.content_sha256, PictureVectorRow.vector)
        return self._read_vectors(query.where(PictureVectorRow.fingerprint == fingerprint), contents)

    def find_picture_vectors(self, ids: Sequence[str], fingerprint: str) -> dict[str, Vector]:
        """Return stored vectors by picture id, in the order of `ids`; pictures without one are left out."""
        same_content = PictureVectorRow.content_sha256 == PictureRow.content_sha256
        query = select(PictureRow.id, PictureVectorRow.vector).join(PictureVectorRow, same_content)
        vectors = self._read_vectors(query.where(PictureVectorRow.fingerprint == fingerprint), ids)
        return {id: vectors[id] for id in ids if id in vectors}

    def list_newest_vectors(self, count: int, pictures: str) -> list[Vector]:
        """Return vectors of the newest captions, as any version reads them: texts as people write them.

        Not as another base reads them than that which made the vectors of `pictures`, which are of that fingerprint.
        """
        row, others = CaptionVectorRow, self.registry.bases.find_texts_of_others(pictures)
        query = select(row.vector).where(row.fingerprint.not_in(others)).order_by(row.caption_id.desc()).limit(count)
        found = [unpack_vector(data) for data in self.registry.read_values(query)]
        return [vector for vector in found if vector is not None]

    def put_picture_vectors(self, fingerprint: str, vectors: Mapping[str, Vector]) -> None:
        """Store vectors by content hash; durable when it returns."""
        with self.registry.begin() as session:
            store_picture_vectors(session, fingerprint, vectors)

    def find_caption_vectors(self, ids: Sequence[int], encoder: EncoderId) -> dict[int, Vector]:
        """Return stored vectors by caption id, by this encoder; captions without one are left out."""
        query = select(CaptionVectorRow.caption_id, CaptionVectorRow.vector)
        read = (CaptionVectorRow.version == encoder.version, CaptionVectorRow.fingerprint == encoder.fingerprint)
        return self._read_vectors(query.where(*read), ids)

    def put_caption_vectors(self, encoder: EncoderId, vectors: Mapping[int, Vector]) -> None:
        """Store vectors by caption id; durable when it returns. Skips captions that were deleted meanwhile."""
        with self.registry.begin() as session:
            store_caption_vectors(session, encoder, vectors)

    def list_encoded_versions(self) -> set[int]:
        """List the versions that have stored vectors of captions; reads an index of all vectors."""
        return set(self.registry.read_values(select(CaptionVectorRow.version).distinct()))

    def delete_version_vectors(self, version: int, language: str | None) -> None:
        """Delete every vector of captions by a version; None: in all languages, for a base."""
        row = CaptionVectorRow
        keys = select(row.caption_id).join(CaptionRow, CaptionRow.id == row.caption_id)
        keys = keys if language is None else keys.where(CaptionRow.language == language)
        self._delete_in_batches(keys, row.version == version)

    def delete_taught_captions(self, expansion: str) -> None:
        """Delete the captions that came with the dataset of an expansion, with their vectors and words."""
        self._delete_in_batches(select(PictureWordsRow.id), PictureWordsRow.expansion == expansion)
        self._delete_in_batches(select(CaptionRow.id), CaptionRow.expansion == expansion)

    def delete_picture_vectors(self, fingerprint: str) -> None:
        """Delete every vector of pictures by the image tower with this fingerprint."""
        self._delete_in_batches(select(PictureVectorRow.content_sha256), PictureVectorRow.fingerprint == fingerprint)

    def _delete_in_batches(self, keys: Select[Any], where: ColumnElement[bool]) -> None:
        """Delete the vectors of these keys for which `where` holds, some in each transaction."""
        key = keys.selected_columns[0]
        page = keys.where(where).order_by(key).limit(BATCH_SIZE)
        while True:
            found = self.registry.read_values(page)
            if not found:
                return
            with self.registry.begin() as session:
                session.execute(delete(key.table).where(key.in_(found), where))
            page = page.where(key > found[-1])

    def _read_vectors(self, query: Select[T, bytes], keys: Sequence[T]) -> dict[T, Vector]:
        """Read the vectors that a query finds for these values of its first column; a damaged one counts as none."""
        column = query.selected_columns[0]
        with self.registry.read() as session:
            found = {
                key: unpack_vector(data)
                for batch in split_batches(keys)
                for key, data in session.execute(query.where(column.in_(batch)))
            }
        whole = {key: vector for key, vector in found.items() if vector is not None}
        if len(whole) < len(found):
            _log.warning("vectors in the registry are damaged", extra={"count": len(found) - len(whole)})
        return whole


def _is_visible(expansions: Iterable[str]) -> ColumnElement[bool]:
    """Build the condition that a caption was added with its picture, or by one of these expansions."""
    return CaptionRow.expansion.is_(None) | CaptionRow.expansion.in_(sorted(expansions))


def store_picture_vectors(session: Session, fingerprint: str, vectors: Mapping[str, Vector]) -> set[str]:
    """Store vectors by content hash, where a picture has the content, and return which were stored.

    An existing one that is whole stays.
    """
    return _insert_missing(
        session, PictureRow.content_sha256, PictureVectorRow.content_sha256, {"fingerprint": fingerprint}, vectors
    )


def store_caption_vectors(session: Session, encoder: EncoderId, vectors: Mapping[int, Vector]) -> None:
    """Store vectors by caption id, where the caption exists and has no vector yet."""
    _insert_missing(session, CaptionRow.id, CaptionVectorRow.caption_id, encoder._asdict(), vectors)


def _insert_missing(
    session: Session, owner: Any, key: Any, encoder: Mapping[str, Any], vectors: Mapping[Any, Vector]
) -> set[Any]:
    stored = set[Any]()
    same = [getattr(key.class_, name) == value for name, value in encoder.items()]
    for batch in split_batches(list(vectors)):
        known = set(session.scalars(select(owner).where(owner.in_(batch))))
        there = session.execute(select(key, key.class_.vector).where(key.in_(batch), *same)).all()
        damaged = {each for each, data in there if strip_crc(data) is None}
        if damaged:
            session.execute(delete(key.class_).where(key.in_(damaged), *same))
        missing = known - {each for each, _ in there} | known & damaged
        if rows := [{key.key: id, **encoder, "vector": pack_vector(vectors[id])} for id in batch if id in missing]:
            session.execute(insert(key.class_), rows)
        stored |= missing
    return stored


def pack_vector(vector: Vector) -> bytes:
    """Return a vector as it is stored: halves, and their checksum."""
    return append_crc(np.ascontiguousarray(vector, dtype="<f2").tobytes())


def unpack_vector(stored: bytes) -> Vector | None:
    """Return the vector that was packed; None when a bit of it has flipped since."""
    halves = strip_crc(stored)
    return None if halves is None else np.frombuffer(halves, dtype="<f2").astype(np.float32)
