"""Vectors, entries and fixtures for the tests of the index: numbers from a seed, no model."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from milvus_lite.server_manager import server_manager_instance
from numpy.typing import NDArray

from index import segment
from index.filters import parse_filter
from index.segment import Segment
from index.selection import Criteria
from index.vectors import Entry, Hit, Identity, MemoryTail, VectorRows
from store.data_root import DataRoot
from tests.doubles import Vectors
from tests.index.world import Machines, World

DIMENSION = 32
Keys = NDArray[np.int64]
ENGINES = ("faiss", "pgvector", "milvus")
PICTURES = Identity("pictures", "f" * 64, DIMENSION)


def make_match(key: object, value: object) -> dict[str, Any]:
    return {"key": key, "match": {"value": value}}


def make_criteria(*conditions: Mapping[str, Any]) -> Criteria:
    return Criteria(parse_filter({"must": [*conditions]}))


@contextmanager
def reachable(engine: str, folder: Path) -> Iterator[str]:
    """Yield PICTOGLOT_INDEX of an engine. Other processes reach the milvus-lite of this one through its port."""
    if engine != "milvus":
        yield engine
        return
    file = str(folder / "milvus.db")
    yield f"milvus+{server_manager_instance.start_and_get_uri(file)}"
    server_manager_instance.release_server(file)


@pytest.fixture(params=ENGINES)
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """PICTOGLOT_INDEX, for each engine in turn."""
    with reachable(request.param, tmp_path) as url:
        yield url


def open_empty(request: pytest.FixtureRequest, index: str, home: Path) -> Iterator[World]:
    """Yield an empty gallery whose vector sets this engine keeps."""
    url = request.getfixturevalue("postgresql_url") if index == "pgvector" else None
    world = World(home, url, index=index)
    yield world
    world.close()


@pytest.fixture
def empty(request: pytest.FixtureRequest, index: str, tmp_path: Path) -> Iterator[World]:
    yield from open_empty(request, index, tmp_path)


@pytest.fixture(params=ENGINES[1:])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An empty gallery, for each engine that has vectors elsewhere than in files of ours."""
    with reachable(request.param, tmp_path) as index:
        yield from open_empty(request, index, tmp_path)


def unit(rows: int, seed: int = 0, dimension: int = DIMENSION) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def stored(rows: int, seed: int = 0, dimension: int = DIMENSION) -> Vectors:
    """Draw random unit vectors, rounded as the tables keep them."""
    return unit(rows, seed, dimension).astype(np.float16).astype(np.float32)


def clustered(rows: int, seed: int = 0) -> Vectors:
    """Draw vectors around 60 centres, as pictures of a gallery are; rounded as the tables keep them."""
    mixed = unit(60, seed + 1)[np.random.default_rng(seed).integers(0, 60, rows)] + 0.5 * unit(rows, seed + 2)
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    return mixed.astype(np.float16).astype(np.float32)


def text_like(vectors: Vectors, count: int, seed: int = 0) -> Vectors:
    """Draw queries (count, dimension), each with a cosine of about 0.3 to one vector, as texts have to pictures."""
    near = vectors[np.random.default_rng(seed).integers(0, len(vectors), count)]
    mixed = 0.3 * near + np.sqrt(1 - 0.3**2) * unit(count, seed + 1, vectors.shape[1])
    return np.ascontiguousarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), dtype=np.float32)


def names(rows: int, first: int = 0) -> list[Entry]:
    """Make entries of `rows` pictures, in sorted order."""
    return [Entry(f"p{row:05d}") for row in range(first, first + rows)]


def numbered(*keys: int) -> Keys:
    return np.array(keys, dtype=np.int64)


def numbered_rows(vectors: Vectors, entries: Sequence[Entry], first: int = 0) -> VectorRows:
    """Make rows to be sealed; their keys are `first` and those that follow."""
    return VectorRows(np.arange(first, first + len(entries), dtype=np.int64), entries, vectors)


def sealed(
    root: DataRoot, vectors: Vectors, entries: Sequence[Entry], first: int = 0, recall: float = 1.0, **options: Any
) -> Segment:
    """Write and open a segment of pictures; its keys are `first` and those that follow."""
    written = segment.write(root, PICTURES, numbered_rows(vectors, entries, first), **options)
    return segment.read(root, written, PICTURES, recall)


def captioned(picture: str, vectors: Vectors, first: int) -> VectorRows:
    """Make all captions of a picture, one for each vector; their keys are `first` and those that follow."""
    return numbered_rows(vectors, [Entry(picture, str(number)) for number in range(len(vectors))], first)


def gone() -> VectorRows:
    """Make the rows that a deleted picture has: none."""
    return VectorRows.make_empty(DIMENSION)


def tail(vectors: Vectors, entries: Sequence[Entry], first: int = 0) -> MemoryTail:
    """Make a tail with one row for each picture; their keys are `first` and those that follow."""
    each = {entry.picture: numbered_rows(vectors[at : at + 1], [entry], first + at) for at, entry in enumerate(entries)}
    return MemoryTail.make_empty(vectors.shape[1]).replace_rows(each)


def brute_force(query: Vectors, vectors: Vectors, entries: Sequence[Entry], k: int) -> list[Hit]:
    """Search slowly and obviously: compute every score and sort them in plain Python."""
    scored = [
        Hit(entry, float(np.float32(min(1.0, (vector.astype(np.float64) * query.astype(np.float64)).sum()))))
        for entry, vector in zip(entries, vectors, strict=True)
    ]
    return sorted(scored, key=lambda hit: (-hit.score, hit.entry))[:k]


@pytest.fixture
def query() -> Vectors:
    row: Vectors = unit(1, seed=99)[0]
    return row


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    """An empty data root."""
    return DataRoot(tmp_path)


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """A data root for all tests of a file that damage nothing."""
    return DataRoot(tmp_path_factory.mktemp("root"))


@pytest.fixture
def database() -> str:
    """Where the registry of `world` is; a test is parametrised with "postgresql" to have it there."""
    return "sqlite"


@pytest.fixture
def world(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> Iterator[World]:
    """An empty gallery beside an initialised registry."""
    world = World(tmp_path, request.getfixturevalue("postgresql_url") if database == "postgresql" else None)
    yield world
    world.close()


@pytest.fixture
def machines(tmp_path: Path, store: str) -> Iterator[Machines]:
    machines = Machines(tmp_path, store)
    yield machines
    machines.close()
