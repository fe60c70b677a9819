"""Pictures in a folder, or listed by a manifest, a file with a row for each as JSON lines, CSV or TSV. Sends nothing.

A folder is walked in order, and a file is read only when it stays as it is meanwhile.
"""

import csv
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any

from . import (
    MOST_BYTES,
    SUFFIXES,
    Item,
    SkippedPart,
    SkipReason,
    SourceError,
    SourceRecord,
    Stamp,
    UnreadableError,
    Value,
    clean_tags,
    clean_value,
    derive_ids,
    derive_key,
    describe_file,
    is_json,
    normalize_id,
)

MANIFEST_SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv")
NAME = "manifest.jsonl"  # a folder that has it is imported by it, as `pictoglot export` writes it
_OWN = ("file", "id", "collection", "tags", "metadata", "captions", "whole")
_CAPTION = "caption_"  # and a tag: a column with one caption in that language
_ANY_CAPTION = "caption"  # in the language that the command names
_LONGEST_CELL = 1 << 20  # characters
_LONGEST_LINE = 1_000_000  # bytes
_SAYS_BETWEEN = re.compile(r'"?sep=."?\s*', re.IGNORECASE)  # a line that a spreadsheet may write before the header
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,13})(\.\d{1,13})?", re.ASCII)  # 007 is none


class Folder:
    """The pictures below a folder, or `only` some files in it, with one `record` for all.

    The path of a file below the folder, without its suffix, becomes the id.
    """

    def __init__(self, root: Path, record: SourceRecord, only: Collection[str] | None = None) -> None:
        self.root = root.resolve()
        self.name = str(self.root)
        self.is_partial = only is not None
        self._record, self._only = record, only

    def list_parts(self) -> Iterator[Item | SkippedPart]:
        """Yield all parts; a link that leads in a circle, or to a folder that was read, is skipped."""
        return self.walk([""] if self._only is None else sorted(self._only))

    def count(self) -> int:
        """Return how many pictures there are."""
        return sum(isinstance(part, Item) for part in self.list_parts())

    def walk(self, places: Collection[str]) -> Iterator[Item | SkippedPart]:
        """Yield what is at these places: a file, or all that is below a folder; nothing of what is gone."""
        for place in places:
            path = self.root / place
            if any(part.startswith(".") for part in Path(place).parts):
                yield SkippedPart(place, "It is hidden.", SkipReason.HIDDEN)
            elif path.is_dir():
                yield from self._walk_below(place)
            elif os.path.lexists(path):
                yield self._inspect(place)

    def _walk_below(self, top: str) -> Iterator[Item | SkippedPart]:
        read = set[tuple[int, int]]()  # folders by device and inode
        waiting = [top]  # the last one comes next
        while waiting:
            place = waiting.pop()
            if (shown := _escape(place)) != place:
                yield SkippedPart(shown, "Its name is not UTF-8.")
                continue
            path = self.root / place
            try:
                if not path.is_dir():
                    yield self._inspect(place)
                    continue
                status = path.stat()
                if (status.st_dev, status.st_ino) in read:
                    yield SkippedPart(place, "The link leads to a folder that was read already.")
                    continue
                read.add((status.st_dev, status.st_ino))
                names = os.listdir(path)
            except OSError as error:
                yield SkippedPart(place, f"It cannot be read: {error.strerror}.", hides=place)
                continue
            if not names and place:
                yield SkippedPart(place, "It is empty.", SkipReason.EMPTY, hides=place)  # as an unmounted disk is
            for name in sorted(names, reverse=True):
                below = f"{place}/{name}" if place else name
                if name.startswith("."):
                    yield SkippedPart(_escape(below), "It is hidden.", SkipReason.HIDDEN)
                else:
                    waiting.append(below)

    def _inspect(self, place: str) -> Item | SkippedPart:
        path = self.root / place
        if path.is_symlink() and not os.path.exists(path):
            return SkippedPart(place, "The link leads nowhere.", hides=place)  # perhaps to a disk that is away
        if path.suffix.lower() not in SUFFIXES:
            return SkippedPart(place, "Its name has no suffix of a picture.", SkipReason.OTHER)
        try:
            stamp = Stamp.read(path.stat())
        except OSError as error:
            return SkippedPart(place, f"It cannot be read: {error.strerror}.")
        if not path.is_file():
            return SkippedPart(place, "It is not a file.")
        id, twin = derive_ids(place)
        file = describe_file(PurePosixPath(place), self.root.name)
        return Item(place, id, lambda: read_file(path, stamp), stamp, twin, self._record, file=file)


