"""The pictures that have the words of a text: in captions, tags and metadata, as the registry has them now.

The words that a picture has count, each the more the fewer of the pictures that are asked about have it. A text is
never syntax: `model.words` cuts it into terms, and only these reach the database. That finds which pictures have a
term; what a filter allows, how much a term weighs and which pictures are best is computed here, from whole columns.

Two rankings are put together by reciprocal rank: a picture's score is the sum of weight / (60 + rank) over the rankings
that have it. Ranks can be compared where scores cannot. 60 is of Cormack, Clarke and Büttcher (SIGIR 2009).
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from operator import attrgetter
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from cachetools import LRUCache, cachedmethod
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, and_, cast, column, func, or_, select, table
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import Session

from index.selection import Criteria, Selection, drop_repeated, fetch_numbers, hold_in_time, mark_first_occurrences
from index.snapshot import PictureHit
from index.vectors import Keys, is_among
from model.words import MOST_DOCUMENT_TERMS, extract_query_terms
from store.registry import Registry
from store.releases import Release
from store.tables import PictureRow, PictureWordsRow

MOST = 1_000  # pictures that one search by words finds
_STEPS = 1_000  # a word's weight is a whole number of these: sums of them are the same in every order
_LONGEST = 1 << MOST_DOCUMENT_TERMS.bit_length()  # more than any document has terms
_FTS5 = table("picture_terms", column("rowid"), column("picture_terms"))
_MANY_MATCHES = 1_000_000  # matches, of all terms: a search with more has its turn, since they take 24 bytes each
_CACHED_RELEASES = 64  # whose expansions are kept
_RANK_OFFSET = 60
# Of what the words weigh: a picture that has less is not found by words. With half, every picture of one of two things
# that are asked for came before the picture of both, which has no text (`benchmarks.records.modes`, R@1 .57 for .89).
_LEAST_SHARE = 0.75


@dataclass(frozen=True)
class WordHit:
    """A picture that has some of the words; `score` is the share of their weight, 1 when it has all of them."""

    picture: str
    score: float


class _TermMatches(NamedTuple):
    """The pictures that have a term, ascending (n,), and for each the fewest terms of a document that has it (n,)."""

    pictures: Keys
    lengths: NDArray[np.int64]


class WordSearch:
    """Answers about one registry's pictures. Thread-safe; raises `RegistryUnavailable`."""

    def __init__(self, registry: Registry, selection: Selection) -> None:
        self._registry, self._selection = registry, selection
        self._expansions = LRUCache[int, frozenset[str]](_CACHED_RELEASES)
        self._lock, self._turn = Lock(), Lock()

    def find(self, words: str, release: Release, criteria: Criteria, without: str | None = None) -> list[WordHit]:
        """Return at most `MOST` pictures that have some of these words: best first, then of fewest words, then by id.

        Captions of expansions count where this release shows them. Pictures that have all words of `without` are
        excluded.
        """
        terms, unwanted = extract_query_terms(words), extract_query_terms(without or "")
        if not terms:
            return []
        visible, allowed = self._find_visible_expansions(release), self._selection.find_allowed_keys(criteria)
        with self._registry.read_in_time() as session:
            excluded: Keys | None = None
            if unwanted:
                excluded = reduce(np.intersect1d, (_find_term(session, term, visible).pictures for term in unwanted))
            with ExitStack() as turn:
                found, count = list[_TermMatches](), 0
                for term in terms:
                    matches = _find_term(session, term, visible)
                    if excluded is not None:
                        matches = _mask_matches(matches, ~is_among(matches.pictures, excluded))
                    if allowed is not None:
                        matches = _mask_matches(matches, is_among(matches.pictures, allowed))
                    found.append(matches)
                    count, before = count + len(matches.pictures), count
                    if before <= _MANY_MATCHES < count:
                        turn.enter_context(hold_in_time(self._turn))
                weights = _weigh_terms([len(each.pictures) for each in found])
                best = _select_best(found, weights)
                found.clear()
            query = select(PictureRow.key, PictureRow.id).where(PictureRow.key.in_([key for key, _, _ in best]))
            ids = {key: id for key, id in session.execute(query)}  # noqa: C416  to mypy a row is no pair
        whole = sum(weights)
        ranked = sorted((-weight, length, ids[key]) for key, weight, length in best if key in ids)
        return [WordHit(id, -weight / whole) for weight, _, id in ranked]  # databases differ in how they sort ids

    @cachedmethod(attrgetter("_expansions"), key=lambda _, release: release.number, lock=attrgetter("_lock"))
    def _find_visible_expansions(self, release: Release) -> frozenset[str]:
        """Return the expansions whose captions a release shows."""
        visible = (self._registry.releases.find_visible(tag, version) for tag, version in release.languages.items())
        return frozenset[str]().union(*visible)


