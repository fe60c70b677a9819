"""The pictures that a filter allows: as keys for a search, as pages, facets and counts. Reads the registry alone.

A search needs keys. Those of the last filters are kept, and brought up to date by the records that changed since: a
filter that comes again costs one small query. Keys of deleted contents may stay among them: they are never used again,
and no search finds them once its snapshot has that change.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from threading import Lock
from typing import Any, Literal, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from cachetools import LRUCache
from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from index import records
from index.facts import is_hash
from index.filters import Filter, Match, Range, build_condition, build_value_row_condition, find_stored_key
from index.records import (
    LAST_CHANGE,
    Collections,
    GalleryPicture,
    Order,
    Place,
    Record,
    fetch_numbers,
    hold_in_time,
    read_last_record_change,
)
from index.vectors import VectorKeys, drop_repeated, is_among
from store.registry import Registry
from store.tables import CaptionRow, PictureRow, PictureValueRow

PICTURES = ""  # in the place of a language: keys of pictures
_CACHED_BYTES, _CACHED = 64 << 20, 256  # of keys, in all; filters
MOST_FACETS = 100  # values of one key, the most frequent ones
MONTHS = "#months"  # in the place of a key: those in which pictures were taken, else came
_DAY, _EPOCH = 86_400.0, date(1970, 1, 1)
_LARGEST_EXACT = 1 << 53  # whole numbers up to here are doubles
_MANY_KEYS = 10_000  # keys that are too many to be looked at one by one


@dataclass(frozen=True)
class Criteria:
    """Criteria for pictures: a filter, one `collection`, and the `collections` that the caller may see."""

    filter: Filter | None = None
    collections: Collections = None
    collection: str | None = None

    @property
    def is_unrestricted(self) -> bool:
        """Whether no picture is excluded, by filter or collection."""
        return self.collections is None and self.collection is None and not self._has_filter

    @property
    def _has_filter(self) -> bool:
        return self.filter not in (None, Filter())

    @property
    def collection_conditions(self) -> tuple[ColumnElement[bool], ...]:
        """Return the collections as conditions of a query for pictures."""
        visible = [] if self.collections is None else [PictureRow.collection.in_(sorted(self.collections))]
        return (*visible, *([] if self.collection is None else [PictureRow.collection == self.collection]))

    def build_conditions(self, target: Literal["all", "few"] = "all") -> tuple[ColumnElement[bool], ...]:
        """Build the conditions of a query for pictures, fast for one that names `few` itself; none if unrestricted."""
        filtered = [build_condition(self.filter, target)] if self.filter is not None and self._has_filter else []
        return (*filtered, *self.collection_conditions)


@dataclass(frozen=True)
class FacetValue:
    """A value of a key, and how many pictures have it."""

    value: str | bool | float
    count: int


class KeySelection(NamedTuple):
    """Allowed keys, ascending, as of a change of a record.

    They were read in full at an earlier change; each later one may have left a key of a deleted picture among them.
    """

    keys: VectorKeys
    as_of_change: int
    full_read_at: int

    @property
    def least_count(self) -> int:
        """The least number of pictures that have these keys; there are at most as many as keys."""
        return len(self.keys) - (self.as_of_change - self.full_read_at)


_SelectionKey = tuple[Criteria, str, int]  # with language and version


class Selection:
    """Answers about one registry's pictures. Thread-safe; every method raises `RegistryUnavailable`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        least = _CACHED_BYTES // _CACHED  # that one filter takes of the cache; none takes more than all of it
        self._selections = LRUCache[_SelectionKey, KeySelection](
            _CACHED_BYTES, lambda selected: min(max(selected.keys.nbytes, least), _CACHED_BYTES)
        )
        self._facets = LRUCache[tuple[Criteria, str, int, int], list[FacetValue]](_CACHED)  # as of a record's change
        self._lock = Lock()
        self._reading = WeakValueDictionary[_SelectionKey, Lock]()  # one at a time reads the keys of a selection

    def find_allowed_keys(self, criteria: Criteria, language: str = PICTURES, version: int = 0) -> VectorKeys | None:
        """Return the allowed keys, ascending: of pictures, or of the captions in a language as a version shows them.

        Return None when all are allowed. All keys are allowed by now, except those of deleted contents.
        """
        selected = self.select_vector_keys(criteria, language, version)
        return None if selected is None else selected.keys

    def select_vector_keys(
        self, criteria: Criteria, language: str = PICTURES, version: int = 0, *, without_deleted: bool = False
    ) -> KeySelection | None:
        """Return the allowed keys as of now, or None for all; `without_deleted` excludes keys of deleted contents."""
        if criteria.is_unrestricted:
            return None
        name = (criteria, language, version)
        with self._lock:
            known = self._selections.get(name)
            reading = self._reading.setdefault(name, Lock())
        if known is not None:
            with self._registry.connect_for_reading() as connection:
                is_current = known.as_of_change == connection.execute(LAST_CHANGE).scalar_one()
            if is_current and not (without_deleted and known.full_read_at < known.as_of_change):
                return known
        with hold_in_time(reading):  # the others wait, and find what the first one has read
            with self._lock:
                known = self._selections.get(name)
            with self._registry.read_in_time() as session:
                last = read_last_record_change(session)
                if known is None or (without_deleted and known.full_read_at < last):
                    keys = drop_repeated(fetch_numbers(session, _build_first_query(criteria, language)))
                    is_same = known is not None and np.array_equal(known.keys, keys)
                    known = KeySelection(known.keys if known is not None and is_same else keys, last, last)
                elif known.as_of_change < last:
                    changed = PictureRow.record_change > known.as_of_change
                    before = fetch_numbers(session, _build_key_query(language, changed))
                    conditions = criteria.build_conditions("all" if len(before) > _MANY_KEYS else "few")
                    allowed = fetch_numbers(session, _build_key_query(language, changed, *conditions))
                    known = KeySelection(_update_keys(known.keys, before, allowed), last, known.full_read_at)
            with self._lock:
                self._selections[name] = known
        return known

    def list_pictures(
        self, criteria: Criteria, limit: int, after: Place | None = None, order: Order = "created_at"
    ) -> list[GalleryPicture]:
        """Return one page of the pictures that meet the criteria."""
        selected = None if criteria.filter is None else self.select_vector_keys(criteria)
        with self._registry.read_in_time() as session:
            page = (session, limit, after, order, criteria.build_conditions())
            if selected is not None and selected.as_of_change == read_last_record_change(session):
                ids = records.list_ids_among(*page, selected.keys, criteria.collection_conditions)
            else:
                ids = records.list_ids_after(*page)
            pictures = records.find_pictures(session, ids)
        return [pictures[id] for id in ids]

    def find_pictures(self, ids: Sequence[str], collections: Collections = None) -> dict[str, GalleryPicture]:
        """Return those of some hundred pictures that exist, in one of these collections."""
        with self._registry.read_in_time() as session:
            return records.find_pictures(session, ids, collections)

    def find_records(self, ids: Sequence[str], collections: Collections = None) -> dict[str, Record]:
        """Return the records of those of some hundred pictures that exist, in one of these collections."""
        with self._registry.connect_for_reading() as connection:
            return records.find_records(connection, ids, collections)

    def count_facets(
        self, criteria: Criteria, keys: Sequence[str], most: int = MOST_FACETS
    ) -> dict[str, list[FacetValue]]:
        """Count the most frequent values of each of these keys among the pictures that meet the criteria.

        Of `MONTHS` the newest, newest first.
        """
        facets, selected = dict[str, list[FacetValue]](), self.select_vector_keys(criteria)
        few = selected is not None and len(selected.keys) <= _MANY_KEYS
        with self._registry.read_in_time() as session:
            last = read_last_record_change(session)
            for key in keys:
                with self._lock:
                    values = self._facets.get((criteria, key, most, last))
                if values is None:
                    values = _count_values(session, key, criteria.build_conditions(), most, few)
                    with self._lock:
                        self._facets[criteria, key, most, last] = values
                facets[key] = values
        return facets

    def list_collections(self, collections: Collections = None) -> list[tuple[str, int]]:
        """Return the name of each of these collections, sorted, and the number of its pictures."""
        query, criteria = select(PictureRow.collection, func.count()), Criteria(collections=collections)
        query = query.where(*criteria.build_conditions()).group_by(PictureRow.collection)
        with self._registry.read_in_time() as session:
            rows = session.execute(query.order_by(PictureRow.collection))
            return [(name, number) for name, number in rows]

    def find_spelling(self, name: str, collections: Collections = None) -> str:
        """Return the name of a collection as it is spelled among `collections`, whatever its upper and lower case."""
        with self._registry.read_in_time() as session:
            return records.find_spelling(session, name, collections)

    def count_captions(self, language: str, expansions: frozenset[str], collections: frozenset[str]) -> int:
        """Count the captions in a language, added with pictures in these collections or by these expansions."""
        row = CaptionRow
        visible = row.expansion.is_(None) | row.expansion.in_(sorted(expansions))
        shown = select(row.picture_id, row.text).join(PictureRow, PictureRow.id == row.picture_id)
        conditions = Criteria(collections=collections).build_conditions()
        shown = shown.where(row.language == language, visible, *conditions)
        with self._registry.read_in_time() as session:
            return session.scalar(select(func.count()).select_from(shown.distinct().subquery())) or 0


