"""The sweeper: removes what crashes left in the data root, and nothing that a row names or that may still be written.

One look for everything, at the start of each API and worker process. What the store keeps while it is away is left for
the next time.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sqlalchemy import select

from index.gallery import FOLDER as PICTURES
from index.gallery import Gallery
from index.generation import FOLDER as GENERATIONS
from index.tables import GenerationRow
from model import storage
from model.data_root import DataRoot
from model.errors import StoreUnavailable
from model.registry import Registry

EXPANSIONS = "expansions"
_LEFT_OVER = 3_600.0  # seconds without a change after which no process is at work on a file any more
_WORKING = ("checkpoints", "teacher", "pictures")  # in an expansion's folder, only needed to go on
_log = logging.getLogger(__name__)


def sweep(root: DataRoot, registry: Registry, gallery: Gallery, seconds: float = _LEFT_OVER) -> int:
    """Remove left-over files and folders that did not change for `seconds`; returns how many.

    These are temporary names of killed writers, submissions without an expansion, working files of finished expansions,
    generations without a row, and stored pictures that no picture shows.
    """
    removed = storage.sweep(root.home, seconds)
    finished = registry.expansions.ids("succeeded", "failed", "cancelled")
    for expansion in finished:
        discard_working_files(root, expansion)
    known = registry.expansions.ids()
    for path in _old(root.home / EXPANSIONS, "*", seconds):
        if path.name not in known:
            with suppress(StoreUnavailable):
                root.remove(f"{EXPANSIONS}/{path.name}")
                removed += 1
    for path in _old(root.home / GENERATIONS, "*", seconds):
        with suppress(StoreUnavailable):
            removed += _without_row(root, registry, f"{GENERATIONS}/{path.name}")
    contents = {path.name.partition(".")[0] for path in _old(root.home / PICTURES, "*/*.webp", seconds)}
    for content in contents - gallery.contents_kept():
        with suppress(StoreUnavailable):
            gallery.forget(content)
            removed += 1
    if removed:
        _log.info("removed files and folders that crashes left behind", extra={"count": removed})
    return removed


def discard_working_files(root: DataRoot, expansion: str) -> None:
    """Remove what a finished expansion only needed to go on; dataset, validation set and report stay."""
    for name in _WORKING:
        storage.remove(root.path(f"{EXPANSIONS}/{expansion}/{name}"))


def _old(folder: Path, pattern: str, seconds: float) -> Iterator[Path]:
    return (path for path in folder.glob(pattern) if storage.is_older(path, seconds))


def _without_row(root: DataRoot, registry: Registry, name: str) -> bool:
    """Remove a generation unless it is registered; what is registered while the store is asked goes back into it."""
    query = select(GenerationRow.id).where(GenerationRow.folder == name)
    with registry.read() as session:
        if session.scalar(query) is not None:
            return False
    root.forget(name)
    with registry.begin() as session:  # nobody registers one meanwhile
        registered = session.scalar(query) is not None
        if not registered:
            storage.remove(root.path(name))
    if registered:
        root.commit(name)
    return not registered
