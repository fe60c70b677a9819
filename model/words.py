"""Words of a text, for a search by words: the same for every database, in every script. Finds nothing.

A term is a word without case and accents. One more term stands for all words of a text in their order, so that who asks
for a whole caption finds it. Scripts that put no spaces between words, and Korean, whose words take on
endings, have a term for each character and each pair of neighbours: so one character finds, and longer words are found
by their pairs. Terms hold letters, digits, marks and symbols beyond ASCII only, never what a query language reads.
"""

import hashlib
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from functools import cache, lru_cache
from itertools import chain, pairwise

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
# Words of a query that say nothing of a picture, beside others that do: without accents, as terms are
_LIGHT = {
    "en": "a an the of in on at to by with and or is are for from some this that there photo photograph picture image",
    "de": "der die das den dem des ein eine einen einem einer und oder mit im am auf von vor bei zu ist sind",
    "fr": "le la les l un une des du de d et ou au aux a en dans sur avec est sont",
    "es": "el la los las un una unos unas de del y o en con al a es son",
    "pt": "o a os as um uma uns umas de do da dos das e ou em no na com ao e sao",
    "it": "il lo la i gli le un uno una di del della dei e o in nel nella con su al alla",
    "nl": "de het een en of in op aan met van voor bij te is zijn",
}
_WHOLE = "§"  # with which the term of a whole text begins, and no word
_SPELLED = regex.compile(rf"[\p{{L}}\p{{M}}--[{_PAIRED}]]{{3,}}", regex.V1)
_UNIT = regex.compile(rf"[{_PAIRED}]\p{{M}}{{0,8}}")
_INVISIBLE = regex.compile(r"[\p{Cf}\ufe00-\ufe0f]")  # joiners, soft hyphens, variation selectors
_LETTER_APOSTROPHES = regex.compile(r"[\u02b9\u02bb-\u02bf]")  # typed as ' by most, which ends a term as all others do
_ACCENTED = regex.compile(r"([\p{Latin}\p{Greek}])\p{M}+")


def extract_query_terms(text: str, languages: Collection[str] = ()) -> list[str]:
    """Return the terms by which a text is searched, each once, in its order; at most `MOST_QUERY_TERMS`.

    Articles and the like of these languages are left out, unless there is nothing else.
    """
    terms = [*dict.fromkeys(_extract_terms(text, single=False))]
    light = _list_light_words(frozenset(languages))
    return ([term for term in terms if term not in light] or terms)[:MOST_QUERY_TERMS]


@cache
def _list_light_words(languages: frozenset[str]) -> frozenset[str]:
    return frozenset(word for tag in languages for word in _LIGHT.get(tag.partition("-")[0], "").split())


def make_whole_term(text: str) -> str | None:
    """Return the term of all words of a text, in their order; None where these are none, or too many for a query."""
    terms = list(_extract_terms(text, single=False))
    if not 0 < len(terms) <= MOST_QUERY_TERMS:
        return None
    return _WHOLE + hashlib.sha256(" ".join(terms).encode()).hexdigest()[:16]


def is_spelled(term: str) -> bool:
    """Return whether a term is a word of three letters or more, which has forms and may be mistyped."""
    return _SPELLED.fullmatch(term) is not None


def filter_by_terms(texts: Iterable[str], terms: Collection[str]) -> list[str]:
    """Return those texts that one of these terms finds."""
    return [text for text in texts if not extract_document_terms(text).isdisjoint(terms)]


@lru_cache(maxsize=10_000)  # the same captions are shown again and again
def extract_document_terms(text: str) -> frozenset[str]:
    """Return the terms by which a text is found."""
    return frozenset(_extract_terms(text, single=True))


def index_terms(texts: Iterable[str]) -> tuple[str, int]:
    """Return the terms by which any of these texts is found, sorted, with blanks between, and their number."""
    terms, size, texts = set[str](), -1, list(texts)  # one blank less than terms
    words = (term for text in texts for term in _extract_terms(text, single=True))
    wholes = (term for text in texts if (term := make_whole_term(text)))
    for term in chain(words, wholes):
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
