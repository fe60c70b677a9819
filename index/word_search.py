"""The pictures that have the words of a text: in captions, tags and metadata, as the registry has them now.

The words that a picture has count, each the more the fewer of the pictures that are asked about have it. A text is
never syntax: `model.text` cuts it into terms, and only these reach the database. That finds which pictures have a
term; what a filter allows, how much a term weighs and which pictures are best is computed here, from whole columns.

A word is also found in its other forms, which count less than the word itself: `apple` finds `apples`. Forms, and what
a mistyped word may mean, are looked for among the words of all documents, so that no word outlives its last caption.
Some may be in captions that a release does not show, or of collections that a caller may not see: who tells a word asks
for pictures first.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import attrgetter
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from cachetools import LRUCache, cachedmethod
from numpy.typing import NDArray
from sqlalchemy import String, bindparam, cast, column, func, or_, select, table
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.orm import Session

from index.records import fetch_numbers, hold_in_time
from index.vectors import VectorKeys, drop_repeated, is_among, mark_first_occurrences
from index.word_list import CaptionWords, Newest, read_newest
from model.text import (
    MOST_DOCUMENT_TERMS,
    extract_document_terms,
    extract_query_terms,
    find_forms,
    is_spelled,
    make_whole_term,
)
from store.registry import Registry
from store.releases import Release
from store.tables import PictureRow, PictureWordsRow

MOST = 1_000  # pictures that one search by words finds
_STEPS = 1_000  # a word's weight is a whole number of these: sums of them are the same in every order
_LONGEST = 1 << MOST_DOCUMENT_TERMS.bit_length()  # more than any document has terms
_FTS5 = table("picture_terms", column("rowid"), column("picture_terms"))
# Every search runs them: of the tables and built once, they take half the time
_ROWS, _PICTURES = PictureWordsRow.__table__.c, PictureRow.__table__.c
_BOTH = select(_ROWS.picture * _LONGEST + _ROWS.length).where(
    or_(_ROWS.expansion.is_(None), _ROWS.expansion.in_(bindparam("visible", expanding=True)))
)
_BY_FTS5 = _BOTH.where(_FTS5.c.picture_terms.op("MATCH")(bindparam("terms", type_=String)), _ROWS.id == _FTS5.c.rowid)
_BY_TSQUERY = _BOTH.where(
    func.array_to_tsvector(func.string_to_array(_ROWS.terms, " ")).op("@@", is_comparison=True)(
        cast(bindparam("terms", type_=String), TSQUERY)
    )
)
_IDS = select(_PICTURES.key, _PICTURES.id).where(_PICTURES.key.in_(bindparam("keys", expanding=True)))
_MANY_POSTINGS = 1_000_000  # postings, of all terms: a search with more has its turn, since they take 24 bytes each
_CACHED_RELEASES = 64  # whose expansions are kept
_OF_A_FORM, _OF_TEN = 9, 10  # what another form of a word counts
_FIRST = 1 << 50  # more than the order of any other picture: of one that is called exactly like the text
_SUGGESTED = 5  # words that are tried in place of a mistyped one
MOST_WORDED = 200  # pictures that a text finds by words beside meaning
# Of what the words weigh: a picture that has less is not found by them beside meaning. With half, every picture of one
# of two things that are asked for came before the picture of both, which has no text (`benchmarks.records.modes`, R@1
# .57 for .89).
LEAST_SHARE = 0.75
_CACHED_BYTES = 64 << 20  # of the pictures that terms of earlier searches were found with
_CACHED_IDS = 1 << 17


_TermPictures = tuple[VectorKeys, NDArray[np.int64]]


class WordHit(NamedTuple):
    """A picture that has some of the words; `score` is the share of their weight, 1 when it has all of them.

    `complete`: it has each of them, in this or another form. `whole`: a caption, tag or value is exactly the text.
    """

    picture: str
    score: float
    complete: bool = False
    whole: bool = False


class WeighedTerm(NamedTuple):
    """A word of the text, its other forms, and what it weighs."""

    term: str
    forms: frozenset[str]
    weight: int


@dataclass(frozen=True)
class FoundWords:
    """What a text finds: pictures, best first, and those of its words that no picture has in any form."""

    hits: Sequence[WordHit] = ()
    missing: Sequence[str] = ()
    terms: Sequence[WeighedTerm] = ()

    def measure_share(self, captions: Iterable[str]) -> float:
        """Return the share of the words, by their weight, that a picture with these captions has."""
        held = frozenset[str]().union(*map(extract_document_terms, captions))
        tenths = sum(
            each.weight * (_OF_TEN if each.term in held else _OF_A_FORM if each.forms & held else 0)
            for each in self.terms
        )
        return tenths / max(1, _OF_TEN * sum(each.weight for each in self.terms))

    def leave_out(self, text: str, words: Iterable[str]) -> tuple["FoundWords", float]:
        """Return this without some words of the text, and the share of the words, by their weight, that is left."""
        gone = {term for word in words for term in extract_query_terms(word)}
        weights = {each.term: each.weight for each in self.terms} or dict.fromkeys(extract_query_terms(text), 1)
        rest = sum(weight for term, weight in weights.items() if term not in gone)
        kept = [each for each in self.terms if each.term not in gone]
        return replace(self, terms=kept), rest / max(1, sum(weights.values()))


class _Postings(NamedTuple):
    """The pictures that have a term, ascending (n,), and for each the fewest terms of a document that has it (n,).

    `is_form` (n,) marks those that only have another form of it.
    """

    picture_keys: VectorKeys
    lengths: NDArray[np.int64]
    is_form: NDArray[np.bool_]

    def select(self, mask: NDArray[Any]) -> "_Postings":
        return _Postings(self.picture_keys[mask], self.lengths[mask], self.is_form[mask])


class WordSearch:
    """Answers about one registry's pictures. Thread-safe; raises `RegistryUnavailable`."""

    def __init__(self, registry: Registry) -> None:
        self._registry, self._words = registry, CaptionWords(registry)
        self._expansions = LRUCache[int, frozenset[str]](_CACHED_RELEASES)
        self._lock, self._turn = Lock(), Lock()
        self._terms = LRUCache[Any, _TermPictures](_CACHED_BYTES, getsizeof=lambda found: 200 + found[0].nbytes * 2)
        self._ids = LRUCache[int, str](_CACHED_IDS)  # no key is ever another picture's

    def find(
        self,
        words: str,
        release: Release,
        allowed: VectorKeys | None = None,
        without: str | None = None,
        languages: Sequence[str] = (),
        most: int = MOST,
        least: float = 0.0,
        *,
        is_bound: bool = False,
    ) -> FoundWords:
        """Return at most `most` pictures that have some of these words: best first, then of fewest words, then by id.

        With `least`, only those that have all of them, or this share by their weight. With `allowed` keys only those;
        for a caller who `is_bound` to them, a word that none of them has is missing, and no other picture decides which
        forms count. One that is called exactly so comes first. Words count in their forms in `languages`, too, captions
        of expansions where this release shows them. Pictures that have all words of `without` are excluded.
        """
        terms, unwanted = extract_query_terms(words, languages), extract_query_terms(without or "")
        if not terms:
            return FoundWords()
        self._find_visible_expansions(release)  # which reads the registry, too: before this search holds a connection
        with self._registry.read_in_time() as session:
            newest = read_newest(session)
            read = partial(self._read_terms, session, newest, release)
            excluded = reduce(np.intersect1d, [read([term])[0] for term in unwanted]) if unwanted else None
            known = self._words.read(session, newest).words if languages else ()
            forms = [find_forms(term, known, languages, is_cut=not is_bound) for term in terms]
            with ExitStack() as turn:
                found, count, missing = list[_Postings](), 0, list[str]()
                for term, others in zip(terms, forms, strict=True):
                    postings = _find_word(read, term, others)
                    if is_bound and allowed is not None:
                        postings = postings.select(is_among(postings.picture_keys, allowed))
                    if not len(postings.picture_keys) and is_spelled(term):
                        missing.append(term)
                    if excluded is not None:
                        postings = postings.select(~is_among(postings.picture_keys, excluded))
                    if allowed is not None:
                        postings = postings.select(is_among(postings.picture_keys, allowed))
                    found.append(postings)
                    count, before = count + len(postings.picture_keys), count
                    if before <= _MANY_POSTINGS < count:
                        turn.enter_context(hold_in_time(self._turn))
                named = read([whole])[0] if (whole := make_whole_term(words)) else np.empty(0, dtype=np.int64)
                weights = _weigh_terms([len(each.picture_keys) for each in found])
                best = _select_best(found, weights, named, most, least)
                found.clear()
            ids = self._read_ids(session, [each.key for each in best])
        total = sum(weights) * _OF_TEN
        ranked = sorted(
            (not each.whole, -each.weight, each.length, ids[each.key], each.complete)
            for each in best
            if each.key in ids
        )
        hits = [WordHit(id, -weight / total, complete, not other) for other, weight, _, id, complete in ranked]
        weighed = [WeighedTerm(*each) for each in zip(terms, map(frozenset, forms), weights, strict=True)]
        return FoundWords(hits, missing, weighed)  # sorted here: databases differ in how they sort ids

    def suggest(self, words: Sequence[str], release: Release) -> dict[str, str]:
        """Return for words that no picture has the nearest that one has, where there is one so near."""
        found = dict[str, str]()
        with self._registry.read_in_time() as session:
            newest = read_newest(session)
            speller = self._words.read(session, newest).speller
            for word in words:
                for near in speller.suggest(word)[:_SUGGESTED]:
                    if len(self._read_terms(session, newest, release, [near])[0]):
                        found[word] = near
                        break
        return found

    def _read_terms(self, session: Session, newest: Newest, release: Release, terms: Sequence[str]) -> _TermPictures:
        """Find the pictures of terms, or return what was found for them when nothing had come since."""
        key = (newest, release.number, *terms)
        with self._lock:
            found = self._terms.get(key)
        if found is None:
            found = _find_terms(session, terms, self._find_visible_expansions(release))
            if found[0].nbytes < _CACHED_BYTES >> 4:
                with self._lock:
                    self._terms[key] = found
        return found

    def _read_ids(self, session: Session, keys: Sequence[int]) -> dict[int, str]:
        with self._lock:
            known = {key: id for key in keys if (id := self._ids.get(key)) is not None}
        if new := [key for key in keys if key not in known]:
            read = {key: id for key, id in session.connection().execute(_IDS, {"keys": new})}  # noqa: C416  no pair
            known |= read
            with self._lock:
                self._ids.update(read)
        return known

    @cachedmethod(attrgetter("_expansions"), key=lambda _, release: release.number, lock=attrgetter("_lock"))
    def _find_visible_expansions(self, release: Release) -> frozenset[str]:
        visible = (self._registry.releases.find_visible(tag, version) for tag, version in release.languages.items())
        return frozenset[str]().union(*visible)


