"""Reads multipart forms: one picture or several into memory, a dataset to disk. Does not look into the files."""

import hashlib
import io
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from service.bodies import MAX_RECORD_BYTES, MAX_RECORDS_BYTES, MULTIPART, M, media_type, validated
from service.context import Context
from service.errors import InvalidEncoding, MalformedMultipart, TooLarge
from store import files
from store.data_root import DataRoot
from store.errors import FieldError, InvalidInput, StoreUnavailable, UnsupportedMedia

FOLDER = "uploads"  # under the data root
MAX_FIELDS = 16  # names of fields
MAX_PARTS = 128  # fields, also those of the same name: a picture may have 64 tags
MAX_PART_HEADER = 16 << 10  # bytes of one header of a part: file names may be long
MAX_FIELD_BYTES = 64 << 10  # all fields of a form together; beside a picture more
MAX_PICTURES = 256  # in one form
_FLUSH = 1 << 20  # bytes of a file collected before they are written


class OnDisk:
    """A large file at `path`, with its size and sha256; `StorageFull` when less than `free` bytes would stay free."""

    def __init__(self, path: Path, free: int) -> None:
        self.path = path
        self._free = free
        self._stream: IO[bytes] = path.open("xb")
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        files.require_free(self.path.parent, len(data) + self._free)
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)

    def close(self) -> str:
        """Write what is buffered; returns the hex sha256."""
        self._stream.close()
        return self._digest.hexdigest()


