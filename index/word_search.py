"""Which pictures have the words of a text: in captions, tags and metadata, as the registry has them now.

The words that a picture has count, each the more the fewer of the pictures that are asked about have it. A text is
never syntax: `model.words` cuts it into terms, and only these reach the database.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Select,
    Subquery,
    case,
    cast,
    column,
    func,
    literal,
    or_,
    select,
    table,
    union_all,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import Session

from index.selection import Wanted, reading
from index.tables import PictureRow, PictureWordsRow
from model.registry import Registry, Release
from model.words import asked

MOST = 1_000  # pictures that one search by words finds
_STEPS = 1_000  # a word's weight is a whole number of these: sums of them are the same in every order
_FTS5 = table("picture_terms", column("rowid"), column("picture_terms"))
_REMEMBERED = 64  # releases whose expansions are kept


@dataclass(frozen=True)
class Worded:
    """A picture that has some of the words: `score` is the share of what they weigh, 1 when it has all of them."""

    picture: str
    score: float


class WordSearch:
    """Answers about one registry's pictures. Thread-safe; raises `RegistryUnavailable`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._expansions: dict[int, frozenset[str]] = {}
        self._lock = Lock()

    def find(self, words: str, release: Release, wanted: Wanted, without: str | None = None) -> list[Worded]:
        """At most `MOST` pictures that have some of these words, best first, then those with fewer others, then by id.

        Of captions that expansions brought, those that this release shows. Pictures that have all words of `without`
        are left out.
        """
        terms, unwanted = asked(words), asked(without or "")
        if not terms:
            return []
        documents = _Documents(self._registry.engine.dialect.name == "sqlite", self._visible(release), wanted, unwanted)
        with reading(self._registry) as session:
            counts = documents.counts(session, terms)
            weights = _weights(terms, counts)
            found = documents.best(session, {term: weights[term] for term in terms if term in counts})
        whole = sum(weights.values())
        return [Worded(id, weight / whole) for weight, _, id in sorted(found, key=_order)]

    def _visible(self, release: Release) -> frozenset[str]:
        """The expansions whose captions a release shows."""
        with self._lock:
            known = self._expansions.get(release.number)
        if known is None:
            of = [self._registry.releases.visible(tag, version) for tag, version in release.languages.items()]
            known = frozenset[str]().union(*of)
            with self._lock:
                if len(self._expansions) >= _REMEMBERED:
                    self._expansions.clear()
                self._expansions[release.number] = known
        return known


def _weights(terms: Sequence[str], counts: Mapping[str, int]) -> dict[str, int]:
    """What each word counts for: 1 for the most frequent one, and more by the logarithm of how much rarer another is.

    Of these words alone, and of the pictures that are asked about: what else there is makes no difference.
    """
    most = max([1, *counts.values()])
    return {term: round(_STEPS * (1 + math.log(most / max(1, counts.get(term, 0))))) for term in terms}


def _order(found: tuple[int, int, str]) -> tuple[int, int, str]:
    """By weight, length and id; databases differ in how they sort texts."""
    weight, length, id = found
    return -weight, length, id


@dataclass(frozen=True)
class _Documents:
    """The documents in which a search looks: those that are visible, of pictures that are wanted.

    A statement says what is wanted and what is unwanted once, whatever the number of terms: neither its time nor its
    parameters are their product.
    """

    sqlite: bool
    visible: frozenset[str]
    wanted: Wanted
    unwanted: Sequence[str]  # pictures that have all these terms are left out, unless there are none

    def counts(self, session: Session, terms: Sequence[str]) -> dict[str, int]:
        """How many of the pictures have each term; without those that none has."""
        found = self._wanted(terms)
        counted = session.execute(select(found.c.number, func.count()).group_by(found.c.number))
        return {terms[number]: count for number, count in counted}

    def best(self, session: Session, weights: Mapping[str, int]) -> list[tuple[int, int, str]]:
        """What the terms of a picture weigh together, the least length of its documents that have one, and its id."""
        if not weights:
            return []
        found = self._wanted([*weights])
        each = case(dict(enumerate(weights.values())), value=found.c.number)
        weight, length = cast(func.sum(each), BigInteger), func.min(found.c.length)
        best = select(found.c.picture, weight.label("weight"), length.label("length")).group_by(found.c.picture)
        best_few = best.order_by(weight.desc(), length, found.c.picture).limit(MOST).subquery()
        query = select(best_few.c.weight, best_few.c.length, PictureRow.id)
        return [tuple(row) for row in session.execute(query.join(best_few, best_few.c.picture == PictureRow.key))]

    def _wanted(self, terms: Sequence[str]) -> Subquery:
        """Each picture that is wanted and each term that it has, once; `length` of its shortest document with it."""
        if self.wanted.everything and not self.unwanted:
            return self._having(terms).subquery()  # to keep it for one use would take PostgreSQL twice as long
        found = _once("found", self._having(terms))
        query = select(found.c.number, found.c.picture, found.c.length)
        if not self.wanted.everything:
            wanted = _once("wanted", select(PictureRow.key).where(*self.wanted.conditions))
            query = query.join(wanted, wanted.c.key == found.c.picture)
        if self.unwanted:
            having = _once("having", self._having(self.unwanted))
            all_of_them = func.count() == len(self.unwanted)
            unwanted = _once("unwanted", select(having.c.picture).group_by(having.c.picture).having(all_of_them))
            # not `NOT IN`, which PostgreSQL goes through for each picture when it is larger than `work_mem`
            query = query.outerjoin(unwanted, unwanted.c.picture == found.c.picture)
            query = query.where(unwanted.c.picture.is_(None))
        return query.subquery()

    def _having(self, terms: Sequence[str]) -> CompoundSelect[Any]:
        """Each picture and each term that a visible document of it has, once, by the number of the term.

        Grouped term by term: PostgreSQL takes five times as long for all at once, when they are frequent.
        """
        row = PictureWordsRow
        shown = or_(row.expansion.is_(None), row.expansion.in_(sorted(self.visible)))
        length = func.min(row.length).label("length")
        having = [
            select(literal(number).label("number"), row.picture, length)
            .where(self._has(term), shown)
            .group_by(row.picture)
            for number, term in enumerate(terms)
        ]
        return union_all(*having)

    def _has(self, term: str) -> ColumnElement[bool]:
        row = PictureWordsRow
        if self.sqlite:
            return row.id.in_(select(_FTS5.c.rowid).where(_FTS5.c.picture_terms.op("MATCH")(f'"{term}"')))
        stored = func.array_to_tsvector(func.string_to_array(row.terms, " "))
        return stored.op("@@", is_comparison=True)(cast(f"'{term}'", TSQUERY))


def _once(name: str, query: Select[Any] | CompoundSelect[Any]) -> CTE:
    """A query that is answered once in a statement; otherwise SQLite puts what is around it into each of its parts."""
    return query.cte(name).prefix_with("MATERIALIZED")
