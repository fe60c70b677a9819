"""Which pictures a filter leaves: as SQL, as keys for a search, as pages, facets and counts. Reads the registry alone.

A search asks for keys. Those of the last filters are kept, and brought up to date by the records that changed since, so
that a filter that is asked again costs one small query. Keys of contents that are gone may stay among them: they are
never used again, and no search finds them once its snapshot has that change.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from threading import Lock
from typing import Any, Literal, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from index.facts import is_hash
from index.filters import Filter, Match, Range, condition_of, kept_under, of_values
from index.records import GalleryPicture, Place, Record, Within, following, following_among, pictures_of, records_of
from index.vectors import Keys, is_among
from store.errors import RegistryUnavailable
from store.registry import Registry
from store.tables import CaptionRow, PictureRow, PictureValueRow, RecordChangesRow

PICTURES = ""  # in the place of a language: keys of pictures
_KEPT_BYTES, _KEPT = 64 << 20, 256  # of keys, in all; filters
_BLOCK = 20_000  # keys that are read at a time
_TURN_SECONDS = 5.0  # that one waits for others who read the same, or have much in memory
MOST_FACETS = 100  # values of one key, the most frequent ones
_EXACT = 1 << 53  # whole numbers up to here are doubles
_MANY = 10_000  # keys that are too many to be looked at one by one
_LAST = select(RecordChangesRow.__table__.c.last)  # without the mapper, which takes longer than the database


@dataclass(frozen=True)
class Wanted:
    """Which pictures: those that a filter leaves, in the collections that the caller may see, and in `collection`."""

    filter: Filter | None = None
    within: Within = None
    collection: str | None = None

    @property
    def everything(self) -> bool:
        """Whether it leaves all pictures out of no collection."""
        return self.within is None and self.collection is None and not self._filters

    @property
    def _filters(self) -> bool:
        return self.filter not in (None, Filter())

    @property
    def places(self) -> tuple[ColumnElement[bool], ...]:
        """The collections as conditions of a query for pictures."""
        found = [] if self.within is None else [PictureRow.collection.in_(sorted(self.within))]
        return (*found, *([] if self.collection is None else [PictureRow.collection == self.collection]))

    @property
    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        """Return the conditions of a query for pictures; none when no picture is left out."""
        return self._meeting("all")

    @property
    def conditions_of_few(self) -> tuple[ColumnElement[bool], ...]:
        """Return the conditions of a query that names few pictures: the database looks at each of these alone."""
        return self._meeting("few")

    def _meeting(self, of: Literal["all", "few"]) -> tuple[ColumnElement[bool], ...]:
        filtered = [condition_of(self.filter, of)] if self.filter is not None and self._filters else []
        return (*filtered, *self.places)


@dataclass(frozen=True)
class FacetValue:
    """A value of a key, and how many pictures have it."""

    value: str | bool | float
    count: int


class Left(NamedTuple):
    """The keys of what is left, rising, and the last change of a record that is in them.

    They were `read` as a whole at an earlier change: each change since may have left one key of a picture that is gone.
    """

    keys: Keys
    upto: int
    read: int

    @property
    def surely(self) -> int:
        """How many pictures are left, at least; at most as many as there are keys."""
        return len(self.keys) - (self.upto - self.read)


class Selection:
    """Answers about one registry's pictures. Thread-safe; every method raises `RegistryUnavailable`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._kept = OrderedDict[tuple[Wanted, str, int], Left]()  # the ones asked last are last
        self._facets = OrderedDict[tuple[Wanted, str], tuple[int, list[FacetValue]]]()  # as of a change of a record
        self._lock = Lock()
        self._asking = WeakValueDictionary[tuple[Wanted, str, int], Lock]()  # one at a time reads what is left

    def allowed(self, wanted: Wanted, language: str = PICTURES, version: int = 0) -> Keys | None:
        """The keys of what is left, rising: of pictures, or of the captions in a language as a version shows them.

        None when everything is. Never more than is left by now, except for keys that are of no picture any more.
        """
        left = self.left(wanted, language, version)
        return None if left is None else left.keys

    def left(self, wanted: Wanted, language: str = PICTURES, version: int = 0, *, anew: bool = False) -> Left | None:
        """Return the allowed keys and the change that they include; `anew`: read again, without deleted pictures."""
        if wanted.everything:
            return None
        asked = (wanted, language, version)
        with self._lock:
            kept = self._kept.get(asked)
            asking = self._asking.setdefault(asked, Lock())
        if kept is not None:
            with self._registry.connect_for_reading() as connection:
                if kept.upto == connection.execute(_LAST).scalar_one() and not (anew and kept.read < kept.upto):
                    return self._keep(asked, kept)
        with in_turn(asking):  # the others wait, and find what the first one has read
            with self._lock:
                kept = self._kept.get(asked)
            with self._registry.read_in_time() as session:
                upto = last_change(session)
                if kept is None or (anew and kept.read < upto):
                    keys = once(numbers(session, _first(wanted, language)))
                    same = kept is not None and np.array_equal(kept.keys, keys)
                    kept = Left(kept.keys if kept is not None and same else keys, upto, upto)
                elif kept.upto < upto:
                    changed = PictureRow.record > kept.upto
                    before = numbers(session, _of(language, changed))
                    conditions = wanted.conditions if len(before) > _MANY else wanted.conditions_of_few
                    left = numbers(session, _of(language, changed, *conditions))
                    kept = Left(_updated(kept.keys, before, left), upto, kept.read)
            return self._keep(asked, kept)

    def page(
        self, wanted: Wanted, limit: int, after: Place | None = None, *, newest_first: bool = False
    ) -> list[GalleryPicture]:
        """Return one page of the pictures that are wanted."""
        left = None if wanted.filter is None else self.left(wanted)
        with self._registry.read_in_time() as session:
            asked = (session, limit, after, newest_first, wanted.conditions)
            if left is not None and left.upto == last_change(session):
                ids = following_among(*asked, left.keys, wanted.places)
            else:
                ids = following(*asked)
            pictures = pictures_of(session, ids)
        return [pictures[id] for id in ids]

    def records(self, ids: Sequence[str], within: Within = None) -> dict[str, Record]:
        """The records of those of these pictures that exist, in one of the collections `within`; at most hundreds."""
        with self._registry.connect_for_reading() as connection:
            return records_of(connection, ids, within)

    def facets(self, wanted: Wanted, keys: Sequence[str]) -> dict[str, list[FacetValue]]:
        """The most frequent values of each of these keys among the pictures that are left, and how many have each."""
        found, left = dict[str, list[FacetValue]](), self.left(wanted)
        few = left is not None and len(left.keys) <= _MANY
        with self._registry.read_in_time() as session:
            last = last_change(session)
            for key in keys:
                with self._lock:
                    upto, values = self._facets.get((wanted, key), (-1, []))
                if upto != last:
                    values = counted(session, key, wanted.conditions, few)
                with self._lock:
                    self._facets[wanted, key] = last, values
                    self._facets.move_to_end((wanted, key))
                    while len(self._facets) > _KEPT:
                        self._facets.popitem(last=False)
                found[key] = values
        return found

    def collections(self, within: Within = None) -> list[tuple[str, int]]:
        """Every collection by name, with the number of its pictures; only those `within`."""
        query = select(PictureRow.collection, func.count()).where(*Wanted(within=within).conditions)
        with self._registry.read_in_time() as session:
            rows = session.execute(query.group_by(PictureRow.collection).order_by(PictureRow.collection))
            return [(name, number) for name, number in rows]

    def captions(self, language: str, expansions: frozenset[str], within: frozenset[str]) -> int:
        """How many captions in a language pictures `within` have: added with them, or by one of these expansions."""
        row = CaptionRow
        visible = row.expansion.is_(None) | row.expansion.in_(sorted(expansions))
        shown = select(row.picture_id, row.text).join(PictureRow, PictureRow.id == row.picture_id)
        shown = shown.where(row.language == language, visible, *Wanted(within=within).conditions)
        with self._registry.read_in_time() as session:
            return session.scalar(select(func.count()).select_from(shown.distinct().subquery())) or 0

    def _keep(self, asked: tuple[Wanted, str, int], kept: Left) -> Left:
        with self._lock:
            self._kept[asked] = kept
            self._kept.move_to_end(asked)
            size = sum(each.keys.nbytes for each in self._kept.values())
            while len(self._kept) > _KEPT or (size > _KEPT_BYTES and len(self._kept) > 1):
                size -= self._kept.popitem(last=False)[1].keys.nbytes
        return kept


