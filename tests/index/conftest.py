"""Vectors, entries and fixtures for the tests of the index: numbers from a seed, no model."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from index.engine import Matrix
from index.vectors import Entry
from tests.index.world import World

DIMENSION = 32


def unit(rows: int, seed: int = 0, dimension: int = DIMENSION) -> Matrix:
    """Random unit vectors (rows, dimension)."""
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def names(rows: int) -> list[Entry]:
    """Entries of `rows` pictures, in sorted order."""
    return [Entry(f"p{row:05d}") for row in range(rows)]


def brute_force(query: Matrix, vectors: Matrix, entries: Sequence[Entry], k: int) -> list[tuple[Entry, float]]:
    """The slow, obvious search: computes every score and sorts them in plain Python."""
    scored = [
        (entry, float(np.float32((vector.astype(np.float64) * query.astype(np.float64)).sum())))
        for entry, vector in zip(entries, vectors, strict=True)
    ]
    return sorted(scored, key=lambda hit: (-hit[1], hit[0]))[:k]


@pytest.fixture
def query() -> Matrix:
    row: Matrix = unit(1, seed=99)[0]
    return row


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty gallery beside an initialised registry."""
    world = World(tmp_path)
    yield world
    world.close()
