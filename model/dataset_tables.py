"""Tables of captions, as spreadsheets write them: a header that names the columns, and what stands between cells.

Rows are as they are in the file, with the number of their last line, from 1. A row of another length than the header
has the kind of its fault instead of cells, and so has each line behind a quote that is not closed.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from io import BufferedReader
from itertools import chain

from model.dataset_file import lines, refuse

CELLS = ("pivot_language", "pivot_text")  # a pivot stands in two columns
COLUMNS = ("caption", "english", "picture", "split", *CELLS)
NEEDED = "`caption`, and `english` or `picture` (or `pivot_language` and `pivot_text`)"
_OTHERS = {"english", "picture", "pivot_text"}
_SAYS_BETWEEN = re.compile(r'"?sep=."?\s*', re.IGNORECASE)

Rows = Iterator[tuple[int, dict[str, str | None] | str]]


def says_between(line: str) -> bool:
    """Whether this is the line `sep=;` that a spreadsheet may write before the header, for other spreadsheets."""
    return bool(_SAYS_BETWEEN.fullmatch(line))


def tabbed(stream: BufferedReader) -> Rows:
    """Tab-separated values have no quoting: a quote is a character of the caption."""
    return _table((number, number, line.split("\t")) for number, line in _from_header(lines(stream)))


def quoted(stream: BufferedReader) -> Rows:
    """Quoted fields may hold line ends, so the ends may differ here; a stray quote may spoil lines, and hides none.

    Between the cells are commas or, as spreadsheets write in many countries, semicolons.
    """
    texts = _Texts(_from_header(lines(stream, one_ending=False)))
    each = iter(texts)
    header = next(each, "")
    between = _between(header)
    reader = csv.reader(chain([header], each), delimiter=between, strict=True)

    def rows() -> Iterator[tuple[int, int, list[str] | None]]:
        last = 0
        while True:
            first = last + 1
            cells: list[str] | None
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:  # text behind a closing quote, a quote that is never closed, or 128 KiB in one
                if texts.number > first:
                    cells = None
                else:
                    cells = _cells(texts.line, between) if len(texts.line) < csv.field_size_limit() else []
            last = texts.number
            yield first, last, cells

    return _table(rows())


def header(cells: list[str]) -> list[str]:
    """The names of the columns."""
    return [cell.strip().strip('"').lower() for cell in cells]


class _Texts:
    """Lines for the CSV reader, which does not count physical lines itself."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines
        self.number, self.line = 0, ""

    def __iter__(self) -> Iterator[str]:
        for number, line in self._lines:
            self.number, self.line = number, line + "\n"
            yield self.line


def _from_header(numbered: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    first = next(numbered, None)
    if first is not None and not says_between(first[1]):
        yield first
    yield from numbered


def _between(line: str) -> str:
    """What stands between the cells of a table: that with which its header names the columns."""
    if len(line) >= csv.field_size_limit():  # no header is so long
        return ","
    found = [between for between in ",;" if _names_columns(header(_cells(line, between)))]
    if len(found) > 1:
        refuse("wrong_columns", "the header names the columns with commas and with semicolons in between; use one", 1)
    return found[0] if found else max(",;", key=line.count)


def _cells(line: str, between: str) -> list[str]:
    """The cells of a line by itself; none where it is no row, as one with a carriage return in the middle."""
    try:
        return next(csv.reader([line], delimiter=between), [])
    except csv.Error:
        return []


def _table(rows: Iterable[tuple[int, int, list[str] | None]]) -> Rows:
    """Rows by the names of their columns; each stands on the lines from the first to the second number.

    Without cells, these are the lines behind a quote that is not closed.
    """
    rows = iter(rows)
    names = header(next(rows, (0, 0, None))[2] or [])
    if not _names_columns(names):
        refuse(
            "wrong_columns",
            f"the header must name {NEEDED}, with commas, semicolons or tabs in between; "
            "the first line is, for example: caption;english",
            1,
        )
    if "pivot" in names:
        refuse("wrong_columns", "a pivot stands in two columns of a table, `pivot_language` and `pivot_text`", 1)
    for first, last, cells in rows:
        if cells is None or len(cells) != len(names):
            fault = "quote_not_closed" if cells is None else "wrong_field_count"
            yield from ((line, fault) for line in range(first, last + 1))
        else:
            yield last, {name: cell or None for name, cell in zip(names, cells, strict=True)}


def _names_columns(names: list[str]) -> bool:
    once = all(names.count(column) <= 1 for column in COLUMNS)
    return once and "caption" in names and bool(_OTHERS & set(names))
