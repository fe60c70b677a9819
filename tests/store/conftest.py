"""A fresh registry per test, in SQLite and in PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.registry import Registry, open_registry
from tests.registries import empty_registry


@pytest.fixture
def empty(database_url: str) -> Iterator[Registry]:
    """A registry with empty tables."""
    if (file := database_url.removeprefix("sqlite:///")) != database_url:
        empty_registry(Path(file))
    registry = open_registry(database_url)
    yield registry
    registry.close()


@pytest.fixture
def registry(empty: Registry) -> Registry:
    """A registry that was initialised: version 0, release 1."""
    empty.initialise("base-fingerprint", "tiny@/a/a.safetensors", "image")
    return empty
