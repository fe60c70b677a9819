"""Records of pictures: collection, tags and metadata; how a put or a patch changes them; pages of pictures.

Each write has a new number, which selections follow (`index.selection`). The change feed has no entry for it: no vector
changes, and nothing has to be sealed again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
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

from index.facts import TAGS, find_moment, list_facts, validate_metadata, validate_tags
from index.vectors import VectorKeys, is_among
from store.errors import PictureNotFound, RecordChanged, RegistryUnavailable
from store.tables import PictureRow, PictureValueRow, RecordChangesRow

Place = tuple[float, str]  # the moment by which a listing is ordered, and the id
Order = Literal["created_at", "-created_at", "shown_at", "-shown_at"]  # oldest or newest first: added, or shown
# as Python datetimes they would be cut to microseconds
CREATED, SHOWN = (type_coerce(column, Double) for column in (PictureRow.created_at, PictureRow.shown_at))
FEW_KEYS = 1_000  # keys of which the database finds and sorts the pictures at once
_READ_BLOCK = 20_000  # keys that are read at a time
_LOCK_SECONDS = 5.0  # that one waits for others who read the same, or have much in memory
LAST_CHANGE = select(RecordChangesRow.__table__.c.last)  # without the mapper, which takes longer than the database
_BLOCK, MOST_WALKED = 256, 16_000  # pictures that are looked at first, and before the database has to find the others
DEFAULT_COLLECTION = "default"  # the collection of a picture that names none
Collections = frozenset[str] | None  # the collections that a caller may see; None for all
_DEFAULTS = {"captions": {}, "collection": DEFAULT_COLLECTION, "tags": [], "metadata": {}}
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0  # seconds of the years 1 to 9999
_ROWS = PictureRow.__table__.c
# Searches and listings run these: of the table and built once, they take half the time of mapped rows, read by a query
# that is built anew
_NAMED = _ROWS.id.in_(bindparam("ids", expanding=True))
_STORED = select(
    *(_ROWS[name] for name in ("id", "collection", "tags", "metadata", "etag", "change", "width", "height"))
).where(_NAMED)
_PICTURES = select(
    *(_ROWS[name] for name in ("id", "content_sha256", "width", "height", "created_at", "shown_at")),
    *(type_coerce(column, Double) for column in (_ROWS.created_at, _ROWS.shown_at)),
    *(_ROWS[name] for name in ("original", "key", "collection", "tags", "metadata", "etag", "change")),
).where(_NAMED)


@dataclass(frozen=True)
class Record:
    """What is stored of a picture beside its content and captions; `etag` is a new one after each change.

    `change` is the picture's newest entry in the change feed: from there on a snapshot has its content and captions.
    Width and height are those of the photograph, where the record was read for a search.
    """

    collection: str = DEFAULT_COLLECTION
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    etag: str = ""
    change: int = 0
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class GalleryPicture:
    """A row of the gallery: a picture and its record without its captions; width and height of the photograph, upright.

    `shown_at` is when it was taken, as its metadata tell, else when it came. `places` are its positions in listings by
    `created_at` and by `shown_at`. `original`: its bytes are kept as they were sent. `key` is that of its content
    in vector sets.
    """

    id: str
    content_sha256: str
    width: int
    height: int
    created_at: datetime
    shown_at: datetime
    places: tuple[Place, Place]
    record: Record
    original: bool
    key: int

    def find_place(self, order: Order) -> Place:
        return self.places[order.endswith("shown_at")]


@dataclass(frozen=True)
class Precondition:
    """The condition of a change: the record has one of these etags, or with None that there is one."""

    etags: frozenset[str] | None = None

    def require(self, record: Record | None) -> None:
        """Raise `RecordChanged` unless this record meets it."""
        if record is None or (self.etags is not None and record.etag not in self.etags):
            raise RecordChanged("the record has changed since; read it again")


@dataclass(frozen=True)
class RecordInput:
    """What a client says of a picture that it puts; None keeps what is there.

    A new picture without a collection goes into the default one. A picture outside of `collections`, or one that does
    not meet the precondition, is not replaced.
    """

    collection: str | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None
    default_collection: str = DEFAULT_COLLECTION
    collections: Collections = None
    precondition: Precondition | None = None

    def apply_to(self, before: Record | None) -> Record:
        """Return the record that this makes of the one before; raise `PictureNotFound` or `RecordChanged`."""
        if before is not None and self.collections is not None and before.collection not in self.collections:
            raise PictureNotFound("there is no picture with this id")
        if self.precondition is not None:
            self.precondition.require(before)
        before = before or Record(self.default_collection)
        return replace(
            before,
            collection=before.collection if self.collection is None else self.collection,
            tags=before.tags if self.tags is None else self.tags,
            metadata=before.metadata if self.metadata is None else self.metadata,
        )


@dataclass(frozen=True)
class Patch:
    """A JSON merge patch (RFC 7396) of a picture's captions, tags, metadata and collection; captions are clean.

    It holds for a record that meets the precondition, in one of `collections`.
    """

    id: str
    document: Mapping[str, Any]
    precondition: Precondition | None = None
    collections: Collections = None

    @property
    def captions(self) -> dict[str, list[str]]:
        """The captions in the patch, by language."""
        return {tag: texts for tag, texts in (self.document.get("captions") or {}).items() if texts}

    def apply_to(
        self, before: Record | None, captions: Mapping[str, Sequence[str]]
    ) -> tuple[Record, dict[str, list[str]] | None]:
        """Return the record that this makes of the one before, and its captions if they change.

        Raise `PictureNotFound`, `RecordChanged`, and `InvalidInput` or `MetadataInvalid` for the result.
        """
        if before is None or (self.collections is not None and before.collection not in self.collections):
            raise PictureNotFound("there is no picture with this id")
        if self.precondition is not None:
            self.precondition.require(before)
        document = {
            "captions": captions,
            "collection": before.collection,
            "tags": before.tags,
            "metadata": before.metadata,
        }
        after = {**_DEFAULTS, **merge_patch(document, self.document)}
        new = {tag: texts for tag, texts in after["captions"].items() if texts}
        tags, metadata = validate_tags(list(after["tags"])), validate_metadata(after["metadata"])
        record = replace(before, collection=after["collection"], tags=tags, metadata=metadata)
        return record, None if new == captions else new


def find_spelling(session: Session, name: str, collections: Collections) -> str:
    """Return the name of a collection as it is spelled among `collections`, whatever its upper and lower case."""
    if collections is None:
        row = PictureRow
        if session.scalar(select(row.id).where(row.collection == name).limit(1)) is not None:
            return name
        others = {*session.scalars(select(row.collection).distinct())}
    elif name in (others := {*collections}):
        return name
    return next((each for each in sorted(others) if each.casefold() == name.casefold()), name)


def is_equal(record: Record, other: Record) -> bool:
    """Whether two records are equal to a filter, to which `True` and `1` are not."""
    one, two = (repr((each.collection, [*each.tags], {**each.metadata})) for each in (record, other))
    return one == two


def merge_patch(target: object, patch: object) -> Any:
    """Return a document changed by a merge patch: the algorithm of RFC 7396, section 2."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def find_records(
    reading: Session | Connection, ids: Sequence[str], collections: Collections = None
) -> dict[str, Record]:
    """Return the records of those of these pictures that exist, in one of these collections."""
    query = _STORED if collections is None else _STORED.where(_ROWS.collection.in_(collections))
    return {id: Record(*columns) for id, *columns in reading.execute(query, {"ids": ids})}


