"""Filters as SQL: conditions on rows of pictures, in the form that each database is fast with. Asks nothing."""

from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Boolean, ColumnElement, and_, false, or_, select, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal

from index.facets import kept_under
from index.filters import Condition, Match, Range
from store.tables import PictureRow, PictureValueRow

# Whose conditions these are: of all pictures, also under NOT and OR (`others`), or of few that a query names itself
Of = Literal["all", "others", "few"]
_MICROSECOND, _HALVINGS = 1e-6, 50
_BOUNDS = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}


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
        moments = [getattr(PictureRow.created_at, _BOUNDS[name])(_edge(name, value)) for name, value in asked.bounds]
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
        limits = [getattr(row.number, _BOUNDS[name])(value) for name, value in asked.bounds]
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
