"""Which pictures a filter leaves: as SQL, as keys for a search, as facets and counts. Reads the registry alone.

A search asks for keys. Those of the last filters are kept, and brought up to date by the records that changed since, so
that a filter that is asked again costs one small query. Keys of pictures that are gone may stay among them: they are
never used again, and no search finds them.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, Select, and_, false, func, or_, select, true
from sqlalchemy.orm import Session

from index.facts import TAGS, is_hash
from index.filters import Condition, Filter, Match, Range, metadata_key
from index.records import Record, Within, records_of
from index.tables import CaptionRow, PictureRow, PictureValueRow, RecordChangesRow
from index.vectors import Keys
from model.registry import Registry

PICTURES = ""  # in the place of a language: keys of pictures
MOST_FACETS = 100  # values of one key, the most frequent ones
_KEPT_BYTES, _KEPT = 64 << 20, 256  # of keys, in all; filters
_EXACT = 1 << 53  # whole numbers up to here are doubles
_LAST = select(RecordChangesRow.__table__.c.last)  # without the mapper, which takes longer than the database
_CONDITIONS = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}


@dataclass(frozen=True)
class Wanted:
    """Which pictures: those that a filter leaves, in the collections that the caller may see, and in `collection`."""

    filter: Filter | None = None
    within: Within = None
    collection: str | None = None

    @property
    def everything(self) -> bool:
        """Whether it leaves all pictures out of no collection."""
        return self.within is None and self.collection is None and self.filter in (None, Filter())

    @property
    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """As conditions of a query for pictures; none when it leaves all."""
        found = [] if self.filter is None else [_condition(self.filter)]
        if self.within is not None:
            found.append(PictureRow.collection.in_(sorted(self.within)))
        if self.collection is not None:
            found.append(PictureRow.collection == self.collection)
        return tuple(found)


@dataclass(frozen=True)
class FacetValue:
    """A value of a key, and how many pictures have it."""

    value: str | bool | float
    count: int


class _Kept(NamedTuple):
    keys: Keys
    upto: int  # the last change of a record that is in them


class Selection:
    """Answers about one registry's pictures. Thread-safe; every method raises `RegistryUnavailable`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._kept = OrderedDict[tuple[Wanted, str, int], _Kept]()  # the ones asked last are last
        self._lock = Lock()

    def allowed(self, wanted: Wanted, language: str = PICTURES, version: int = 0) -> Keys | None:
        """The keys of what is left, rising: of pictures, or of the captions in a language as a version shows them.

        None when everything is. Never more than is left by now, except for keys that are of no picture any more.
        """
        if wanted.everything:
            return None
        asked = (wanted, language, version)
        with self._lock:
            kept = self._kept.get(asked)
        with self._registry.read() as session:
            upto: int = session.connection().execute(_LAST).scalar_one()
            if kept is None:
                kept = _Kept(_keys(session, _of(language, *wanted.conditions)), upto)
            elif kept.upto != upto:
                changed = PictureRow.record > kept.upto
                gone = _keys(session, _of(language, changed))
                left = _keys(session, _of(language, changed, *wanted.conditions))
                kept = _Kept(np.union1d(np.setdiff1d(kept.keys, gone, assume_unique=True), left), upto)
        self._keep(asked, kept)
        return kept.keys

    def records(self, ids: Sequence[str], within: Within = None) -> dict[str, Record]:
        """The records of those of these pictures that exist, in one of the collections `within`; at most hundreds."""
        with self._registry.read() as session:
            return records_of(session, ids, within)

    def facets(self, wanted: Wanted, keys: Sequence[str]) -> dict[str, list[FacetValue]]:
        """The most frequent values of each of these keys among the pictures that are left, and how many have each."""
        with self._registry.read() as session:
            return {key: _facet(session, wanted, key) for key in keys}

    def collections(self, within: Within = None) -> list[tuple[str, int]]:
        """Every collection by name, with the number of its pictures; only those `within`."""
        query = select(PictureRow.collection, func.count()).where(*Wanted(within=within).conditions)
        with self._registry.read() as session:
            rows = session.execute(query.group_by(PictureRow.collection).order_by(PictureRow.collection))
            return [(name, number) for name, number in rows]

    def captions(self, language: str, expansions: frozenset[str], within: frozenset[str]) -> int:
        """How many captions in a language pictures `within` have: added with them, or by one of these expansions."""
        row = CaptionRow
        visible = row.expansion.is_(None) | row.expansion.in_(sorted(expansions))
        shown = select(row.picture_id, row.text).join(PictureRow, PictureRow.id == row.picture_id)
        shown = shown.where(row.language == language, visible, *Wanted(within=within).conditions)
        with self._registry.read() as session:
            return session.scalar(select(func.count()).select_from(shown.distinct().subquery())) or 0

    def _keep(self, asked: tuple[Wanted, str, int], kept: _Kept) -> None:
        with self._lock:
            self._kept[asked] = kept
            self._kept.move_to_end(asked)
            size = sum(each.keys.nbytes for each in self._kept.values())
            while len(self._kept) > _KEPT or (size > _KEPT_BYTES and len(self._kept) > 1):
                size -= self._kept.popitem(last=False)[1].keys.nbytes


