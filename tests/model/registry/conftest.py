"""A fresh registry per test, in SQLite and in PostgreSQL."""

from collections.abc import Iterator

import pytest

from model.registry import Registry, open_registry


@pytest.fixture
def empty(database_url: str) -> Iterator[Registry]:
    """A registry with empty tables."""
    registry = open_registry(database_url)
    yield registry
    registry.close()


@pytest.fixture
def registry(empty: Registry) -> Registry:
    """A registry that was initialised: version 0, release 1."""
    empty.initialise("base-fingerprint", {"t2i": {"R@1": 0.9}})
    return empty
