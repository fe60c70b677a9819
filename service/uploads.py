"""Uploads of pictures and datasets: from a form to memory or to disk. Decodes and validates nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from model import storage
from model.data_root import DataRoot
from model.errors import StoreUnavailable
from service.bodies import Form, Memory, OnDisk, read_form
from service.context import Context

FOLDER = "uploads"  # under the data root
EXPANSIONS = "expansions"  # too; the worker knows it as well


async def picture_of(request: Request, context: Context) -> tuple[bytes, Form]:
    """The bytes of the file `picture` of a form, and its fields."""
    memory = Memory()
    form = await read_form(request, "picture", memory, context.settings.picture_bytes)
    return memory.data, form


@dataclass(frozen=True)
class Upload:
    """A dataset as it came: its file, size in bytes and sha256, and the fields beside it."""

    path: Path
    size: int
    sha256: str
    form: Form


@asynccontextmanager
async def dataset_of(request: Request, context: Context) -> AsyncIterator[Upload]:
    """The file `dataset` of a form, in a folder of its own that is gone after the block."""
    settings = context.settings
    declared = request.state.body.declared
    storage.require_free(settings.home, declared + declared // 2 + settings.free_bytes)
    folder = settings.home / FOLDER / f"{storage.TEMPORARY}{uuid4().hex}"
    await run_in_threadpool(folder.mkdir, parents=True)
    try:
        sink = OnDisk(folder / "dataset", settings.free_bytes)
        try:
            form = await read_form(request, "dataset", sink, settings.dataset_bytes)
        finally:
            sha256 = await run_in_threadpool(sink.close)
        yield Upload(sink.path, sink.size, sha256, form)
    finally:
        await run_in_threadpool(storage.remove, folder)


def keep(upload: Upload, root: DataRoot, name: str) -> None:
    """Move the file durably to the new folder `name` of the data root, as `dataset`, and commit it."""
    with storage.stage(root.path(name)) as staged:
        upload.path.rename(staged / "dataset")
    try:
        root.commit(f"{name}/dataset")
    except StoreUnavailable:
        storage.remove(root.path(name))
        raise
