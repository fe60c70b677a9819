"""I1 to I5: a generation that is damaged, mixed up or made by another model is refused before it is served."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from index import generation
from index.engine import Index, Matrix
from index.engine.faiss_engine import FaissEngine, FlatIndex
from index.errors import IndexFileCorrupt, IndexInconsistent, IndexVersionMismatch
from index.generation import Identity, WrittenGeneration, folder_name
from index.vectors import Entry
from model import storage
from model.data_root import DataRoot
from tests.index.conftest import DIMENSION, brute_force, names, unit

PICTURES = Identity("pictures", "f" * 64, DIMENSION)
ENGINE = FaissEngine()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WrittenGeneration]:
    root = tmp_path_factory.mktemp("root")
    return root, generation.write(DataRoot(root), PICTURES, names(120), unit(120))


@pytest.fixture
def folder(written: tuple[Path, WrittenGeneration], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    root, record = written
    return Path(shutil.copytree((root / folder_name(record.id)), tmp_path / "copy"))


def test_what_was_written_is_read(written: tuple[Path, WrittenGeneration]) -> None:
    root, record = written
    opened = generation.read((root / folder_name(record.id)), record.manifest_sha256, PICTURES, ENGINE)
    assert opened.entries == names(120) and opened.vectors.tobytes() == unit(120).tobytes()
    query = unit(1, seed=3)[0]
    assert opened.top(query, 9, frozenset()) == brute_force(query, unit(120), names(120), 9)


def test_writing_the_same_again_gives_the_same_files(written: tuple[Path, WrittenGeneration], tmp_path: Path) -> None:
    _, record = written
    assert generation.write(DataRoot(tmp_path), PICTURES, names(120), unit(120)) == record


def test_writing_over_a_damaged_copy_repairs_it(written: tuple[Path, WrittenGeneration], tmp_path: Path) -> None:
    root, record = written
    damaged = Path(shutil.copytree((root / folder_name(record.id)), (tmp_path / folder_name(record.id))))
    (damaged / "ids.json").write_bytes(b"")
    generation.write(DataRoot(tmp_path), PICTURES, names(120), unit(120))
    assert generation.read(damaged, record.manifest_sha256, PICTURES, ENGINE).entries == names(120)


@pytest.mark.parametrize("count", [0, 1, 2, 15])
def test_small_generations_are_read(count: int, tmp_path: Path) -> None:
    record = generation.write(DataRoot(tmp_path), PICTURES, names(count), unit(count))
    opened = generation.read((tmp_path / folder_name(record.id)), record.manifest_sha256, PICTURES, ENGINE)
    assert opened.entries == names(count)


@pytest.mark.parametrize("tenths", range(11))
@pytest.mark.parametrize("file", ["vectors.safetensors", "ids.json", "manifest.json"])
def test_truncated_files_are_refused(
    folder: Path, written: tuple[Path, WrittenGeneration], file: str, tenths: int
) -> None:
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[: min(len(data) * tenths // 10, len(data) - 1)])
    with pytest.raises(IndexFileCorrupt):
        generation.read(folder, written[1].manifest_sha256, PICTURES, ENGINE)


@pytest.mark.parametrize("file", ["vectors.safetensors", "ids.json", "manifest.json"])
def test_bytes_added_at_the_end_are_refused(folder: Path, written: tuple[Path, WrittenGeneration], file: str) -> None:
    with (folder / file).open("ab") as stream:
        stream.write(b" " * 100)
    with pytest.raises(IndexFileCorrupt):
        generation.read(folder, written[1].manifest_sha256, PICTURES, ENGINE)


def test_flipped_bits_are_refused(folder: Path, written: tuple[Path, WrittenGeneration]) -> None:
    """500 of them, over all files (I2)."""
    chance, files = np.random.default_rng(0), sorted(folder.iterdir())
    for trial in range(500):
        file = files[trial % len(files)]
        good = file.read_bytes()
        bad = bytearray(good)
        bad[chance.integers(len(bad))] ^= 1 << chance.integers(8)
        file.write_bytes(bad)
        with pytest.raises(IndexFileCorrupt):
            generation.read(folder, written[1].manifest_sha256, PICTURES, ENGINE)
        file.write_bytes(good)
    assert generation.read(folder, written[1].manifest_sha256, PICTURES, ENGINE)


def test_without_hashes_a_flipped_bit_would_load_without_error(folder: Path) -> None:
    """The precondition of the test above: the file format itself does not detect the damage."""
    file = folder / "vectors.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    assert load_file(file)["vectors"].shape == (120, DIMENSION)


def test_a_missing_manifest_is_refused(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(IndexFileCorrupt):
        generation.read(folder, None, PICTURES, ENGINE)


def test_a_manifest_that_was_not_registered_is_refused(folder: Path) -> None:
    with pytest.raises(IndexFileCorrupt):
        generation.read(folder, "0" * 64, PICTURES, ENGINE)


def rehash(folder: Path, **changes: object) -> str:
    """Write a manifest that matches the changed files of a folder, as a faulty writer would."""
    fields = json.loads((folder / "manifest.json").read_text())
    fields.pop("files")
    return storage.write_manifest(folder, {**fields, **changes})


def edit_ids(folder: Path, edit: Callable[[list[list[str]]], list[list[str]]]) -> None:
    file = folder / "ids.json"
    file.write_text(json.dumps(edit(json.loads(file.read_text()))))


@pytest.mark.parametrize(
    "edit",
    [
        lambda ids: ids[:-1],
        lambda ids: [*ids, ["another", ""]],
        lambda ids: [ids[1], *ids[1:]],
        lambda ids: ids[::-1],
        lambda ids: [[f"other-{picture}", text] for picture, text in ids],
        lambda ids: [[picture] for picture, _ in ids],
        lambda ids: "nonsense",
    ],
    ids=["shorter", "longer", "duplicated", "reordered", "of another generation", "misshapen", "not a list"],
)
def test_ids_that_do_not_fit_the_vectors_are_refused(
    folder: Path, edit: Callable[[list[list[str]]], list[list[str]]]
) -> None:
    edit_ids(folder, edit)
    with pytest.raises(IndexInconsistent):
        generation.read(folder, rehash(folder), PICTURES, ENGINE)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 3.0])
def test_vectors_that_are_not_of_unit_length_are_refused(folder: Path, value: float) -> None:
    file = folder / "vectors.safetensors"
    tensors = load_file(file)
    tensors["vectors"][7] = value
    save_file(tensors, file)
    with pytest.raises(IndexInconsistent):
        generation.read(folder, rehash(folder), PICTURES, ENGINE)


def test_a_generation_without_its_golden_answers_is_refused(folder: Path) -> None:
    with pytest.raises(IndexInconsistent):
        generation.read(folder, rehash(folder, golden=[]), PICTURES, ENGINE)


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
def test_a_generation_of_something_else_is_refused(folder: Path, other: Identity) -> None:
    with pytest.raises(IndexVersionMismatch):
        generation.read(folder, None, other, ENGINE)


def test_a_future_format_is_refused(folder: Path) -> None:
    with pytest.raises(IndexVersionMismatch):
        generation.read(folder, rehash(folder, format=2), PICTURES, ENGINE)


def test_captions_keep_picture_and_text(tmp_path: Path) -> None:
    identity = Identity("captions", "f" * 64, DIMENSION, "cy", 3)
    entries = [Entry("a", "ci"), Entry("a", "ci bach"), Entry("b", "cath \u200d\U0001f408")]
    record = generation.write(DataRoot(tmp_path), identity, entries, unit(3))
    opened = generation.read((tmp_path / folder_name(record.id)), record.manifest_sha256, identity, ENGINE)
    assert opened.entries == entries


def scattered(rows: int) -> Matrix:
    """No vector is near another."""
    return unit(rows, seed=5, dimension=128)


def crowded(rows: int) -> Matrix:
    """A few wide, overlapping clusters, like the photographs of a real gallery."""
    centres, noise = unit(7, seed=6, dimension=128), unit(rows, seed=7, dimension=128)
    mixed = centres[np.arange(rows) % 7] + 3 * noise
    return np.ascontiguousarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize("make", [scattered, crowded])
def test_a_large_set_opens_whatever_its_index_misses_and_logs_how_much(
    make: Callable[[int], Matrix], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Queries halfway between unrelated vectors are the hardest for IVF lists: no reason to refuse a gallery."""
    vectors, engine = make(6_000), FaissEngine(flat_limit=1_000)
    identity = Identity("pictures", "f" * 64, 128)
    record = generation.write(DataRoot(tmp_path), identity, names(6_000), vectors)
    with caplog.at_level(logging.INFO):
        opened = generation.read(tmp_path / folder_name(record.id), record.manifest_sha256, identity, engine)
    assert not opened.index.exact and len(opened.entries) == 6_000
    logged = re.search(r"finds (\d+) of (\d+) golden hits", caplog.text)
    assert logged and int(logged[1]) < 0.8 * int(logged[2]), "this set is too easy for the index"


def test_an_exact_index_that_misses_a_golden_hit_is_refused(tmp_path: Path) -> None:
    record = generation.write(DataRoot(tmp_path), PICTURES, names(120), unit(120))

    class Forgetful(FaissEngine):
        def build(self, vectors: Matrix) -> Index:
            return FlatIndex(vectors[:60])

    with pytest.raises(IndexInconsistent):
        generation.read(tmp_path / folder_name(record.id), record.manifest_sha256, PICTURES, Forgetful())