def _update_keys(keys: VectorKeys, changed: VectorKeys, allowed: VectorKeys) -> VectorKeys:
    """Return `keys` after some pictures `changed`, of which some are `allowed`; the same array when nothing differs.

    Segments remember the rows that an array allows. All three are sorted; the time is that of a copy of `keys`.
    """
    at, known = np.searchsorted(keys, changed), is_among(changed, keys)
    stays = np.isin(changed, allowed, assume_unique=True)
    removed, new = at[known & ~stays], changed[~known & stays]
    if len(removed):
        keys = np.delete(keys, removed)
    return np.insert(keys, np.searchsorted(keys, new), new) if len(new) else keys


def _build_first_query(criteria: Criteria, language: str) -> Select[Any]:
    """Select the allowed keys, some more than once; for one condition on values without a look at the pictures."""
    match criteria:
        case Criteria(Filter((Match() | Range() as single,), (), ()), None, None) if not language:
            if (condition := build_value_row_condition(single)) is not None:
                return select(PictureValueRow.picture).where(condition)
    return _build_key_query(language, *criteria.build_conditions())


def _build_key_query(language: str, *conditions: ColumnElement[bool]) -> Select[Any]:
    if not language:
        return select(PictureRow.key).where(*conditions)
    joined = select(CaptionRow.id).join(PictureRow, PictureRow.id == CaptionRow.picture_id)
    return joined.where(CaptionRow.language == language, *conditions)


