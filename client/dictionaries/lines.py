"""A dictionary's files: bytes, decompressed and bounded, lines, and the entries that come of them.

Dictionaries as lines are read here: two columns (CSV, TSV, with semicolons, with or without a line that names them),
and JSON: the service's own lines, Wiktextract's of one language, and CLDR's names of characters.
"""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Literal, cast

MAX_ENTRIES = 1_000_000  # as many as rows in a dataset
MAX_PIECE = 1_000_000  # bytes of an entry or a line; the longest of FreeDict and Wiktionary have some 100 kB
_MAX_BYTES = 4 << 30  # of a file after decompression; the largest language of Wiktionary has 1.5 GB
_MAX_RATIO = 100  # decompressed / compressed; text compresses 3 to 20 times
_MAX_GLOSSES, _MAX_FORMS, _MAX_TEXT = 32, 64, 1_500  # of an entry; the longest caption has 1,000 characters
_GZIP, _BYTE_ORDER_MARK = b"\x1f\x8b", b"\xef\xbb\xbf"
_MAX_DOCUMENT = 32 << 20  # bytes; CLDR's largest has 1 MB
_NO_FORMS = frozenset(
    {"table-tags", "inflection-template", "class", "romanization", "canonical"}
)  # tags of Wiktextract
_REFERENCES = ("form_of", "alt_of")  # senses that only name another word
_SHOWN = 9  # languages
_NAMES = {
    "word": frozenset({"word", "words", "headword", "term", "lemma", "caption"}),
    "glosses": frozenset({"english", "gloss", "glosses", "translation", "translations", "meaning", "meanings"}),
    "pos": frozenset({"pos", "part of speech"}),
    "forms": frozenset({"form", "forms"}),
}
_BETWEEN = re.compile(r"[;|]")  # glosses in a cell
_SAYS_BETWEEN = re.compile(r'"?sep=."?\s*', re.IGNORECASE)  # a line that a spreadsheet may write before the header
_SAMPLE = 100  # lines that show what stands between cells
_BETWEEN_CELLS = "\t,;"
_UNNAMED = {"word": 0, "glosses": 1}
_ADVICE = "name the columns in the first line, such as: word,english"


class DictionaryError(Exception):
    """The files are no dictionary that can be read; the argument is a sentence."""


@dataclass(frozen=True, slots=True)
class WordEntry:
    """A word with its glosses as they are in the file; `pos` is the file's own name of the part of speech."""

    word: str
    glosses: tuple[str, ...]
    pos: str = ""
    forms: tuple[str, ...] = ()

    def build_object(self) -> dict[str, Any]:
        """Return the entry as the service reads it, cut where no entry of a dictionary is so long."""
        entry: dict[str, Any] = {"word": self.word[:_MAX_TEXT]}
        entry["glosses"] = [gloss[:_MAX_TEXT] for gloss in self.glosses[:_MAX_GLOSSES]]
        if self.pos:
            entry["pos"] = self.pos[:_MAX_TEXT]
        if self.forms:
            entry["forms"] = [form[:_MAX_TEXT] for form in self.forms[:_MAX_FORMS]]
        return entry


Entries = Iterator[WordEntry]


