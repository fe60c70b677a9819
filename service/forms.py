"""Multipart forms, read as the JSON that they mean: pictures into memory, a dataset to disk. Looks into no file."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from service import schemas as values
from service.problems import BodyTooLarge, InvalidEncoding, MalformedMultipart, format_location, format_size, refuse
from service.requests import parse_json
from service.settings import Settings
from store import files
from store.data_root import DataRoot
from store.errors import StoreUnavailable

FOLDER = "uploads"  # under the data root
MAX_FIELDS = 16  # names of fields
MAX_PARTS = 128  # fields, also of the same name: a picture may have 64 tags
MAX_PART_HEADER = 16 << 10  # bytes of one header of a part: file names may be long
_FLUSH = 1 << 20  # bytes of a file collected before they are written


@dataclass(frozen=True)
class Form:
    """What a form may hold: its file, how many of them, and the bytes of all fields together.

    One of the fields `instead`, where it is `true`, stands in the place of the file.
    """

    file: str
    most_files: int
    field_bytes: int
    instead: tuple[str, ...] = ()


class BodyKind(Enum):
    """What a route takes: see `Context.body_limits` for its limits of size and time, `FORMS` for its form."""

    JSON = 1
    PICTURE = 2  # to search with
    UPLOAD = 3
    DATASET = 4
    PICTURES_IN_JSON = 5
    SEARCHES = 6
    PICTURES = 7
    CHANGES = 8
    LANGUAGE = 9


_PICTURE = Form("picture", most_files=1, field_bytes=256 << 10)  # captions, tags, metadata, a filter
FORMS = {
    BodyKind.PICTURE: _PICTURE,
    BodyKind.UPLOAD: _PICTURE,
    BodyKind.PICTURES_IN_JSON: _PICTURE,
    BodyKind.PICTURES: Form("picture", most_files=256, field_bytes=8 << 20),
    BodyKind.DATASET: Form("dataset", most_files=1, field_bytes=64 << 10, instead=("words", "captions")),
    BodyKind.LANGUAGE: Form("file", most_files=1, field_bytes=1 << 10),
}


class _FormFields(dict[str, Any]):
    """The fields of a form as the JSON that they mean; true without any, as FastAPI asks of a body."""

    def __bool__(self) -> bool:
        return True


class FileOnDisk:
    """A large file at `path`, its size and sha256; a write raises `StorageFull` to leave `free` bytes on the disk."""

    def __init__(self, path: Path, free: int) -> None:
        self.path, self.size = path, 0
        self._free, self._digest, self._stream = free, hashlib.sha256(), path.open("xb")

    def begin_another(self, path: Path) -> "FileOnDisk":
        """Return a new file that leaves as much of the disk free."""
        return FileOnDisk(path, self._free)

    def write(self, data: bytes) -> None:
        files.require_free(self.path.parent, len(data) + self._free)
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)

    def close(self) -> None:
        self._stream.close()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@asynccontextmanager
async def _open_file(home: Path, declared: int, free: int) -> AsyncIterator[FileOnDisk]:
    """Make a file for a body of `declared` bytes, in a temporary folder that is removed after the block."""
    files.require_free(home, declared + declared // 2 + free)
    folder = home / FOLDER / f"{files.TEMPORARY}{uuid4().hex}"
    await run_in_threadpool(files.make_folder, folder)
    try:
        file = FileOnDisk(folder / "dataset", free)
        try:
            yield file
        finally:
            await run_in_threadpool(file.close)
    finally:
        await run_in_threadpool(files.remove, folder)


def keep_dataset(file: FileOnDisk, root: DataRoot, name: str) -> None:
    """Move the file durably to the new folder `name` of the data root, as `dataset`, and commit it."""
    with files.stage(root.locate(name)) as staged:
        file.path.rename(staged / "dataset")
    try:
        root.commit(f"{name}/dataset")
    except StoreUnavailable:
        files.remove(root.locate(name))
        raise


async def read_form(
    request: Request,
    kind: BodyKind,
    boundary: bytes,
    schema: Mapping[str, Any],
    settings: Settings,
    stack: AsyncExitStack,
) -> dict[str, Any]:
    """Return what a form says to a model with this JSON `schema`; its files become `request.state.files`.

    The stack removes a file on disk. Raises `MalformedMultipart`, `InvalidInput` (no file, too many, one in another
    field, too many fields), `InvalidEncoding`, `BodyTooLarge`, and what `parse_json` raises.
    """
    file = None
    if kind in (BodyKind.DATASET, BodyKind.LANGUAGE):
        declared = request.state.body.declared
        file = await stack.enter_async_context(_open_file(settings.home, declared, settings.free_bytes))
    parts = _PartCollector(FORMS[kind], settings.picture_bytes if file is None else settings.dataset_bytes)
    await _read(request, boundary, parts, file)
    request.state.files = parts.files if file is None else [file]
    parse = partial(_parse_fields, parts.fields, schema["properties"], commas=kind is not BodyKind.UPLOAD)
    return await run_in_threadpool(parse) if kind is BodyKind.PICTURES else parse()  # 8 MiB of records take two seconds


async def _read(request: Request, boundary: bytes, parts: "_PartCollector", file: FileOnDisk | None) -> None:
    """Read a multipart body into `parts`, their only file into `file` if given. File names are ignored."""
    if not boundary:
        raise MalformedMultipart("the Content-Type has no boundary")
    try:
        callbacks: Any = {name: getattr(parts, name) for name in dir(parts) if name.startswith("on_")}
        parser = MultipartParser(boundary, callbacks, max_header_size=MAX_PART_HEADER)
        async for chunk in request.stream():
            parser.write(chunk)
            if file is not None and len(parts.pending) >= _FLUSH:
                await run_in_threadpool(file.write, parts.take())
    except FormParserError:
        raise MalformedMultipart("the body is not valid multipart/form-data") from None
    if not parts.ended:
        raise MalformedMultipart("the body ends before its closing boundary")
    name, flags = parts.form.file, [each for each in parts.form.instead if parts.fields.get(each) == ["true"]]
    without = bool(flags)
    if len(flags) > 1:
        refuse(f"body.{flags[1]}", "extra_forbidden", f"send `{flags[0]}` or `{flags[1]}`, not both")
    if not parts.files and not without:
        refuse(f"body.{name}", "missing", f"the file `{name}` is missing")
    if parts.files and without:
        refuse(f"body.{name}", "extra_forbidden", f"send the file, or `{flags[0]}`, not both")
    if file is not None and parts.files:
        await run_in_threadpool(file.write, parts.files.pop() or b"")
        await run_in_threadpool(file.close)


def _parse_fields(fields: Mapping[str, list[str]], properties: Mapping[str, Any], *, commas: bool) -> _FormFields:
    """Return what the texts of a form mean to a model with these `properties` (JSON schema); only lists may repeat.

    With `commas`, these separate the items of a list. Raises `InvalidInput`, and what `parse_json` raises.
    """
    document = _FormFields()
    for name, texts in fields.items():
        types = list_types(properties.get(name, {"type": "string"}))
        if "array" in types:
            constant = "string" in types and texts in (["all"], ["none"])
            document[name] = texts[0] if constant else values.split_list(texts, commas=commas)
        elif len(texts) > 1:
            refuse(format_location("body", [name]), "duplicate_key", "a field is given more than once")
        elif "object" in types:
            document[name] = parse_json(texts[0].encode(), f"body.{name}")
            if document[name] is None:
                refuse(f"body.{name}", "null", f"`{name}` is left out, not null")
        else:
            document[name] = values.parse_number(texts[0]) if types & {"integer", "number"} else texts[0]
    return document


def make_too_large(most: int, file: str = "picture") -> BodyTooLarge:
    """Make the refusal of a file of more than so many bytes; that of a picture names the setting."""
    setting = " (PICTOGLOT_PICTURE_BYTES)" if file == "picture" else ""
    return BodyTooLarge(f"a {file} may have at most {format_size(most)}{setting}")


def list_types(schema: Mapping[str, Any]) -> set[str]:
    """List the types of JSON that a schema allows."""
    return {each.get("type", "object") for each in schema.get("anyOf", [schema])}


class _PartCollector:
    """The fields and files of a form, collected by the callbacks of a parser."""

    def __init__(self, form: Form, limit: int) -> None:
        self.fields: dict[str, list[str]] = {}
        self.files: list[bytes | None] = []
        self.ended = False
        self.pending = bytearray()  # of the part that is read
        self.form, self._limit = form, limit
        self._files = self._fields = self._file_bytes = self._field_bytes = 0
        self._header, self._value, self._disposition = b"", b"", b""
        self._name, self._in_file = "", False

    def take(self) -> bytes:
        """Return the bytes of the part that arrived since the last call."""
        data = bytes(self.pending)
        self.pending.clear()
        return data

    def on_part_begin(self) -> None:
        self._disposition, self._file_bytes = b"", 0
        self.pending.clear()

    def on_header_begin(self) -> None:
        self._header = self._value = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value

    def on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise MalformedMultipart("a part has no name")
        self._name, self._in_file = _decode_text(options[b"name"]), b"filename" in options
        file, most = self.form.file, self.form.most_files
        if self._in_file and self._name != file:
            refuse(format_location("body", [self._name]), "extra_forbidden", f"send only the file `{file}`")
        if self._name == file and not self._in_file:
            refuse(f"body.{file}", "filename_missing", "send it as a file, with a file name")
        self._files += self._in_file
        self._fields += not self._in_file
        if self._files > most:
            refuse(f"body.{file}", "too_many_files", f"send at most {most} of the file `{file}`")
        if self._fields > MAX_PARTS or len({*self.fields, self._name} - {file}) > MAX_FIELDS:
            refuse("body", "too_many_fields", f"at most {MAX_FIELDS} fields, {MAX_PARTS} with repeated ones")

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._file_bytes += end - start
            if self._file_bytes > self._limit and self.form.most_files == 1:
                raise make_too_large(self._limit, self.form.file)
        else:
            self._field_bytes += end - start
            if self._field_bytes > self.form.field_bytes:
                raise BodyTooLarge(f"the fields of this form may have at most {format_size(self.form.field_bytes)}")
        if self._file_bytes <= self._limit:
            self.pending += data[start:end]

    def on_part_end(self) -> None:
        if self._in_file:
            self.files.append(self.take() if self._file_bytes <= self._limit else None)
        else:
            self.fields.setdefault(self._name, []).append(_decode_text(self.take()))

    def on_end(self) -> None:
        self.ended = True


def _decode_text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidEncoding("a field is not UTF-8") from None
