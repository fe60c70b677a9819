"""A disk that fills while a segment is written: whatever the library raises is `StorageFull`, and a start goes on."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import pytest
from safetensors import SafetensorError

from index import ivf, segment, segment_files
from index.vectors import Entry
from store import files
from store.data_root import DataRoot
from store.errors import StorageFull
from tests.index.conftest import PICTURES, names, numbered_rows, stored
from tests.index.world import World, scored_pictures

FULL = os.strerror(errno.ENOSPC)
ERRORS: dict[str, tuple[Any, str, Exception]] = {
    "rows": (segment_files, "save_file", SafetensorError(f"I/O error: {FULL} (os error 28)")),
    "index": (faiss, "write_index", RuntimeError(f"Error in faiss::write_index: write error in x: 1 != 2 ({FULL})")),
    "manifest": (files, "write_manifest", OSError(errno.ENOSPC, FULL)),
    "durable": (os, "fsync", OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))),
}


def raising(error: Exception) -> Callable[..., None]:
    def raises(*_: object, **__: object) -> None:
        raise error

    return raises


@pytest.mark.parametrize("where", ERRORS)
def test_what_each_library_raises_is_storage_full(root: DataRoot, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    owner, name, error = ERRORS[where]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, raising(error))
        with pytest.raises(StorageFull):
            segment.write(root, PICTURES, numbered_rows(stored(9), names(9)))
    assert [*root.path("segments").iterdir()] == []


def test_an_index_that_was_cut_silently_is_storage_full(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAISS says nothing when the last bytes do not fit; there may be room again when the manifest is written."""
    real = faiss.write_index

    def cut(index: Any, name: str) -> None:
        real(index, name)
        os.truncate(name, os.path.getsize(name) - 100)

    monkeypatch.setattr(faiss, "write_index", cut)
    with pytest.raises(StorageFull):
        segment.write(root, PICTURES, numbered_rows(stored(9), names(9)))
    assert [*root.path("segments").iterdir()] == []


def test_another_error_stays_what_it_is(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ivf, "write", raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        segment.write(root, PICTURES, numbered_rows(stored(9), names(9)))


@pytest.mark.parametrize("small_disk", ["256k"], indirect=True)
def test_wherever_a_disk_is_full_nothing_of_the_segment_stays(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "require_free", lambda *_: None)
    root, ballast = DataRoot(small_disk), small_disk / "ballast"
    rows, written = numbered_rows(stored(600), names(600)), 0
    for pages in range(64):
        ballast.write_bytes(b"\0" * 4_096 * pages)
        try:
            done = segment.write(root, PICTURES, rows)
        except StorageFull:
            assert [*root.path("segments").iterdir()] == [] and written
        else:
            assert segment.read(root, done, PICTURES).count == 600
            segment.remove(root, done.id)
            written += 1
    assert 0 < written < 50


def test_long_names_count_for_the_room_that_is_needed(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = list[int]()
    monkeypatch.setattr(files, "require_free", lambda _, need: needed.append(need))
    entries = [Entry(f"p{row}", "x" * 1_000) for row in range(50)]
    written = segment.write(root, PICTURES, numbered_rows(stored(50), entries))
    used = sum(file.stat().st_size for file in root.path(f"segments/{written.id}").iterdir())
    assert needed[0] > 0.95 * used > 50_000


@pytest.mark.parametrize("error", [StorageFull(), OSError(28, FULL), RuntimeError("a bug"), MemoryError()], ids=repr)
def test_whatever_sealing_raises_a_start_serves_from_the_tables(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for seed in range(12):
        world.put(f"p{seed}", seed)
    monkeypatch.setattr(segment, "write", raising(error))
    live = world.started(seal_first=10)
    assert scored_pictures(live, 1) == world.nearest(1) and not world.state().segments
