"""Dictionaries as JSON: the service's own lines, Wiktextract's of one language, and CLDR's names of characters."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .content import Content, DictionaryError, Entries, Entry, decode, open_content, read_lines

_MAX_DOCUMENT = 32 << 20  # bytes; CLDR's largest has 1 MB
_NO_FORMS = frozenset(
    {"table-tags", "inflection-template", "class", "romanization", "canonical"}
)  # tags of Wiktextract
_REFERENCES = ("form_of", "alt_of")  # senses that only name another word
_SHOWN = 9  # languages


def read_json_lines(stream: Content, language: str) -> Entries:
    """Yield the entries of JSON lines; those of Wiktextract only where they are in the language."""
    others, has_any = set[str](), False
    for number, line in read_lines(stream):
        row = _parse_object(line, f"Line {number:,}")
        if "senses" in row:
            code = str(row.get("lang_code", language))
            if not is_same_language(code, language):
                others.add(code)
                continue
            entry = _read_wiktextract(row)
        elif "glosses" in row:
            entry = Entry(
                _take_text(row.get("word")),
                _take_texts(row["glosses"]),
                _take_text(row.get("pos")),
                _take_texts(row.get("forms")),
            )
        else:
            raise DictionaryError(
                f'Line {number:,} has no glosses; write, for example: {{"word": "kissa", "glosses": ["cat"]}}.'
            )
        has_any = True
        yield entry
    if others and not has_any:
        raise DictionaryError(f"The file has no word of {language}; it has: {', '.join(sorted(others)[:_SHOWN])}.")


def _read_wiktextract(row: Mapping[str, Any]) -> Entry:
    """Return a word of Wiktionary; the last gloss of a sense is the narrowest."""
    senses = [sense for sense in _take_objects(row["senses"]) if not any(name in sense for name in _REFERENCES)]
    glosses = (_take_texts(sense.get("glosses"))[-1:] for sense in senses)
    forms = (
        form for form in _take_objects(row.get("forms")) if not _NO_FORMS.intersection(_take_texts(form.get("tags")))
    )
    word, own = _take_text(row.get("word")), (_take_text(form.get("form")) for form in forms)
    others = dict.fromkeys(form for form in own if form not in ("", "-", word))
    return Entry(word, tuple(gloss for each in glosses for gloss in each), _take_text(row.get("pos")), tuple(others))


def read_names(file: Path) -> dict[str, str]:
    """Return the names that a JSON document of CLDR gives to characters."""
    with open_content(file) as stream:
        content = stream.read(_MAX_DOCUMENT + 1)
    if len(content) > _MAX_DOCUMENT:
        raise DictionaryError(f"{file.name} is larger than a file of its kind can be.")
    document = _parse_object(decode(content, file.name), file.name)
    parts = [part for key in ("annotations", "annotationsDerived") if isinstance(part := document.get(key), dict)]
    found = dict[str, str]()
    for part in parts:
        for character, texts in (part.get("annotations") or {}).items():
            names = _take_texts(texts.get("tts")) if isinstance(texts, dict) else ()
            found |= {character: names[0]} if names else {}
    return found


@cache
def is_same_language(code: str, language: str) -> bool:
    """Whether a code names the language of a tag, whatever its script and region."""
    from langcodes import Language  # late: help needs no languages
    from langcodes.tag_parser import LanguageTagError

    try:
        return Language.get(code).language == Language.get(language).language
    except LanguageTagError:
        return False


def _parse_object(text: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DictionaryError(f"{place} is no whole JSON object.") from error
    if not isinstance(value, dict):
        raise DictionaryError(f"{place} is no JSON object.")
    return value


def _take_text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _take_texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(text for each in values if (text := _take_text(each)))


def _take_objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
