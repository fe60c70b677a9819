"""The file of a dataset as bytes, lines and tables, spreadsheets too: decompressed, bounded before anything reads it.

Rows of a table are as they are in the file, with the number of their last line, from 1. A row of another length than
the header has the kind of its fault instead of cells, and so has each line behind a quote that is not closed. What a
hostile spreadsheet grows to is bounded by what it says of itself; one that lies ends the process that reads it. Of a
Parquet file, a batch of rows is in memory.
"""

import csv
import gzip
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from io import BufferedReader, RawIOBase
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn
from zipfile import BadZipFile, ZipFile, is_zipfile

from store.errors import DatasetInvalid, FieldError

ENTRY = '{"word": "Apfel", "glosses": ["apple"]}'
PAIR = '{"caption": "roter Apfel", "english": "red apple"}'
PARTS = ("language", "text")  # of a pivot
CELLS = ("pivot_language", "pivot_text")  # a pivot stands in two columns
COLUMNS = ("caption", "english", "picture", "split", *CELLS)
NEEDED = "`caption`, and `english` or `picture` (or `pivot_language` and `pivot_text`)"
_BESIDE = {"picture", "split", *CELLS}
_OTHERS = {"english", "picture", "pivot_text"}
_SAYS_BETWEEN = re.compile(r'"?sep=."?\s*', re.IGNORECASE)

TableRows = Iterator[tuple[int, dict[str, str | None] | str]]
_MOST_BYTES = 256 << 20  # of all parts, unpacked
_MOST_PARTS = 10_000
_MOST_CELLS = 4_000_000
_WORDS = {"word", "headword", "caption"}  # how a first row may name the column of words
_CORRUPT = "the spreadsheet cannot be read; save it once more, or as “CSV UTF-8”"

Cell = str | float | bool | date | datetime | time | timedelta


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
NO_ROW = "the file holds no row; write a text and its English in each line"
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


def read_spreadsheet(source: IO[bytes]) -> TableRows:
    """Read the rows of the first sheet that has any; their numbers are those of the sheet.

    Raises `DatasetInvalid` for one that is damaged, locked by a password or too large.
    """
    return read_rows(_read_sheet(source))


def read_word_list(source: IO[bytes]) -> Iterator[tuple[int, str, list[str]]]:
    """Read words and what they mean from the first sheet that has rows, each with its number.

    The first column holds the words, or the one beside `english` if a first row names that. Raises as above.
    """
    rows = ((number, [cell.strip() for cell in cells or []]) for number, _, cells in _read_sheet(source))
    number, first = next(rows)
    names = clean_header(first)
    english = names.index("english") if "english" in names else None
    if english is None and not _WORDS & set(names):
        yield number, first[0], [cell for cell in first[1:] if cell]
    for number, cells in rows:
        word = cells.pop(1) if english == 0 and len(cells) > 1 else cells.pop(0)
        yield number, word, [cell for cell in cells if cell]


def _read_sheet(source: IO[bytes]) -> Iterator[tuple[int, int, list[str] | None]]:
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError  # here: few datasets need it

    _check_parts(source)
    try:
        with CalamineWorkbook.from_filelike(source) as book:
            for name in book.sheet_names:
                sheet = book.get_sheet_by_name(name)
                if sheet.start is not None:
                    if sheet.height * sheet.width > _MOST_CELLS:
                        refuse("too_many_rows", f"a sheet may have at most {_MOST_CELLS:,} cells; teach it in parts")
                    rows = _list_rows(sheet.iter_rows(), sheet.start[0] + 1)
                    if (first := next(rows, None)) is not None:  # it may have blanks alone
                        yield first
                        yield from rows
                        return
    except PasswordError:
        refuse("spreadsheet_corrupt", "the spreadsheet is locked by a password; save it without one")
    except (CalamineError, OSError, ValueError):
        refuse("spreadsheet_corrupt", _CORRUPT)
    refuse("no_rows", NO_ROW)


