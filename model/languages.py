"""Language tags (BCP 47), names and scripts, from langcodes and CLDR. Does not detect languages."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import langcodes
import regex
from langcodes.tag_parser import LanguageTagError
from language_data.names import data_filename, load_trie, normalize_name

from store.errors import LanguageTagInvalid

ENGLISH = "en"
MANY = "mul"  # ISO 639-2, "multiple languages": of a base that reads many without a list, or of all languages at once
_NO_LANGUAGE = {MANY, "zxx"}  # tags of no single language; zxx: "no linguistic content"
_MAX_LENGTH = 35  # RFC 5646, section 4.4.1: enough for every sensible tag
_SHORTEST_NAME = 3  # bytes; shorter ones in Latin letters are tags with a slip, as `xx`
_NO_TAG = "not the tag of a registered language (BCP 47), such as `cy`, `pt-BR` or `zh-Hant`"
_SHAPE = regex.compile(r"([A-Za-z]{2,8}|[Xx](?=-))(-[A-Za-z0-9]{1,8})*")
_PRIVATE = "x-"  # tags that a community gives itself (RFC 5646, section 2.2.7)
_REMEMBERED = 4_096  # tags: clients may send any number
_MOST_PARSED = 10_000  # tags that langcodes keeps, some 1 kB each; 8,000 are those of Glottolog
_LETTER = regex.compile(r"\p{Latin}\p{M}*|\p{L}|\p{M}")
_ROW = 60  # letters of a row of keys; a script with more has an input method
_RARE = 5_000  # letters, of which a single one may be of a foreign word
_SAMPLE = 50_000  # texts that are looked at
# ISO 15924 codes that name several Unicode scripts
_COMPOSED = {
    "Jpan": ("Hani", "Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
    "Hans": ("Hani",),
    "Hant": ("Hani",),
    "Hanb": ("Hani", "Bopo"),
}
_GLOTTOCODES = Path(__file__).parent / "bundled" / "glottocodes.txt"
_RIGHT_TO_LEFT = {"Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm", "Rohg", "Mand", "Samr", "Aran"}


@dataclass(frozen=True)
class LanguageNames:
    """How a person reads a language: English name, the name in its own script, and the direction of its text."""

    name: str
    native_name: str
    direction: Literal["ltr", "rtl"]


@dataclass(frozen=True)
class Suggestion:
    """A language that a text may name: by the `matched` name, tag or code.

    `alpha3` is its code of ISO 639-3, `glottocode` that of Glottolog, which gives none to several languages under one
    tag, such as Arabic; either may be None.
    """

    tag: str
    matched: str
    alpha3: str | None
    glottocode: str | None


class _FullDict(dict[Any, Any]):
    """A dictionary that takes no more entries when it is full: langcodes keeps all tags that it ever saw."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if len(self) < _MOST_PARSED:
            super().__setitem__(key, value)


langcodes.Language._INSTANCES, langcodes.Language._PARSE_CACHE = _FullDict(), _FullDict()


@lru_cache(_REMEMBERED)
def canonicalize(tag: str) -> str:
    """Return the canonical form of a BCP 47 tag (`iw` -> `he`, `eng` -> `en`), blanks around it aside.

    Raises `LanguageTagInvalid`, with the tag that a language's name (`Welsh`) or a locale (`es_PE`) may stand for.
    Texts are in one language: `und`, `mul` and `zxx` are refused.
    """
    found = _parse_tag(tag.strip())
    if found is None:
        guess = _guess_tag(tag.strip())
        also = "" if guess is None else f"; did you mean `{guess}`, {find_names(guess).name}?"
        raise LanguageTagInvalid(f"{_NO_TAG}{also}")
    return found


def _parse_tag(tag: str) -> str | None:
    """Return the canonical form of a tag; None for what is no tag of a language."""
    if len(tag) > _MAX_LENGTH or not _SHAPE.fullmatch(tag):
        return None
    try:
        language = langcodes.Language.get(tag, normalize=True)
    except (LanguageTagError, ValueError):
        return None
    if language.language is None or language.language in _NO_LANGUAGE or not language.is_valid():
        return None
    return language.to_tag()


def _guess_tag(text: str) -> str | None:
    """Return the tag of what is no tag: a locale, or the name of a language in any of the languages that CLDR knows."""
    if len(text) > _MAX_LENGTH or len(text.encode(errors="replace")) < _SHORTEST_NAME:
        return None
    if (locale := _parse_tag(text.partition(".")[0].replace("_", "-"))) is not None:
        return None if "x" in locale.split("-") else locale
    try:
        return _parse_tag(langcodes.find(text).to_tag())
    except (LookupError, ValueError):  # ValueError: half of a character
        return None


