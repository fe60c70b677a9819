"""Captions and vectors as rows: read, kept and removed, some within a transaction of the gallery. Encodes nothing.

Vectors are kept so that nothing is encoded twice: those of pictures by content, those of captions by version. Every
generation can be built from them again. Searches never come here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from index.engine import Vector
from index.tables import CaptionRow, CaptionVectorRow, GalleryChangeRow, PictureRow, PictureVectorRow
from model.registry import Registry

_BATCH = 500  # names in one SQL statement
T = TypeVar("T")

Captions = Mapping[str, Sequence[str]]  # texts by language


@dataclass(frozen=True)
class Caption:
    """One caption; `expansion` is None when it was put with its picture."""

    id: int
    picture: str
    language: str
    text: str
    expansion: str | None


def captions_of(session: Session, ids: Sequence[str], language: str | None = None) -> list[Caption]:
    """The captions of these pictures, in the order in which they were given: of one language, or of all."""
    columns = (CaptionRow.id, CaptionRow.picture_id, CaptionRow.language, CaptionRow.text, CaptionRow.expansion)
    order = (CaptionRow.picture_id, CaptionRow.language, CaptionRow.expansion.is_not(None), CaptionRow.position)
    query = select(*columns).where(CaptionRow.picture_id.in_(ids)).order_by(*order, CaptionRow.id)
    if language is not None:
        query = query.where(CaptionRow.language == language)
    return [Caption(*row) for row in session.execute(query)]


def replace_captions(session: Session, picture: str, captions: Captions, change: int) -> None:
    """Make the captions put with a picture exactly these; those that stay keep their id, and so their vectors."""
    old = _put_with(session, picture)
    new = {caption: place for place, caption in enumerate(_in_order(captions))}
    remove_captions(session, [id for caption, id in old.items() if caption not in new])
    for caption, place in new.items():
        if caption in old:
            session.execute(update(CaptionRow).where(CaptionRow.id == old[caption]).values(position=place))
        else:
            language, text = caption
            values = {"language": language, "text": text, "position": place, "change": change, "expansion": None}
            session.execute(insert(CaptionRow).values(picture_id=picture, **values))


def captions_are(session: Session, picture: str, captions: Captions) -> bool:
    """Whether `replace_captions` with these would change nothing."""
    return [*_put_with(session, picture)] == _in_order(captions)


def _put_with(session: Session, picture: str) -> dict[tuple[str, str], int]:
    """Language and text of what was put with a picture, in order, with their ids."""
    ours = (CaptionRow.picture_id == picture) & CaptionRow.expansion.is_(None)
    query = select(CaptionRow.id, CaptionRow.language, CaptionRow.text).where(ours)
    rows = session.execute(query.order_by(CaptionRow.position)).all()
    return {(language, text): id for id, language, text in rows}


def _in_order(captions: Captions) -> list[tuple[str, str]]:
    return list(dict.fromkeys((language, text) for language, texts in captions.items() for text in texts))


def add_captions(session: Session, expansion: str, language: str, rows: Sequence[tuple[str, str]]) -> int:
    """Add an expansion's captions (picture, text) that are new and whose picture exists; returns how many."""
    pictures = sorted({picture for picture, _ in rows})
    known = set(session.scalars(select(PictureRow.id).where(PictureRow.id.in_(pictures))))
    ours = (CaptionRow.expansion == expansion) & (CaptionRow.language == language)
    query = select(CaptionRow.picture_id, CaptionRow.text).where(CaptionRow.picture_id.in_(pictures), ours)
    there = {(picture, text) for picture, text in session.execute(query)}
    new = [row for row in rows if row not in there and row[0] in known]
    change = session.scalar(select(func.max(GalleryChangeRow.change))) or 0
    shared = {"language": language, "expansion": expansion, "position": 0, "change": change}
    if new:
        session.execute(insert(CaptionRow), [{"picture_id": picture, "text": text, **shared} for picture, text in new])
    return len(new)


def remove_captions(session: Session, ids: Sequence[int]) -> None:
    """Delete captions and their vectors."""
    for batch in batches(ids, _BATCH):
        drop_caption_vectors(session, batch)
        session.execute(delete(CaptionRow).where(CaptionRow.id.in_(batch)))


def keep_vectors_of(session: Session, picture: str, vectors: Mapping[tuple[str, str, int], Vector]) -> None:
    """Keep vectors, given by language, text and version, of a picture's captions."""
    ids: dict[tuple[str, str], list[int]] = {}
    for caption in captions_of(session, [picture]):
        ids.setdefault((caption.language, caption.text), []).append(caption.id)
    for (language, text, version), vector in vectors.items():
        keep_caption_vectors(session, version, dict.fromkeys(ids.get((language, text), ()), vector))


