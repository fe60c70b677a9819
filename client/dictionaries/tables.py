"""Two columns, a word and its glosses: CSV, TSV, and CSV with semicolons, with or without a line that names them."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Literal

from .content import Content, DictionaryError, Entries, Entry, read_lines

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
            yield Entry(cells.get("word", ""), glosses, cells.get("pos", ""), forms)


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
