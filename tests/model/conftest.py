"""One tiny base and its encoder for all model tests, and machines that share a store."""

from collections.abc import Callable
from pathlib import Path

import pytest

from model.base import Base, open_base
from model.encoder import Encoder
from store.data_root import DataRoot
from tests.tiny import write_tiny_base

NewHome = Callable[[str], DataRoot]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_base(write_tiny_base(tmp_path_factory.mktemp("base")))


@pytest.fixture
def encoder(base: Base) -> Encoder:
    return Encoder(base)


@pytest.fixture
def new_home(store: str, tmp_path: Path) -> NewHome:
    """A machine's own data root, on the shared store."""

    def make(name: str) -> DataRoot:
        return DataRoot(tmp_path / name, store)

    return make