def _of(language: str, *conditions: ColumnElement[bool]) -> Select[Any]:
    if not language:
        return select(PictureRow.key).where(*conditions)
    joined = select(CaptionRow.id).join(PictureRow, PictureRow.id == CaptionRow.picture_id)
    return joined.where(CaptionRow.language == language, *conditions)


def _keys(session: Session, query: Select[Any]) -> Keys:
    with session.connection().execute(query) as result:
        rows = (
            result.cursor.fetchall()
        )  # the driver's own tuples: SQLAlchemy's take three times as long as all the rest
    keys = np.fromiter((key for (key,) in rows), dtype=np.int64, count=len(rows))
    keys.sort()
    return keys


def _condition(condition: Condition) -> ColumnElement[bool]:
    """A condition on a row of pictures. No column in it is NULL, so that its negation is its complement."""
    if isinstance(condition, Match):
        return _matched(condition)
    if isinstance(condition, Range):
        return _in_range(condition)
    parts = [_condition(each) for each in condition.must]
    if condition.should:
        parts.append(or_(*map(_condition, condition.should)))
    parts += [~_condition(each) for each in condition.must_not]
    return and_(true(), *parts)


def _matched(match: Match) -> ColumnElement[bool]:
    texts = sorted({fact.text for fact in match.facts if fact.text is not None})
    if match.key in ("id", "collection"):
        column = PictureRow.id if match.key == "id" else PictureRow.collection
        return column.in_(texts)
    row, named = PictureValueRow, _named(match.key)
    if named is None:
        return false()
    equal = [and_(row.kind == "string", row.text.in_(texts))] if texts else []
    for kind in ("number", "boolean"):
        numbers = sorted({fact.number for fact in match.facts if fact.kind == kind and fact.number is not None})
        equal += [and_(row.kind == kind, row.number.in_(numbers))] if numbers else []
    return _some(named, or_(false(), *equal))


def _in_range(asked: Range) -> ColumnElement[bool]:
    row = PictureValueRow
    if asked.key == "created_at":
        moments = [getattr(PictureRow.created_at, _CONDITIONS[name])(value) for name, value in asked.bounds]
        return and_(true() if asked.kind == "date" else false(), *moments)
    if (named := _named(asked.key)) is None:
        return false()
    limits = [getattr(row.number, _CONDITIONS[name])(value) for name, value in asked.bounds]
    return _some(named, and_(row.kind == asked.kind, *limits))


def _named(key: str) -> str | None:
    """The key that values are kept under, or None when no value is."""
    return TAGS if key == "tags" else metadata_key(key)


def _some(key: str, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """That a picture has a value under this key that meets a condition."""
    row = PictureValueRow
    return PictureRow.key.in_(select(row.picture).where(row.key == key, condition))


def _facet(session: Session, wanted: Wanted, key: str) -> list[FacetValue]:
    if key == "collection":
        query = select(PictureRow.collection, func.count()).where(*wanted.conditions).group_by(PictureRow.collection)
        found = [FacetValue(name, number) for name, number in session.execute(query)]
        return sorted(found, key=_frequent)[:MOST_FACETS]
    if (named := _named(key)) is None:
        return []
    row, many = PictureValueRow, func.count()
    values = select(row.kind, row.text, row.number, many).where(row.key == named, row.kind != "date")
    if not wanted.everything:
        values = values.where(row.picture.in_(select(PictureRow.key).where(*wanted.conditions)))
    values = values.group_by(row.kind, row.text, row.number).order_by(many.desc()).limit(10 * MOST_FACETS)
    rows = session.execute(values).all()
    found = [FacetValue(_value(kind, text, number), pictures) for kind, text, number, pictures in rows]
    return sorted((each for each in found if not is_hash(each.value)), key=_frequent)[:MOST_FACETS]


def _value(kind: str, text: str | None, number: float | None) -> str | bool | float:
    if text is not None:
        return text
    number = number or 0.0
    if kind == "boolean":
        return bool(number)
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def _frequent(found: FacetValue) -> tuple[int, str, str]:
    return -found.count, type(found.value).__name__, str(found.value)