def _find_word(read: Callable[[Sequence[str]], _TermPictures], word: str, forms: Sequence[str]) -> _Postings:
    pictures, lengths = read([word])
    if not forms:
        return _Postings(pictures, lengths, np.zeros(len(pictures), dtype=bool))
    others, of_others = read(forms)
    new = ~is_among(others, pictures)
    keys = np.concatenate([pictures, others[new]])
    order = np.argsort(keys, kind="stable")
    is_form = np.arange(len(keys)) >= len(pictures)
    return _Postings(keys, np.concatenate([lengths, of_others[new]]), is_form).select(order)


def _weigh_terms(counts: Sequence[int]) -> list[int]:
    """Weigh each word: 1 for the most frequent one, and more by the logarithm of how much rarer another is.

    Only these words count, and only the pictures that are searched: what else there is makes no difference.
    """
    most = max([1, *counts])
    return [round(_STEPS * (1 + math.log(most / max(1, count)))) for count in counts]


class _Best(NamedTuple):
    """A picture by its key, the weight in tenths of all its words, the least length of a document with one of them."""

    key: int
    weight: int
    length: int
    complete: bool
    whole: bool


def _select_best(
    postings: Sequence[_Postings], weights: Sequence[int], named: VectorKeys, most: int, least: float
) -> list[_Best]:
    """Return the `most` pictures of the highest weight, before all others those that are `named` so.

    Of equal weight those of least length come first, then those of the lowest key. Those that have all words, or this
    share at `least`.
    """
    keys = np.concatenate([each.picture_keys for each in postings])
    keys.sort()
    keys = drop_repeated(keys)
    weight, length = np.zeros(len(keys), dtype=np.int64), np.full(len(keys), _LONGEST)
    words = np.zeros(len(keys), dtype=np.int64)
    for each, counts in zip(postings, weights, strict=True):
        at = np.searchsorted(keys, each.picture_keys)
        weight[at] += counts * np.where(each.is_form, _OF_A_FORM, _OF_TEN)  # a picture is in each once
        length[at] = np.minimum(length[at], each.lengths)
        words[at] += 1
    complete, whole = words == len(postings), is_among(keys, named)
    columns = (keys, weight, length, complete, whole)
    if least:
        enough = complete | whole | (weight >= least * _OF_TEN * sum(weights))
        columns = tuple(column[enough] for column in columns)
    order = -columns[1] * _LONGEST + columns[2] - _FIRST * columns[4]
    if len(order) > most:
        last = np.partition(order, most - 1)[most - 1]
        better, equal = np.flatnonzero(order < last), np.flatnonzero(order == last)
        best = np.concatenate([better, equal[: most - len(better)]])
        columns = tuple(column[best] for column in columns)
    return [_Best(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _find_terms(session: Session, terms: Sequence[str], visible: frozenset[str]) -> _TermPictures:
    """Find the pictures that have one of these terms, ascending, and the fewest terms of a document that has it.

    Of their records and own captions, and of captions of a visible expansion.
    """
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    either = " OR ".join(f'"{term}"' for term in terms) if is_sqlite else " | ".join(f"'{term}'" for term in terms)
    query = _BY_FTS5 if is_sqlite else _BY_TSQUERY
    # both numbers as one: a database hands over one column in half the time of two, and sorting puts the shortest first
    both = fetch_numbers(session, query, {"terms": either, "visible": sorted(visible)})
    pictures = both // _LONGEST
    first = mark_first_occurrences(pictures)
    return pictures[first], both[first] % _LONGEST
