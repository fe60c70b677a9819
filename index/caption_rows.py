"""Captions as rows of the registry: read, replaced, added, removed within a transaction of the gallery. Opens none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from index import stored
from index.engine import Vector
from index.tables import CaptionRow, GalleryChangeRow, PictureRow

_BATCH = 500  # names in one SQL statement

Captions = Mapping[str, Sequence[str]]  # texts by language


@dataclass(frozen=True)
class Caption:
    """One caption; `expansion` is None when it was put with its picture."""

    id: int
    picture: str
    language: str
    text: str
    expansion: str | None


def read(session: Session, ids: Sequence[str], language: str | None = None) -> list[Caption]:
    """The captions of these pictures, in the order in which they were given: of one language, or of all."""
    columns = (CaptionRow.id, CaptionRow.picture_id, CaptionRow.language, CaptionRow.text, CaptionRow.expansion)
    order = (CaptionRow.picture_id, CaptionRow.language, CaptionRow.expansion.is_not(None), CaptionRow.position)
    query = select(*columns).where(CaptionRow.picture_id.in_(ids)).order_by(*order, CaptionRow.id)
    if language is not None:
        query = query.where(CaptionRow.language == language)
    return [Caption(*row) for row in session.execute(query)]


def replace(session: Session, picture: str, captions: Captions, change: int) -> None:
    """Make the captions put with a picture exactly these; those that stay keep their id, and so their vectors."""
    old = _put_with(session, picture)
    new = {caption: place for place, caption in enumerate(_in_order(captions))}
    remove(session, [id for caption, id in old.items() if caption not in new])
    for caption, place in new.items():
        if caption in old:
            session.execute(update(CaptionRow).where(CaptionRow.id == old[caption]).values(position=place))
        else:
            language, text = caption
            values = {"language": language, "text": text, "position": place, "change": change, "expansion": None}
            session.execute(insert(CaptionRow).values(picture_id=picture, **values))


def are(session: Session, picture: str, captions: Captions) -> bool:
    """Whether `replace` with these would change nothing."""
    return [*_put_with(session, picture)] == _in_order(captions)


def _put_with(session: Session, picture: str) -> dict[tuple[str, str], int]:
    """Language and text of what was put with a picture, in order, with their ids."""
    ours = (CaptionRow.picture_id == picture) & CaptionRow.expansion.is_(None)
    query = select(CaptionRow.id, CaptionRow.language, CaptionRow.text).where(ours)
    rows = session.execute(query.order_by(CaptionRow.position)).all()
    return {(language, text): id for id, language, text in rows}


def _in_order(captions: Captions) -> list[tuple[str, str]]:
    return list(dict.fromkeys((language, text) for language, texts in captions.items() for text in texts))


def add(session: Session, expansion: str, language: str, rows: Sequence[tuple[str, str]]) -> int:
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


def remove(session: Session, ids: Sequence[int]) -> None:
    """Delete captions and their vectors."""
    for batch in stored.batches(ids, _BATCH):
        stored.drop_caption_vectors(session, batch)
        session.execute(delete(CaptionRow).where(CaptionRow.id.in_(batch)))


def keep_vectors(session: Session, picture: str, vectors: Mapping[tuple[str, str, int], Vector]) -> None:
    """Keep vectors, given by language, text and version, of a picture's captions."""
    ids: dict[tuple[str, str], list[int]] = {}
    for caption in read(session, [picture]):
        ids.setdefault((caption.language, caption.text), []).append(caption.id)
    for (language, text, version), vector in vectors.items():
        stored.keep_caption_vectors(session, version, dict.fromkeys(ids.get((language, text), ()), vector))
