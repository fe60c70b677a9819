"""Keeps the words of pictures in step with their captions and records, in the transaction that changes these.

Finds nothing: see `index.word_search`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Text, cast, delete, insert, select
from sqlalchemy.orm import Session

from index.tables import CaptionRow, PictureRow, PictureWordsRow
from model.registry import Registry
from model.words import document

_BATCH = 500  # pictures in one transaction


def texts_of(tags: Iterable[str], metadata: Mapping[str, Any]) -> list[str]:
    """What is text in a record: tags, and strings of metadata."""
    values = (each for value in metadata.values() for each in (value if isinstance(value, list) else [value]))
    return [*tags, *(value for value in values if isinstance(value, str))]


def write_words(session: Session, ids: Sequence[str], expansion: str | None = None) -> None:
    """Make the words of these pictures anew, as their rows are now: of what was said with them, or by an expansion."""
    row, word = PictureRow, PictureWordsRow
    query = select(CaptionRow.picture_id, CaptionRow.text).where(CaptionRow.picture_id.in_(ids))
    texts: dict[str, list[str]] = {id: [] for id in ids}
    for id, text in session.execute(query.where(CaptionRow.expansion == expansion).order_by(CaptionRow.id)):
        texts[id].append(text)  # `== None` is IS NULL
    found = session.execute(select(row.id, row.key, row.tags, row.facts).where(row.id.in_(ids))).all()
    made = {
        key: document([*(texts_of(tags, facts) if expansion is None else ()), *texts[id]])
        for id, key, tags, facts in found
    }
    mine = (word.picture.in_([*made]), word.expansion == expansion)
    rows = session.execute(select(word.picture, word.terms).where(*mine))
    before = {row.picture: row.terms for row in rows}
    changed = [key for key, (terms, _) in made.items() if before.get(key, "") != terms]
    if before.keys() & {*changed}:
        session.execute(delete(word).where(word.picture.in_(changed), word.expansion == expansion))
    new = [
        {"picture": key, "expansion": expansion, "terms": terms, "length": length}
        for key in changed
        for terms, length in [made[key]]
        if terms
    ]
    if new:
        session.execute(insert(word), new)


def add_missing_words(registry: Registry) -> int:
    """Give words to pictures that were put without: by a process of an earlier release; returns how many it looked at.

    To be called once at the start of a worker. Some pictures in each transaction, so that others write in between.
    """
    row, word, caption = PictureRow, PictureWordsRow, CaptionRow
    has_words = select(word.id).where(word.picture == row.key, word.expansion.is_(None)).exists()
    captioned = select(caption.id).where(caption.picture_id == row.id, caption.expansion.is_(None)).exists()
    about = (cast(row.tags, Text) != "[]") | (cast(row.facts, Text) != "{}")
    page = select(row.id).where(~has_words, captioned | about).order_by(row.id).limit(_BATCH)
    looked_at, last = 0, ""
    while True:
        with registry.read() as session:
            found = session.scalars(page.where(row.id > last)).all()
        if not found:
            return looked_at
        with registry.begin() as session:
            write_words(session, found)
        looked_at, last = looked_at + len(found), found[-1]