@dataclass
class Form:
    """The fields of a multipart body, each with its values in order, and whether it has a file."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    has_file: bool = False

    def parse(self, model: type[M], lists: Iterable[str] = ()) -> M:
        """The fields as `model`; only those in `lists` may be given more than once."""
        for name, values in self.fields.items():
            if len(values) > 1 and name not in lists:
                place = FieldError(f"body.{_safe_name(name)}", "duplicate_key")
                raise InvalidInput(f"field `{_safe_name(name)}` given more than once", errors=(place,))
        flat = {name: values if name in lists else values[0] for name, values in self.fields.items()}
        return validated(model, flat)


async def read_form(
    request: Request, file: str, sink: OnDisk | io.BytesIO, limit: int, field_bytes: int = MAX_FIELD_BYTES
) -> Form:
    """Read a multipart body: the file of the field `file` into `sink`, at most `limit` bytes; the rest as fields.

    File names are ignored. Raises `UnsupportedMedia`, `MalformedMultipart`, `InvalidInput` (two files, a file in
    another field, too many fields), `InvalidEncoding` or `TooLarge`.
    """
    parts = _Parts(file, limit, field_bytes)
    async for _ in _read(request, parts):
        if parts.pending_bytes >= _FLUSH:
            await _write(sink, parts.take())
    await _write(sink, parts.take())
    if not parts.form.has_file:
        raise InvalidInput(f"the file `{file}` is missing", errors=(FieldError(f"body.{file}", "missing"),))
    return parts.form


async def _read(request: Request, parts: "_Parts") -> AsyncIterator[None]:
    """Feed a multipart body to `parts`, a piece at a time."""
    if media_type(request) != MULTIPART:
        raise UnsupportedMedia(f"send {MULTIPART}")
    _, options = parse_options_header(request.headers["content-type"])
    if not options.get(b"boundary"):
        raise MalformedMultipart("the Content-Type has no boundary")
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks(), max_header_size=MAX_PART_HEADER)  # type: ignore[arg-type]
        async for chunk in request.stream():
            parser.write(chunk)
            yield
    except FormParserError:
        raise MalformedMultipart("the body is not valid multipart/form-data") from None
    if not parts.ended:
        raise MalformedMultipart("the body ends before its closing boundary")


async def _write(sink: OnDisk | io.BytesIO, data: bytes) -> None:
    """Only what goes to disk takes a thread."""
    if isinstance(sink, OnDisk):
        await run_in_threadpool(sink.write, data)
    else:
        sink.write(data)


async def picture_of(request: Request, context: Context) -> tuple[bytes, Form]:
    """The bytes of the file `picture` of a form, and its fields."""
    memory = io.BytesIO()
    form = await read_form(request, "picture", memory, context.settings.picture_bytes, MAX_RECORD_BYTES)
    return memory.getvalue(), form


async def pictures_of(request: Request, context: Context) -> tuple[list[bytes | None], Form]:
    """The bytes of each of the files `picture` of a form, None for one that is too large, and its fields."""
    parts = _Pictures(context.settings.picture_bytes)
    async for _ in _read(request, parts):
        pass
    return parts.pictures, parts.form


@dataclass(frozen=True)
class Upload:
    """An uploaded dataset: its file, size in bytes and sha256, and the other fields of the form."""

    path: Path
    size: int
    sha256: str
    form: Form


@asynccontextmanager
async def dataset_of(request: Request, context: Context) -> AsyncIterator[Upload]:
    """The file `dataset` of a form, in a temporary folder that is removed after the block."""
    settings = context.settings
    declared = request.state.body.declared
    files.require_free(settings.home, declared + declared // 2 + settings.free_bytes)
    folder = settings.home / FOLDER / f"{files.TEMPORARY}{uuid4().hex}"
    await run_in_threadpool(files.make_folder, folder)
    try:
        sink = OnDisk(folder / "dataset", settings.free_bytes)
        try:
            form = await read_form(request, "dataset", sink, settings.dataset_bytes)
        finally:
            sha256 = await run_in_threadpool(sink.close)
        yield Upload(sink.path, sink.size, sha256, form)
    finally:
        await run_in_threadpool(files.remove, folder)


def keep(upload: Upload, root: DataRoot, name: str) -> None:
    """Move the file durably to the new folder `name` of the data root, as `dataset`, and commit it."""
    with files.stage(root.path(name)) as staged:
        upload.path.rename(staged / "dataset")
    try:
        root.commit(f"{name}/dataset")
    except StoreUnavailable:
        files.remove(root.path(name))
        raise


class _Parts:
    """The parser's callbacks: collect the fields and the bytes of the file."""

    def __init__(self, file: str, limit: int, field_bytes: int) -> None:
        self.form = Form()
        self.ended = False
        self.pending_bytes = 0
        self._file, self._limit, self._most = file, limit, field_bytes
        self._names: set[str] = set()
        self._pending: list[bytes] = []
        self._file_bytes = self._field_bytes = self._fields = 0
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._name = ""
        self._in_file = False
        self._data = bytearray()

    def callbacks(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in dir(self) if name.startswith("on_")}

    def take(self) -> bytes:
        """The bytes of the file that arrived since the last call."""
        data = b"".join(self._pending)
        self._pending.clear()
        self.pending_bytes = 0
        return data

    def _begin_file(self) -> None:
        if self.form.has_file:
            _refuse_part(f"body.{self._file}", "too_many_files", "send only one file")
        self.form.has_file = True

    def _add(self, data: bytes) -> None:
        self._file_bytes += len(data)
        if self._file_bytes > self._limit:
            raise TooLarge(f"a file here may have at most {self._limit} bytes")
        self._pending.append(data)
        self.pending_bytes += len(data)

    def _end_file(self) -> None:
        """Nothing is left to do for the only one."""

    def on_part_begin(self) -> None:
        self._disposition = b""
        self._data.clear()

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
        self._name = _text(options[b"name"])
        self._in_file = b"filename" in options
        if not self._in_file:
            if self._name == self._file:
                _refuse_part(f"body.{self._file}", "filename_missing", "send it as a file, with a file name")
            self._fields += 1
            self._names.add(self._name)
            if len(self._names) > MAX_FIELDS or self._fields > MAX_PARTS:
                detail = f"at most {MAX_FIELDS} fields, {MAX_PARTS} with repeated ones"
                _refuse_part("body", "too_many_fields", detail)
        elif self._name != self._file:
            _refuse_part(f"body.{_safe_name(self._name)}", "extra_forbidden", f"send only the file `{self._file}`")
        else:
            self._begin_file()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._add(data[start:end])
        else:
            self._field_bytes += end - start
            if self._field_bytes > self._most:
                raise TooLarge(f"the fields of this form may have at most {self._most} bytes")
            self._data += data[start:end]

    def on_part_end(self) -> None:
        if not self._in_file:
            self.form.fields.setdefault(self._name, []).append(_text(bytes(self._data)))
        else:
            self._end_file()

    def on_end(self) -> None:
        self.ended = True


class _Pictures(_Parts):
    """The same for many files, which stay in memory: the body's limit is theirs. One that is too large is dropped."""

    def __init__(self, limit: int) -> None:
        super().__init__("picture", limit, MAX_RECORDS_BYTES)
        self.pictures: list[bytes | None] = []

    def _begin_file(self) -> None:
        if len(self.pictures) >= MAX_PICTURES:
            _refuse_part("body.picture", "too_many_files", f"send at most {MAX_PICTURES} pictures")
        self.form.has_file = True
        self._file_bytes = 0

    def _add(self, data: bytes) -> None:
        self._file_bytes += len(data)
        if self._file_bytes <= self._limit:
            self._pending.append(data)

    def _end_file(self) -> None:
        data = self.take()
        self.pictures.append(data if self._file_bytes <= self._limit else None)


def _refuse_part(location: str, code: str, detail: str) -> None:
    raise InvalidInput(detail, errors=(FieldError(location, code),))


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidEncoding("a field is not UTF-8") from None


def _safe_name(name: str) -> str:
    return name if name.isascii() and name.isidentifier() and len(name) <= 64 else "?"
