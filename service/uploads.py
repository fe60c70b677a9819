"""Uploads of pictures and datasets: from a form to memory or to disk. Decodes and validates nothing."""

import time
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from model import remote, storage
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


def keep(upload: Upload, folder: Path) -> None:
    """Move the file durably to `folder`, a new one, under the name `dataset`, and publish it."""
    with storage.stage(folder) as staged:
        upload.path.rename(staged / "dataset")
    try:
        remote.publish(folder / "dataset")
    except StoreUnavailable:
        storage.remove(folder)
        raise


def drop(folder: Path) -> None:
    """Undo `keep`; first in the store, so that while it is away a trace stays here for `sweep`. `StoreUnavailable`."""
    remote.remove(folder)
    storage.remove(folder)


def sweep(home: Path, older_than: float, known: Container[str]) -> int:
    """Remove what a crash left behind: uploads, and submissions that no row was written for; returns how many.

    Only what is older than any upload may take, in seconds; `known` has the ids of all expansions. What the store keeps
    while it is away is left for the next time.
    """
    before = time.time() - older_than
    uploads = [path for path in (home / FOLDER).glob(f"{storage.TEMPORARY}*") if _older(path, before)]
    for folder in uploads:
        storage.remove(folder)
    removed = len(uploads)
    for folder in (home / EXPANSIONS).glob("*"):
        if folder.name not in known and _older(folder, before):
            with suppress(StoreUnavailable):
                drop(folder)
                removed += 1
    return removed


def _older(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:  # another process sweeps, too
        return False
