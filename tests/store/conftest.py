"""A fresh registry per test, in SQLite and in PostgreSQL, and machines that share an object store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.data_root import DataRoot
from store.registry import Registry, open_registry
from tests.registries import make_registry

NewHome = Callable[[str], DataRoot]


@pytest.fixture
def empty(database_url: str) -> Iterator[Registry]:
    if (file := database_url.removeprefix("sqlite:///")) != database_url:
        make_registry(Path(file))
    registry = open_registry(database_url)
    yield registry
    registry.close()


@pytest.fixture
def registry(empty: Registry) -> Registry:
    """A registry that was initialised: version 0, release 1."""
    empty.initialise("base-fingerprint", "tiny@/a/a.safetensors", "image")
    return empty


@pytest.fixture
def new_home(store: str, tmp_path: Path) -> NewHome:
    """A machine's own data root, on the shared store."""

    def make(name: str) -> DataRoot:
        return DataRoot(tmp_path / name, store)

    return make