def list_with_current_captions(records: Mapping[str, Record], change: int) -> list[str]:
    """List the pictures whose captions in a snapshot of this change are as new as their records.

    An older snapshot may have captions from when a picture was in another collection.
    """
    return [id for id, record in records.items() if record.change <= change]


def write_values(session: Session, key: int, record: Record) -> None:
    """Replace the values of a picture by which filters find it."""
    session.execute(delete(PictureValueRow).where(PictureValueRow.picture == key))
    if rows := [{"picture": key, **row} for row in build_value_rows(record)]:
        session.execute(insert(PictureValueRow), rows)


def add_record_change(session: Session, count: int = 1) -> int:
    """Number so many changes or deletions of records, and return the last; what was read before is out of date."""
    number = update(RecordChangesRow).values(last=RecordChangesRow.last + count).returning(RecordChangesRow.last)
    return session.execute(number).scalar_one()


def find_taken_at(record: Record) -> float | None:
    """Return when a picture was taken, in seconds since 1970; None where its metadata have no date, as UTC has it."""
    taken = record.metadata.get("taken_at")
    moment = None if taken is None else find_moment(taken)
    return moment if moment is not None and _FIRST <= moment <= _LAST else None


def build_value_rows(record: Record) -> list[dict[str, Any]]:
    """Build the rows of a record's values, without the picture."""
    named = [*([(TAGS, record.tags)] if record.tags else []), *record.metadata.items()]
    return [{"key": key, **fact._asdict()} for key, value in named for fact in list_facts(value)]


