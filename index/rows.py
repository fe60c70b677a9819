"""Reads and writes the rows of captions and vectors, some within a transaction of the gallery. Encodes nothing.

Vectors are stored so that nothing is encoded twice: of pictures by content, of captions by version, of both by the
fingerprint of the tower. Every segment can be made again from them: they are
rounded to halves once, here. Searches never read these tables.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import ColumnElement, Select, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from index.tables import CaptionRow, CaptionVectorRow, GalleryChangeRow, PictureRow, PictureVectorRow
from index.vectors import Vector
from index.words import write_words
from model.registry import Registry

_BATCH = 500  # values in one SQL statement
MOST_LANGUAGES = 256  # of captions that a base reads untaught: each is a vector set that follows the gallery
T = TypeVar("T")

Captions = Mapping[str, Sequence[str]]  # texts by language


class ReadBy(NamedTuple):
    """What made a caption's vector: a version's rows, and the text tower with this fingerprint."""

    version: int
    fingerprint: str


@dataclass(frozen=True)
class Caption:
    """One caption; `expansion` is None when it was added with its picture."""

    id: int
    picture: str
    language: str
    text: str
    expansion: str | None


def captions_of(session: Session, ids: Sequence[str], language: str | None = None) -> list[Caption]:
    """The captions of these pictures in one language, or in all, in the order in which they were added."""
    columns = (CaptionRow.id, CaptionRow.picture_id, CaptionRow.language, CaptionRow.text, CaptionRow.expansion)
    order = (CaptionRow.picture_id, CaptionRow.language, CaptionRow.expansion.is_not(None), CaptionRow.position)
    query = select(*columns).where(CaptionRow.picture_id.in_(ids)).order_by(*order, CaptionRow.id)
    if language is not None:
        query = query.where(CaptionRow.language == language)
    return [Caption(*row) for row in session.execute(query)]


def replace_captions(session: Session, picture: str, captions: Captions, change: int) -> None:
    """Replace the captions added with a picture, in this order; unchanged ones keep their vectors.

    They keep their ids too, unless they moved up: captions of a language are in the order of their ids in every answer.
    """
    old, last = _added_with(session, picture), dict[str, int]()
    new = {caption: position for position, caption in enumerate(_in_order(captions))}
    remove_captions(session, [id for caption, id in old.items() if caption not in new])
    for (language, text), position in new.items():
        id = old.get((language, text), 0)
        if id > last.get(language, 0):
            session.execute(update(CaptionRow).where(CaptionRow.id == id).values(position=position))
        else:
            vectors = _taken(session, id) if id else []
            values = {"language": language, "text": text, "position": position, "change": change, "expansion": None}
            added = insert(CaptionRow).values(picture_id=picture, digest=_digest("", text), **values)
            id = session.scalars(added.returning(CaptionRow.id)).one()
            if vectors:
                session.execute(insert(CaptionVectorRow), [{"caption_id": id, **vector} for vector in vectors])
        last[language] = id


def _taken(session: Session, id: int) -> list[dict[str, object]]:
    """The vectors of a caption that is deleted by this."""
    columns = (CaptionVectorRow.version, CaptionVectorRow.fingerprint, CaptionVectorRow.vector)
    vectors = session.execute(select(*columns).where(CaptionVectorRow.caption_id == id)).all()
    remove_captions(session, [id])
    return [row._asdict() for row in vectors]


def captions_equal(session: Session, picture: str, captions: Captions) -> bool:
    """Returns whether `replace_captions` with these captions would change nothing."""
    return [*_added_with(session, picture)] == _in_order(captions)


def _added_with(session: Session, picture: str) -> dict[tuple[str, str], int]:
    """Language and text of the captions added with a picture, in order, with their ids."""
    added_with = (CaptionRow.picture_id == picture) & CaptionRow.expansion.is_(None)
    query = select(CaptionRow.id, CaptionRow.language, CaptionRow.text).where(added_with)
    rows = session.execute(query.order_by(CaptionRow.position)).all()
    return {(language, text): id for id, language, text in rows}


def own_captions(
    session: Session, pictures: Sequence[str], within: frozenset[str] | None = None
) -> dict[str, dict[str, list[str]]]:
    """The captions added with each of these pictures by language, in order: not those of expansions.

    None of a picture in none of the collections `within`.
    """
    row, found = CaptionRow, {picture: dict[str, list[str]]() for picture in pictures}
    query = select(row.picture_id, row.language, row.text).where(row.picture_id.in_(pictures), row.expansion.is_(None))
    if within is not None:
        query = query.join(PictureRow, PictureRow.id == row.picture_id).where(PictureRow.collection.in_(within))
    for picture, language, text in session.execute(query.order_by(row.picture_id, row.position)):
        found[picture].setdefault(language, []).append(text)
    return found


def _in_order(captions: Captions) -> list[tuple[str, str]]:
    return list(dict.fromkeys((language, text) for language, texts in captions.items() for text in texts))


def _add_captions(session: Session, expansion: str, language: str, rows: Sequence[tuple[str, str]]) -> int:
    """Add an expansion's captions (picture, text) that are new and whose picture exists; returns their number."""
    pictures = sorted({picture for picture, _ in rows})
    known = set(session.scalars(select(PictureRow.id).where(PictureRow.id.in_(pictures))))
    same_source = (CaptionRow.expansion == expansion) & (CaptionRow.language == language)
    query = select(CaptionRow.picture_id, CaptionRow.text).where(CaptionRow.picture_id.in_(pictures), same_source)
    existing = {(picture, text) for picture, text in session.execute(query)}
    new = [row for row in rows if row not in existing and row[0] in known]
    change = session.scalar(select(func.max(GalleryChangeRow.change))) or 0
    columns = {"language": language, "expansion": expansion, "position": 0, "change": change}
    if new:
        texts = [{"picture_id": picture, "text": text, "digest": _digest(expansion, text)} for picture, text in new]
        session.execute(insert(CaptionRow), [{**caption, **columns} for caption in texts])
        write_words(session, sorted({picture for picture, _ in new}), expansion)
    return len(new)


