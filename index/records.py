"""A picture as a record: collection, tags, metadata, and its captions where they are changed together. Finds nothing.

What is written here bumps the number that selections follow (`index.selection`). The change feed has no entry for it:
no vector changes, and nothing has to be sealed again.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from index.captions import own_captions, write_words
from index.facts import TAGS, checked_metadata, checked_tags, facts_of
from store.errors import PictureNotFound, RecordChanged
from store.tables import PictureRow, PictureValueRow, RecordChangesRow

DEFAULT = "default"  # the collection of a picture that names none
Within = frozenset[str] | None  # the collections that a caller may see; None for all
_DEFAULTS = {"captions": {}, "collection": DEFAULT, "tags": [], "metadata": {}}
_ROWS = PictureRow.__table__.c
# Every search runs it: of the table and built once, it takes half the time that it takes as mapped columns, built anew
_STORED = select(*(_ROWS[name] for name in ("id", "collection", "tags", "metadata", "etag", "change"))).where(
    _ROWS.id.in_(bindparam("ids", expanding=True))
)


@dataclass(frozen=True)
class Record:
    """What is kept of a picture beside its content and captions; `etag` is another one after each change.

    `change` is the picture's newest entry in the change feed: from there on a snapshot has its content and captions.
    """

    collection: str = DEFAULT
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    etag: str = ""
    change: int = 0


@dataclass(frozen=True)
class Seen:
    """The record that a change is based on: one with one of these etags, or any if there are none given."""

    etags: frozenset[str] | None = None

    def require(self, record: Record | None) -> None:
        """Raises `RecordChanged` unless this is such a record."""
        if record is None or (self.etags is not None and record.etag not in self.etags):
            raise RecordChanged("the record has changed since; read it again")


@dataclass(frozen=True)
class Given:
    """What is said of a picture that is put: None keeps what its record has. A new one without a collection is `home`.

    One with this id that is in none of the collections `within`, or is not as it was `seen`, is not replaced.
    """

    collection: str | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None
    home: str = DEFAULT
    within: Within = None
    seen: Seen | None = None

    def on(self, before: Record | None) -> Record:
        """The record that this makes of the one before."""
        before = before or Record(self.home)
        return replace(
            before,
            collection=before.collection if self.collection is None else self.collection,
            tags=before.tags if self.tags is None else self.tags,
            metadata=before.metadata if self.metadata is None else self.metadata,
        )


@dataclass(frozen=True)
class Patch:
    """A JSON merge patch (RFC 7396) of a picture's captions, tags, metadata and collection, cleaned and checked.

    It is made only if the record is as it was `seen`, if given, and is in one of the collections `within`.
    """

    id: str
    document: Mapping[str, Any]
    seen: Seen | None = None
    within: Within = None

    @property
    def captions(self) -> dict[str, list[str]]:
        """The captions that it brings, by language."""
        return {tag: texts for tag, texts in (self.document.get("captions") or {}).items() if texts}


def equal(record: Record, other: Record | None) -> bool:
    """Whether two records say the same; to Python `True` and `1` are equal, to a filter they are not."""
    return other is not None and _said(record) == _said(other)


def _said(record: Record) -> str:
    return repr((record.collection, list(record.tags), dict(record.metadata)))


def merged(target: object, patch: object) -> Any:
    """A document changed by a merge patch: the algorithm of RFC 7396, section 2."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def replaced(session: Session, id: str, given: Given) -> Record | None:
    """The record of the picture that one with this id would replace, or None.

    Raises `PictureNotFound` or `RecordChanged` when it must not be put.
    """
    before = record_of(session, id)
    if before is not None and given.within is not None and before.collection not in given.within:
        raise PictureNotFound("there is no picture with this id")
    if given.seen is not None:
        given.seen.require(before)
    return before


def patched(session: Session, patch: Patch) -> tuple[Record, dict[str, list[str]] | None]:
    """What a picture's record becomes by a patch, and its captions where these change. Writes nothing.

    Raises `PictureNotFound`, `RecordChanged`, and `InvalidInput` or `MetadataInvalid` for what it would become.
    """
    before = record_of(session, patch.id, patch.within)
    if before is None:
        raise PictureNotFound("there is no picture with this id")
    if patch.seen is not None:
        patch.seen.require(before)
    captions = own_captions(session, [patch.id])[patch.id]
    document = {
        "captions": captions,
        "collection": before.collection,
        "tags": list(before.tags),
        "metadata": before.metadata,
    }
    after = {**_DEFAULTS, **merged(document, patch.document)}
    told = {tag: texts for tag, texts in after["captions"].items() if texts}
    record = Record(after["collection"], checked_tags(after["tags"]), checked_metadata(after["metadata"]), before.etag)
    return record, None if told == captions else told


def record_of(session: Session, id: str, within: Within = None) -> Record | None:
    """The record of a picture in one of these collections, or None."""
    return records_of(session, [id], within).get(id)


def records_of(reading: Session | Connection, ids: Sequence[str], within: Within = None) -> dict[str, Record]:
    """The records of those of these pictures that exist, in one of these collections."""
    query = _STORED if within is None else _STORED.where(_ROWS.collection.in_(within))
    return {id: Record(*columns) for id, *columns in reading.execute(query, {"ids": ids})}


def settled(records: Mapping[str, Record], change: int) -> list[str]:
    """The pictures whose captions in a snapshot of the gallery at this change are those of their records.

    An older snapshot may have captions from when a picture was in another collection.
    """
    return [id for id, record in records.items() if record.change <= change]


def write_record(session: Session, id: str, record: Record | None) -> None:
    """Store a record, if given, and note that it, or anything else of the picture, has changed: a new etag.

    Its captions are those of now: words are made anew of both.
    """
    values: dict[str, Any] = {"record": next_change(session), "etag": secrets.token_hex(8)}
    if record is not None:
        about = {"tags": list(record.tags), "facts": dict(record.metadata)}
        values |= {"collection": record.collection, **about}
    stored = update(PictureRow).where(PictureRow.id == id).values(**values).returning(PictureRow.key)
    key = session.execute(stored).scalar_one()
    if record is not None:
        session.execute(delete(PictureValueRow).where(PictureValueRow.picture == key))
        if rows := [{"picture": key, **row} for row in value_rows(record)]:
            session.execute(insert(PictureValueRow), rows)
    write_words(session, [id])


def next_change(session: Session) -> int:
    """Number a change of a record, or that there is none any more; what was read of records before is out of date."""
    number = update(RecordChangesRow).values(last=RecordChangesRow.last + 1).returning(RecordChangesRow.last)
    return session.execute(number).scalar_one()


def value_rows(record: Record) -> list[dict[str, Any]]:
    """The rows of a record's values, without the picture."""
    named = [*([(TAGS, record.tags)] if record.tags else []), *record.metadata.items()]
    return [{"key": key, **fact._asdict()} for key, value in named for fact in facts_of(value)]
