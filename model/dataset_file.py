"""The file of a dataset as bytes and lines: decompressed, and bounded before anything reads it. Knows no format."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, NoReturn

from store.errors import DatasetInvalid, FieldError

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


class _Inflated(RawIOBase):
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
def content(path: Path) -> Iterator[BufferedReader]:
    """The file's bytes, decompressed."""
    with path.open("rb") as file:
        compressed = file.read(2) == GZIP
        file.seek(0)
        if not compressed:
            yield file
            return
        try:
            yield BufferedReader(_Inflated(file, path.stat().st_size), 1 << 16)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            refuse("gzip_corrupt", "the file is not whole: its gzip stream is damaged; pack it once more")


def lines(stream: BufferedReader, *, one_ending: bool = True) -> Iterator[tuple[int, str]]:
    """Numbered lines that are not blank, decoded, without their end."""
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
