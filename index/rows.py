"""Reads what is stored of pictures, and writes vectors, some within a transaction of the gallery. Encodes nothing.

Vectors are stored so that nothing is encoded twice: of pictures by content, of captions by version, of both by the
fingerprint of the tower. Every segment can be made again from them: they are rounded to halves once, here, and
have a checksum: one that is damaged counts as none, so that it is computed again. Searches never read these tables.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import ColumnElement, Select, delete, exists, func, insert, literal, select, tuple_
from sqlalchemy.orm import Session

from index.captions import BATCH, Caption, ReadBy, add_captions, batches, captions_of, own_captions
from index.set_states import find_last_change
from index.vectors import Vector
from store.files import append_crc, strip_crc
from store.registry import Registry
from store.tables import CaptionRow, CaptionVectorRow, GalleryChangeRow, KeyRow, PictureRow, PictureVectorRow

MOST_LANGUAGES = 256  # of captions that a base reads untaught: each is a vector set that follows the gallery
T = TypeVar("T")
_log = logging.getLogger(__name__)


class Placed(NamedTuple):
    """A picture in the vector sets: `key` is that of its content, and another one after each change of it."""

    key: int
    content_sha256: str


class Stored:
    """What is stored of the pictures of one registry: where they are, captions, vectors that are already computed."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def ids(self) -> list[str]:
        """The ids of all pictures, sorted."""
        with self.registry.read() as session:
            return sorted(session.scalars(select(PictureRow.id)))

    def known(self, ids: Iterable[str]) -> set[str]:
        """The ids among `ids` that exist in the gallery."""
        with self.registry.read() as session:
            return {
                id
                for batch in batches(sorted(set(ids)))
                for id in session.scalars(select(PictureRow.id).where(PictureRow.id.in_(batch)))
            }

    def contents(self, ids: Sequence[str]) -> dict[str, str]:
        """The content hash of each of these pictures that exists."""
        return {id: placed.content_sha256 for id, placed in self.placed(ids).items()}

    def placed(self, ids: Sequence[str]) -> dict[str, Placed]:
        """Key and content hash of each of these pictures that exists."""
        columns = select(PictureRow.id, PictureRow.key, PictureRow.content_sha256)
        with self.registry.read() as session:
            return {
                id: Placed(key, content)
                for batch in batches(ids)
                for id, key, content in session.execute(columns.where(PictureRow.id.in_(batch)))
            }

    def keyed(self, first: int, last: int) -> list[str]:
        """The pictures whose key is from `first` to `last`, by key."""
        query = select(PictureRow.id).where(PictureRow.key.between(first, last)).order_by(PictureRow.key)
        with self.registry.read() as session:
            return list(session.scalars(query))

    def sampled(self, share: float, fingerprint: str) -> Iterator[dict[str, Vector]]:
        """The vectors of about this share of all pictures, chosen by the hash of their content; some at a time."""
        place = tuple_(PictureRow.content_sha256, PictureRow.id)
        query = (
            select(PictureRow.id, PictureRow.content_sha256)
            .order_by(PictureRow.content_sha256, PictureRow.id)
            .limit(BATCH)
        )
        if share < 1:
            query = query.where(PictureRow.content_sha256 < f"{int(share * 16**8):08x}")
        page = query
        while True:
            with self.registry.read() as session:
                found = session.execute(page).all()
            if not found:
                return
            yield self.picture_vectors([row.id for row in found], fingerprint)
            page = query.where(place > tuple_(literal(found[-1].content_sha256), literal(found[-1].id)))

    def change(self) -> int:
        """The number of the last change; 0 when there is none."""
        return find_last_change(self.registry)

    def changes_since(self, change: int, most: int | None = None) -> dict[str, int]:
        """The pictures that were changed or deleted after `change`, each with its last change; the first `most`.

        `set_states.PRUNED` is among them when deletions after `change` are not in the feed any more.
        """
        columns = select(GalleryChangeRow.picture_id, GalleryChangeRow.change)
        query = columns.where(GalleryChangeRow.change > change).order_by(GalleryChangeRow.change).limit(most)
        with self.registry.read() as session:
            return {row.picture_id: row.change for row in session.execute(query)}

    def captions_for(self, ids: Sequence[str], tags: Iterable[str] | None = None) -> dict[str, dict[str, list[str]]]:
        """The captions of each of these pictures by language: in the languages of `tags`, or in all."""
        texts: dict[str, dict[str, list[str]]] = {id: {} for id in ids}
        languages = None if tags is None else set(tags)
        for caption in self.captions(ids):
            if languages is None or caption.language in languages:
                texts[caption.picture].setdefault(caption.language, []).append(caption.text)
        return texts

    def captions_given(
        self, ids: Sequence[str], within: frozenset[str] | None = None
    ) -> dict[str, dict[str, list[str]]]:
        with self.registry.read() as session:
            return own_captions(session, ids, within)

    def captions(self, ids: Sequence[str], language: str | None = None) -> list[Caption]:
        """The captions of these pictures in one language, or in all, in the order in which they were added."""
        with self.registry.read() as session:
            return [caption for batch in batches(ids) for caption in captions_of(session, batch, language)]

    def languages(self, most: int = MOST_LANGUAGES) -> list[str]:
        """The languages in which captions were added with pictures, sorted; of more than `most` those that came first.

        Which came first is told by the oldest caption that is still there: none loses its place to new ones.
        Takes as long as so many look-ups in an index, however many captions there are; of more languages all are read.
        """
        tags = select(func.min(CaptionRow.language).label("tag")).cte(recursive=True)
        following = select(func.min(CaptionRow.language)).where(CaptionRow.language > tags.c.tag).scalar_subquery()
        tags = tags.union_all(select(following).where(tags.c.tag.is_not(None)))
        own = exists().where(CaptionRow.language == tags.c.tag, CaptionRow.expansion.is_(None))
        some = select(tags.c.tag).where(own).order_by(tags.c.tag).limit(most + 1)
        first = select(CaptionRow.language).where(CaptionRow.expansion.is_(None)).group_by(CaptionRow.language)
        with self.registry.read() as session:
            found = session.scalars(some).all()
            if len(found) > most:
                found = session.scalars(first.order_by(func.min(CaptionRow.id)).limit(most)).all()
            return sorted(found)

    def added_with_pictures(self, language: str, most: int, unread: ReadBy | None = None) -> int:
        """How many captions in this language were added with pictures, counted up to `most`.

        With `unread`, only those that have no vector made by that.
        """
        row, read = CaptionRow, CaptionVectorRow
        query = select(row.id).where(row.language == language, row.expansion.is_(None)).limit(most)
        if unread is not None:
            made = (read.version == unread.version, read.fingerprint == unread.fingerprint)
            query = query.where(~exists().where(read.caption_id == row.id, *made))
        with self.registry.read() as session:
            return session.scalar(select(func.count()).select_from(query.subquery())) or 0

    def captioned(self, language: str, expansions: Iterable[str]) -> list[str]:
        """The sorted ids of pictures with a caption in this language, added with them or by one of these expansions."""
        query = select(CaptionRow.picture_id).where(CaptionRow.language == language, _visible(expansions))
        with self.registry.read() as session:
            return sorted(session.scalars(query.distinct()))

    def some_captions(self, language: str, expansions: Iterable[str], most: int) -> list[str]:
        """Return about `most` texts in a language, added with pictures or by these expansions; chosen by hash.

        None are of collections that a key is or was bound to: what its holder writes must change nothing for others.
        """
        row = CaptionRow
        with self.registry.read() as session:
            bound = session.scalars(select(KeyRow.collections).where(KeyRow.collections.is_not(None)))
            names = {name for collections in bound for name in collections or ()}
            query = select(row.text).where(row.language == language, _visible(expansions))
            if names:
                query = query.join(PictureRow).where(PictureRow.collection.not_in(sorted(names)))
            count = session.scalar(query.with_only_columns(func.count())) or 0
            if count > most:
                query = query.where(row.digest < f"{most * 16**8 // count:08x}")
            return list(session.scalars(query))

    def captioned_as(self, language: str, texts: Iterable[str]) -> dict[str, set[str]]:
        """The pictures that have each of these texts as a caption in this language, whoever added it."""
        found: dict[str, set[str]] = {text: set() for text in texts}
        query = select(CaptionRow.text, CaptionRow.picture_id).where(CaptionRow.language == language)
        with self.registry.read() as session:
            for batch in batches([*found]):
                for text, picture in session.execute(query.where(CaptionRow.text.in_(batch))):
                    found[text].add(picture)
        return found

    def captioned_between(self, language: str, first: int, last: int) -> list[str]:
        """The pictures with a caption in this language whose id is from `first` to `last`, sorted."""
        query = select(CaptionRow.picture_id).where(CaptionRow.language == language, CaptionRow.id.between(first, last))
        with self.registry.read() as session:
            return sorted(session.scalars(query.distinct()))

    def add_captions(self, expansion: str, language: str, captions: Iterable[tuple[str, str]]) -> int:
        """Add an expansion's captions (picture, text), except existing ones; returns how many were new.

        Captions of pictures that do not exist (any more) are skipped. Nothing is added to the change feed: these
        captions are visible from the expansion's version on, whose caption vectors are built after this.
        """
        added = 0
        for batch in batches(list(dict.fromkeys(captions))):
            with self.registry.begin() as session:
                added += add_captions(session, expansion, language, batch)
        return added

    def picture_vector(
        self, content_sha256: str, fingerprint: str, within: frozenset[str] | None = None
    ) -> Vector | None:
        """The vector of this content by the image tower with this fingerprint; None when it must be computed.

        So it is when no picture in the collections `within` has this content: how long an upload takes must not tell
        what is in others.
        """
        row = PictureRow
        if within is not None:
            shown = select(row.id).where(row.content_sha256 == content_sha256, row.collection.in_(within)).limit(1)
            with self.registry.read() as session:
                if session.scalar(shown) is None:
                    return None
        return self.content_vectors([content_sha256], fingerprint).get(content_sha256)

    def content_vectors(self, contents: Sequence[str], fingerprint: str) -> dict[str, Vector]:
        """Stored vectors by content hash; contents without one are left out."""
        query = select(PictureVectorRow.content_sha256, PictureVectorRow.vector)
        return self._vectors(query.where(PictureVectorRow.fingerprint == fingerprint), contents)

    def picture_vectors(self, ids: Sequence[str], fingerprint: str) -> dict[str, Vector]:
        """Stored vectors by picture id, in the order of `ids`; unknown pictures and those without one are left out."""
        same_content = PictureVectorRow.content_sha256 == PictureRow.content_sha256
        query = select(PictureRow.id, PictureVectorRow.vector).join(PictureVectorRow, same_content)
        vectors = self._vectors(query.where(PictureVectorRow.fingerprint == fingerprint), ids)
        return {id: vectors[id] for id in ids if id in vectors}

    def some_caption_vectors(self, count: int) -> list[Vector]:
        """Vectors of the captions that were added last, as any version reads them: texts as people write them."""
        query = select(CaptionVectorRow.vector).order_by(CaptionVectorRow.caption_id.desc()).limit(count)
        with self.registry.read() as session:
            found = [vector_of(data) for data in session.scalars(query)]
        return [vector for vector in found if vector is not None]

    def put_picture_vectors(self, fingerprint: str, vectors: Mapping[str, Vector]) -> None:
        """Store vectors by content hash; durable when it returns."""
        with self.registry.begin() as session:
            store_picture_vectors(session, fingerprint, vectors)

    def caption_vectors(self, ids: Sequence[int], by: ReadBy) -> dict[int, Vector]:
        """Stored vectors by caption id, as this version encodes them; captions without one are left out."""
        query = select(CaptionVectorRow.caption_id, CaptionVectorRow.vector)
        read = (CaptionVectorRow.version == by.version, CaptionVectorRow.fingerprint == by.fingerprint)
        return self._vectors(query.where(*read), ids)

    def put_caption_vectors(self, by: ReadBy, vectors: Mapping[int, Vector]) -> None:
        """Store vectors by caption id; durable when it returns. Skips captions that were deleted meanwhile."""
        with self.registry.begin() as session:
            store_caption_vectors(session, by, vectors)

    def versions_read(self) -> set[int]:
        """The versions of which vectors of captions are stored. Reads an index of all of them."""
        with self.registry.read() as session:
            return set(session.scalars(select(CaptionVectorRow.version).distinct()))

    def forget_version(self, version: int, language: str | None) -> None:
        """Delete every vector of captions as a version encodes them; None: of all languages, as a base does."""
        row = CaptionVectorRow
        of = select(row.caption_id).join(CaptionRow, CaptionRow.id == row.caption_id)
        self._forget(of if language is None else of.where(CaptionRow.language == language), row.version == version)

    def forget_pictures(self, fingerprint: str) -> None:
        """Delete every vector of pictures by the image tower with this fingerprint."""
        self._forget(select(PictureVectorRow.content_sha256), PictureVectorRow.fingerprint == fingerprint)

    def _forget(self, keys: Select[Any], where: ColumnElement[bool]) -> None:
        """Delete the vectors of these keys for which `where` holds, some in each transaction."""
        key = keys.selected_columns[0]
        page = keys.where(where).order_by(key).limit(BATCH)
        while True:
            with self.registry.read() as session:
                found = session.scalars(page).all()
            if not found:
                return
            with self.registry.begin() as session:
                session.execute(delete(key.table).where(key.in_(found), where))
            page = page.where(key > found[-1])

    def _vectors(self, query: Select[T, bytes], keys: Sequence[T]) -> dict[T, Vector]:
        """The vectors that a query finds for these values of its first column; a damaged one counts as none."""
        column = query.selected_columns[0]
        with self.registry.read() as session:
            found = {
                key: vector_of(data)
                for batch in batches(keys)
                for key, data in session.execute(query.where(column.in_(batch)))
            }
        whole = {key: vector for key, vector in found.items() if vector is not None}
        if len(whole) < len(found):
            _log.warning("vectors in the registry are damaged", extra={"count": len(found) - len(whole)})
        return whole


