"""Which pictures have the words of a text: in captions, tags and metadata, as the registry has them now.

The words that a picture has count, each the more the fewer of the pictures that are asked about have it. A text is
never syntax: `model.words` cuts it into terms, and only these reach the database.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    cast,
    column,
    distinct,
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
from index.sources import expansions_of
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
            of = [expansions_of(self._registry, tag, version) for tag, version in release.languages.items()]
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
    """The documents in which a search looks: those that are visible, of pictures that are wanted."""

    sqlite: bool
    visible: frozenset[str]
    wanted: Wanted
    unwanted: Sequence[str]  # pictures that have all these terms are left out, unless there are none

    def counts(self, session: Session, terms: Sequence[str]) -> dict[str, int]:
        """How many of the pictures have each term; without those that none has."""
        pictures = func.count(distinct(PictureWordsRow.picture))
        each = [select(literal(number), pictures).where(*self._having(term)) for number, term in enumerate(terms)]
        return {terms[number]: count for number, count in session.execute(union_all(*each)) if count}

    def best(self, session: Session, weights: Mapping[str, int]) -> list[tuple[int, int, str]]:
        """What the terms of a picture weigh together, the least length of its documents that have one, and its id."""
        if not weights:
            return []
        each = union_all(*(self._with(term, weight) for term, weight in weights.items())).subquery()
        weight, length = cast(func.sum(each.c.number), BigInteger), func.min(each.c.length)
        best = select(each.c.picture, weight.label("weight"), length.label("length")).group_by(each.c.picture)
        best_few = best.order_by(weight.desc(), length, each.c.picture).limit(MOST).subquery()
        query = select(best_few.c.weight, best_few.c.length, PictureRow.id)
        return [tuple(row) for row in session.execute(query.join(best_few, best_few.c.picture == PictureRow.key))]

    def _with(self, term: str, number: int) -> Select[int, int, int]:
        """Each picture that has a term, once, with a number; `length` is that of its shortest document that has it."""
        row = PictureWordsRow
        query = select(row.picture, literal(number).label("number"), func.min(row.length).label("length"))
        return query.where(*self._having(term)).group_by(row.picture)

    def _having(self, term: str) -> tuple[ColumnElement[bool], ...]:
        return *self._matching(term), *self._of_wanted

    def _matching(self, term: str) -> tuple[ColumnElement[bool], ...]:
        row = PictureWordsRow
        shown = or_(row.expansion.is_(None), row.expansion.in_(sorted(self.visible)))
        if self.sqlite:
            found = select(_FTS5.c.rowid).where(_FTS5.c.picture_terms.op("MATCH")(f'"{term}"'))
            return row.id.in_(found), shown
        stored = func.array_to_tsvector(func.string_to_array(row.terms, " "))
        return stored.op("@@", is_comparison=True)(cast(f"'{term}'", TSQUERY)), shown

    @property
    def _of_wanted(self) -> tuple[ColumnElement[bool], ...]:
        row, conditions = PictureWordsRow, list[ColumnElement[bool]]()
        if not self.wanted.everything:
            conditions.append(row.picture.in_(select(PictureRow.key).where(*self.wanted.conditions)))
        if self.unwanted:
            having = [row.picture.in_(select(row.picture).where(*self._matching(term))) for term in self.unwanted]
            conditions.append(~and_(*having))
        return tuple(conditions)
