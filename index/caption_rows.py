"""Captions as rows of the registry: read, replaced, added, removed within a transaction of the gallery. Opens none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from index import stored
from index.engine import Vector
from model.registry.tables import CaptionRow, GalleryChangeRow, PictureRow

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


def read(session: Session, ids: Sequence[str]) -> list[Caption]:
    """All captions of these pictures, in the order in which they were given."""
    columns = (CaptionRow.id, CaptionRow.picture_id, CaptionRow.language, CaptionRow.text, CaptionRow.expansion)
    order = (CaptionRow.picture_id, CaptionRow.language, CaptionRow.expansion.is_not(None), CaptionRow.position)
    query = select(*columns).where(CaptionRow.picture_id.in_(ids)).order_by(*order, CaptionRow.id)
    return [Caption(*row) for row in session.execute(query)]


def replace(session: Session, picture: str, captions: Captions, change: int) -> None:
    """Make the captions put with a picture exactly these; those that stay keep their id, and so their vectors."""
    ours = (CaptionRow.picture_id == picture) & CaptionRow.expansion.is_(None)
    rows = session.execute(select(CaptionRow.id, CaptionRow.language, CaptionRow.text).where(ours)).all()
    old = {(language, text): id for id, language, text in rows}
    given = [(language, text) for language, texts in captions.items() for text in texts]
    new = {caption: place for place, caption in enumerate(dict.fromkeys(given))}
    remove(session, [id for caption, id in old.items() if caption not in new])
    for caption, place in new.items():
        if caption in old:
            session.execute(update(CaptionRow).where(CaptionRow.id == old[caption]).values(position=place))
        else:
            language, text = caption
            values = {"language": language, "text": text, "position": place, "change": change, "expansion": None}
            session.execute(insert(CaptionRow).values(picture_id=picture, **values))


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