def _check_parts(source: IO[bytes]) -> None:
    if not is_zipfile(source):
        source.seek(0)
        return
    try:
        parts = ZipFile(source).infolist()
    except (BadZipFile, ValueError, NotImplementedError):
        refuse("spreadsheet_corrupt", _CORRUPT)
    source.seek(0)
    if len(parts) > _MOST_PARTS or sum(part.file_size for part in parts) > _MOST_BYTES:
        refuse("decompressed_too_large", "the spreadsheet grows too much when it is read; send it in parts")


def _list_rows(rows: Iterator[list[Cell]], first: int) -> Iterator[tuple[int, int, list[str] | None]]:
    """Yield rows with a text in them, each with its number."""
    for number, row in enumerate(rows, first):
        cells = [_write_cell(cell) for cell in row]
        if any(len(cell) > MAX_LINE for cell in cells):
            refuse("line_too_long", f"a cell may have at most {MAX_LINE:,} characters; write one text in each", number)
        if any(cell.strip() for cell in cells):
            yield number, number, cells


def _write_cell(cell: Cell) -> str:
    """Return what stands in a cell as one reads it there: 5 and not 5.0."""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def read_parquet(stream: BufferedReader) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield numbered rows; raises `DatasetInvalid`."""
    import pyarrow  # here, because few datasets need it and its import is slow
    from pyarrow.parquet import ParquetFile

    with open_seekable(stream) as source:  # Parquet is read from its end
        try:
            present = _list_paths(ParquetFile(source).schema_arrow)
            file = ParquetFile(source, read_dictionary=present)  # a value of many rows is in memory once
            groups = range(file.metadata.num_row_groups)
            if sum(file.metadata.row_group(group).total_byte_size for group in groups) > MAX_BYTES:
                refuse("decompressed_too_large", "the file grows too much when it is decompressed; send it in parts")
            number = 0
            for batch in file.iter_batches(batch_size=256, columns=present):
                if any(_measure_longest(column) > MAX_LINE for column in batch.columns):
                    refuse(
                        "line_too_long",
                        f"a value may have at most {MAX_LINE:,} bytes; write one text in each",
                        number + 1,
                    )
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except UnicodeDecodeError:
            refuse("not_utf8", NOT_UTF8)
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError):  # also dates that Python cannot represent
            refuse("parquet_corrupt", "the Parquet file cannot be read; write it once more, or save the table as CSV")


def _list_paths(schema: Any) -> list[str]:
    """List the paths of the values that are read of a Parquet file; a pivot may be a structure."""
    from pyarrow.types import is_nested, is_struct

    fields = [(name, schema.field(name).type) for name in COLUMNS if schema.names.count(name) == 1]
    if "pivot" in schema.names:
        pivot = schema.field("pivot").type if schema.names.count("pivot") == 1 else None
        if pivot is None or not is_struct(pivot) or any(pivot.get_field_index(part) < 0 for part in PARTS):
            refuse("wrong_columns", "the column `pivot` must hold structures of a `language` and a `text`")
        fields += [(f"pivot.{part}", pivot.field(part).type) for part in PARTS]
    twice = any(schema.names.count(name) > 1 for name in COLUMNS)
    if twice or "caption" not in schema.names or any(is_nested(kind) for _, kind in fields):
        refuse("wrong_columns", f"the columns must be {NEEDED}")
    return [path for path, _ in fields]


def _measure_longest(column: Any) -> int:
    """Return the bytes of the longest value of an Arrow column, 0 where its values are no texts."""
    from pyarrow import compute, types

    if types.is_struct(column.type):
        return max(_measure_longest(part) for part in column.flatten())
    if types.is_dictionary(column.type):
        column = column.dictionary
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    if not any(is_text(column.type) for is_text in texts):
        return 0
    return compute.max(compute.binary_length(column)).as_py() or 0