def suggest(query: str, limit: int) -> list[Suggestion]:
    """Return languages that the text may name: by tag, ISO 639-3, Glottocode, or names in any language that CLDR knows.

    First the tag itself, then whole names, beginnings of names, and beginnings of words in them; the shortest first.
    """
    wanted, glottocodes = normalize_name(query), _read_glottocodes()
    found = {tag: query.strip()} if (tag := _parse_tag(query.strip())) else {}
    found |= {tag: code for tag, code in glottocodes.items() if code == query.strip().lower()}
    named = [
        (name != wanted, not name.startswith(wanted), len(name), name, code)
        for name, code in _list_language_names()
        if wanted and f" {wanted}" in f" {name}"
    ]
    for *_, name, code in sorted(named):
        if len(found) == limit:
            break
        if (tag := _parse_tag(code)) is not None:
            found.setdefault(tag, name)
    return [Suggestion(tag, matched, _find_alpha3(tag), glottocodes.get(tag)) for tag, matched in found.items()]


@cache
def _read_glottocodes() -> dict[str, str]:
    """Read the Glottocodes of languages, by tag; none where `scripts.glottocodes` did not put them."""
    by_tag = defaultdict[str, list[str]](list)
    for line in _GLOTTOCODES.read_text(encoding="utf-8").splitlines() if _GLOTTOCODES.is_file() else ():
        alpha3, code = line.split()
        by_tag[langcodes.standardize_tag(alpha3)].append(code)
    return {tag: codes[0] for tag, codes in by_tag.items() if len(codes) == 1}


@cache
def _list_language_names() -> tuple[tuple[str, str], ...]:
    """List each name of a language in any language, in small letters, with its code."""
    names = load_trie(data_filename("trie/und/name_to_language.marisa"))
    return tuple((name, code.decode()) for name, code in names.iteritems())


def _find_alpha3(tag: str) -> str | None:
    try:
        return langcodes.Language.get(tag).to_alpha3()
    except LookupError:
        return None


def find_special_letters(texts: Iterable[str]) -> list[str]:
    """Return the small letters of texts that a plain keyboard lacks, in order; none where they are too many for a row.

    Those of a few loanwords are left out.
    """
    counts = Counter(letter for text in islice(texts, _SAMPLE) for letter in _LETTER.findall(text.lower()))
    least = counts.total() / _RARE
    found = [letter for letter, count in counts.items() if not letter.isascii() and count > least]
    return sorted(found, key=partial(unicodedata.normalize, "NFD")) if len(found) <= _ROW else []


def can_read(languages: Collection[str], tag: str) -> bool:
    """Return whether a canonical tag is one of these languages, a kind of one (`de-AT` of `de`), or all are read."""
    return MANY in languages or look_up(languages, tag) is not None


def look_up(languages: Collection[str], tag: str) -> str | None:
    """Return which of these languages a canonical tag is, or else is a kind of (RFC 4647, section 3.4), or None."""
    parts = tag.split("-")
    broader = ("-".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((each for each in broader if each in languages), None)


@lru_cache(_REMEMBERED)
def find_names(tag: str) -> LanguageNames:
    """Return English and native name and text direction of a canonical tag; a private one has no other name."""
    if tag.startswith(_PRIVATE):
        return LanguageNames(tag, tag, "ltr")
    language = langcodes.Language.get(tag)
    native, whole = language.autonym(), language.maximize()
    if is_in_script(native, tag) is False:  # CLDR has some only with their script: zh-Hant-TW, but not zh-TW
        native = whole.autonym()
    return LanguageNames(
        name=language.display_name("en"),
        native_name=native if native else tag,
        direction="rtl" if whole.script in _RIGHT_TO_LEFT else "ltr",
    )


@lru_cache(_REMEMBERED)
def find_scripts(tag: str) -> frozenset[str]:
    """Return ISO 15924 codes of the Unicode scripts that the language is written in; empty when CLDR does not know."""
    script = langcodes.Language.get(tag).maximize().script
    if script is None or script in {"Zyyy", "Zzzz"}:
        return frozenset()
    return frozenset(_COMPOSED.get(script, (script,)))


def is_in_script(text: str, tag: str) -> bool | None:
    """Return whether most letters of `text` are in its script, but for brand names and units; None if unknown."""
    if not (expected := find_scripts(tag)):
        return None
    verdicts = [verdict for character in text if (verdict := _is_letter_of(expected, character)) is not None]
    return sum(verdicts) * 2 >= len(verdicts) if verdicts else None


@lru_cache(maxsize=1 << 16)
def _is_letter_of(scripts: frozenset[str], character: str) -> bool | None:
    """Return whether a letter is of one of these scripts; None of another character."""
    if unicodedata.category(character)[0] != "L":
        return None
    return _compile_matcher(scripts).fullmatch(character) is not None


@cache
def _compile_matcher(codes: frozenset[str]) -> "regex.Pattern[str]":
    return regex.compile("[" + "".join(rf"\p{{Script={code}}}" for code in sorted(codes)) + "]")
