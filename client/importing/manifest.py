"""A manifest: a file with a row for each picture, as JSON lines, CSV or TSV. Sends nothing."""

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any

from .folder import read_file
from .items import (
    Item,
    Left,
    Said,
    SourceFault,
    Stamp,
    Value,
    id_of,
    ids_of,
    is_json,
    key_of,
    not_a_collection,
    plain,
    tags_of,
)

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")
NAME = "manifest.jsonl"  # a folder that has it is imported by it, as `pictoglot export` writes it
_OWN = ("file", "id", "collection", "tags", "metadata", "captions", "whole")
_CAPTION = "caption_"  # and a tag: a column with one caption in that language
_ANY_CAPTION = "caption"  # in the language that the command names
_LONGEST_CELL = 1 << 20  # characters
_LONGEST_LINE = 1_000_000  # bytes
_SAYS_BETWEEN = re.compile(r'"?sep=."?\s*', re.IGNORECASE)  # a line that a spreadsheet may write before the header


class _Faulty(Exception):
    """A row cannot be used; the argument is a sentence."""


class Manifest:
    """The rows of a manifest, `said` of each. Files are below `root`, by default the folder of the manifest.

    A `caption` of no language is one in `language`, or else metadata.
    """

    def __init__(self, file: Path, said: Said, root: Path | None = None, language: str | None = None) -> None:
        self._file, self._said, self._language = file.resolve(), said, language
        self._root = (root or self._file.parent).resolve()
        self.name = str(self._file)

    def parts(self) -> Iterator[Item | Left]:
        """As `Source.parts`; a row that cannot be used is told by its line."""
        lines_of = dict[str, int]()  # by id
        for line, row in self._rows():
            try:
                item = self._item(line, row)
                first = lines_of.setdefault(item.id, line)
                yield item if first == line else Left(f"line {line}", f"Line {first} has the same id, {item.id}.")
            except _Faulty as fault:
                yield Left(f"line {line}", str(fault), hides="")  # which picture it was to be is not known

    def count(self) -> int:
        """How many rows there are."""
        return sum(1 for _ in self._rows())

    def _rows(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        """Numbered rows; a text for one that could not be read, and says why."""
        try:
            if self._file.suffix.lower() in (".csv", ".tsv"):
                yield from self._table()
            else:
                yield from self._objects()
        except OSError as error:
            raise SourceFault(f"It cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise SourceFault("It is no text in UTF-8; spreadsheets save such a table as “CSV UTF-8”.") from error
        except _NoTable as error:
            raise SourceFault(f"It is no table from line {error.line} on: {error}.") from error

    def _objects(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        with self._file.open("rb") as stream:
            for line in count(1):
                data = stream.readline(_LONGEST_LINE + 1)
                if not data:
                    return
                if len(data) > _LONGEST_LINE:
                    raise SourceFault(f"Line {line} has more than {_LONGEST_LINE:,} bytes.")
                text = data.decode("utf-8-sig" if line == 1 else "utf-8").strip()
                if not text:
                    continue
                try:
                    row = json.loads(text)
                except (ValueError, RecursionError):
                    row = None
                yield line, row if isinstance(row, dict) else "It is no JSON object."

    def _table(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        csv.field_size_limit(_LONGEST_CELL)
        tabs = self._file.suffix.lower() == ".tsv"
        with self._file.open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline(_LONGEST_CELL)
            before = int(_SAYS_BETWEEN.fullmatch(head) is not None)  # a line of its own
            head = stream.readline(_LONGEST_CELL) if before else head
            # as spreadsheets of Europe write
            mark = "\t" if tabs else ";" if head.count(";") > head.count(",") else ","
            rows = csv.reader(chain([head], stream), delimiter=mark, strict=True)
            numbered = _numbered(rows, before)
            columns = _columns(next(numbered, []))
            if "file" not in columns:
                raise SourceFault(f"It has no column `file`; its columns are {', '.join(columns) or 'none'}.")
            for row in numbered:
                if len(row) > len(columns):
                    yield before + rows.line_num, f"It has {len(row)} cells, and there are {len(columns)} columns."
                elif any(row):
                    yield (
                        before + rows.line_num,
                        {name: _cell(name, text) for name, text in zip(columns, row, strict=False)},
                    )

    def _item(self, line: int, row: Mapping[str, Any] | str) -> Item:
        if isinstance(row, str):
            raise _Faulty(row)
        if not is_json(row):
            raise _Faulty("It has half a character, or a number that is none.")
        path, name = self._path(row.get("file"))
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise _Faulty(f"{name} cannot be read: {getattr(error, 'strerror', None) or 'no such name'}.") from error
        if not path.is_file():
            raise _Faulty(f"{name} is no file.")
        id = row.get("id")
        if id in (None, ""):
            id, _ = ids_of(name)
        elif not isinstance(id, str | int) or isinstance(id, bool):
            raise _Faulty("`id` is no text.")
        stamp = Stamp(status.st_size, status.st_mtime_ns)
        said = _said(row, self._language).over(self._said)
        id, whole = id_of(str(id)), row.get("whole") in (True, "true")
        return Item(id, id, lambda: read_file(path, stamp), stamp, "", said, f"line {line} ({name})", whole=whole)

    def _path(self, given: object) -> tuple[Path, str]:
        if not isinstance(given, str) or not given.strip():
            raise _Faulty("It has no `file`.")
        name = given.strip().replace("\\", "/") if os.sep == "/" and "/" not in given else given.strip()
        path = Path(os.path.normpath(self._root / name))
        if not path.is_relative_to(self._root):
            raise _Faulty("`file` leads out of the folder: --root names another one.")
        return path, PurePosixPath(path.relative_to(self._root)).as_posix()


class _NoTable(Exception):
    def __init__(self, error: csv.Error, line: int) -> None:
        super().__init__(str(error))
        self.line = line


def _numbered(rows: Any, before: int) -> Iterator[list[str]]:
    """The rows of a reader that began behind some lines; raises `_NoTable` with the line of one it cannot read."""
    while True:
        first = before + rows.line_num + 1
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise _NoTable(error, first) from error


def _columns(header: Iterable[str]) -> list[str]:
    """The names of columns; those that have a meaning here may be written with capitals.

    Another one becomes a key of metadata: where a name leaves nothing of it, or what another column has already, the
    key is the number of the column, so that no cell is lost.
    """
    names: list[str] = []
    for number, name in enumerate(map(str.strip, header), 1):
        if _is_own(name.lower()):
            if name.lower() in names:
                raise SourceFault(f"Two of its columns are called `{name.lower()}`.")
            names.append(name.lower())
            continue
        key, taken = key_of(name), set(map(key_of, names))
        if not key or key in taken:
            name = f"{key}_{number}" if key and not _is_own(f"{key}_{number}") else f"column_{number}"
            while key_of(name) in taken:
                name += "_x"
        names.append(name)
    return names


def _is_own(name: str) -> bool:
    return name in _OWN or name.startswith(_CAPTION)


def _cell(name: str, text: str) -> Any:
    """A cell as JSON would have it: objects and lists as such, numbers in columns of metadata."""
    if _is_own(name) or name.lower() == _ANY_CAPTION:
        return text
    stripped = text.strip()
    plain_number = stripped.lstrip("-").replace(".", "", 1).isdecimal() and stripped.isascii()
    if not plain_number or len(stripped) > 15 or (stripped.lstrip("-")[:1] == "0" and stripped not in ("0", "0.0")):
        return text  # 007 is no number
    try:
        return float(stripped) if "." in stripped else int(stripped)
    except ValueError:
        return text


def _said(row: Mapping[str, Any], language: str | None) -> Said:
    collection = row.get("collection") or None
    if collection is not None and not isinstance(collection, str):
        raise _Faulty("`collection` is no text.")
    if collection is not None and (fault := not_a_collection(collection)) is not None:
        raise _Faulty(fault)
    metadata = dict(_json(row.get("metadata"), dict, "metadata") or {})
    for name, value in row.items():
        if not _is_own(name) and not _is_caption(name, language) and value not in (None, "") and key_of(name):
            metadata.setdefault(key_of(name), _value(name, value))
    return Said(collection, _tags(row.get("tags")), metadata, _captions(row, language))


def _is_caption(name: str, language: str | None) -> bool:
    return language is not None and name.lower() == _ANY_CAPTION


def _value(name: str, value: Any) -> Value:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, bool | int | float) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return value
    raise _Faulty(f"`{name}` is neither text, number, truth value nor a list of texts.")


def _tags(given: Any) -> tuple[str, ...]:
    """A list, or in a table a JSON list or texts between semicolons."""
    if isinstance(given, str) and not given.lstrip().startswith("["):
        given = given.split(";")
    read = _json(given, list, "tags") or []
    if not all(isinstance(tag, str) for tag in read):
        raise _Faulty("`tags` are no texts.")
    return tags_of(read)


def _captions(row: Mapping[str, Any], language: str | None) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    for tag, texts in (_json(row.get("captions"), dict, "captions") or {}).items():
        several = [texts] if isinstance(texts, str) else texts
        if not isinstance(several, list) or not all(isinstance(text, str) for text in several):
            raise _Faulty("`captions` are not lists of texts by language.")
        captions[tag] = several
    for name, text in row.items():
        tag = language if _is_caption(name, language) else name.removeprefix(_CAPTION)
        if tag is not None and tag != name and text not in (None, "", []):
            several = text if isinstance(text, list) else [text]
            if not all(isinstance(each, str) for each in several):
                raise _Faulty(f"`{name}` is no text.")
            captions[tag] = [*captions.get(tag, []), *several]
    return captions


def _json(given: Any, kind: type, name: str) -> Any:
    """An object or a list, which a table has as text; None when there is none."""
    if given in (None, ""):
        return None
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            given = None
    if not isinstance(given, kind):
        raise _Faulty(f"`{name}` is not {'an object' if kind is dict else 'a list'}.")
    return given
