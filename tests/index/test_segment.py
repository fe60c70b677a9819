"""Segments on disk: what was sealed is read, mapped into memory; what was verified once is not hashed again."""

import errno
import json
import os
import shutil
import weakref
from dataclasses import replace
from mmap import mmap
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from index import ivf, segment
from index.segment import Segment
from index.segment_files import StoredRows, read_rows
from index.set_states import PartRecord
from index.sets import map_pages
from index.vectors import Entry, Identity, MemoryTail, VectorRows, VectorSet, find_best
from store import files
from store.data_root import DataRoot
from store.errors import IndexFileCorrupt, StorageFull
from tests.index.conftest import DIMENSION, PICTURES, Keys, names, numbered, numbered_rows, sealed, stored
from tests.index.world import World, fail_with, flip, score_pictures

FILES = ["index.faiss", "manifest.json", "rows.safetensors"]
VECTORS = stored(120)


@pytest.fixture(scope="module")
def original(shared_root: DataRoot) -> PartRecord:
    return segment.write(shared_root, PICTURES, numbered_rows(VECTORS, names(120), 1_000))


@pytest.fixture
def written(original: PartRecord, shared_root: DataRoot, root: DataRoot) -> PartRecord:
    """A copy that a test may damage, in a data root that has verified nothing yet."""
    name = f"segments/{original.id}"
    shutil.copytree(shared_root.locate(name), root.locate(name))
    return original