def find_pictures(session: Session, ids: Sequence[str], collections: Collections = None) -> dict[str, GalleryPicture]:
    """Return those of these pictures that exist, in one of these collections."""
    query = _PICTURES if collections is None else _PICTURES.where(_ROWS.collection.in_(collections))
    pictures, rows = dict[str, GalleryPicture](), session.execute(query, {"ids": ids})
    for id, content, width, height, came, taken, created, shown, original, key, *record in rows:
        places = (created, id), (shown, id)
        pictures[id] = GalleryPicture(id, content, width, height, came, taken, places, Record(*record), original, key)
    return pictures


def list_ids_after(
    session: Session,
    limit: int,
    after: Place | None,
    order: Order,
    conditions: Sequence[ColumnElement[bool]] = (),
) -> list[str]:
    """List at most `limit` ids of pictures that meet all conditions, after a place."""
    query = _order_query(select(PictureRow.id), after, order).where(*conditions).limit(limit)
    return [*session.scalars(query)]


def list_ids_among(
    session: Session,
    limit: int,
    after: Place | None,
    order: Order,
    conditions: Sequence[ColumnElement[bool]],
    keys: VectorKeys,
    places: Sequence[ColumnElement[bool]],
) -> list[str]:
    """List at most `limit` ids of matching pictures after a place, faster, given the `keys` of all of them.

    `places` are those of the conditions that an index answers. The database sorts few keys. Of many, the next are soon
    met in the order of an index: to evaluate a filter again for each page takes as long as for all pages together.
    """
    ids, walked, block = list[str](), 0, max(limit, _BLOCK)
    while len(keys) > FEW_KEYS and walked < MOST_WALKED:
        query = _order_query(select(_get_moment(order), PictureRow.id, PictureRow.key), after, order).where(*places)
        with session.connection().execute(query.limit(block)) as result:
            rows = result.cursor.fetchall()  # the driver's own tuples, in a third of the time
        allowed = is_among(np.fromiter((key for _, _, key in rows), dtype=np.int64, count=len(rows)), keys)
        ids += [id for (_, id, _), is_allowed in zip(rows, allowed, strict=True) if is_allowed]
        if len(rows) < block or len(ids) >= limit:
            return ids[:limit]
        after, walked, block = (rows[-1][0], rows[-1][1]), walked + block, 2 * block
    return [*ids, *list_ids_after(session, limit - len(ids), after, order, conditions)]


def _order_query(query: Select[Any], after: Place | None, order: Order) -> Select[Any]:
    is_newest_first, moment = order.startswith("-"), _get_moment(order)
    query = query.order_by(*(column.desc() if is_newest_first else column for column in (moment, PictureRow.id)))
    if after is None:
        return query
    place, there = tuple_(moment, PictureRow.id), tuple_(*after)
    return query.where(place < there if is_newest_first else place > there)


def _get_moment(order: Order) -> Any:
    return SHOWN if order.endswith("shown_at") else CREATED


def read_last_record_change(session: Session) -> int:
    """Return the number of the last change of any record."""
    last: int = session.connection().execute(LAST_CHANGE).scalar_one()
    return last


@contextmanager
def hold_in_time(lock: Lock) -> Iterator[None]:
    """Hold a lock; raise `RegistryUnavailable` when others have it for too long."""
    if not lock.acquire(timeout=_LOCK_SECONDS):
        raise RegistryUnavailable("Others ask the registry for too much.")
    try:
        yield
    finally:
        lock.release()


def fetch_numbers(
    session: Session, query: Select[Any], parameters: Mapping[str, Any] | None = None
) -> NDArray[np.int64]:
    """Return the whole numbers of a query's one column, sorted, however many."""
    blocks = list[VectorKeys]()
    with session.connection().execute(query, parameters) as result:
        # the driver's own tuples: SQLAlchemy's take three times as long as all the rest; in blocks, to hold few of them
        while rows := result.cursor.fetchmany(_READ_BLOCK):
            blocks.append(np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=len(rows)))
    numbers: VectorKeys = np.concatenate(blocks) if blocks else np.empty(0, dtype=np.int64)
    numbers.sort()
    return numbers
