"""Removes files that crashes left in the data root. Keeps what a row refers to and what may still be being written.

It runs once at the start of each API and worker process. Files that cannot be removed because the store is unavailable
are left for the next run.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from index.catalogue import Catalogue
from index.gallery import FOLDER as PICTURES
from index.gallery import Gallery
from index.tables import GENERATIONS
from model import storage
from model.data_root import DataRoot
from model.errors import StoreUnavailable
from model.registry import Registry

EXPANSIONS = "expansions"
_LEFT_OVER = 3_600.0  # seconds: no process is still writing a file that has not changed for so long
_WORKING = ("checkpoints", "teacher", "pictures")  # in an expansion's folder, only needed to resume it
_log = logging.getLogger(__name__)


def sweep(root: DataRoot, registry: Registry, gallery: Gallery, seconds: float = _LEFT_OVER) -> int:
    """Remove left-over files and folders that have not changed for `seconds`; returns how many.

    These are temporary files of killed writers, submissions without an expansion, working files of finished expansions,
    generations without a row, and stored pictures whose content no picture has.
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
            removed += Catalogue(registry, root).remove_unregistered(path.name)
    contents = {path.name.partition(".")[0] for path in _old(root.home / PICTURES, "*/[0-9a-f]*.*", seconds)}
    for content in contents - gallery.contents_in_use():
        with suppress(StoreUnavailable):
            gallery.delete_unused_content(content)
            removed += 1
    if removed:
        _log.info("removed files and folders left by crashed processes", extra={"count": removed})
    return removed


def discard_working_files(root: DataRoot, expansion: str) -> None:
    """Remove the files that a finished expansion needed only to resume; keeps dataset, validation set and report."""
    for name in _WORKING:
        storage.remove(root.path(f"{EXPANSIONS}/{expansion}/{name}"))


def _old(folder: Path, pattern: str, seconds: float) -> Iterator[Path]:
    return (path for path in folder.glob(pattern) if storage.is_older(path, seconds))
