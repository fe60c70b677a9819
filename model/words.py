"""Words of a text, for a search by words: the same for every database, in every script. Finds nothing.

A term is a word without case and accents. Scripts that put no spaces between words, and Korean, whose words take on
endings, have a term for each character and each pair of neighbours: so one character finds, and longer words are found
by their pairs. Terms hold letters, digits, marks and symbols beyond ASCII only, never what a query language reads.
"""

import unicodedata
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise

import regex

from model.segmentation import UNSPACED

MOST_QUERY_TERMS = 32  # terms of a query that are searched
MOST_DOCUMENT_TERMS = 20_000  # terms of one document; no database takes any number
MOST_BYTES = 512 << 10  # of one document; PostgreSQL's `tsvector` holds 1 MiB of terms, and loses the rest silently
_PAIRED = rf"{UNSPACED}\p{{Hangul}}\u30fc\u3005"
_TERM = regex.compile(
    rf"(?P<run>(?:[{_PAIRED}]\p{{M}}{{0,8}})+)"
    rf"|(?P<word>[\p{{L}}\p{{N}}--[{_PAIRED}]][[\p{{L}}\p{{N}}\p{{M}}]--[{_PAIRED}]]{{0,63}})"
    r"|(?P<symbol>[\p{S}--[\x00-\x7f]])",
    regex.V1,
)
_UNIT = regex.compile(rf"[{_PAIRED}]\p{{M}}{{0,8}}")
_INVISIBLE = regex.compile(r"[\p{Cf}\ufe00-\ufe0f]")  # joiners, soft hyphens, variation selectors
_LETTER_APOSTROPHES = regex.compile(r"[\u02b9\u02bb-\u02bf]")  # typed as ' by most, which ends a term as all others do
_ACCENTED = regex.compile(r"([\p{Latin}\p{Greek}])\p{M}+")


def extract_query_terms(text: str) -> list[str]:
    """Return the terms by which a text is searched, each once, in its order; at most `MOST_QUERY_TERMS`."""
    terms = dict.fromkeys(_extract_terms(text, single=False))
    return list(terms)[:MOST_QUERY_TERMS]


def filter_by_terms(texts: Iterable[str], terms: Collection[str]) -> list[str]:
    """Return those texts that one of these terms finds."""
    return [text for text in texts if not _extract_document_terms(text).isdisjoint(terms)]


@lru_cache(maxsize=10_000)  # the same captions are shown again and again
def _extract_document_terms(text: str) -> frozenset[str]:
    return frozenset(_extract_terms(text, single=True))


def index_terms(texts: Iterable[str]) -> tuple[str, int]:
    """Return the terms by which any of these texts is found, sorted, with blanks between, and their number."""
    terms, size = set[str](), -1  # one blank less than terms
    for term in (term for text in texts for term in _extract_terms(text, single=True)):
        if term in terms:
            continue
        size += len(term.encode()) + 1
        if len(terms) == MOST_DOCUMENT_TERMS or size > MOST_BYTES:
            break
        terms.add(term)
    return " ".join(sorted(terms)), len(terms)


def _extract_terms(text: str, *, single: bool) -> Iterator[str]:
    """Yield the terms; with `single`, each character of a run without spaces, even if it does not stand alone."""
    for match in _TERM.finditer(_fold(text)):
        if match.lastgroup != "run":
            yield match[0]
            continue
        units = _UNIT.findall(match[0])
        if single or len(units) == 1:
            yield from units
        yield from map("".join, pairwise(units))


def _fold(text: str) -> str:
    """Return the text without case, accents of Latin and Greek, invisible characters, letter apostrophes."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    bare = _ACCENTED.sub(r"\1", unicodedata.normalize("NFD", _LETTER_APOSTROPHES.sub("'", folded)))
    return unicodedata.normalize("NFC", _INVISIBLE.sub("", bare))