def _visible(expansions: Iterable[str]) -> ColumnElement[bool]:
    """That a caption was added with its picture, or by one of these expansions."""
    return CaptionRow.expansion.is_(None) | CaptionRow.expansion.in_(sorted(expansions))


def store_picture_vectors(session: Session, fingerprint: str, vectors: Mapping[str, Vector]) -> None:
    """Store vectors by content hash, where a picture has the content; an existing one that is whole stays."""
    _store(session, PictureRow.content_sha256, PictureVectorRow.content_sha256, {"fingerprint": fingerprint}, vectors)


def store_caption_vectors(session: Session, by: ReadBy, vectors: Mapping[int, Vector]) -> None:
    """Store vectors by caption id, where the caption exists and has no vector yet."""
    _store(session, CaptionRow.id, CaptionVectorRow.caption_id, by._asdict(), vectors)


def _store(session: Session, shown: Any, key: Any, of: Mapping[str, Any], vectors: Mapping[Any, Vector]) -> None:
    same = [getattr(key.class_, name) == value for name, value in of.items()]
    for batch in batches(list(vectors)):
        known = set(session.scalars(select(shown).where(shown.in_(batch))))
        there = session.execute(select(key, key.class_.vector).where(key.in_(batch), *same)).all()
        damaged = {each for each, data in there if strip_crc(data) is None}
        if damaged:
            session.execute(delete(key.class_).where(key.in_(damaged), *same))
        missing = known - {each for each, _ in there} | known & damaged
        if rows := [{key.key: each, **of, "vector": stored_as(vectors[each])} for each in batch if each in missing]:
            session.execute(insert(key.class_), rows)


def stored_as(vector: Vector) -> bytes:
    """A vector as it is stored: halves, and their checksum."""
    return append_crc(np.ascontiguousarray(vector, dtype="<f2").tobytes())


def vector_of(stored: bytes) -> Vector | None:
    """The vector that `stored_as` was given; None when a bit of it has flipped since."""
    halves = strip_crc(stored)
    return None if halves is None else np.frombuffer(halves, dtype="<f2").astype(np.float32)
