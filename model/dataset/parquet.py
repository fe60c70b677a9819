"""Parquet files of captions as numbered rows. Memory is bounded by a batch of them."""

from collections.abc import Iterator
from io import BufferedReader
from typing import Any

from model.dataset.tables import COLUMNS, MAX_BYTES, MAX_LINE, NEEDED, NOT_UTF8, PARTS, open_seekable, refuse


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