def _digest(expansion: str, text: str) -> str:
    return hashlib.sha256(f"{expansion}\0{text}".encode()).hexdigest()


def remove_captions(session: Session, ids: Sequence[int]) -> None:
    """Delete captions, and with them their vectors."""
    for batch in batches(ids, _BATCH):
        session.execute(delete(CaptionRow).where(CaptionRow.id.in_(batch)))


def store_vectors_of(session: Session, picture: str, vectors: Mapping[tuple[str, str, ReadBy], Vector]) -> None:
    """Store vectors of a picture's captions, given by language, text and what read them."""
    ids: dict[tuple[str, str], list[int]] = {}
    for caption in captions_of(session, [picture]):
        ids.setdefault((caption.language, caption.text), []).append(caption.id)
    for (language, text, by), vector in vectors.items():
        store_caption_vectors(session, by, dict.fromkeys(ids.get((language, text), ()), vector))


class CaptionsAndVectors:
    """The captions of one registry, and the vectors of its pictures and captions that are already computed."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

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
        """As `own_captions`."""
        with self._registry.read() as session:
            found = [own_captions(session, batch, within) for batch in batches(ids, _BATCH)]
        return {picture: captions for batch in found for picture, captions in batch.items()}

    def captions(self, ids: Sequence[str], language: str | None = None) -> list[Caption]:
        """The captions of these pictures in one language, or in all, in the order in which they were added."""
        with self._registry.read() as session:
            return [caption for batch in batches(ids, _BATCH) for caption in captions_of(session, batch, language)]

    def languages(self, most: int = MOST_LANGUAGES) -> list[str]:
        """The languages in which captions were added with pictures, sorted; the first `most`.

        Takes as long as so many look-ups in an index, however many captions there are.
        """
        tags = select(func.min(CaptionRow.language).label("tag")).cte(recursive=True)
        following = select(func.min(CaptionRow.language)).where(CaptionRow.language > tags.c.tag).scalar_subquery()
        tags = tags.union_all(select(following).where(tags.c.tag.is_not(None)))
        own = exists().where(CaptionRow.language == tags.c.tag, CaptionRow.expansion.is_(None))
        with self._registry.read() as session:
            return sorted(session.scalars(select(tags.c.tag).where(own).order_by(tags.c.tag).limit(most)))

    def added_with_pictures(self, language: str, most: int, unread: ReadBy | None = None) -> int:
        """How many captions in this language were added with pictures, counted up to `most`.

        With `unread`, only those that have no vector made by that.
        """
        row, read = CaptionRow, CaptionVectorRow
        query = select(row.id).where(row.language == language, row.expansion.is_(None)).limit(most)
        if unread is not None:
            made = (read.version == unread.version, read.fingerprint == unread.fingerprint)
            query = query.where(~exists().where(read.caption_id == row.id, *made))
        with self._registry.read() as session:
            return session.scalar(select(func.count()).select_from(query.subquery())) or 0

    def captioned(self, language: str, expansions: Iterable[str]) -> list[str]:
        """The sorted ids of pictures with a caption in this language, added with them or by one of these expansions."""
        visible = CaptionRow.expansion.is_(None) | CaptionRow.expansion.in_(list(expansions))
        with self._registry.read() as session:
            query = select(CaptionRow.picture_id).where(CaptionRow.language == language, visible).distinct()
            return sorted(session.scalars(query))

    def captioned_as(self, language: str, texts: Iterable[str]) -> dict[str, set[str]]:
        """The pictures that have each of these texts as a caption in this language, whoever added it."""
        found: dict[str, set[str]] = {text: set() for text in texts}
        query = select(CaptionRow.text, CaptionRow.picture_id).where(CaptionRow.language == language)
        with self._registry.read() as session:
            for batch in batches([*found], _BATCH):
                for text, picture in session.execute(query.where(CaptionRow.text.in_(batch))):
                    found[text].add(picture)
        return found

    def captioned_between(self, language: str, first: int, last: int) -> list[str]:
        """The pictures with a caption in this language whose id is from `first` to `last`, sorted."""
        query = select(CaptionRow.picture_id).where(CaptionRow.language == language, CaptionRow.id.between(first, last))
        with self._registry.read() as session:
            return sorted(session.scalars(query.distinct()))

    def add_captions(self, expansion: str, language: str, captions: Iterable[tuple[str, str]]) -> int:
        """Add an expansion's captions (picture, text), except existing ones; returns how many were new.

        Captions of pictures that do not exist (any more) are skipped. Nothing is added to the change feed: these
        captions are visible from the expansion's version on, whose caption vectors are built after this.
        """
        added = 0
        for batch in batches(list(dict.fromkeys(captions)), _BATCH):
            with self._registry.begin() as session:
                added += _add_captions(session, expansion, language, batch)
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
            with self._registry.read() as session:
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
        with self._registry.read() as session:
            return [_vector(data) for data in session.scalars(query)]

    def put_picture_vectors(self, fingerprint: str, vectors: Mapping[str, Vector]) -> None:
        """Store vectors by content hash; durable when it returns."""
        with self._registry.begin() as session:
            store_picture_vectors(session, fingerprint, vectors)

    def caption_vectors(self, ids: Sequence[int], by: ReadBy) -> dict[int, Vector]:
        """Stored vectors by caption id, as this version encodes them; captions without one are left out."""
        query = select(CaptionVectorRow.caption_id, CaptionVectorRow.vector)
        read = (CaptionVectorRow.version == by.version, CaptionVectorRow.fingerprint == by.fingerprint)
        return self._vectors(query.where(*read), ids)

    def put_caption_vectors(self, by: ReadBy, vectors: Mapping[int, Vector]) -> None:
        """Store vectors by caption id; durable when it returns. Skips captions that were deleted meanwhile."""
        with self._registry.begin() as session:
            store_caption_vectors(session, by, vectors)

    def versions_read(self) -> set[int]:
        """The versions of which vectors of captions are stored. Reads an index of all of them."""
        with self._registry.read() as session:
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
        page = keys.where(where).order_by(key).limit(_BATCH)
        while True:
            with self._registry.read() as session:
                found = session.scalars(page).all()
            if not found:
                return
            with self._registry.begin() as session:
                session.execute(delete(key.table).where(key.in_(found), where))
            page = page.where(key > found[-1])

    def _vectors(self, query: Select[T, bytes], keys: Sequence[T]) -> dict[T, Vector]:
        """The vectors that a query finds for these values of its first column."""
        column = query.selected_columns[0]
        with self._registry.read() as session:
            return {
                key: _vector(data)
                for batch in batches(keys, _BATCH)
                for key, data in session.execute(query.where(column.in_(batch)))
            }


def store_picture_vectors(session: Session, fingerprint: str, vectors: Mapping[str, Vector]) -> None:
    """Store vectors by content hash, where a picture has the content; an existing vector is never replaced."""
    _store(session, PictureRow.content_sha256, PictureVectorRow.content_sha256, {"fingerprint": fingerprint}, vectors)


def store_caption_vectors(session: Session, by: ReadBy, vectors: Mapping[int, Vector]) -> None:
    """Store vectors by caption id, where the caption exists and has no vector yet."""
    _store(session, CaptionRow.id, CaptionVectorRow.caption_id, by._asdict(), vectors)


def _store(session: Session, shown: Any, key: Any, of: Mapping[str, Any], vectors: Mapping[Any, Vector]) -> None:
    same = [getattr(key.class_, name) == value for name, value in of.items()]
    for batch in batches(list(vectors), _BATCH):
        known = set(session.scalars(select(shown).where(shown.in_(batch))))
        missing = known - set(session.scalars(select(key).where(key.in_(batch), *same)))
        if rows := [{key.key: each, **of, "vector": _bytes(vectors[each])} for each in batch if each in missing]:
            session.execute(insert(key.class_), rows)


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in batches of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _bytes(vector: Vector) -> bytes:
    return np.ascontiguousarray(vector, dtype="<f2").tobytes()


def _vector(data: bytes) -> Vector:
    return np.frombuffer(data, dtype="<f2").astype(np.float32)
