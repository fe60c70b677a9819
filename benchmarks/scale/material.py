"""Made-up vectors with the structure that matters, and a gallery filled with them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, insert, select

from index.picture_tables import pack_vector
from model.encoder import Encoder, View
from store.bases import FIRST_ENCODING
from store.registry import Registry
from store.tables import CaptionRow, CaptionVectorRow, GalleryChangeRow, PictureRow, PictureVectorRow

Vectors = NDArray[np.float32]
_BATCH = 5_000  # rows of one transaction
_ADDED = {"created_at": datetime(2026, 1, 1, tzinfo=UTC)}
_PER_CLUSTER = 200  # pictures that look alike
_PLACES = 4  # parts of the gallery that queries are of
_TO_CENTRE = 0.75  # cosine of a picture to the centre of its cluster
IMAGE, TEXT = 0.72, 0.30  # cosine of a query to the picture that it is of: another picture, or a text


def make_view(version: int = 0, language: str = "en") -> View:
    """Return a version without rows or tokenizer."""
    nothing: Any = None
    return View(version, language, nothing, nothing, np.empty(0, dtype=np.int32), {})


class NoEncoder(Encoder):
    """Is never asked for a vector: every one is in the tables."""

    image_fingerprint = hashlib.sha256(b"made-up pictures").hexdigest()
    text_fingerprint = base_fingerprint = hashlib.sha256(b"made-up texts").hexdigest()
    encoding = FIRST_ENCODING
    frame = None
    languages = ("en",)
    things = unseen = curves = None
    base_view = make_view()

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    def open(self, folders: Sequence[Any], onto: Any = None) -> View:
        """Return a view of the last version."""
        return make_view(folders[-1].number, folders[-1].language) if folders else make_view()

    def encode_texts(self, items: Sequence[Any], *, alone: bool = False) -> Any:
        """Never called."""
        raise AssertionError("a text has no vector")

    def encode_pictures(self, images: Sequence[Any], batch: int = 64) -> Vectors:
        """Never called."""
        raise AssertionError("a picture has no vector")


@dataclass(frozen=True)
class Made:
    """`count` pictures of `dimension`, the same at every call."""

    count: int
    dimension: int

    def vectors(self, start: int, end: int) -> Vectors:
        """Return those from `start` to `end`: clusters of about 200 around random centres."""
        centres = _draw_centres(self.count, self.dimension)
        rows = []
        for block in range(start // _BATCH, (end - 1) // _BATCH + 1):
            draw = np.random.default_rng([1, block])
            own = centres[draw.integers(0, len(centres), _BATCH)]
            made = draw_around(own, _TO_CENTRE, draw)
            first = block * _BATCH
            rows.append(made[max(start - first, 0) : end - first])
        return np.concatenate(rows)

    def queries(self, number: int, cosine: float) -> Vectors:
        """Return queries with this cosine to a picture each."""
        draw = np.random.default_rng([2, round(100 * cosine)])
        starts = draw.integers(0, max(1, self.count - _BATCH), _PLACES)
        pool = np.concatenate([self.vectors(int(start), min(int(start) + _BATCH, self.count)) for start in starts])
        near = pool[draw.integers(0, len(pool), number)]
        return draw_around(near, cosine, draw)


@lru_cache(1)
def _draw_centres(count: int, dimension: int) -> Vectors:
    draw = np.random.default_rng(0)
    return normalize(draw.standard_normal((max(1, count // _PER_CLUSTER), dimension), dtype=np.float32))


def draw_around(vectors: Vectors, cosine: float, draw: np.random.Generator) -> Vectors:
    """Return for each vector another one with this cosine to it, in a random direction."""
    noise = draw.standard_normal(vectors.shape, dtype=np.float32)
    noise -= np.einsum("nd,nd->n", noise, vectors)[:, None] * vectors
    return normalize(cosine * vectors + np.sqrt(1 - cosine**2) * normalize(noise))


def normalize(vectors: NDArray[Any]) -> Vectors:
    """Return vectors of unit length."""
    divided: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return divided


def name(number: int) -> str:
    """Return the id of a picture."""
    return f"picture-{number:08d}"


def hash_content(number: int) -> str:
    """Return the content hash of a picture."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def fill(registry: Registry, made: Made, encoder: NoEncoder, captions: int) -> None:
    """Put every picture into the tables, as a bulk import would; `captions` of the first ones, in English.

    What is there of them already stays: one that was stopped goes on.
    """
    with registry.read() as session:
        there, captioned = (session.scalar(select(func.count()).select_from(row)) for row in (PictureRow, CaptionRow))
    for start in range(there or 0, made.count, _BATCH):
        end = min(start + _BATCH, made.count)
        vectors = made.vectors(start, end).astype("<f2")
        ids = [(name(number), hash_content(number)) for number in range(start, end)]
        with registry.begin() as session:
            rows = session.connection()  # as plain SQL: many times as fast as through the mapper
            rows.execute(
                insert(PictureRow), [_build_picture(number, *each) for number, each in enumerate(ids, start + 1)]
            )
            rows.execute(
                insert(GalleryChangeRow),
                [
                    {"change": number, "kind": "picture_put", "picture_id": id}
                    for number, (id, _) in enumerate(ids, start + 1)
                ],
            )
            rows.execute(
                insert(PictureVectorRow),
                [
                    {"content_sha256": hashed, "fingerprint": encoder.image_fingerprint, "vector": pack_vector(vector)}
                    for (_, hashed), vector in zip(ids, vectors, strict=True)
                ],
            )
    if not captioned:
        _draw_captions(registry, made, encoder, captions)
    if registry.engine.dialect.name == "postgresql":  # its own numbers go on after these
        with registry.begin() as session:
            for column in (GalleryChangeRow.change, CaptionRow.id):
                sequence = func.pg_get_serial_sequence(column.class_.__tablename__, column.key)
                session.execute(select(func.setval(sequence, select(func.max(column)).scalar_subquery())))


def _draw_captions(registry: Registry, made: Made, encoder: NoEncoder, count: int) -> None:
    texts = made.queries(count, TEXT).astype("<f2")
    with registry.begin() as session:
        session.execute(insert(CaptionRow), [_build_caption(number) for number in range(count)])
        session.execute(
            insert(CaptionVectorRow),
            [
                {
                    "caption_id": number + 1,
                    "version": 0,
                    "fingerprint": encoder.text_fingerprint,
                    "vector": pack_vector(row),
                }
                for number, row in enumerate(texts)
            ],
        )


def _build_picture(number: int, id: str, hashed: str) -> dict[str, Any]:
    return {"id": id, "content_sha256": hashed, "width": 640, "height": 480, "change": number, "key": number, **_ADDED}


def _build_caption(number: int) -> dict[str, Any]:
    words = f"caption {number}"
    digest = hashlib.sha256(f"\0{words}".encode()).hexdigest()
    columns = {"language": "en", "text": words, "expansion": None, "position": 0, "change": 0, "digest": digest}
    return {"id": number + 1, "picture_id": name(number), **columns}