def _weigh_terms(counts: Sequence[int]) -> list[int]:
    """Weigh each word: 1 for the most frequent one, and more by the logarithm of how much rarer another is.

    Only these words count, and only the pictures that are searched: what else there is makes no difference.
    """
    most = max([1, *counts])
    return [round(_STEPS * (1 + math.log(most / max(1, count)))) for count in counts]


def _select_best(matches: Sequence[_TermMatches], weights: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return key, weight of all its terms and least length of the `MOST` pictures with the highest weight.

    Of equal weight those of least length come first, then those of the lowest key.
    """
    keys = np.concatenate([each.pictures for each in matches])
    keys.sort()
    keys = drop_repeated(keys)
    weight, length = np.zeros(len(keys), dtype=np.int64), np.full(len(keys), _LONGEST)
    for each, counts in zip(matches, weights, strict=True):
        at = np.searchsorted(keys, each.pictures)
        weight[at] += counts  # a picture is in each once
        length[at] = np.minimum(length[at], each.lengths)
    order = -weight * _LONGEST + length
    if len(order) > MOST:
        last = np.partition(order, MOST - 1)[MOST - 1]
        better, equal = np.flatnonzero(order < last), np.flatnonzero(order == last)
        best = np.concatenate([better, equal[: MOST - len(better)]])
        keys, weight, length = keys[best], weight[best], length[best]
    return list(zip(keys.tolist(), weight.tolist(), length.tolist(), strict=True))


def _mask_matches(matches: _TermMatches, mask: NDArray[np.bool_]) -> _TermMatches:
    return _TermMatches(matches.pictures[mask], matches.lengths[mask])


def _find_term(session: Session, term: str, visible: frozenset[str]) -> _TermMatches:
    """Find the pictures that have a term in their record or own captions, or in a caption of a visible expansion."""
    row = PictureWordsRow
    shown = or_(row.expansion.is_(None), row.expansion.in_(sorted(visible)))
    # both numbers as one: a database hands over one column in half the time of two, and sorting puts the shortest first
    both = fetch_numbers(
        session, _build_document_query(session, term, row.picture * _LONGEST + row.length).where(shown)
    )
    pictures = both // _LONGEST
    first = mark_first_occurrences(pictures)
    return _TermMatches(pictures[first], both[first] % _LONGEST)


def _build_document_query(session: Session, term: str, column: ColumnElement[int]) -> Select[Any]:
    """Select a column of the documents that have a term."""
    row = PictureWordsRow
    if session.get_bind().dialect.name == "sqlite":
        has = and_(_FTS5.c.picture_terms.op("MATCH")(f'"{term}"'), row.id == _FTS5.c.rowid)
        return select(column).select_from(_FTS5.join(row, has))
    stored = func.array_to_tsvector(func.string_to_array(row.terms, " "))
    return select(column).where(stored.op("@@", is_comparison=True)(cast(f"'{term}'", TSQUERY)))


def rank_by_words(found: Sequence[WordHit], min_score: float | None = None) -> list[PictureHit]:
    """Rank by words alone."""
    ranked = [PictureHit(each.picture, each.score, rank, words=each.score) for rank, each in enumerate(found, 1)]
    return [hit for hit in ranked if min_score is None or hit.score >= min_score]


def fuse_rankings(
    meaning: Sequence[PictureHit], words: Sequence[WordHit], weights: tuple[float, float]
) -> list[PictureHit]:
    """Join a ranking by meaning and one by words, with these weights, best first, ties by id.

    A score of 1 is the first place in both. Not both weights may be 0; a ranking whose weight is 0 finds nothing.
    """
    found = [each for each in words if each.score >= _LEAST_SHARE]
    nearness = {hit.picture: hit.score for hit in meaning} if weights[0] else {}
    shares = {each.picture: each.score for each in found} if weights[1] else {}
    sums = dict[str, float]()
    for weight, pictures in zip(weights, (nearness, shares), strict=True):
        for rank, picture in enumerate(pictures, 1):
            sums[picture] = sums.get(picture, 0.0) + weight * (_RANK_OFFSET + 1) / (_RANK_OFFSET + rank)
    scored = {picture: round(total / sum(weights), 9) for picture, total in sums.items()}
    return [
        PictureHit(picture, scored[picture], rank, nearness.get(picture), shares.get(picture))
        for rank, picture in enumerate(sorted(scored, key=lambda picture: (-scored[picture], picture)), 1)
    ]


def list_hits_after(hits: Sequence[PictureHit], count: int, after: PictureHit | None) -> list[PictureHit]:
    """Return the next `count` hits of a whole ranking, after one that may have gone meanwhile, or the first ones."""
    if after is None:
        return list(hits[:count])
    places = [place for place, hit in enumerate(hits, 1) if hit.picture == after.picture]
    passed = places[0] if places else sum((-hit.score, hit.picture) < (-after.score, after.picture) for hit in hits)
    return list(hits[passed : passed + count])
