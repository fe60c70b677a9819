"""Milvus through milvus-lite, where that is installed: the same answers as the scan."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("milvus_lite")

from index import generation
from index.engine import open_engine
from index.engine.milvus_engine import MilvusEngine
from index.generation import Identity
from index.vectors import Block, Segment, VectorSet
from model.data_root import DataRoot
from tests.index.conftest import DIMENSION, brute_force, names, unit

pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # of grpc and pandas, which we cannot change


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusEngine]:
    engine = open_engine(f"milvus+{tmp_path_factory.mktemp('milvus') / 'lite.db'}")
    assert isinstance(engine, MilvusEngine)
    yield engine
    engine._client.close()


def test_answers_are_those_of_the_scan(engine: MilvusEngine) -> None:
    vectors, entries = unit(1_500, seed=1), names(1_500)
    vector_set = VectorSet.from_generation("g", 0, Segment(vectors, entries, engine.build(vectors)))
    changed = vector_set.changed({entry.picture: Block((), vectors[:0]) for entry in entries[::2]}, 1)
    for query in unit(5, seed=2):
        assert vector_set.search(query, 10) == brute_force(query, vectors, entries, 10)
        assert changed.search(query, 10) == brute_force(query, vectors[1::2], entries[1::2], 10)


def test_the_same_content_is_the_same_collection(engine: MilvusEngine) -> None:
    first, again = engine.build(unit(30, seed=3)), engine.build(unit(30, seed=3))
    assert getattr(first, "name", 1) == getattr(again, "name", 2) != getattr(engine.build(unit(30)), "name", 3)


def test_a_generation_opens_on_it(engine: MilvusEngine, tmp_path: Path) -> None:
    identity = Identity("pictures", "f" * 64, DIMENSION)
    written = generation.write(DataRoot(tmp_path), identity, names(200), unit(200))
    opened = generation.read(tmp_path / generation.folder_name(written.id), written.manifest_sha256, identity, engine)
    assert not opened.index.exact and len(opened.entries) == 200


def test_an_empty_matrix_needs_no_collection(engine: MilvusEngine) -> None:
    assert engine.build(unit(0)).exact