def last_change(session: Session) -> int:
    """The number of the last change of a record, of whichever picture."""
    last: int = session.connection().execute(_LAST).scalar_one()
    return last


@contextmanager
def in_turn(lock: Lock) -> Iterator[None]:
    """Holds a lock; raises `RegistryUnavailable` when others have it for too long."""
    if not lock.acquire(timeout=_TURN_SECONDS):
        raise RegistryUnavailable("Others ask the registry for too much.")
    try:
        yield
    finally:
        lock.release()


def _updated(keys: Keys, changed: Keys, left: Keys) -> Keys:
    """`keys` after some pictures changed, of whose keys some are `left`: the same array when nothing is different.

    Segments remember what an array leaves of them. All three rise; the time is that of a copy of `keys`.
    """
    at, there = np.searchsorted(keys, changed), is_among(changed, keys)
    stays = np.isin(changed, left, assume_unique=True)
    gone, new = at[there & ~stays], changed[~there & stays]
    if len(gone):
        keys = np.delete(keys, gone)
    return np.insert(keys, np.searchsorted(keys, new), new) if len(new) else keys


def is_first(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of sorted numbers are unlike the one before."""
    first = np.ones(len(numbers), dtype=bool)
    first[1:] = numbers[1:] != numbers[:-1]
    return first


def once(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted numbers, each once; NumPy's own `unique` takes many times as long."""
    return numbers[is_first(numbers)]


def _first(wanted: Wanted, language: str) -> Select[Any]:
    """The keys of what is left, some more than once. Of one condition on values, without a look at the pictures."""
    match wanted:
        case Wanted(Filter((Match() | Range() as one,), (), ()), None, None) if not language:
            if (condition := of_values(one)) is not None:
                return select(PictureValueRow.picture).where(condition)
    return _of(language, *wanted.conditions)


def _of(language: str, *conditions: ColumnElement[bool]) -> Select[Any]:
    if not language:
        return select(PictureRow.key).where(*conditions)
    joined = select(CaptionRow.id).join(PictureRow, PictureRow.id == CaptionRow.picture_id)
    return joined.where(CaptionRow.language == language, *conditions)


def numbers(session: Session, query: Select[Any]) -> NDArray[np.int64]:
    """Whole numbers that a query gives as its one column, sorted; however many."""
    blocks = list[Keys]()
    with session.connection().execute(query) as result:
        # the driver's own tuples: SQLAlchemy's take three times as long as all the rest; in blocks, to hold few of them
        while rows := result.cursor.fetchmany(_BLOCK):
            blocks.append(np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=len(rows)))
    found: Keys = np.concatenate(blocks) if blocks else np.empty(0, dtype=np.int64)
    found.sort()
    return found