def _count_values(
    session: Session, key: str, conditions: tuple[ColumnElement[bool], ...], most: int, few: bool = False
) -> list[FacetValue]:
    """Count the values of a key among the pictures that meet all conditions, and return the most frequent ones first.

    The database looks at all values of the pictures when these are `few`, and else at all values of the key.
    """
    if key == MONTHS:
        return _count_months(session, conditions)[:most]
    if key == "collection":
        query = select(PictureRow.collection, func.count()).where(*conditions).group_by(PictureRow.collection)
        found = [FacetValue(name, number) for name, number in session.execute(query)]
    elif (stored := find_stored_key(key)) is None:
        found = []
    else:
        found = [
            each
            for query in _build_value_queries(stored, conditions, most, few)
            for each in map(_read_facet, session.execute(query))
        ]
    shown = [each for each in found if not is_hash(each.value)]
    return sorted(shown, key=lambda each: (-each.count, type(each.value).__name__, str(each.value)))[:most]


def _count_months(session: Session, conditions: tuple[ColumnElement[bool], ...]) -> list[FacetValue]:
    """Count pictures by month, newest first: the database counts days, which an index has, and knows no calendar."""
    day = func.floor(records.SHOWN / _DAY)
    months = Counter[str]()
    for number, pictures in session.execute(select(day, func.count()).where(*conditions).group_by(day)):
        months[f"{_EPOCH + timedelta(days=number):%Y-%m}".zfill(7)] += pictures
    return [FacetValue(month, months[month]) for month in sorted(months, reverse=True)]


def _build_value_queries(
    key: str, conditions: tuple[ColumnElement[bool], ...], most: int, few: bool
) -> Iterator[Select[Any]]:
    """Select kind, value and count: of texts, then of the others. Each is read from one index, without the table."""
    row, many = PictureValueRow, func.count()
    columns: list[tuple[tuple[str, ...], Any]] = [(("string",), row.text), (("number", "boolean"), row.number)]
    for kinds, value in columns:
        under = (row.key.concat("") if few else row.key) == key  # otherwise SQLite would take the index by key
        values: Select[Any] = select(row.kind, value, many).where(under, row.kind.in_(kinds))
        if conditions:
            values = values.where(row.picture.in_(select(PictureRow.key).where(*conditions)))
        yield values.group_by(row.kind, value).order_by(many.desc()).limit(10 * most)


def _read_facet(row: Any) -> FacetValue:
    kind, value, pictures = row
    if kind == "boolean":
        return FacetValue(bool(value), pictures)
    if kind == "number" and value.is_integer() and abs(value) < _LARGEST_EXACT:
        return FacetValue(int(value), pictures)
    return FacetValue(value, pictures)
