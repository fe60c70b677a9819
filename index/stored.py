"""Vectors in the registry's tables, so that nothing is encoded twice: pictures by content, captions by version.

They are the source that every generation can be built from again. Searches never come here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from index.engine import Vector
from index.tables import CaptionRow, CaptionVectorRow, PictureRow, PictureVectorRow
from model.registry import Registry

_BATCH = 500  # names in one SQL statement
T = TypeVar("T")


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
