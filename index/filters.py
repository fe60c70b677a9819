"""Filters: reads their grammar, as Qdrant's, from JSON, and writes them as SQL that each database is fast with.

A filter holds for a picture when all of `must` hold, one of `should` if there are any, and none of `must_not`. A
condition holds when one value of its key matches. Asks no database.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, Literal

from sqlalchemy import Boolean, ColumnElement, and_, false, or_, select, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal

from index.facts import KEY, TAGS, Fact, indexed, instant, normal
from store.errors import FieldError, InvalidFilter
from store.tables import PictureRow, PictureValueRow

DEEPEST = 8  # filters within each other
MOST_CONDITIONS = 64
MOST_VALUES = 1_000  # in all `any` together
FIELDS = frozenset({"collection", "created_at", "id", "tags"})  # keys that name no metadata
_CLAUSES = ("must", "should", "must_not")
_BOUNDS = ("gt", "gte", "lt", "lte")
_METADATA = "metadata."
# Whose conditions these are: of all pictures, also under NOT and OR (`others`), or of few that a query names itself
Of = Literal["all", "others", "few"]
_MICROSECOND, _HALVINGS = 1e-6, 50
_OPERATORS = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}


@dataclass(frozen=True)
class Match:
    """One value of `key` is equal to one of these facts; none of them is a date."""

    key: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Range:
    """One value of `key` is a number, or a date in seconds since 1970, within all bounds."""

    key: str
    kind: Literal["number", "date"]
    bounds: tuple[tuple[str, float], ...]  # one of `_BOUNDS`, and the value


@dataclass(frozen=True)
class Filter:
    """Conditions that are put together; without any it holds for every picture."""

    must: tuple["Condition", ...] = ()
    should: tuple["Condition", ...] = ()
    must_not: tuple["Condition", ...] = ()


Condition = Filter | Match | Range


def parsed(given: object, place: str = "body.filter") -> Filter:
    """The filter that a JSON value says; raises `InvalidFilter` with the place of what is wrong."""
    return _Reader().filter(given, place, 1)


def metadata_key(key: str) -> str | None:
    """The key of metadata that a condition or facet names: `place` or `metadata.place`; None when it names none."""
    name = key.removeprefix(_METADATA)
    return name if KEY.fullmatch(name) and (name != key or name not in FIELDS) else None


def kept_under(key: str) -> str | None:
    """The key that values are kept under, or None when no value is."""
    return TAGS if key == "tags" else metadata_key(key)


class _Reader:
    """Reads one filter and counts what it holds."""

    def __init__(self) -> None:
        self._conditions, self._values = count(1), count(1)

    def filter(self, given: object, place: str, depth: int) -> Filter:
        clauses = _object(given, place)
        if depth > DEEPEST:
            raise _refusal(f"filters go {DEEPEST} deep at most", place, "too_deep")
        for name in clauses:
            if name not in _CLAUSES:
                raise _refusal("a filter has `must`, `should` and `must_not`", f"{place}.{_shown(name)}", "unknown")
        return Filter(**{name: tuple(self._all(value, f"{place}.{name}", depth)) for name, value in clauses.items()})

    def _all(self, given: object, place: str, depth: int) -> Iterator[Condition]:
        if not isinstance(given, list):
            raise _refusal("conditions come in a list", place, "list_type")
        for number, each in enumerate(given):
            yield self._condition(each, f"{place}.{number}", depth)

    def _condition(self, given: object, place: str, depth: int) -> Condition:
        if next(self._conditions) > MOST_CONDITIONS:
            raise _refusal(f"a filter has at most {MOST_CONDITIONS} conditions", place, "too_long")
        condition = _object(given, place)
        if "key" not in condition:
            return self.filter(given, place, depth + 1)
        key = self._text(condition["key"], f"{place}.key")
        if condition.keys() == {"key", "match"}:
            return Match(key, tuple(self._match(key, condition["match"], f"{place}.match")))
        if condition.keys() == {"key", "range"}:
            return self._range(key, condition["range"], f"{place}.range")
        raise _refusal("a condition has `key` and either `match` or `range`", place, "condition")

    def _match(self, key: str, given: object, place: str) -> Iterator[Fact]:
        match = _object(given, place)
        if match.keys() == {"value"}:
            yield self._fact(key, match["value"], f"{place}.value")
        elif match.keys() == {"any"} and isinstance(match["any"], list):
            for number, value in enumerate(match["any"]):
                yield self._fact(key, value, f"{place}.any.{number}")
        else:
            raise _refusal("`match` has `value`, or `any` with a list", place, "match")

    def _fact(self, key: str, value: object, place: str) -> Fact:
        if next(self._values) > MOST_VALUES:
            raise _refusal(f"a filter names at most {MOST_VALUES:,} values", place, "too_long")
        if isinstance(value, bool):
            return Fact("boolean", number=float(value))
        if isinstance(value, int | float):
            return Fact("number", number=self._number(value, place))
        text = self._text(value, place)
        return Fact("string", text if key == "id" else indexed(text))  # ids are compared whole, in their own column

    def _range(self, key: str, given: object, place: str) -> Range:
        limits = _object(given, place)
        if not limits or not limits.keys() <= {*_BOUNDS}:
            raise _refusal("`range` has `gt`, `gte`, `lt` or `lte`", place, "range")
        bounds, kinds = list[tuple[str, float]](), set[str]()
        for name, value in limits.items():
            kind, number = self._bound(value, f"{place}.{name}")
            kinds.add(kind)
            bounds.append((name, number))
        if len(kinds) > 1:
            raise _refusal("the bounds of a range are all numbers or all dates", place, "range")
        return Range(key, "date" if kinds == {"date"} else "number", tuple(sorted(bounds)))

    def _bound(self, value: object, place: str) -> tuple[str, float]:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return "number", self._number(value, place)
        moment = instant(value) if isinstance(value, str) else None
        if moment is None:
            raise _refusal("a bound is a number, or a date as in RFC 3339", place, "bound")
        return "date", moment

    @staticmethod
    def _number(value: float, place: str) -> float:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise _refusal("numbers are finite", place, "finite_number")
        return number

    @staticmethod
    def _text(value: object, place: str) -> str:
        if not isinstance(value, str):
            raise _refusal("a value is a string, a number, true or false", place, "value_type")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):  # no database takes these
            raise _refusal("the text contains surrogates or NUL", place, "string_unicode")
        return normal(value)


def _object(given: object, place: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise _refusal("an object is needed here", place, "dict_type")
    return given


def _refusal(detail: str, place: str, code: str) -> InvalidFilter:
    return InvalidFilter(f"{place}: {detail}", errors=(FieldError(place, code),))


def _shown(name: str) -> str:
    return name if KEY.fullmatch(name) else "?"


def condition_of(condition: Condition, of: Of) -> ColumnElement[bool]:
    """A condition on a row of pictures. No column in it is NULL, so that its negation is its complement."""
    if isinstance(condition, Match):
        return _matched(condition, of)
    if isinstance(condition, Range):
        return _in_range(condition, of)
    beside: Of = "few" if of == "few" else "others"
    parts = [condition_of(each, of) for each in condition.must]
    if condition.should:
        parts.append(or_(*[condition_of(each, beside) for each in condition.should]))
    parts += [~condition_of(each, beside) for each in condition.must_not]
    return and_(true(), *parts)


def _matched(match: Match, of: Of) -> ColumnElement[bool]:
    if match.key in ("id", "collection"):
        column = PictureRow.id if match.key == "id" else PictureRow.collection
        return column.in_(sorted({fact.text for fact in match.facts if fact.text is not None}))
    return _some(match, of)


def _in_range(asked: Range, of: Of) -> ColumnElement[bool]:
    if asked.key == "created_at":
        moments = [getattr(PictureRow.created_at, _OPERATORS[name])(_edge(name, value)) for name, value in asked.bounds]
        return and_(true() if asked.kind == "date" else false(), *moments)
    return _some(asked, of)


def _edge(bound: str, moment: float) -> float:
    """The first or the last of the instants that answers tell as this moment: they are rounded to microseconds."""
    edge, beyond = moment, moment + (-_MICROSECOND if bound in ("gte", "lt") else _MICROSECOND)
    for _ in range(_HALVINGS):
        middle = (edge + beyond) / 2
        edge, beyond = (middle, beyond) if _told(middle) == _told(moment) else (edge, middle)
    return edge


def _told(instant: float) -> datetime | float:
    try:
        return datetime.fromtimestamp(instant, UTC)
    except (OverflowError, ValueError):  # before the year 1, behind 9999, or a number that is no date
        return instant


def of_values(asked: Match | Range, hidden: bool = False) -> ColumnElement[bool] | None:
    """A condition on a row of values; None for a key that no value is under. `hidden` from the indexes by key."""
    row, named = PictureValueRow, kept_under(asked.key)
    if named is None:
        return None
    under = (row.key.concat("") if hidden else row.key) == named
    if isinstance(asked, Range):
        limits = [getattr(row.number, _OPERATORS[name])(value) for name, value in asked.bounds]
        return and_(under, row.kind == asked.kind, *limits)
    texts = sorted({fact.text for fact in asked.facts if fact.text is not None})
    equal = [and_(row.kind == "string", row.text.in_(texts))] if texts else []
    for kind in ("number", "boolean"):
        numbers = sorted({fact.number for fact in asked.facts if fact.kind == kind and fact.number is not None})
        equal += [and_(row.kind == kind, row.number.in_(numbers))] if numbers else []
    return and_(under, or_(false(), *equal))


def _some(asked: Match | Range, of: Of) -> ColumnElement[bool]:
    """That a picture has a value that meets a condition.

    PostgreSQL makes a join of an `IN` that must hold. Under NOT and OR it makes one of `EXISTS` only: there it would go
    through the values of an `IN` once for each picture, when they are too many for `work_mem`. SQLite makes a table of
    any `IN`, and goes through the values for each picture with an `EXISTS` of a range; unless it finds only the index
    of the values of a picture, which is best for few.
    """
    row, condition = PictureValueRow, of_values(asked, hidden=of == "few")
    if condition is None:
        return false()
    exists = select(row.id).where(row.picture == PictureRow.key, condition).correlate(PictureRow).exists()
    if of == "few":
        return exists
    within = PictureRow.key.in_(select(row.picture).where(condition))
    return within if of == "all" else _Either(exists, within)


class _Either(ColumnElement[bool]):
    """One condition in two forms, of which the database takes the one that it is fast with."""

    inherit_cache = True
    type = Boolean()
    _traverse_internals = [  # noqa: RUF012  SQLAlchemy's own way to say what a statement's place in its cache depends on
        ("exists", InternalTraversal.dp_clauseelement),
        ("within", InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, exists: ColumnElement[bool], within: ColumnElement[bool]) -> None:
        self.exists, self.within = exists, within


@compiles(_Either)
def _within(either: _Either, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(either.within, **options)


@compiles(_Either, "postgresql")
def _exists(either: _Either, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(either.exists, **options)
