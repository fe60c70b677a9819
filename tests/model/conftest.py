"""One tiny base and its encoder for all model tests."""

import pytest

from model.base import Base, open_base
from model.encoder import Encoder
from tests.tiny import write_tiny_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_base(write_tiny_base(tmp_path_factory.mktemp("base")))


@pytest.fixture
def encoder(base: Base) -> Encoder:
    return Encoder(base)
