"""The file of a dataset as bytes, lines and tables: decompressed, and bounded before anything reads it.

Rows of a table are as they are in the file, with the number of their last line, from 1. A row of another length than
the header has the kind of its fault instead of cells, and so has each line behind a quote that is not closed.
"""

import csv
import gzip
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

from store.errors import DatasetInvalid, FieldError

PARTS = ("language", "text")  # of a pivot
CELLS = ("pivot_language", "pivot_text")  # a pivot stands in two columns
COLUMNS = ("caption", "english", "picture", "split", *CELLS)
NEEDED = "`caption`, and `english` or `picture` (or `pivot_language` and `pivot_text`)"
_BESIDE = {"picture", "split", *CELLS}
_OTHERS = {"english", "picture", "pivot_text"}
_SAYS_BETWEEN = re.compile(r'"?sep=."?\s*', re.IGNORECASE)

TableRows = Iterator[tuple[int, dict[str, str | None] | str]]


def is_separator_line(line: str) -> bool:
    """Return whether this is the line `sep=;` that a spreadsheet may write before the header, for others."""
    return bool(_SAYS_BETWEEN.fullmatch(line))


def read_tabbed(stream: BufferedReader) -> TableRows:
    """Read tab-separated values; they have no quoting: a quote is a character of the caption."""
    return read_rows((number, number, line.split("\t")) for number, line in _skip_separator_line(read_lines(stream)))


def read_quoted(stream: BufferedReader) -> TableRows:
    """Read quoted fields, which may hold line ends; a stray quote may spoil lines, and hides none.

    Between the cells are commas or, as spreadsheets write in many countries, semicolons.
    """
    texts = _CountedLines(_skip_separator_line(read_lines(stream, one_ending=False)))
    each = iter(texts)
    header = next(each, "")
    between = _find_separator(header)
    reader = csv.reader(chain([header], each), delimiter=between, strict=True)

    def iterate_rows() -> Iterator[tuple[int, int, list[str] | None]]:
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
                    cells = _split_cells(texts.line, between) if len(texts.line) < csv.field_size_limit() else []
            last = texts.number
            yield first, last, cells

    return read_rows(iterate_rows())


def clean_header(cells: list[str]) -> list[str]:
    """Return the names of the columns."""
    return [cell.strip().strip('"').lower() for cell in cells]


class _CountedLines:
    """Lines for the CSV reader, which does not count physical lines itself."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines
        self.number, self.line = 0, ""

    def __iter__(self) -> Iterator[str]:
        for number, line in self._lines:
            self.number, self.line = number, line + "\n"
            yield self.line


def _skip_separator_line(numbered: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    first = next(numbered, None)
    if first is not None and not is_separator_line(first[1]):
        yield first
    yield from numbered


def _find_separator(line: str) -> str:
    """Return what stands between the cells of a table: that with which its header names the columns."""
    if len(line) >= csv.field_size_limit():  # no header is so long
        return ","
    found = [between for between in ",;" if _has_columns(clean_header(_split_cells(line, between)))]
    if len(found) > 1:
        refuse("wrong_columns", "the header names the columns with commas and with semicolons in between; use one", 1)
    return found[0] if found else max(",;", key=line.count)


def _split_cells(line: str, between: str) -> list[str]:
    """Return the cells of a line by itself; none where it is no row, as one with a carriage return in the middle."""
    try:
        return next(csv.reader([line], delimiter=between), [])
    except csv.Error:
        return []


def read_rows(rows: Iterable[tuple[int, int, list[str] | None]]) -> TableRows:
    """Read rows by the names of their columns; each stands on the lines from the first to the second number.

    Without cells, these are the lines behind a quote that is not closed.
    """
    rows = iter(rows)
    names = _find_caption(clean_header(next(rows, (0, 0, None))[2] or []))
    if not _has_columns(names):
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


def _find_caption(names: list[str]) -> list[str]:
    """Return the names of the columns; of two, that beside `english` holds the captions, whatever it is called."""
    if len(names) == 2 and "caption" not in names and names.count("english") == 1 and not set(names) & set(_BESIDE):
        names = [name if name == "english" else "caption" for name in names]
    return names


def _has_columns(names: list[str]) -> bool:
    is_unique = all(names.count(column) <= 1 for column in COLUMNS)
    return is_unique and "caption" in names and bool(_OTHERS & set(names))


MAX_LINE = 1_000_000  # bytes; the longest caption is 1,000 code points, the longest published line (XM3600) about 40 kB
MAX_BYTES = 1 << 30  # of a file after decompression
MAX_RATIO = 100  # decompressed / compressed; text compresses 3 to 20 times
GZIP, BYTE_ORDER_MARK = b"\x1f\x8b", b"\xef\xbb\xbf"
NO_ROW = "the file holds no row; write one pair in each line, below a first line such as: caption;english"
NOT_UTF8 = "the file is not UTF-8; spreadsheets save such a table as “CSV UTF-8”"


def refuse(kind: str, detail: str, line: int | None = None) -> NoReturn:
    """Raise `DatasetInvalid` for a fault of the whole file."""
    errors = () if line is None else (FieldError(f"line {line}", kind),)
    raise DatasetInvalid(detail, errors=errors, kind=kind)


class _BoundedGzip(RawIOBase):
    """A gzip file's content, refused as soon as it is larger than a real dataset can be."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._inner = gzip.GzipFile(fileobj=file)
        self._left = min(MAX_BYTES, MAX_RATIO * size + MAX_LINE)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._inner.read(min(len(buffer), 1 << 16))
        self._left -= len(data)
        if self._left < 0:
            refuse("decompressed_too_large", "the file grows too much when it is decompressed; send it without gzip")
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_content(path: Path) -> Iterator[BufferedReader]:
    """Open the file's bytes, decompressed."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
        file.seek(0)
        if not compressed:
            yield file
            return
        try:
            yield BufferedReader(_BoundedGzip(file, path.stat().st_size), 1 << 16)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            refuse("gzip_corrupt", "the file is not whole: its gzip stream is damaged; pack it once more")


@contextmanager
def open_seekable(stream: BufferedReader) -> Iterator[IO[bytes]]:
    """Open the bytes of a stream so that one can go back in them: a gzip stream is copied."""
    if stream.seekable():
        yield stream
        return
    with TemporaryFile() as copy:
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
        yield copy


def read_lines(stream: BufferedReader, *, one_ending: bool = True) -> Iterator[tuple[int, str]]:
    """Read numbered lines that are not blank, decoded, without their end."""
    ending = None
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            refuse("line_too_long", f"a line may have at most {MAX_LINE:,} bytes; write one pair in each", number)
        if number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        body = line.removesuffix(b"\n")
        carriage_return = body.endswith(b"\r")
        body = body.removesuffix(b"\r")
        if one_ending and line.endswith(b"\n"):
            if b"\r" in body or ending not in (None, carriage_return):
                refuse(
                    "mixed_line_endings",
                    "the lines end in different ways (CR and LF); save the file again, with one of them",
                    number,
                )
            ending = carriage_return
        if not body.strip():
            continue
        try:
            yield number, body.decode("utf-8")
        except UnicodeDecodeError:
            refuse("not_utf8", NOT_UTF8, number)