class Content:
    """A file's bytes, decompressed, which come to an end before they are more than a real dictionary has."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream, self._left = stream, most

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most so many."""
        return self._bound(self._stream.read(size))

    def read_line(self, size: int) -> bytes:
        """Return the next line with its end, or so many bytes of it."""
        return self._bound(self._stream.readline(size))

    def _bound(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise DictionaryError("The file is too large, or grows too much when it is decompressed.")
        return data


@contextmanager
def open_content(path: Path) -> Iterator[Content]:
    """Open a file's bytes, decompressed if it is packed with gzip or dictzip."""
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == _GZIP
            file.seek(0)
            most = min(_MAX_BYTES, _MAX_RATIO * path.stat().st_size + MAX_PIECE)
            yield Content(cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_packed else file, most)
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DictionaryError(f"{path.name} is damaged; get it once more.") from error
    except EOFError as error:
        raise DictionaryError(f"{path.name} is not whole; get it once more.") from error
    except OSError as error:
        raise DictionaryError(f"{path.name} cannot be read: {error.strerror}.") from error


def check_count(count: int, name: str) -> None:
    """Refuse a file with more entries than a dictionary may have."""
    if count > MAX_ENTRIES:
        raise DictionaryError(f"{name} has more than {MAX_ENTRIES:,} entries; teach it in parts.")


def read_lines(stream: Content) -> Iterator[tuple[int, str]]:
    """Yield numbered lines that are not blank, without their end."""
    number = 0
    while line := stream.read_line(MAX_PIECE + 1):
        number += 1
        if len(line) > MAX_PIECE:
            raise DictionaryError(f"Line {number:,} has more than {MAX_PIECE:,} bytes.")
        if text := decode(line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line, f"Line {number:,}").strip(
            "\r\n"
        ):
            yield number, text


def decode(content: bytes, place: str) -> str:
    """Return the text of bytes; `place` begins the sentence of a refusal."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DictionaryError(f"{place} is not UTF-8; save the dictionary in that encoding.") from error


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
            entry = WordEntry(
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


def _read_wiktextract(row: Mapping[str, Any]) -> WordEntry:
    """Return a word of Wiktionary; the last gloss of a sense is the narrowest."""
    senses = [sense for sense in _take_objects(row["senses"]) if not any(name in sense for name in _REFERENCES)]
    glosses = (_take_texts(sense.get("glosses"))[-1:] for sense in senses)
    forms = (
        form for form in _take_objects(row.get("forms")) if not _NO_FORMS.intersection(_take_texts(form.get("tags")))
    )
    word, own = _take_text(row.get("word")), (_take_text(form.get("form")) for form in forms)
    others = dict.fromkeys(form for form in own if form not in ("", "-", word))
    texts = tuple(gloss for each in glosses for gloss in each)
    return WordEntry(word, texts, _take_text(row.get("pos")), tuple(others))


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


def read_table(stream: Content) -> Entries:
    """Yield an entry for each row; a row without a gloss is one, too."""
    lines = (line for number, line in read_lines(stream) if number > 1 or not _SAYS_BETWEEN.fullmatch(line))
    sample = list(islice(lines, _SAMPLE))
    if not sample:
        raise DictionaryError("The file is empty.")
    between, columns = _find_layout(sample)
    for number, row in enumerate(_read_rows(chain(sample, lines), between)):
        if (number or not columns) and any(cell.strip() for cell in row):
            places = columns or _UNNAMED
            cells = {name: row[place].strip() for name, place in places.items() if place < len(row)}
            glosses, forms = (_split(cells.get(name, "")) for name in ("glosses", "forms"))
            yield WordEntry(cells.get("word", ""), glosses, cells.get("pos", ""), forms)


def _find_layout(lines: Sequence[str]) -> tuple[str, dict[str, int]]:
    """Return what stands between cells, and the place of each column that the first line names."""
    counts = dict[str, int]()
    for between in _BETWEEN_CELLS:
        rows = [_read_line(line, between) for line in lines]
        if columns := _name_columns(rows[0]):
            return between, columns
        counts[between] = sum(len(row) == 2 for row in rows)
    between = max(counts, key=lambda each: counts[each])
    if 2 * counts[between] < len(lines):
        raise DictionaryError(f"This is no dictionary that is known, and no table of two columns; {_ADVICE}.")
    return between, {}


def _name_columns(cells: list[str]) -> dict[str, int]:
    """Return the place of each column of a header; nothing if these cells are none."""
    names = [cell.strip().casefold() for cell in cells]
    found = dict[str, int]()
    for column, known in _NAMES.items():
        places = [place for place, name in enumerate(names) if name in known]
        found |= {column: places[0]} if places else {}
    if len(names) == 2 and "glosses" in found:
        found["word"] = 1 - found["glosses"]  # under the name of its language
    return found if {"word", "glosses"} <= found.keys() else {}


def _read_line(line: str, between: str) -> list[str]:
    """Return the cells of a line by itself; none if it is not whole."""
    try:
        return next(_read_rows([line], between), [])
    except DictionaryError:
        return []


def _read_rows(lines: Iterable[str], between: str) -> Iterator[list[str]]:
    quoting: Literal[0, 3] = csv.QUOTE_NONE if between == "\t" else csv.QUOTE_MINIMAL
    rows = csv.reader((line + "\n" for line in lines), delimiter=between, quoting=quoting, strict=True)
    try:
        yield from rows
    except csv.Error as error:  # also 128 KiB in one cell
        raise DictionaryError(f"A quote in row {rows.line_num:,} is not closed, or its cell is too long.") from error


def _split(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in _BETWEEN.split(cell) if part.strip())
