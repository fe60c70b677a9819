"""Facets: the most frequent values of a key among some pictures, and how many of these have each. Reads SQL alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from index.facts import TAGS, is_hash
from index.filters import metadata_key
from store.tables import PictureRow, PictureValueRow

MOST_FACETS = 100  # values of one key, the most frequent ones
_EXACT = 1 << 53  # whole numbers up to here are doubles


@dataclass(frozen=True)
class FacetValue:
    """A value of a key, and how many pictures have it."""

    value: str | bool | float
    count: int


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


def kept_under(key: str) -> str | None:
    """The key that values are kept under, or None when no value is."""
    return TAGS if key == "tags" else metadata_key(key)


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
