"""Rows of captions, and of the words of captions and records. Encodes nothing.

Words are written in the transaction that changes captions or records; `index.word_search` finds pictures by them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from model.text import index_terms
from store.tables import CaptionRow, CaptionVectorRow, GalleryChangeRow, PictureRow, PictureWordsRow

BATCH_SIZE = 500  # values in one SQL statement, and rows in one transaction: other writers wait for it
T = TypeVar("T")
Captions = Mapping[str, Sequence[str]]  # texts by language


class EncoderId(NamedTuple):
    """The identity of a caption's encoder: a version's rows, and the fingerprint of the text tower."""

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


def find_captions(session: Session, ids: Sequence[str], language: str | None = None) -> list[Caption]:
    """Find the captions of these pictures in one language, or in all, in the order of adding."""
    columns = (CaptionRow.id, CaptionRow.picture_id, CaptionRow.language, CaptionRow.text, CaptionRow.expansion)
    order = (CaptionRow.picture_id, CaptionRow.language, CaptionRow.expansion.is_not(None), CaptionRow.position)
    query = select(*columns).where(CaptionRow.picture_id.in_(ids)).order_by(*order, CaptionRow.id)
    if language is not None:
        query = query.where(CaptionRow.language == language)
    return [Caption(*row) for row in session.execute(query)]


def find_own_ids(session: Session, picture: str) -> dict[tuple[str, str], int]:
    """Return the ids of the captions added with a picture by language and text, in order."""
    query = select(CaptionRow.id, CaptionRow.language, CaptionRow.text)
    own = query.where(CaptionRow.picture_id == picture, CaptionRow.expansion.is_(None)).order_by(CaptionRow.position)
    return {(language, text): id for id, language, text in session.execute(own)}


def flatten_captions(captions: Captions) -> list[tuple[str, str]]:
    """Return language and text of captions, each once."""
    return list(dict.fromkeys((language, text) for language, texts in captions.items() for text in texts))


def group_by_language(captions: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    by_tag: dict[str, list[str]] = {}
    for language, text in captions:
        by_tag.setdefault(language, []).append(text)
    return by_tag


def replace_captions(
    session: Session, picture: str, old: Mapping[tuple[str, str], int], captions: Captions, change: int
) -> dict[tuple[str, str], int]:
    """Replace the `old` captions of a picture, in this order, and return all ids; unchanged ones keep their vectors.

    They keep their ids too, unless they moved up: captions of a language are in the order of their ids in every answer.
    """
    new, last = dict[tuple[str, str], int](), dict[str, int]()
    pairs = dict.fromkeys(flatten_captions(captions))
    _remove_captions(session, [id for caption, id in old.items() if caption not in pairs])
    for position, (language, text) in enumerate(pairs):
        id = old.get((language, text), 0)
        if id > last.get(language, 0):
            session.execute(update(CaptionRow).where(CaptionRow.id == id).values(position=position))
        else:
            vectors = _take_vectors(session, id) if id else []
            values = {"language": language, "text": text, "position": position, "change": change, "expansion": None}
            added = insert(CaptionRow).values(picture_id=picture, digest=compute_digest("", text), **values)
            id = session.scalars(added.returning(CaptionRow.id)).one()
            if vectors:
                session.execute(insert(CaptionVectorRow), [{"caption_id": id, **vector} for vector in vectors])
        new[language, text] = last[language] = id
    return new


def _take_vectors(session: Session, id: int) -> list[dict[str, object]]:
    """Delete a caption, and return its vectors."""
    columns = (CaptionVectorRow.version, CaptionVectorRow.fingerprint, CaptionVectorRow.vector)
    vectors = session.execute(select(*columns).where(CaptionVectorRow.caption_id == id)).all()
    _remove_captions(session, [id])
    return [row._asdict() for row in vectors]


def _remove_captions(session: Session, ids: Sequence[int]) -> None:
    """Delete captions, and with them their vectors."""
    for batch in split_batches(ids):
        session.execute(delete(CaptionRow).where(CaptionRow.id.in_(batch)))


def add_captions(session: Session, expansion: str, language: str, rows: Sequence[tuple[str, str]]) -> int:
    """Add an expansion's captions (picture, text) that are new and whose picture exists; return their number."""
    pictures = sorted({picture for picture, _ in rows})
    known = set(session.scalars(select(PictureRow.id).where(PictureRow.id.in_(pictures))))
    same_source = (CaptionRow.expansion == expansion) & (CaptionRow.language == language)
    query = select(CaptionRow.picture_id, CaptionRow.text).where(CaptionRow.picture_id.in_(pictures), same_source)
    existing = {(picture, text) for picture, text in session.execute(query)}
    new = [row for row in rows if row not in existing and row[0] in known]
    change = session.scalar(select(func.max(GalleryChangeRow.change))) or 0
    columns = {"language": language, "expansion": expansion, "position": 0, "change": change}
    if new:
        texts = [{"picture_id": id, "text": text, "digest": compute_digest(expansion, text)} for id, text in new]
        session.execute(insert(CaptionRow), [{**caption, **columns} for caption in texts])
        captioned = {picture for picture, _ in new}
        by_key: dict[int, list[str]] = {}
        texts_of_each = select(PictureRow.key, CaptionRow.text).join(CaptionRow, CaptionRow.picture_id == PictureRow.id)
        here = (PictureRow.id.in_(captioned), CaptionRow.expansion == expansion)
        for key, text in session.execute(texts_of_each.where(*here).order_by(CaptionRow.id)):
            by_key.setdefault(key, []).append(text)
        write_words(session, by_key, expansion)
    return len(new)


def compute_digest(expansion: str, text: str | bytes) -> str:
    """Hash a caption: unique within its picture and language, and a checksum of its text."""
    data = text if isinstance(text, bytes) else text.encode()
    return hashlib.sha256(expansion.encode() + b"\0" + data).hexdigest()


def list_texts(tags: Iterable[str], metadata: Mapping[str, Any]) -> list[str]:
    """List the texts of a record: tags, and strings of metadata."""
    values = (each for value in metadata.values() for each in (value if isinstance(value, list) else [value]))
    return [*tags, *(value for value in values if isinstance(value, str))]


def write_words(session: Session, texts: Mapping[int, Sequence[str]], expansion: str | None = None) -> None:
    """Replace the words of pictures, by key: those of their records and own captions, or of an expansion's."""
    documents = {key: index_terms(each) for key, each in texts.items()}
    word = PictureWordsRow
    there = (word.picture.in_([*documents]), word.expansion == expansion)  # `== None` is IS NULL
    before = {row.picture: row.terms for row in session.execute(select(word.picture, word.terms).where(*there))}
    changed = [key for key, (terms, _) in documents.items() if before.get(key, "") != terms]
    if before.keys() & {*changed}:
        session.execute(delete(word).where(word.picture.in_(changed), word.expansion == expansion))
    new = [
        {"picture": key, "expansion": expansion, "terms": documents[key][0], "length": documents[key][1]}
        for key in changed
        if documents[key][0]
    ]
    if new:
        session.execute(insert(word), new)


def split_batches(items: Sequence[T], size: int = BATCH_SIZE) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