def read_file(path: Path, stamp: Stamp) -> bytes:
    """Return the bytes of a file that is as `stamp` says before and after. Raises `UnreadableError`."""
    try:
        with path.open("rb") as file:
            before = Stamp.read(os.fstat(file.fileno()))
            if before.size > MOST_BYTES:
                raise UnreadableError(f"It has more than {MOST_BYTES >> 20} MiB.")
            content = file.read(MOST_BYTES + 1)
            if before != Stamp.read(os.fstat(file.fileno())) or len(content) != before.size or before != stamp:
                raise UnreadableError("It was changed while it was read.")
    except OSError as error:
        raise UnreadableError(f"It cannot be read: {error.strerror}.") from error
    return content


def _escape(place: str) -> str:
    """Return a name as it can be shown: what is not UTF-8 in it, as escapes."""
    return place.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class RowError(Exception):
    """A row cannot be used; the argument is a sentence."""


class Manifest:
    """The rows of a manifest, with one `record` for all. Files are below `root`, by default the folder of the manifest.

    A `caption` of no language is one in `language`, or else metadata.
    """

    is_partial = False

    def __init__(self, file: Path, record: SourceRecord, root: Path | None = None, language: str | None = None) -> None:
        self._file, self._record, self._language = file.resolve(), record, language
        self._root = (root or self._file.parent).resolve()
        self.name = str(self._file)

    def list_parts(self) -> Iterator[Item | SkippedPart]:
        """Yield a part for each row; one that cannot be used is reported by its line."""
        lines_of = dict[str, int]()  # by id
        for line, row in self._read_rows():
            try:
                item = self._read_item(line, row)
            except RowError as error:
                yield SkippedPart(f"line {line}", str(error), hides="")  # which picture it was to be is not known
                continue
            first = lines_of.setdefault(item.id, line)
            same = f"Line {first} has the same id, {item.id}."
            yield item if first == line else SkippedPart(f"line {line}", same)

    def count(self) -> int:
        """Return how many rows there are."""
        return sum(1 for _ in self._read_rows())

    def _read_rows(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        """Yield numbered rows; a text for one that could not be read, and says why."""
        try:
            yield from self._read_table() if self._file.suffix.lower() in (".csv", ".tsv") else self._read_objects()
        except OSError as error:
            raise SourceError(f"It cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise SourceError("It is not text in UTF-8; spreadsheets save such a table as “CSV UTF-8”.") from error

    def _read_objects(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        with self._file.open("rb") as stream:
            for line in count(1):
                data = stream.readline(_LONGEST_LINE + 1)
                if not data:
                    return
                if len(data) > _LONGEST_LINE:
                    raise SourceError(f"Line {line} has more than {_LONGEST_LINE:,} bytes.")
                if text := data.decode("utf-8-sig" if line == 1 else "utf-8").strip():
                    row = _parse(text)
                    yield line, row if isinstance(row, dict) else "It is not a JSON object."

    def _read_table(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        csv.field_size_limit(_LONGEST_CELL)
        with self._file.open(encoding="utf-8-sig", newline="") as stream:
            head = stream.readline(_LONGEST_CELL)
            before = int(_SAYS_BETWEEN.fullmatch(head) is not None)  # a line of its own
            head = stream.readline(_LONGEST_CELL) if before else head
            # as spreadsheets of Europe write
            mark = "\t" if self._file.suffix.lower() == ".tsv" else ";" if head.count(";") > head.count(",") else ","
            rows = csv.reader(chain([head], stream), delimiter=mark, strict=True)
            first = before + 1
            try:
                columns = _name_columns(next(rows, []))
                if "file" not in columns:
                    raise SourceError(f"It has no column `file`; its columns are {', '.join(columns) or 'none'}.")
                first = before + rows.line_num + 1
                for row in rows:
                    line, first = before + rows.line_num, before + rows.line_num + 1
                    if len(row) > len(columns):
                        yield line, f"It has {len(row)} cells, and there are {len(columns)} columns."
                    elif any(row):
                        yield line, {name: _read_cell(name, text) for name, text in zip(columns, row, strict=False)}
            except csv.Error as error:
                raise SourceError(f"It is not a table from line {first} on: {error}.") from error

    def _read_item(self, line: int, row: Mapping[str, Any] | str) -> Item:
        if isinstance(row, str):
            raise RowError(row)
        if not is_json(row):
            raise RowError("It has half a character, or something in place of a number.")
        path, name = self._find_file(row.get("file"))
        try:
            stamp = Stamp.read(path.stat())
        except (OSError, ValueError) as error:
            raise RowError(f"{name} cannot be read: {getattr(error, 'strerror', None) or 'no such name'}.") from error
        if not path.is_file():
            raise RowError(f"{name} is not a file.")
        id = row.get("id")
        if id in (None, ""):
            id, _ = derive_ids(name)
        elif not isinstance(id, str | int) or isinstance(id, bool):
            raise RowError("`id` is not a text.")
        record = _read_record(row, self._language).extend(self._record)
        id, whole = normalize_id(str(id)), row.get("whole") in (True, "true")
        return Item(id, id, lambda: read_file(path, stamp), stamp, "", record, f"line {line} ({name})", whole=whole)

    def _find_file(self, given: object) -> tuple[Path, str]:
        if not isinstance(given, str) or not given.strip():
            raise RowError("It has no `file`.")
        name = given.strip().replace("\\", "/") if os.sep == "/" and "/" not in given else given.strip()
        path = Path(os.path.normpath(self._root / name))
        if not path.is_relative_to(self._root):
            raise RowError("`file` leads out of the folder: --root names another one.")
        return path, PurePosixPath(path.relative_to(self._root)).as_posix()


def _name_columns(header: Iterable[str]) -> list[str]:
    """Return the names of columns; those that have a meaning here may be written with capitals.

    Another one becomes a key of metadata: where a name leaves nothing of it, or what another column has already, the
    key is the number of the column, so that no cell is lost.
    """
    names: list[str] = []
    for number, name in enumerate(map(str.strip, header), 1):
        if _is_own(name.lower()):
            if name.lower() in names:
                raise SourceError(f"Two of its columns are called `{name.lower()}`.")
            names.append(name.lower())
            continue
        key, taken = derive_key(name), set(map(derive_key, names))
        if not key or key in taken:
            name = f"{'column' if not key or key.startswith(_ANY_CAPTION) else key}_{number}"  # `caption_3` is one
            while derive_key(name) in taken:
                name += "_x"
        names.append(name)
    return names


def _is_own(name: str) -> bool:
    return name in _OWN or name.startswith(_CAPTION)


def _read_cell(name: str, text: str) -> Any:
    """Return a cell as JSON would have it: numbers in columns of metadata, else texts."""
    number = _NUMBER.fullmatch(text.strip())
    if number is None or _is_own(name) or name.lower() == _ANY_CAPTION:
        return text
    return float(number[0]) if number[2] else int(number[0])


def _read_record(row: Mapping[str, Any], language: str | None) -> SourceRecord:
    collection = row.get("collection") or None
    if collection is not None and not isinstance(collection, str):
        raise RowError("`collection` is not a text.")
    tags = row.get("tags")
    if isinstance(tags, str) and not tags.lstrip().startswith("["):
        tags = tags.split(";")  # of a table
    tags = _read_json(tags, list, "tags") or []
    if not all(isinstance(tag, str) for tag in tags):
        raise RowError("`tags` are not texts.")
    metadata = dict(_read_json(row.get("metadata"), dict, "metadata") or {})
    for name, value in row.items():
        is_caption = language is not None and name.lower() == _ANY_CAPTION
        if not _is_own(name) and not is_caption and value not in (None, "") and derive_key(name):
            metadata.setdefault(derive_key(name), _read_value(name, value))
    return SourceRecord(collection, clean_tags(tags), metadata, _read_captions(row, language))


def _read_value(name: str, value: Any) -> Value:
    if isinstance(value, str):
        return clean_value(value)
    if isinstance(value, bool | int | float) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return value
    raise RowError(f"`{name}` is neither a text, a number, true, false nor a list of texts.")


def _read_captions(row: Mapping[str, Any], language: str | None) -> dict[str, list[str]]:
    captions: dict[str, list[str]] = {}
    values = [
        (tag, texts, "captions") for tag, texts in (_read_json(row.get("captions"), dict, "captions") or {}).items()
    ]
    for name, text in row.items():
        tag = name.removeprefix(_CAPTION) if name.lower() != _ANY_CAPTION else language
        if tag is not None and tag != name and text not in (None, ""):
            values.append((tag, text, name))
    for tag, texts, name in values:
        several = [texts] if isinstance(texts, str) else texts
        if not isinstance(several, list) or not all(isinstance(text, str) for text in several):
            raise RowError(f"`{name}` is neither a text nor a list of texts.")
        captions[tag] = [*captions.get(tag, []), *several]
    return {tag: texts for tag, texts in captions.items() if texts}


def _read_json(given: Any, kind: type, name: str) -> Any:
    """Return an object or a list, which a table has as text; None when there is none."""
    if given in (None, ""):
        return None
    value = _parse(given) if isinstance(given, str) else given
    if not isinstance(value, kind):
        raise RowError(f"`{name}` is not {'an object' if kind is dict else 'a list'}.")
    return value


def _parse(text: str) -> Any:
    """Return what JSON says; None for what is no JSON."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return None