@pytest.fixture
def folder(written: PartRecord, root: DataRoot) -> Path:
    return root.locate(f"segments/{written.id}")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed."""
    seen, hash_file = list[str](), files.hash_file

    def observe(path: Path, *more: Any) -> str:
        seen.append(path.name)
        return hash_file(path, *more)

    monkeypatch.setattr(files, "hash_file", observe)
    return seen


def list_rows(opened: Segment) -> list[tuple[int, Entry, bytes]]:
    keys, vectors = opened.keys, opened.vectors
    return [(int(keys[row]), opened.read_entry(row), vectors[row].tobytes()) for row in opened.find_living_rows()]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ENTRIES = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), TEXT, TEXT), max_size=20, unique_by=lambda row: row[0])


@settings(max_examples=50)
@given(ENTRIES)
def test_any_keys_ids_and_texts_come_back_in_the_order_of_keys(
    shared_root: DataRoot, rows: list[tuple[int, str, str]]
) -> None:
    """Empty ones too, and such as are longer in UTF-8 than in characters."""
    vectors, entries = stored(len(rows), seed=1), [Entry(picture, text) for _, picture, text in rows]
    sorted_rows = VectorRows(numbered(*(key for key, _, _ in rows)), entries, vectors)
    identity = Identity("captions", "f" * 64, DIMENSION, "cy", 3)
    opened = segment.read(shared_root, segment.write(shared_root, identity, sorted_rows), identity)
    halves = [vector.astype(np.float16).tobytes() for vector in vectors]
    expected = sorted(zip((row[0] for row in rows), entries, halves, strict=True))
    assert list_rows(opened) == expected
    for picture in {entry.picture for entry in entries}:
        assert [*opened.read_rows(picture).entries] == [entry for _, entry, _ in expected if entry[0] == picture]


@settings(max_examples=50)
@given(ENTRIES, st.data())
def test_joined_segments_are_a_segment_of_all_their_living_rows(
    shared_root: DataRoot, rows: list[tuple[int, str, str]], data: st.DataObject
) -> None:
    """Whatever their order and whoever died; and the file is one that the library of its format reads."""
    vectors, parts, living = stored(len(rows), seed=1), [], []
    where = [data.draw(st.integers(0, 2)) for _ in rows]
    for part in range(3):
        mine = [number for number, at in enumerate(where) if at == part]
        some = [Entry(rows[number][1], rows[number][2]) for number in mine]
        whole = VectorRows(numbered(*(rows[number][0] for number in mine)), some, vectors[mine])
        dead = {entry.picture for entry in some if data.draw(st.booleans())}
        opened = segment.read(shared_root, segment.write(shared_root, PICTURES, whole), PICTURES)
        parts.append(opened.exclude_pictures(dead).read_all_rows())
        living += [number for number in mine if rows[number][1] not in dead]
    joined = segment.write(shared_root, PICTURES, StoredRows.join(parts))
    again = [Entry(rows[number][1], rows[number][2]) for number in living]
    at_once = VectorRows(numbered(*(rows[number][0] for number in living)), again, vectors[living])
    assert joined == segment.write(shared_root, PICTURES, at_once)
    file = shared_root.locate(f"segments/{joined.id}/rows.safetensors")
    assert {name: each.tolist() for name, each in load_file(file).items()} == {
        name: each.tolist() for name, each in read_rows(file).items()
    }


def test_the_same_rows_give_the_same_files(root: DataRoot, original: PartRecord, shared_root: DataRoot) -> None:
    assert segment.write(root, PICTURES, numbered_rows(VECTORS, names(120), 1_000)) == original
    for file in FILES:
        name = f"segments/{original.id}/{file}"
        assert root.locate(name).read_bytes() == shared_root.locate(name).read_bytes()


def test_rows_are_mapped_and_not_copied(root: DataRoot) -> None:
    opened = sealed(root, VECTORS, names(120))
    for view in (opened, opened.exclude_pictures(["p00001"])):
        for array in (view.keys, view.vectors):
            assert (
                array.base is not None
                and isinstance(array.base.base, np.memmap | mmap)
                and not array.flags.owndata
                and not array.flags.writeable
            )


def test_the_pages_of_an_index_are_mapped_before_searches_need_them(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivf, "SCAN_LIMIT", 500)
    vectors = np.random.default_rng(0).standard_normal((1_000, 4_096)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    identity = replace(PICTURES, dimension=4_096)
    opened = segment.read(root, segment.write(root, identity, numbered_rows(vectors, names(1_000))), identity)
    index = str(root.locate(f"segments/{opened.record.id}/index.faiss"))

    def count_mapped() -> int:
        return sum(each.rss for each in psutil.Process().memory_maps() if each.path == index)

    assert count_mapped() < vectors.size / 2
    map_pages(
        [
            VectorSet(
                identity, 1, 1, (opened, opened.exclude_pictures([names(1)[0].picture])), MemoryTail.make_empty(4_096)
            )
        ]
    )
    assert count_mapped() > vectors.size  # a byte for each


def test_the_second_opening_hashes_nothing(written: PartRecord, root: DataRoot, hashed: list[str]) -> None:
    """By any process of this machine."""
    segment.read(root, written, PICTURES)
    assert sorted(hashed) == ["index.faiss", "rows.safetensors"]
    hashed.clear()
    assert list_rows(segment.read(DataRoot(root.home), written, PICTURES))[0][1] == Entry("p00000") and not hashed


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("change", ["touched", "replaced by a copy", "written again"])
def test_a_file_that_changed_is_hashed_again(
    change: str, file: str, folder: Path, written: PartRecord, root: DataRoot, hashed: list[str]
) -> None:
    """Once, even when its content is the same, and with the size and the time that it had before."""
    path = folder / file
    segment.read(root, written, PICTURES)
    hashed.clear()
    if change == "touched":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    elif change == "replaced by a copy":
        os.replace(shutil.copy2(path, folder / "copy"), path)
    else:
        path.write_bytes(path.read_bytes())
    segment.read(root, written, PICTURES)
    assert len(hashed) == 2
    segment.read(root, written, PICTURES)
    assert len(hashed) == 2


def test_what_is_refused_is_not_noted(written: PartRecord, folder: Path, root: DataRoot, hashed: list[str]) -> None:
    flip(folder / "rows.safetensors")
    for _ in range(2):
        hashed.clear()
        with pytest.raises(IndexFileCorrupt):
            segment.read(root, written, PICTURES)
        assert "rows.safetensors" in hashed
    assert not root.locate("verified").exists()


@pytest.mark.parametrize("note", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[1, 2]", b'["0", []]'])
def test_a_damaged_note_is_ignored_and_written_again(
    note: bytes, written: PartRecord, root: DataRoot, hashed: list[str]
) -> None:
    segment.read(root, written, PICTURES)
    root.locate(f"verified/{written.id}.json").write_bytes(note)
    segment.read(root, written, PICTURES)
    assert len(hashed) == 4
    segment.read(root, written, PICTURES)
    assert len(hashed) == 4


def test_a_note_about_other_files_is_ignored(
    written: PartRecord, root: DataRoot, tmp_path: Path, hashed: list[str]
) -> None:
    """As after a copy of the whole data root to another disk."""
    segment.read(root, written, PICTURES)
    shutil.copytree(root.home, copy := tmp_path / "copy")
    hashed.clear()
    flip(copy / "segments" / written.id / "index.faiss")
    with pytest.raises(IndexFileCorrupt):
        segment.read(DataRoot(copy), written, PICTURES)
    assert "index.faiss" in hashed


def test_pictures_whose_hashes_collide_are_told_apart(written: PartRecord, folder: Path, root: DataRoot) -> None:
    """As if all had one hash; nobody can find two ids with one, so that the file is made by hand."""
    file = folder / "rows.safetensors"
    tensors = {name: tensor.copy() for name, tensor in load_file(file).items()}
    owner = f"p{tensors['order'][60]:05d}"
    tensors["hashes"][:] = tensors["hashes"][60]
    save_file(tensors, file)
    fields = {key: value for key, value in json.loads((folder / "manifest.json").read_text()).items() if key != "files"}
    opened = segment.read(root, replace(written, manifest_sha256=files.write_manifest(folder, fields)), PICTURES)
    assert [entry.picture for entry in opened.read_rows(owner).entries] == [owner]
    assert opened.exclude_pictures([owner]).count == 119


@pytest.mark.parametrize("few", [0, 10_000])
def test_what_an_array_of_allowed_keys_left_is_not_taken_for_what_it_leaves_now(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """A segment remembers the rows of the arrays of late, and forgets them where other rows are alive."""
    monkeypatch.setattr(segment, "_FEW", few)
    part, query, allowed = sealed(root, VECTORS, names(120)), VECTORS[7], numbered(*range(0, 120, 7))
    everything = numbered(*range(120))

    def find(view: Segment, keys: Keys) -> list[str]:
        return [hit.entry.picture for hit in find_best(view, query, 120, keys)]

    for _ in range(2):
        assert find(part, allowed)[0] == "p00007" and len(find(part, allowed)) == 18
        assert len(find(part, everything)) == 120
    without = part.exclude_pictures({"p00007", "p00003"})
    assert "p00007" not in find(without, allowed) and len(find(without, allowed)) == 17
    assert len(find(without, everything)) == 118
    for first in range(20):  # more arrays than are remembered
        assert find(part, numbered(first)) == [f"p{first:05d}"]
    assert len(find(part, allowed)) == 18
    of_a_filter = weakref.ref(allowed)
    del allowed
    assert of_a_filter() is None, "what no filter remembers goes from memory"


FULL = os.strerror(errno.ENOSPC)


def cut(index: Any, name: str, write: Any = faiss.write_index) -> None:
    """Lose the last bytes without a word, as FAISS does; there may be room again when the manifest is written."""
    write(index, name)
    os.truncate(name, os.path.getsize(name) - 100)


FAILING: dict[str, tuple[Any, str, Any]] = {
    "rows": (StoredRows, "write", fail_with(OSError(errno.ENOSPC, FULL))),
    "index": (faiss, "write_index", fail_with(RuntimeError(f"Error in faiss::write_index: write error in x ({FULL})"))),
    "index, silently": (faiss, "write_index", cut),
    "manifest": (files, "write_manifest", fail_with(OSError(errno.ENOSPC, FULL))),
    "durable": (os, "fsync", fail_with(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)))),
}


@pytest.mark.parametrize("where", FAILING)
def test_what_each_library_does_on_a_full_disk_is_storage_full(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(*FAILING[where])
        with pytest.raises(StorageFull):
            segment.write(root, PICTURES, numbered_rows(stored(9), names(9)))
    assert [*root.locate("segments").iterdir()] == []


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
            assert [*root.locate("segments").iterdir()] == [] and written
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
    used = sum(file.stat().st_size for file in root.locate(f"segments/{written.id}").iterdir())
    assert needed[0] > 0.95 * used > 50_000


@pytest.mark.parametrize("error", [StorageFull(), OSError(28, FULL), RuntimeError("a bug"), MemoryError()], ids=repr)
def test_whatever_sealing_raises_a_start_serves_from_the_tables(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world.put_many(12)
    monkeypatch.setattr(segment, "write", fail_with(error))
    live = world.serve(seal_first=10)
    assert score_pictures(live, 1) == world.rank(1) and not world.state().segments
