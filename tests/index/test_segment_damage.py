"""Damaged segments, and segments of something else, are refused before they answer anything."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from index import segment
from index.set_states import PartRecord
from index.vectors import Identity
from store import files
from store.data_root import DataRoot
from store.errors import IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch
from tests.index.conftest import DIMENSION, PICTURES, names, numbered_rows, stored

FILES = ["index.faiss", "manifest.json", "rows.safetensors"]
Edit = Callable[[dict[str, NDArray[Any]]], object]


@pytest.fixture
def written(root: DataRoot) -> PartRecord:
    """A segment that a test may damage, in a data root that has verified nothing yet."""
    return segment.write(root, PICTURES, numbered_rows(stored(120), names(120), 1_000))


@pytest.fixture
def folder(written: PartRecord, root: DataRoot) -> Path:
    return root.locate(f"segments/{written.id}")


@pytest.mark.row("I1", "I5")
@pytest.mark.parametrize("opened_before", [False, True])
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["empty", "cut", "longer", "missing", "of another segment"])
def test_damaged_files_are_refused(
    damage: str, file: str, opened_before: bool, folder: Path, written: PartRecord, root: DataRoot
) -> None:
    """Also after they were verified once."""
    if opened_before:
        segment.read(root, written, PICTURES)
    data = (folder / file).read_bytes()
    other = segment.write(root, PICTURES, numbered_rows(stored(120, seed=1), names(120), 1_000))
    (folder / file).unlink()
    if damage != "missing":
        another = root.locate(f"segments/{other.id}/{file}").read_bytes()
        contents = {"empty": b"", "cut": data[:-1], "longer": data + b" ", "of another segment": another}
        (folder / file).write_bytes(contents[damage])
    with pytest.raises(IndexFileCorrupt):
        segment.read(root, written, PICTURES)


@pytest.mark.parametrize("opened_before", [False, True])
def test_files_that_do_not_belong_there_are_refused(
    opened_before: bool, folder: Path, written: PartRecord, root: DataRoot
) -> None:
    if opened_before:
        segment.read(root, written, PICTURES)
    (folder / "more").write_bytes(b"")
    with pytest.raises(IndexFileCorrupt):
        segment.read(root, written, PICTURES)


def test_a_manifest_that_was_not_registered_is_refused(folder: Path, written: PartRecord, root: DataRoot) -> None:
    """Though it fits its files, and also where they were verified before."""
    segment.read(root, written, PICTURES)
    with pytest.raises(IndexFileCorrupt):
        segment.read(root, replace(written, manifest_sha256="0" * 64), PICTURES)
    rehash(folder, written, more=1)
    with pytest.raises(IndexFileCorrupt):
        segment.read(root, written, PICTURES)


def rehash(folder: Path, written: PartRecord, **changes: object) -> PartRecord:
    """Write a manifest that fits changed files, as a faulty writer would register it."""
    fields = json.loads((folder / "manifest.json").read_text())
    fields.pop("files")
    manifest_sha256 = files.write_manifest(folder, {**fields, **changes})
    return replace(written, manifest_sha256=manifest_sha256)


@pytest.mark.row("I4")
@pytest.mark.parametrize(
    "other",
    [
        Identity("pictures", "e" * 64, DIMENSION),
        Identity("pictures", "f" * 64, DIMENSION + 1),
        Identity("captions", "f" * 64, DIMENSION, "cy", 1),
        Identity("pictures", "f" * 64, DIMENSION, version=1),
    ],
    ids=["other model", "other dimension", "captions", "other version"],
)
def test_a_segment_of_something_else_is_refused(other: Identity, written: PartRecord, root: DataRoot) -> None:
    for _ in range(2):  # also when it is verified already
        with pytest.raises(IndexVersionMismatch):
            segment.read(root, written, other)


@pytest.mark.row("I5")
def test_another_format_is_refused(folder: Path, written: PartRecord, root: DataRoot) -> None:
    with pytest.raises(IndexVersionMismatch):
        segment.read(root, rehash(folder, written, format=segment.FORMAT + 1), PICTURES)


def cut(name: str, rows: int = 1) -> Edit:
    return lambda tensors: tensors.update({name: tensors[name][:-rows].copy()})


@pytest.mark.row("I3")
@pytest.mark.parametrize(
    "edit",
    [
        *(cut(name) for name in ("keys", "vectors", "hashes", "order", "names")),
        cut("ends", 2),
        lambda tensors: tensors.update(keys=tensors["keys"][::-1].copy()),
        lambda tensors: tensors["keys"].__setitem__(1, tensors["keys"][0]),
        lambda tensors: tensors.update(ends=np.repeat(tensors["ends"], 2)),
        lambda tensors: tensors.pop("vectors"),
        lambda tensors: tensors.update(vectors=tensors["vectors"].reshape(60, -1)),
        lambda tensors: tensors.update(vectors=tensors["vectors"].astype(np.float64)),
    ],
    ids=[
        "keys", "vectors", "hashes", "order", "names", "ends", "falling keys", "a key twice", "twice the ends",
        "no vectors", "other shape", "other type",
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_together_are_refused(
    edit: Edit, folder: Path, written: PartRecord, root: DataRoot
) -> None:
    file = folder / "rows.safetensors"
    tensors = {name: tensor.copy() for name, tensor in load_file(file).items()}
    edit(tensors)
    save_file(tensors, file)
    with pytest.raises(IndexInconsistent):
        segment.read(root, rehash(folder, written), PICTURES)


@pytest.mark.parametrize("field", ["rows", "index"])
@pytest.mark.parametrize("value", [None, 119, [], "x"])
def test_a_manifest_that_does_not_fit_is_refused(
    field: str, value: object, folder: Path, written: PartRecord, root: DataRoot
) -> None:
    with pytest.raises(IndexInconsistent):
        segment.read(root, rehash(folder, written, **{field: value}), PICTURES)


@pytest.mark.parametrize("rows", [0, 119, 121])
def test_an_index_of_other_rows_is_refused(rows: int, folder: Path, written: PartRecord, root: DataRoot) -> None:
    other = segment.write(root, PICTURES, numbered_rows(stored(rows), names(rows)))
    data = root.locate(f"segments/{other.id}/index.faiss").read_bytes()
    (folder / "index.faiss").write_bytes(data)
    with pytest.raises(IndexInconsistent):
        segment.read(root, rehash(folder, written), PICTURES)


@pytest.mark.parametrize("file", ["index.faiss", "rows.safetensors"])
@pytest.mark.parametrize("data", [b"", b"nonsense", b"\xff" * 500, b"\x02" + bytes(7) + b"[]", b"{}" * 99])
def test_files_that_cannot_be_read_are_refused(
    data: bytes, file: str, folder: Path, written: PartRecord, root: DataRoot
) -> None:
    """Though their hashes are those of the manifest."""
    (folder / file).write_bytes(data)
    with pytest.raises(IndexInconsistent):
        segment.read(root, rehash(folder, written), PICTURES)
