"""What a dictionary's files consist of: bytes, decompressed and bounded, lines, and the entries that come of them."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

MAX_ENTRIES = 1_000_000  # as many as rows in a dataset
MAX_PIECE = 1_000_000  # bytes of an entry or a line; the longest of FreeDict and Wiktionary have some 100 kB
_MAX_BYTES = 4 << 30  # of a file after decompression; the largest language of Wiktionary has 1.5 GB
_MAX_RATIO = 100  # decompressed / compressed; text compresses 3 to 20 times
_MAX_GLOSSES, _MAX_FORMS, _MAX_TEXT = 32, 64, 1_500  # of an entry; the longest caption has 1,000 characters
_GZIP, _BYTE_ORDER_MARK = b"\x1f\x8b", b"\xef\xbb\xbf"


class DictionaryError(Exception):
    """The files are no dictionary that can be read; the argument is a sentence."""


@dataclass(frozen=True, slots=True)
class Entry:
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


Entries = Iterator[Entry]


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
