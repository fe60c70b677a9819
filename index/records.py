"""Pictures as records: collection, tags, metadata, and captions where these are changed together; pages of them.

What is written here bumps the number that selections follow (`index.selection`). The change feed has no entry for it:
no vector changes, and nothing has to be sealed again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Select,
    bindparam,
    delete,
    insert,
    select,
    tuple_,
    type_coerce,
    update,
)
from sqlalchemy.orm import Session

from index.facts import TAGS, checked_metadata, checked_tags, facts_of
from index.vectors import Keys, is_among
from store.errors import PictureNotFound, RecordChanged
from store.tables import PictureRow, PictureValueRow, RecordChangesRow

Place = tuple[float, str]  # when a picture was added, and its id
CREATED = type_coerce(PictureRow.created_at, Double)  # as a Python datetime it would be cut to microseconds
FEW = 1_000  # keys of which the database finds and sorts the pictures at once
_BLOCK, WALKED = 256, 16_000  # pictures that are looked at first, and before the database has to find the others
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
class GalleryPicture:
    """A row of the gallery: a picture and its record without its captions; width and height are in pixels.

    `place` is its position in a listing. `original` says that its bytes were kept as they were sent. `key` is that of
    its content in vector sets.
    """

    id: str
    content_sha256: str
    width: int
    height: int
    created_at: datetime
    place: Place
    record: Record
    original: bool
    key: int


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
        """The record that this makes of the one before; raises `PictureNotFound` or `RecordChanged`."""
        if before is not None and self.within is not None and before.collection not in self.within:
            raise PictureNotFound("there is no picture with this id")
        if self.seen is not None:
            self.seen.require(before)
        before = before or Record(self.home)
        return replace(
            before,
            collection=before.collection if self.collection is None else self.collection,
            tags=before.tags if self.tags is None else self.tags,
            metadata=before.metadata if self.metadata is None else self.metadata,
        )


@dataclass(frozen=True)
class Patch:
    """A JSON merge patch (RFC 7396) of a picture's captions, tags, metadata and collection; captions are clean.

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

    def on(
        self, before: Record | None, captions: Mapping[str, Sequence[str]]
    ) -> tuple[Record, dict[str, list[str]] | None]:
        """The record that this makes of the one before, and its captions where these change.

        Raises `PictureNotFound`, `RecordChanged`, and `InvalidInput` or `MetadataInvalid` for what it would become.
        """
        if before is None or (self.within is not None and before.collection not in self.within):
            raise PictureNotFound("there is no picture with this id")
        if self.seen is not None:
            self.seen.require(before)
        document = {
            "captions": captions,
            "collection": before.collection,
            "tags": before.tags,
            "metadata": before.metadata,
        }
        after = {**_DEFAULTS, **merged(document, self.document)}
        kept = {tag: texts for tag, texts in after["captions"].items() if texts}
        tags, metadata = checked_tags(list(after["tags"])), checked_metadata(after["metadata"])
        return replace(
            before, collection=after["collection"], tags=tags, metadata=metadata
        ), None if kept == captions else kept


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


def write_values(session: Session, key: int, record: Record) -> None:
    """Replace the values of a picture by which filters find it."""
    session.execute(delete(PictureValueRow).where(PictureValueRow.picture == key))
    if rows := [{"picture": key, **row} for row in value_rows(record)]:
        session.execute(insert(PictureValueRow), rows)


def next_change(session: Session) -> int:
    """Number a change of a record, or that there is none any more; what was read of records before is out of date."""
    number = update(RecordChangesRow).values(last=RecordChangesRow.last + 1).returning(RecordChangesRow.last)
    return session.execute(number).scalar_one()


def value_rows(record: Record) -> list[dict[str, Any]]:
    """The rows of a record's values, without the picture."""
    named = [*([(TAGS, record.tags)] if record.tags else []), *record.metadata.items()]
    return [{"key": key, **fact._asdict()} for key, value in named for fact in facts_of(value)]


def pictures_of(session: Session, ids: Sequence[str], within: Within = None) -> dict[str, GalleryPicture]:
    """Those of these pictures that exist, in one of these collections."""
    query = (
        select(PictureRow, CREATED.label("place"))
        .where(PictureRow.id.in_(ids))
        .execution_options(populate_existing=True)
    )
    if within is not None:
        query = query.where(PictureRow.collection.in_(within))
    return {
        row.id: GalleryPicture(
            id=row.id,
            content_sha256=row.content_sha256,
            width=row.width,
            height=row.height,
            created_at=row.created_at,
            place=(created, row.id),
            record=Record(row.collection, row.tags, row.facts, row.etag, row.change),
            original=row.original,
            key=row.key,
        )
        for row, created in session.execute(query)
    }


def following(
    session: Session,
    limit: int,
    after: Place | None,
    newest_first: bool,
    conditions: Sequence[ColumnElement[bool]] = (),
) -> list[str]:
    """At most `limit` ids of pictures that meet all conditions, after a place."""
    query = _in_order(select(PictureRow.id), after, newest_first).where(*conditions).limit(limit)
    return [*session.scalars(query)]


def following_among(
    session: Session,
    limit: int,
    after: Place | None,
    newest_first: bool,
    conditions: Sequence[ColumnElement[bool]],
    keys: Keys,
    places: Sequence[ColumnElement[bool]],
) -> list[str]:
    """As `following`, when the `keys` of all pictures that meet the conditions are known; among these are `places`.

    `places` are those conditions that an index answers. Few keys are sorted by the database. Of many, the next are soon
    met in the order of an index: a filter that is evaluated anew for each page takes as long as for all pages together.
    """
    ids, walked, block = list[str](), 0, max(limit, _BLOCK)
    while len(keys) > FEW and walked < WALKED:
        query = _in_order(select(CREATED, PictureRow.id, PictureRow.key), after, newest_first).where(*places)
        with session.connection().execute(query.limit(block)) as result:
            rows = result.cursor.fetchall()  # the driver's own tuples, in a third of the time
        kept = is_among(np.fromiter((key for _, _, key in rows), dtype=np.int64, count=len(rows)), keys)
        ids += [id for (_, id, _), is_left in zip(rows, kept, strict=True) if is_left]
        if len(rows) < block or len(ids) >= limit:
            return ids[:limit]
        after, walked, block = (rows[-1][0], rows[-1][1]), walked + block, 2 * block
    return [*ids, *following(session, limit - len(ids), after, newest_first, conditions)]


def _in_order(query: Select[Any], after: Place | None, newest_first: bool) -> Select[Any]:
    order = (PictureRow.created_at, PictureRow.id)
    query = query.order_by(*(column.desc() if newest_first else column for column in order))
    if after is None:
        return query
    place, there = tuple_(CREATED, PictureRow.id), tuple_(*after)
    return query.where(place < there if newest_first else place > there)