def counted(
    session: Session, key: str, conditions: tuple[ColumnElement[bool], ...], few: bool = False
) -> list[FacetValue]:
    """The most frequent values of a key among the pictures that meet all conditions, the most frequent ones first.

    With `few` pictures all their values are looked at, with many all values of the key.
    """
    if key == "collection":
        query = select(PictureRow.collection, func.count()).where(*conditions).group_by(PictureRow.collection)
        found = [FacetValue(name, number) for name, number in session.execute(query)]
    elif (named := kept_under(key)) is None:
        found = []
    else:
        found = [each for query in _values(named, conditions, few) for each in map(_facet, session.execute(query))]
    return sorted((each for each in found if not is_hash(each.value)), key=_frequent)[:MOST_FACETS]


def _values(key: str, conditions: tuple[ColumnElement[bool], ...], few: bool) -> Iterator[Select[Any]]:
    """Kind, value and count: of texts, and of the others. Each is read from one index, without the table."""
    row, many = PictureValueRow, func.count()
    columns: list[tuple[tuple[str, ...], Any]] = [(("string",), row.text), (("number", "boolean"), row.number)]
    for kinds, value in columns:
        under = (row.key.concat("") if few else row.key) == key  # otherwise SQLite would take the index by key
        values: Select[Any] = select(row.kind, value, many).where(under, row.kind.in_(kinds))
        if conditions:
            values = values.where(row.picture.in_(select(PictureRow.key).where(*conditions)))
        yield values.group_by(row.kind, value).order_by(many.desc()).limit(10 * MOST_FACETS)


def _facet(counted: Any) -> FacetValue:
    kind, value, pictures = counted
    if kind == "boolean":
        return FacetValue(bool(value), pictures)
    if kind == "number" and value.is_integer() and abs(value) < _EXACT:
        return FacetValue(int(value), pictures)
    return FacetValue(value, pictures)


def _frequent(found: FacetValue) -> tuple[int, str, str]:
    return -found.count, type(found.value).__name__, str(found.value)
