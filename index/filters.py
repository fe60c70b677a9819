"""Filters: their grammar, as Qdrant's, read from JSON, and the SQL that each database is fast with.

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

from index.facts import KEY, TAGS, Fact, hash_if_long, normalize, parse_instant
from store.errors import FieldError, InvalidFilter
from store.tables import PictureRow, PictureValueRow

MOST_LEVELS = 8  # filters within each other
MOST_CONDITIONS = 64
MOST_VALUES = 1_000  # in all `any` together
# Keys that name no metadata. A new one hides metadata of its name: old filters with this key then mean another thing.
# The page has the list, too: `service/pages/static/filters.js`.
# What a condition reads has to raise `record_change` where it is written: what a filter leaves is kept by that
FIELDS = frozenset({"collection", "created_at", "id", "shown_at", "tags"})
_CLAUSES = ("must", "should", "must_not")
_BOUNDS = ("gt", "gte", "lt", "lte")
_METADATA = "metadata."
# What a condition selects from: `all` pictures, also under NOT and OR (`others`), or `few` that a query names itself
Target = Literal["all", "others", "few"]
_MICROSECOND, _HALVINGS = 1e-6, 50
_OPERATORS = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}


@dataclass(frozen=True)
class Match:
    """The condition that one value of `key` is equal to one of these facts; none of them is a date."""

    key: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Range:
    """The condition that one value of `key` is a number, or a date in seconds since 1970, within all bounds."""

    key: str
    kind: Literal["number", "date"]
    bounds: tuple[tuple[str, float], ...]  # one of `_BOUNDS`, and the value


@dataclass(frozen=True)
class Filter:
    """A combination of conditions; without any it holds for every picture."""

    must: tuple["Condition", ...] = ()
    should: tuple["Condition", ...] = ()
    must_not: tuple["Condition", ...] = ()


Condition = Filter | Match | Range


def parse_filter(value: object, place: str = "body.filter") -> Filter:
    """Parse a filter from a JSON value; raise `InvalidFilter` with the place of what is wrong."""
    return _Parser().parse_filter(value, place, 1)


def find_stored_key(key: str) -> str | None:
    """Return the key that values of `tags`, `place` or `metadata.place` are stored under; None where none can be."""
    name = key.removeprefix(_METADATA)
    if name == key and name in FIELDS:
        return TAGS if name == "tags" else None
    return name if KEY.fullmatch(name) else None


class _Parser:
    """A parser of one filter, which counts its conditions and values."""

    def __init__(self) -> None:
        self._conditions, self._values = count(1), count(1)

    def parse_filter(self, value: object, place: str, depth: int) -> Filter:
        clauses = _require_object(value, place)
        if depth > MOST_LEVELS:
            raise _make_refusal(f"filters go {MOST_LEVELS} deep at most", place, "too_deep")
        for name in clauses:
            if name not in _CLAUSES:
                clause = f"{place}.{name if KEY.fullmatch(name) else '?'}"
                raise _make_refusal("a filter has `must`, `should` and `must_not`", clause, "unknown")
        conditions = {name: self._parse_conditions(each, f"{place}.{name}", depth) for name, each in clauses.items()}
        return Filter(**{name: tuple(each) for name, each in conditions.items()})

    def _parse_conditions(self, value: object, place: str, depth: int) -> Iterator[Condition]:
        if not isinstance(value, list):
            raise _make_refusal("conditions come in a list", place, "list_type")
        for number, each in enumerate(value):
            yield self._parse_condition(each, f"{place}.{number}", depth)

    def _parse_condition(self, value: object, place: str, depth: int) -> Condition:
        if next(self._conditions) > MOST_CONDITIONS:
            raise _make_refusal(f"a filter has at most {MOST_CONDITIONS} conditions", place, "too_long")
        condition = _require_object(value, place)
        if "key" not in condition:
            return self.parse_filter(value, place, depth + 1)
        key = self._parse_text(condition["key"], f"{place}.key")
        if condition.keys() == {"key", "match"}:
            return Match(key, tuple(self._parse_match(key, condition["match"], f"{place}.match")))
        if condition.keys() == {"key", "range"}:
            return self._parse_range(key, condition["range"], f"{place}.range")
        raise _make_refusal("a condition has `key` and either `match` or `range`", place, "condition")

    def _parse_match(self, key: str, value: object, place: str) -> Iterator[Fact]:
        match = _require_object(value, place)
        if match.keys() == {"value"}:
            yield self._parse_value(key, match["value"], f"{place}.value")
        elif match.keys() == {"any"} and isinstance(match["any"], list):
            for number, value in enumerate(match["any"]):
                yield self._parse_value(key, value, f"{place}.any.{number}")
        else:
            raise _make_refusal("`match` has `value`, or `any` with a list", place, "match")

    def _parse_value(self, key: str, value: object, place: str) -> Fact:
        if next(self._values) > MOST_VALUES:
            raise _make_refusal(f"a filter names at most {MOST_VALUES:,} values", place, "too_long")
        if isinstance(value, bool):
            return Fact("boolean", number=float(value))
        if isinstance(value, int | float):
            return Fact("number", number=self._parse_number(value, place))
        text = self._parse_text(value, place)
        # ids are compared whole, in their own column
        return Fact("string", text if key == "id" else hash_if_long(text))

    def _parse_range(self, key: str, value: object, place: str) -> Range:
        limits = _require_object(value, place)
        if not limits or not limits.keys() <= {*_BOUNDS}:
            raise _make_refusal("`range` has `gt`, `gte`, `lt` or `lte`", place, "range")
        bounds, kinds = list[tuple[str, float]](), set[str]()
        for name, value in limits.items():
            kind, number = self._parse_bound(value, f"{place}.{name}")
            kinds.add(kind)
            bounds.append((name, number))
        if len(kinds) > 1:
            raise _make_refusal("the bounds of a range are all numbers or all dates", place, "range")
        return Range(key, "date" if kinds == {"date"} else "number", tuple(sorted(bounds)))

    def _parse_bound(self, value: object, place: str) -> tuple[str, float]:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return "number", self._parse_number(value, place)
        moment = parse_instant(value) if isinstance(value, str) else None
        if moment is None:
            raise _make_refusal("a bound is a number, or a date as in RFC 3339", place, "bound")
        return "date", moment

    @staticmethod
    def _parse_number(value: float, place: str) -> float:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise _make_refusal("numbers are finite", place, "finite_number")
        return number

    @staticmethod
    def _parse_text(value: object, place: str) -> str:
        if not isinstance(value, str):
            raise _make_refusal("a value is a string, a number, true or false", place, "value_type")
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):  # no database takes these
            raise _make_refusal("the text contains surrogates or NUL", place, "string_unicode")
        return normalize(value)


def _require_object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _make_refusal("an object is needed here", place, "dict_type")
    return value


def _make_refusal(detail: str, place: str, code: str) -> InvalidFilter:
    return InvalidFilter(f"{place}: {detail}", errors=(FieldError(place, code),))


def build_condition(condition: Condition, target: Target) -> ColumnElement[bool]:
    """Build the SQL of a condition on pictures. No column in it is NULL, so that its negation is its complement."""
    if isinstance(condition, Match):
        return _build_match(condition, target)
    if isinstance(condition, Range):
        return _build_range(condition, target)
    beside: Target = "few" if target == "few" else "others"
    parts = [build_condition(each, target) for each in condition.must]
    if condition.should:
        parts.append(or_(*[build_condition(each, beside) for each in condition.should]))
    parts += [~build_condition(each, beside) for each in condition.must_not]
    return and_(true(), *parts)


def _build_match(match: Match, target: Target) -> ColumnElement[bool]:
    if match.key in ("id", "collection"):
        column = PictureRow.id if match.key == "id" else PictureRow.collection
        return column.in_(sorted({fact.text for fact in match.facts if fact.text is not None}))
    return _build_value_condition(match, target)


def _build_range(condition: Range, target: Target) -> ColumnElement[bool]:
    if condition.key in ("created_at", "shown_at"):
        column = PictureRow.created_at if condition.key == "created_at" else PictureRow.shown_at
        edges = [(_OPERATORS[name], _find_edge(name, value)) for name, value in condition.bounds]
        moments = [getattr(column, operator)(edge) for operator, edge in edges]
        return and_(true() if condition.kind == "date" else false(), *moments)
    return _build_value_condition(condition, target)


def _find_edge(bound: str, moment: float) -> float:
    """Return the first or last of the instants that answers round to this moment, in microseconds."""
    edge, beyond = moment, moment + (-_MICROSECOND if bound in ("gte", "lt") else _MICROSECOND)
    for _ in range(_HALVINGS):
        middle = (edge + beyond) / 2
        edge, beyond = (middle, beyond) if _round_instant(middle) == _round_instant(moment) else (edge, middle)
    return edge


def _round_instant(moment: float) -> datetime | float:
    try:
        return datetime.fromtimestamp(moment, UTC)
    except (OSError, OverflowError, ValueError):  # before the year 1, behind 9999, or a number that is no date
        return moment


def build_value_row_condition(condition: Match | Range, hide_key: bool = False) -> ColumnElement[bool] | None:
    """Build a condition on a row of values, or None for a key without values; `hide_key` from the indexes by key."""
    row, key = PictureValueRow, find_stored_key(condition.key)
    if key is None:
        return None
    # no index has this expression: few pictures are read faster by that of their own values than by that of the key
    under = (row.key.concat("") if hide_key else row.key) == key
    if isinstance(condition, Range):
        limits = [getattr(row.number, _OPERATORS[name])(value) for name, value in condition.bounds]
        return and_(under, row.kind == condition.kind, *limits)
    texts = sorted({fact.text for fact in condition.facts if fact.text is not None})
    equal = [and_(row.kind == "string", row.text.in_(texts))] if texts else []
    for kind in ("number", "boolean"):
        numbers = sorted({fact.number for fact in condition.facts if fact.kind == kind and fact.number is not None})
        equal += [and_(row.kind == kind, row.number.in_(numbers))] if numbers else []
    return and_(under, or_(false(), *equal))


def _build_value_condition(condition: Match | Range, target: Target) -> ColumnElement[bool]:
    """Build the condition that a picture has a value that meets a condition.

    PostgreSQL makes a join of an `IN` that must hold. Under NOT and OR it makes one of `EXISTS` only: there it would go
    through the values of an `IN` once for each picture, when they are too many for `work_mem`. SQLite makes a table of
    any `IN`, and goes through the values for each picture with an `EXISTS` of a range; unless it finds only the index
    of the values of a picture, which is best for few.
    """
    row, row_condition = PictureValueRow, build_value_row_condition(condition, hide_key=target == "few")
    if row_condition is None:
        return false()
    exists = select(row.id).where(row.picture == PictureRow.key, row_condition).correlate(PictureRow).exists()
    if target == "few":
        return exists
    contained = PictureRow.key.in_(select(row.picture).where(row_condition))
    return contained if target == "all" else _TwoForms(exists, contained)


class _TwoForms(ColumnElement[bool]):
    """A condition in two forms, of which each database gets the one that it is fast with."""

    inherit_cache = True
    type = Boolean()
    _traverse_internals = [  # noqa: RUF012  SQLAlchemy's own way to say what a statement's place in its cache depends on
        ("exists", InternalTraversal.dp_clauseelement),
        ("contained", InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, exists: ColumnElement[bool], contained: ColumnElement[bool]) -> None:
        self.exists, self.contained = exists, contained


@compiles(_TwoForms)
def _compile_contained(either: _TwoForms, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(either.contained, **options)


@compiles(_TwoForms, "postgresql")
def _compile_exists(either: _TwoForms, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(either.exists, **options)
