"""Texts: how they are cleaned, where their words are, and by which terms pictures are found, whatever the database.

Zero-width joiners and variation selectors stay in a cleaned text: they carry meaning in Persian, Hindi and emoji.

A term is a word without case and accents. One more term stands for all words of a text in their order, so that who asks
for a whole caption finds it. Scripts that put no spaces between words, and Korean, whose words take on
endings, have a term for each character and each pair of neighbours: so one character finds, and longer words are found
by their pairs. Terms hold letters, digits, marks and symbols beyond ASCII only, never what a query language reads.

Of a language with one of Snowball's stemmers, terms of one stem are forms of each other; of others, those whose first
letters are the same and that differ in a few at their ends.

Words of scripts without spaces are learned from what stands alone in a corpus: merges learned from such text would join
the end of one word to the start of the next, and a new sentence would be cut into pieces that were never trained. A run
of letters that stands alone somewhere (a short caption, or between spaces and punctuation) is treated as a word
wherever it occurs in longer runs.
"""

import hashlib
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain, islice, pairwise
from threading import Lock
from typing import Any

import regex
import snowballstemmer

from store.errors import EmptyText, InvalidInput, TextInvalidUnicode, TextTooLong

_LOGOGRAPHIC = r"\p{Han}\p{Hiragana}\p{Katakana}"
_SYLLABIC = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Tai_Tham}\p{New_Tai_Lue}\p{Tai_Viet}\p{Javanese}"
UNSPACED = _LOGOGRAPHIC + _SYLLABIC  # for a set in a pattern of `regex`
# letters and marks of these scripts, and the joiners and prolongation marks between them
_RUN = regex.compile(rf"[{_LOGOGRAPHIC}{_SYLLABIC}](?:[{_LOGOGRAPHIC}{_SYLLABIC}\p{{M}}\u30fc\u3005\u200c\u200d])*")
_SHORT = regex.compile(rf"[{_LOGOGRAPHIC}\u30fc\u3005]{{2,3}}")  # two of these can be a word; elsewhere it takes four
_LEAST_RUN, _LONGEST_RUN = 4, 24  # characters; what is longer is a sentence
_PHRASE = 12  # characters up to which a run that never occurs in a longer one counts as a word as well
_MOST_RUNS = 4_000  # words a language: a text of 30 characters is cut in well under a millisecond
MAX_ID_BYTES = 1_024  # of a picture's id: a path, and still an entry of a PostgreSQL index together with its collection
MAX_NAME = 128  # code points
MAX_CODE_POINTS = 1_000  # after cleaning; CLIP reads 77 tokens, so this is generous in every script
# What says nothing and is not seen: byte order mark, bidi controls and marks, soft hyphen, word joiner
_DROPPED = re.compile("[\ufeff\u202a-\u202e\u2066-\u2069\u061c\u200e\u200f\u00ad\u2060]")
_WHITE_SPACE = re.compile(r"\s+")
# Controls that are no white space, surrogates, and the code points that Unicode will never give a character
_FORBIDDEN = re.compile(
    "[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
# Line breaks, byte order mark, what embeds a direction, and what stands for bytes that are no UTF-8
_NOT_IN_ID = re.compile("[\t-\r\x85\u2028-\u202e\u2066-\u2069\ufeff\ufffd]")
_MEANINGFUL = frozenset("LNSM")  # Unicode categories of which a text needs at least one character
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
# What keyboards give in place of an apostrophe, too: letters such as ʼ and ʻ, accents that stand alone, primes
APOSTROPHES = "`\u00b4\u02b9\u02bb-\u02bf\u05f3\u2018-\u201b\u2032\uff07"
_APOSTROPHE = regex.compile(f"[{APOSTROPHES}]")
_LETTER = rf"[\p{{L}}--[{UNSPACED}{APOSTROPHES}]][\p{{M}}\u200c\u200d]*"
WORD = regex.compile(rf"(?:{_LETTER})+(?:['{APOSTROPHES}-](?:{_LETTER})+)*", regex.V1)
_STEMMERS = {
    **{"ar": "arabic", "bs": "serbian", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek"},
    **{"en": "english", "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian"},
    **{"fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hr": "serbian", "hu": "hungarian"},
    **{"hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "nb": "norwegian", "ne": "nepali"},
    **{"nl": "dutch", "nn": "norwegian", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian"},
    **{"ru": "russian", "sr": "serbian", "st": "sesotho", "sv": "swedish", "ta": "tamil", "tr": "turkish"},
    **{"yi": "yiddish"},
}
_STEM = 4  # letters, at least, that forms have in common where there is no stemmer
_ENDING = 2  # letters, at most, in which these differ at their ends
_LOOKED_AT = 300  # words of one beginning
_MOST_FORMS = 16
_lock = Lock()  # a stemmer keeps the word that it works on


def clean(text: str) -> str:
    """Return `text` in NFC, without what says nothing and is not seen, white space collapsed; idempotent.

    Raises `TextTooLong`, `TextInvalidUnicode`, and `EmptyText` without a letter, number, symbol or mark.
    """
    if len(text) > 4 * MAX_CODE_POINTS:  # refuse before any work that grows with the input
        raise TextTooLong(f"a text may have at most {MAX_CODE_POINTS} code points")
    if _FORBIDDEN.search(text):
        raise TextInvalidUnicode("the text contains surrogates, control characters or non-characters")
    cleaned = _WHITE_SPACE.sub(" ", unicodedata.normalize("NFC", _DROPPED.sub("", text))).strip()
    if len(cleaned) > MAX_CODE_POINTS:
        raise TextTooLong(f"a text may have at most {MAX_CODE_POINTS} code points")
    if not any(unicodedata.category(character)[0] in _MEANINGFUL for character in cleaned):
        raise EmptyText("the text contains no letter, number or symbol")
    return cleaned


def clean_name(text: str) -> str:
    """Return `text` in NFC as a name that people give, white space collapsed; idempotent. Raises `InvalidInput`."""
    if any(forbidden.search(text) for forbidden in (_FORBIDDEN, _NOT_IN_ID)):
        raise InvalidInput("a name has no control characters")
    name = _WHITE_SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip()
    if not 0 < len(name) <= MAX_NAME:
        raise InvalidInput(f"a name has 1 to {MAX_NAME} characters")
    return name


def clean_picture_id(text: str) -> str:
    """Return `text` in NFC as the id of a picture, like a relative path; idempotent. Raises `InvalidInput`."""
    if any(forbidden.search(text) for forbidden in (_FORBIDDEN, _NOT_IN_ID)):
        raise InvalidInput("an id has no control characters")
    id = unicodedata.normalize("NFC", text)
    if not 0 < len(id.encode()) <= MAX_ID_BYTES:
        raise InvalidInput(f"an id has 1 to {MAX_ID_BYTES:,} bytes in UTF-8")
    if id.startswith("."):
        raise InvalidInput("an id has no dot first")
    if not {"", ".", ".."}.isdisjoint(id.split("/")):
        raise InvalidInput("an id has no part between slashes that is empty, `.` or `..`")
    return id


def find_words(text: str) -> list[str]:
    """Return the words of a text as they stand there, of scripts with spaces between words."""
    return [str(word) for word in WORD.findall(text)]


def fold_apostrophes(word: str) -> str:
    """Return a word with one apostrophe for all that look like it, and none at its ends."""
    return str(_APOSTROPHE.sub("'", word)).strip("'")


def extract_query_terms(text: str, languages: Collection[str] = ()) -> list[str]:
    """Return the terms by which a text is searched, each once, in its order; at most `MOST_QUERY_TERMS`.

    Articles and the like of these languages are left out, unless there is nothing else.
    """
    terms = [*dict.fromkeys(_extract_terms(text, single=False))]
    light = _list_light_words(frozenset(languages))
    return ([term for term in terms if term not in light] or terms)[:MOST_QUERY_TERMS]


@lru_cache(4_096)
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


def has_stemmer(language: str) -> bool:
    """Return whether forms of a language are found by stems."""
    return language.partition("-")[0] in _STEMMERS


@cache
def _open_stemmer(name: str) -> Any:
    return snowballstemmer.stemmer(name)


@lru_cache(maxsize=100_000)
def find_stem(word: str, language: str) -> str | None:
    """Return the stem of a word; None for a language without a stemmer."""
    name = _STEMMERS.get(language.partition("-")[0])
    if name is None:
        return None
    with _lock:
        return str(_open_stemmer(name).stemWord(word))


def find_forms(word: str, words: Sequence[str], languages: Collection[str], *, is_cut: bool = True) -> list[str]:
    """Return the other forms of a word in these languages among `words`, which are sorted.

    With `is_cut` the first 16, and only `words` near the beginning of the word: which those are depends on all of them.
    """
    if not is_spelled(word):
        return []
    most, looked_at = (_MOST_FORMS, _LOOKED_AT) if is_cut else (len(words), len(words))
    forms = (form for language in languages for form in _find_forms(word, words, language, looked_at))
    return list(islice(dict.fromkeys(form for form in forms if form != word), most))


def _find_forms(word: str, words: Sequence[str], language: str, looked_at: int) -> Iterator[str]:
    stem = find_stem(word, language)
    if stem is None:
        beginning = word[: max(_STEM, len(word) - _ENDING)]
        for form in _list_beginning(beginning, words, looked_at) if len(word) >= _STEM else ():
            shared = _count_shared(word, form)
            if max(len(word), len(form)) - shared <= _ENDING:
                yield form
        return
    # a stemmer may change the last letter that stays, as in `berri` of berry and berries; more words begin without it
    beginning = word[: max(2, min(_count_shared(word, stem), len(stem) - 1))]
    for form in (*_list_beginning(stem, words, looked_at), *_list_beginning(beginning, words, looked_at)):
        if find_stem(form, language) == stem:
            yield form


def _list_beginning(beginning: str, words: Sequence[str], most: int) -> Sequence[str]:
    first = bisect_left(words, beginning)
    return words[first : min(first + most, bisect_left(words, beginning + "\U0010ffff"))]


def _count_shared(word: str, other: str) -> int:
    """Return how many letters two words begin with alike."""
    return next(
        (at for at, pair in enumerate(zip(word, other, strict=False)) if len({*pair}) > 1), min(len(word), len(other))
    )


def find_standalone_words(corpus: Iterable[str]) -> tuple[str, ...]:
    """Find runs of unspaced scripts that stand alone in `corpus`: short ones, and those that longer runs contain too.

    At most 4,000, the most frequent first. Compounds are left out: runs of which at least half is covered by shorter
    ones, read from the left, longest first.
    """
    runs = {run for text in corpus for run in _RUN.findall(text)}
    candidates = {run for run in runs if _LEAST_RUN <= len(run) <= _LONGEST_RUN or _SHORT.fullmatch(run)}
    uses: Counter[str] = Counter()
    compounds: set[str] = set()
    for run in runs:
        inside = _find_inside(run, candidates)
        uses.update(inside)
        if 2 * sum(map(len, inside)) >= len(run):
            compounds.add(run)
    words = sorted(
        (word for word in candidates - compounds if uses[word] or len(word) <= _PHRASE),
        key=lambda word: (-uses[word], word),
    )
    return tuple(words[:_MOST_RUNS])


def build_pattern(words: Iterable[str]) -> str:
    """Return a regular expression that finds the longest of `words`; words of one first letter share its test."""
    rests: dict[str, list[str]] = {}
    for word in sorted(words, key=lambda word: (-len(word), word)):
        rests.setdefault(word[0], []).append(re.escape(word[1:]))
    return "|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in sorted(rests.items()))


def is_spaced(texts: Iterable[str]) -> bool:
    """Return whether most letters of `texts` are of scripts that put spaces between words."""
    letters = unspaced = 0
    for text in texts:
        letters += sum(map(str.isalpha, text))
        unspaced += sum(map(len, _RUN.findall(text)))
    return 2 * unspaced <= letters


def is_word(text: str, beside: str | None = None, is_listed: bool = False) -> bool:
    """Return whether a cleaned text is one word.

    In a script without spaces it is if the text `beside` it is, which means it, or if a dictionary lists it.
    """
    return " " not in text and (is_listed or is_spaced([text]) or (beside is not None and is_word(beside)))


def _find_inside(run: str, candidates: set[str]) -> list[str]:
    """Return the candidates shorter than `run` that it holds, read from the left, longest first."""
    words: list[str] = []
    place = 0
    while place < len(run):
        lengths = range(min(_LONGEST_RUN, len(run) - place, len(run) - 1), 1, -1)
        word = next((run[place : place + n] for n in lengths if run[place : place + n] in candidates), "")
        if word:
            words.append(word)
        place += len(word) or 1
    return words
