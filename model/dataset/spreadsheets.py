"""Spreadsheets, Excel's files, old and new, and LibreOffice's, as rows of a table; and Parquet files of captions.

What a hostile spreadsheet grows to is bounded by what it says of itself; one that lies ends the process that reads it.
Of a Parquet file, a batch of rows is in memory.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from io import BufferedReader
from typing import IO, Any
from zipfile import BadZipFile, ZipFile, is_zipfile

from model.dataset.tables import (
    COLUMNS,
    MAX_BYTES,
    MAX_LINE,
    NEEDED,
    NO_ROW,
    NOT_UTF8,
    PARTS,
    TableRows,
    clean_header,
    open_seekable,
    read_rows,
    refuse,
)

_MOST_BYTES = 256 << 20  # of all parts, unpacked
_MOST_PARTS = 10_000
_MOST_CELLS = 4_000_000
_WORDS = {"word", "headword", "caption"}  # how a first row may name the column of words
_CORRUPT = "the spreadsheet cannot be read; save it once more, or as “CSV UTF-8”"

Cell = str | float | bool | date | datetime | time | timedelta


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
                    yield from _list_rows(sheet.iter_rows(), sheet.start[0] + 1)
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