class StoredVectors:
    """The vectors computed so far for one registry's pictures and captions."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def picture_vector(self, content_sha256: str, fingerprint: str) -> Vector | None:
        """The vector of this content by the image tower of this fingerprint; None when it must be computed."""
        return self.content_vectors([content_sha256], fingerprint).get(content_sha256)

    def content_vectors(self, contents: Sequence[str], fingerprint: str) -> dict[str, Vector]:
        """Vectors by content hash, of those that were computed."""
        columns = select(PictureVectorRow.content_sha256, PictureVectorRow.vector)
        ours = columns.where(PictureVectorRow.fingerprint == fingerprint)
        with self._registry.read() as session:
            return {
                content: _vector(data)
                for batch in batches(contents, _BATCH)
                for content, data in session.execute(ours.where(PictureVectorRow.content_sha256.in_(batch)))
            }

    def picture_vectors(self, ids: Sequence[str], fingerprint: str) -> dict[str, Vector]:
        """Vectors by picture id, in the order of `ids`; unknown pictures and uncomputed vectors are left out."""
        columns = select(PictureRow.id, PictureVectorRow.vector).join(
            PictureVectorRow, PictureVectorRow.content_sha256 == PictureRow.content_sha256
        )
        ours = columns.where(PictureVectorRow.fingerprint == fingerprint)
        with self._registry.read() as session:
            found = {
                id: _vector(data)
                for batch in batches(ids, _BATCH)
                for id, data in session.execute(ours.where(PictureRow.id.in_(batch)))
            }
        return {id: found[id] for id in ids if id in found}

    def put_picture_vectors(self, fingerprint: str, vectors: Mapping[str, Vector]) -> None:
        """Keep vectors by content hash; durable when it returns."""
        with self._registry.begin() as session:
            keep_picture_vectors(session, fingerprint, vectors)

    def caption_vectors(self, ids: Sequence[int], version: int) -> dict[int, Vector]:
        """Vectors by caption id as this version encodes them, of those that were computed."""
        columns = select(CaptionVectorRow.caption_id, CaptionVectorRow.vector)
        ours = columns.where(CaptionVectorRow.version == version)
        with self._registry.read() as session:
            return {
                id: _vector(data)
                for batch in batches(ids, _BATCH)
                for id, data in session.execute(ours.where(CaptionVectorRow.caption_id.in_(batch)))
            }

    def put_caption_vectors(self, version: int, vectors: Mapping[int, Vector]) -> None:
        """Keep vectors by caption id; durable when it returns. Captions that were deleted meanwhile are passed over."""
        with self._registry.begin() as session:
            keep_caption_vectors(session, version, vectors)


def keep_picture_vectors(session: Session, fingerprint: str, vectors: Mapping[str, Vector]) -> None:
    """Add vectors by content hash where there is none yet: the first one computed stays."""
    for batch in batches(list(vectors), _BATCH):
        ours = PictureVectorRow.content_sha256.in_(batch) & (PictureVectorRow.fingerprint == fingerprint)
        there = set(session.scalars(select(PictureVectorRow.content_sha256).where(ours)))
        rows = [
            {"content_sha256": content, "fingerprint": fingerprint, "vector": _bytes(vectors[content])}
            for content in batch
            if content not in there
        ]
        if rows:
            session.execute(insert(PictureVectorRow), rows)


def keep_caption_vectors(session: Session, version: int, vectors: Mapping[int, Vector]) -> None:
    """Add vectors by caption id where the caption exists and has none yet."""
    for batch in batches(list(vectors), _BATCH):
        known = set(session.scalars(select(CaptionRow.id).where(CaptionRow.id.in_(batch))))
        ours = CaptionVectorRow.caption_id.in_(batch) & (CaptionVectorRow.version == version)
        there = set(session.scalars(select(CaptionVectorRow.caption_id).where(ours)))
        rows = [
            {"caption_id": id, "version": version, "vector": _bytes(vectors[id])} for id in batch if id in known - there
        ]
        if rows:
            session.execute(insert(CaptionVectorRow), rows)


def drop_picture_vectors(session: Session, content_sha256: str) -> None:
    """Forget every vector of this content."""
    session.execute(delete(PictureVectorRow).where(PictureVectorRow.content_sha256 == content_sha256))


def drop_caption_vectors(session: Session, ids: Sequence[int]) -> None:
    """Forget every vector of these captions."""
    session.execute(delete(CaptionVectorRow).where(CaptionVectorRow.caption_id.in_(ids)))


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in pieces of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _bytes(vector: Vector) -> bytes:
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def _vector(data: bytes) -> Vector:
    return np.frombuffer(data, dtype="<f4").astype(np.float32)
