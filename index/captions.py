"""What is said of pictures, as rows: their captions, and the words of these and of records. Encodes and finds nothing.

Words are made anew in the transaction that changes captions or records; `index.word_search` finds pictures by them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from model.words import document
from store.tables import CaptionRow, CaptionVectorRow, GalleryChangeRow, PictureRow, PictureWordsRow

BATCH = 500  # values in one SQL statement, and rows in one transaction: other writers wait for it
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


def own_ids(session: Session, picture: str) -> dict[tuple[str, str], int]:
    """Language and text of the captions added with a picture, in order, with their ids."""
    query = select(CaptionRow.id, CaptionRow.language, CaptionRow.text)
    own = query.where(CaptionRow.picture_id == picture, CaptionRow.expansion.is_(None)).order_by(CaptionRow.position)
    return {(language, text): id for id, language, text in session.execute(own)}


def order(captions: Captions) -> list[tuple[str, str]]:
    """Language and text of captions, each once."""
    return list(dict.fromkeys((language, text) for language, texts in captions.items() for text in texts))


def group(captions: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Texts by language, from language and text of each."""
    by_tag: dict[str, list[str]] = {}
    for language, text in captions:
        by_tag.setdefault(language, []).append(text)
    return by_tag


def replace_captions(
    session: Session, picture: str, old: Mapping[tuple[str, str], int], captions: Captions, change: int
) -> dict[tuple[str, str], int]:
    """Replace the `old` captions of a picture, in this order; unchanged ones keep their vectors. Returns all ids.

    They keep their ids too, unless they moved up: captions of a language are in the order of their ids in every answer.
    """
    new, last = dict[tuple[str, str], int](), dict[str, int]()
    wanted = order(captions)
    kept = set(wanted)
    _remove_captions(session, [id for caption, id in old.items() if caption not in kept])
    for position, (language, text) in enumerate(wanted):
        id = old.get((language, text), 0)
        if id > last.get(language, 0):
            session.execute(update(CaptionRow).where(CaptionRow.id == id).values(position=position))
        else:
            vectors = _take_vectors(session, id) if id else []
            values = {"language": language, "text": text, "position": position, "change": change, "expansion": None}
            added = insert(CaptionRow).values(picture_id=picture, digest=digest_of("", text), **values)
            id = session.scalars(added.returning(CaptionRow.id)).one()
            if vectors:
                session.execute(insert(CaptionVectorRow), [{"caption_id": id, **vector} for vector in vectors])
        new[language, text] = last[language] = id
    return new


def _take_vectors(session: Session, id: int) -> list[dict[str, object]]:
    """The vectors of a caption that is deleted by this."""
    columns = (CaptionVectorRow.version, CaptionVectorRow.fingerprint, CaptionVectorRow.vector)
    vectors = session.execute(select(*columns).where(CaptionVectorRow.caption_id == id)).all()
    _remove_captions(session, [id])
    return [row._asdict() for row in vectors]


def _remove_captions(session: Session, ids: Sequence[int]) -> None:
    """Delete captions, and with them their vectors."""
    for batch in batches(ids):
        session.execute(delete(CaptionRow).where(CaptionRow.id.in_(batch)))


def own_captions(
    session: Session, pictures: Sequence[str], within: frozenset[str] | None = None
) -> dict[str, dict[str, list[str]]]:
    """The captions added with each of these pictures by language, in order: not those of expansions.

    None of a picture in none of the collections `within`.
    """
    row = CaptionRow
    query = select(row.picture_id, row.language, row.text).where(row.picture_id.in_(pictures), row.expansion.is_(None))
    if within is not None:
        query = query.join(PictureRow, PictureRow.id == row.picture_id).where(PictureRow.collection.in_(within))
    found: dict[str, list[tuple[str, str]]] = {picture: [] for picture in pictures}
    for picture, language, text in session.execute(query.order_by(row.picture_id, row.position)):
        found[picture].append((language, text))
    return {picture: group(captions) for picture, captions in found.items()}


def add_captions(session: Session, expansion: str, language: str, rows: Sequence[tuple[str, str]]) -> int:
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
        texts = [{"picture_id": picture, "text": text, "digest": digest_of(expansion, text)} for picture, text in new]
        session.execute(insert(CaptionRow), [{**caption, **columns} for caption in texts])
        captioned = {picture for picture, _ in new}
        said: dict[int, list[str]] = {}
        texts_of_each = select(PictureRow.key, CaptionRow.text).join(CaptionRow, CaptionRow.picture_id == PictureRow.id)
        here = (PictureRow.id.in_(captioned), CaptionRow.expansion == expansion)
        for key, text in session.execute(texts_of_each.where(*here).order_by(CaptionRow.id)):
            said.setdefault(key, []).append(text)
        write_words(session, said, expansion)
    return len(new)


def digest_of(expansion: str, text: str | bytes) -> str:
    """What makes a caption unique within its picture and language, and tells whether its text is as it was written."""
    said = text if isinstance(text, bytes) else text.encode()
    return hashlib.sha256(expansion.encode() + b"\0" + said).hexdigest()


def texts_of(tags: Iterable[str], metadata: Mapping[str, Any]) -> list[str]:
    """What is text in a record: tags, and strings of metadata."""
    values = (each for value in metadata.values() for each in (value if isinstance(value, list) else [value]))
    return [*tags, *(value for value in values if isinstance(value, str))]


def write_words(session: Session, texts: Mapping[int, Sequence[str]], expansion: str | None = None) -> None:
    """Make the words of pictures anew, by key: of all that was said with them, or by an expansion."""
    made = {key: document(each) for key, each in texts.items()}
    word = PictureWordsRow
    rows = session.execute(
        select(word.picture, word.terms).where(word.picture.in_([*made]), word.expansion == expansion)
    )  # `== None` is IS NULL
    before = {row.picture: row.terms for row in rows}
    changed = [key for key, (terms, _) in made.items() if before.get(key, "") != terms]
    if before.keys() & {*changed}:
        session.execute(delete(word).where(word.picture.in_(changed), word.expansion == expansion))
    new = [
        {"picture": key, "expansion": expansion, "terms": made[key][0], "length": made[key][1]}
        for key in changed
        if made[key][0]
    ]
    if new:
        session.execute(insert(word), new)


def batches(items: Sequence[T], size: int = BATCH) -> Iterator[Sequence[T]]:
    """`items` in batches of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
